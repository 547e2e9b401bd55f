"""One cell of a grid: a run, and the ways of sampling from it that are scored.

Its run lies in a directory that is named by what was asked for, and its result in a JSON file beside that. What is
finished is not done again, a run that was stopped goes on from its last state, and a cell that failed keeps its reason
until it is tried again.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
import traceback
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..config.recipes import resolve
from ..config.schema import RunConfig
from ..errors import DualdiffError, InputError, Interrupted
from ..jobs.evaluate import GENERATED, evaluate
from ..jobs.train import Callbacks, resume, train
from ..store.atomic import write_json
from ..store.run import Run

__all__ = ["Cell"]

Sampling = tuple[str | None, int | None]
"""A sampler's name and its steps; None takes the recipe's own."""

EVALUATION_SEED = 1000
"""Added to a run's seed for its samples, so that training and sampling share no noise."""
LONGEST_CHANGES = 150
"""Characters of a directory's name that say what was changed; more are replaced by their digest."""


@dataclass(frozen=True)
class Cell:
    """One run of a grid and how it is scored.

    Attributes:
        dataset, recipe, model, seed: of the run.
        steps: of the training; None takes the recipe's own.
        settings: ``key=value``, as `train --set` takes them.
        samplings: what the run's samples are drawn with, one evaluation each.
        runs: the folder of all runs.
        metrics: scores of points that are wanted; None takes all of them.

    """

    dataset: str
    recipe: str
    model: str
    seed: int
    steps: int | None = None
    settings: tuple[str, ...] = ()
    samplings: tuple[Sampling, ...] = ((None, None),)
    runs: str = "runs"
    metrics: tuple[str, ...] | None = None

    @property
    def path(self) -> Path:
        """The run's directory, ``<dataset>-<recipe>-<model>[-<steps>][-<settings>]-<seed>``."""
        changes = [str(self.steps)] if self.steps else []
        changes += self.settings
        if len("-".join(changes)) > LONGEST_CHANGES:
            changes = [hashlib.sha256("\n".join(changes).encode()).hexdigest()[:16]]
        name = "-".join([self.dataset, self.recipe, self.model, *changes, str(self.seed)])
        return Path(self.runs) / re.sub(r"[/\\:\0]", "-", name).lstrip("-.")

    @property
    def result_path(self) -> Path:
        """Where the result is kept, beside the run."""
        return self.path.with_name(f"{self.path.name}.json")

    @property
    def config(self) -> RunConfig:
        """What the run is asked for.

        Raises:
            InputError: as for `resolve`.

        """
        options: dict[str, Any] = {"seed": self.seed}
        if self.steps:
            options["training"] = {"steps": self.steps}
        return resolve(
            dataset=self.dataset, recipe=self.recipe, model=self.model, options=options, settings=self.settings
        )

    def result(self) -> dict[str, Any]:
        """Give what is known so far, of the evaluations those that are asked for.

        Returns:
            ``cell``, ``train`` (the record of `train`) and ``evaluations`` (records of `evaluate`, in the order of
            the samplings), without what is not there yet; ``error``, where the last attempt failed.

        """
        kept = self._kept()
        by_sampling = [self._evaluation(kept, sampling) for sampling in self.samplings]
        return {"cell": asdict(self), **kept, "evaluations": [e for e in by_sampling if e is not None]}

    def is_done(self) -> bool:
        """Whether nothing is left to do; a run of another configuration does not count."""
        result = self.result()
        complete = "error" not in result and "train" in result and len(result["evaluations"]) == len(self.samplings)
        try:
            return complete and _is_of(Run.open(self.path).config, self.config)
        except DualdiffError:
            return False

    def measure(self, should_stop: Callable[[], bool] = lambda: False) -> None:
        """Do what is left to do and keep the result; a failure is a result, too.

        Args:
            should_stop: asked after each training step and before each score; once it says yes, the state is saved.

        """
        try:
            with warnings.catch_warnings(record=True) as told:
                warnings.simplefilter("default")
                self._measure(should_stop)
            if told:
                self._keep({"warnings": sorted({str(warning.message) for warning in told})})
        except Interrupted:
            pass
        except DualdiffError as error:
            self.fail(str(error))
        except Exception as error:
            self.fail(f"{type(error).__name__}: {error}", trace=traceback.format_exc())

    def fail(self, reason: str, *, trace: str | None = None) -> None:
        """Mark the cell as failed."""
        self._keep({"error": reason} | ({"traceback": trace} if trace else {}))

    def forget_failure(self) -> None:
        """Let a cell that failed be tried again."""
        kept = self._kept()
        if kept.pop("error", None) is not None:
            kept.pop("traceback", None)
            write_json(self.result_path, kept)

    def _measure(self, should_stop: Callable[[], bool]) -> None:
        """Train the run, or finish it, or neither; then score what is not scored yet."""

        def heed(_: str = "") -> None:
            if should_stop():
                raise Interrupted("Stopped before all was scored.", "The same command goes on from here.")

        heed()
        config, callbacks = self.config, Callbacks(should_stop=should_stop)
        if (self.path / "config.toml").exists():
            run = Run.open(self.path)
            if not _is_of(run.config, config):
                raise InputError(
                    f"The run {run} is of another configuration.", "Remove it, or use another folder for the runs."
                )
            if "train" not in self._kept():
                self._keep({"train": resume(run, device="cpu", callbacks=callbacks)})
        else:
            self._keep({"train": train(config, path=self.path, device="cpu", callbacks=callbacks)})
        for sampling in self.samplings:
            heed()
            if self._evaluation(self._kept(), sampling) is not None:
                continue
            started = time.perf_counter()
            record = evaluate(
                Run.open(self.path),
                n=GENERATED,
                sampler=sampling[0],
                sample_steps=sampling[1],
                metrics=self.metrics,
                seed=EVALUATION_SEED + self.seed,
                device="cpu",
                announce=heed,
            )
            asked = {"sampling": list(sampling), "metrics": None if self.metrics is None else list(self.metrics)}
            record |= {"evaluate_seconds": time.perf_counter() - started, "asked": asked}
            others = [e for e in self._kept().get("evaluations", []) if e["asked"] != asked]
            self._keep({"evaluations": [*others, record]})

    def _kept(self) -> dict[str, Any]:
        """Read what the file holds; without the trained model only a failure counts."""
        try:
            kept: dict[str, Any] = json.loads(self.result_path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        if not (self.path / "model.safetensors").exists():
            return {key: kept[key] for key in ("error", "traceback") if key in kept}
        return kept

    def _keep(self, news: Mapping[str, Any]) -> None:
        write_json(self.result_path, {**self._kept(), **news})

    def _evaluation(self, kept: Mapping[str, Any], sampling: Sampling) -> dict[str, Any] | None:
        """Find a kept evaluation with the sampling and at least the metrics that are asked for."""
        for evaluation in kept.get("evaluations", []):
            asked = evaluation["asked"]
            enough = asked["metrics"] is None or (
                self.metrics is not None and set(self.metrics) <= set(asked["metrics"])
            )
            if enough and asked["sampling"] == list(sampling):
                found: dict[str, Any] = evaluation
                return found
        return None


def _is_of(made: RunConfig, asked: RunConfig) -> bool:
    """Whether a run's configuration is what is asked for, with what that leaves open settled."""

    def within(part: Mapping[str, Any], whole: Mapping[str, Any]) -> bool:
        return all(within(v, whole[k]) if isinstance(v, Mapping) else whole[k] == v for k, v in part.items())

    wanted = asked.model_dump(mode="json", exclude_none=True, exclude={"dataset"})
    return within(wanted, made.model_dump(mode="json", exclude={"dataset"}))
