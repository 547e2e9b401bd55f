"""One experiment: a training run, and the ways of sampling from the run that are scored.

The name of the run's directory states what was asked for, and the results lie in a JSON file beside this directory.
Finished work is never repeated: an experiment that was stopped goes on from the last saved state, and one that failed
keeps the reason until it is tried again.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .. import seeding
from ..checked import read_object
from ..config.recipes import resolve_diffusion
from ..config.schema import DiffusionConfig, RunConfig
from ..data import DENSITIES
from ..errors import DualdiffError, InputError, Interrupted
from ..jobs.evaluate import evaluate
from ..jobs.train import Callbacks, resume, train
from ..models import DrawingOptions
from ..store.atomic import write_json
from ..store.run import Run
from .experiment_file import ExperimentFile

__all__ = ["Experiment", "sampling_seed"]

Sampling = tuple[str | None, int | None]
"""A sampler's name and its number of steps; None takes the recipe's own."""

LONGEST_CHANGES = 150
"""A directory's name spells out settings up to this number of characters; longer settings are named by their digest."""
LONGEST_NAME = 250
"""The longest name of a directory in bytes: file systems allow 255, and the file of the results takes five more."""
LONGEST_STEM = 60
"""The bytes that a directory's name takes from the name of a file whose path is too long for it."""


def sampling_seed(seed: int) -> int:
    """Give the seed of the samples that are drawn from the run with a seed."""
    return seeding.integer(seed, "samples of an experiment")


@dataclass(frozen=True)
class Experiment:
    """One training run and how it is scored.

    Attributes:
        dataset, recipe, model, seed: what is trained.
        steps: the number of training steps; None takes the recipe's own.
        settings: ``key=value``, as ``train --set`` takes them.
        samplings: how samples are drawn from the run; each way gives one evaluation.
        generated: the number of samples that an evaluation draws; the default is the paper's.
        metrics: the scores of points that are wanted; None takes all of them.
        runs: the folder of all runs.

    """

    dataset: str
    recipe: str
    model: str
    seed: int
    steps: int | None = None
    settings: tuple[str, ...] = ()
    samplings: tuple[Sampling, ...] = ((None, None),)
    generated: int = 10_000
    metrics: tuple[str, ...] | None = None
    runs: str = "runs"

    @property
    def path(self) -> Path:
        """The run's directory, ``<dataset>[-<digest>]-<recipe>-<model>[-<steps>][-<settings>]-<seed>``.

        A file's path has a digest, because a directory's name cannot spell a path: without, ``a/b.csv`` and ``a-b.csv``
        would share a run. Where the name would be too long, the file's own name stands for the path, and the settings
        have a digest, too.
        """
        changes = [str(self.steps)] if self.steps else []
        changes += self.settings
        digested = [hashlib.sha256("\n".join(changes).encode()).hexdigest()[:16]] if changes else []
        name = self._name(self.dataset, changes if len("-".join(changes)) <= LONGEST_CHANGES else digested)
        if len(os.fsencode(name)) > LONGEST_NAME:
            stem = os.fsencode(Path(self.dataset).stem)[:LONGEST_STEM].decode(errors="ignore")
            name = self._name(stem, digested)
        return Path(self.runs) / name

    def _name(self, dataset: str, changes: Sequence[str]) -> str:
        """Join the parts of the directory's name, and replace what no name may hold."""
        digest = [] if self.dataset in DENSITIES else [hashlib.sha256(os.fsencode(self.dataset)).hexdigest()[:8]]
        name = "-".join([dataset, *digest, self.recipe, self.model, *changes, str(self.seed)])
        return re.sub(r"[/\\:\0]", "-", name).lstrip("-.")

    @property
    def result_path(self) -> Path:
        """The file of the results, beside the run's directory."""
        return self.path.with_name(f"{self.path.name}.json")

    @property
    def config(self) -> DiffusionConfig:
        """The configuration that is asked for.

        Raises:
            InputError: a name is unknown or a value is not allowed; see `resolve`.

        """
        options: dict[str, Any] = {"seed": self.seed}
        if self.steps:
            options["training"] = {"steps": self.steps}
        return resolve_diffusion(
            dataset=self.dataset, recipe=self.recipe, model=self.model, options=options, settings=self.settings
        )

    def result(self) -> dict[str, Any]:
        """Give what is known so far.

        Returns:
            ``experiment`` (the attributes), ``train`` (the record of `train`), ``evaluations`` (records of `evaluate`
            in the order of the samplings) and, if the last attempt failed, ``error``. What is not finished is left out.

        """
        kept = self._kept()
        found = [self._evaluation(kept, sampling) for sampling in self.samplings]
        return {"experiment": asdict(self), **kept, "evaluations": [record for record in found if record is not None]}

    def is_done(self) -> bool:
        """Whether nothing is left to do for this configuration."""
        result = self.result()
        if "error" in result or "train" not in result or len(result["evaluations"]) < len(self.samplings):
            return False
        try:
            return self._begun() is not None
        except DualdiffError:
            return False

    def measure(self, should_stop: Callable[[], bool] = lambda: False) -> None:
        """Train and score what is not finished, and keep the result; a failure is kept as a result, too.

        Args:
            should_stop: asked after each training step and before each score; once the answer is yes, the state is
                saved and `measure` returns.

        """
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("default")
                self._train(should_stop)
                self._score(should_stop)
            if caught:
                self._keep({"warnings": sorted({str(warning.message) for warning in caught})})
        except Interrupted:
            pass
        except DualdiffError as error:
            self.fail(str(error))
        except Exception as error:
            self.fail(f"{type(error).__name__}: {error}", trace=traceback.format_exc())

    def fail(self, reason: str, *, trace: str | None = None) -> None:
        """Keep the reason why the experiment failed."""
        self._keep({"error": reason} | ({"traceback": trace} if trace else {}))

    def forget_failure(self) -> None:
        """Let a failed experiment be tried again."""
        kept = self._kept()
        if "error" in kept:
            write_json(self.result_path, {k: v for k, v in kept.items() if k not in ("error", "traceback")})

    def _train(self, should_stop: Callable[[], bool]) -> None:
        """Train the run, or finish a run that was stopped."""
        callbacks = Callbacks(should_stop=should_stop)
        run, started = self._begun(), time.perf_counter()
        if run is None:
            record = train(self.config, path=self.path, device="cpu", callbacks=callbacks)
        elif "train" not in self._kept():
            record = resume(run, device="cpu", callbacks=callbacks)
        else:
            return
        # What the steps do not account for: the rows, the pictures, the losses.
        around = time.perf_counter() - started - record["train_seconds"]
        self._keep({"train": record | {"seconds_around": max(around, 0.0)}})

    def _score(self, should_stop: Callable[[], bool]) -> None:
        """Evaluate every sampling that is not evaluated yet."""

        def stop_if_asked(_: str = "") -> None:
            if should_stop():
                raise Interrupted("Stopped before all scores were computed.", "The same command goes on from here.")

        for sampling in self.samplings:
            stop_if_asked()
            if self._evaluation(self._kept(), sampling) is not None:
                continue
            started = time.perf_counter()
            record = evaluate(
                Run.open(self.path),
                n=self.generated,
                options=DrawingOptions(*sampling),
                metrics=self.metrics,
                seed=sampling_seed(self.seed),
                device="cpu",
                announce=stop_if_asked,
            )
            metrics = None if self.metrics is None else list(self.metrics)
            asked = {"sampling": list(sampling), "generated": self.generated, "metrics": metrics}
            record |= {"evaluate_seconds": time.perf_counter() - started, "asked": asked}
            others = [other for other in self._kept().get("evaluations", []) if other["asked"] != asked]
            self._keep({"evaluations": [*others, record]})

    def _begun(self) -> Run | None:
        """Open the run; None if it has not begun.

        Raises:
            InputError: the directory holds a run of another configuration.

        """
        run = Run(self.path)
        if not run.exists:
            return None
        if not _is_within(_comparable(self.config), _comparable(run.config)):
            raise InputError(
                f"The run {run} has another configuration.", "Remove this run, or use another folder for the runs."
            )
        return run

    def _kept(self) -> dict[str, Any]:
        """Read the results; without the trained model only a failure counts."""
        kept = read_object(self.result_path, ExperimentFile, "Remove it: the scores are computed again.") or {}
        if Run(self.path).is_trained:
            return kept
        return {key: kept[key] for key in ("error", "traceback") if key in kept}

    def _keep(self, results: Mapping[str, Any]) -> None:
        write_json(self.result_path, {**self._kept(), **results})

    def _evaluation(self, kept: Mapping[str, Any], sampling: Sampling) -> dict[str, Any] | None:
        """Find an evaluation of this sampling that has at least the metrics that are asked for."""
        for record in kept.get("evaluations", []):
            metrics = record["asked"]["metrics"]
            enough = metrics is None or (self.metrics is not None and set(self.metrics) <= set(metrics))
            same = (record["asked"]["sampling"], record["asked"]["generated"]) == (list(sampling), self.generated)
            if enough and same:
                found: dict[str, Any] = record
                return found
        return None


def _comparable(config: RunConfig) -> dict[str, Any]:
    """Give the settings that are stated; the data set is left out, because a run stores the absolute path of a file."""
    return config.model_dump(mode="json", exclude_none=True, exclude={"dataset"})


def _is_within(part: Mapping[str, Any], whole: Mapping[str, Any]) -> bool:
    """Whether the whole has every value of the part; a run may also have values that the request leaves to the data."""
    return all(
        k in whole and (_is_within(v, whole[k]) if isinstance(v, Mapping) else whole[k] == v) for k, v in part.items()
    )
