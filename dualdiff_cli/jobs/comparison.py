"""The models of one comparison: each is trained, draws rows and is scored, and what is finished is kept in a folder."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from ..checked import read_object
from ..compute.device import choose_device
from ..config.registry import PEERS
from ..config.schema import RunConfig
from ..data import Data
from ..errors import InputError, Interrupted
from ..models import AS_DRAWN, load_model
from ..models.peers import Peer
from ..store.atomic import write_json
from ..store.run import Run
from ..training.loop import Progress
from ..training.session import Callbacks
from .comparison_file import KeptScores
from .ranking import excess
from .train import resume, train
from .truth import Announce, Truth

__all__ = ["Comparison"]

KEPT = ("parameters", "steps", "components", "covariance", "bandwidth", "held_out_loss", "held_out_loss_unit")
"""What of a training's record goes into the comparison."""


@dataclass(frozen=True)
class _Drawn:
    """The rows that a model has drawn, and how long training and drawing took.

    The seconds of training are those of encoding the rows, filling what gaps hide, compiling and fitting; those of our
    own models hold the loss of held-out rows, too.
    """

    rows: pl.DataFrame
    train_seconds: float
    sample_seconds: float
    facts: Mapping[str, Any]


class Comparison:
    """The models of one comparison, one after the other: each is trained, draws rows and is scored.

    Args:
        data: the rows of all models.
        n: the number of rows that each model draws.
        seed: of the drawn rows, the scores and the peers.
        device: where the models are trained.
        folder: where the runs and the scores are kept.
        should_stop, announce: see `compare`.

    """

    def __init__(
        self,
        data: Data,
        n: int,
        seed: int,
        device: str,
        folder: Path,
        should_stop: Callable[[], bool],
        announce: Announce,
    ) -> None:
        self._data, self._n, self._seed, self._device, self._folder = data, n, seed, device, folder
        self._should_stop, self._announce = should_stop, announce
        self._truth = Truth(data, data.held_out, n, seed=seed)

    def row(self, name: str, config: RunConfig | None) -> dict[str, Any]:
        """Give the record of one model, the kept one if there is one; a failure is not kept.

        Args:
            name: of the model.
            config: of the model; None for a peer.

        Raises:
            Interrupted: stopped by ``should_stop``.

        """
        kept = self._folder / "scores" / f"{name}.json"
        found = read_object(kept, KeptScores, "Remove it: the model is scored again.")
        if found is not None:
            return dict(found)
        if self._should_stop():
            raise Interrupted("Stopped before this model.", "Start again.")
        self._announce(f"{name}: training")
        try:
            drawn = self._of_peer(name) if config is None else self._of_run(name, config)
            scores = self._truth.score(drawn.rows, announce=lambda what: self._announce(f"{name}: {what}"))
        except InputError as error:
            return {"error": str(error)}
        metrics = {metric: score.to_dict() for metric, score in scores.items()}
        found = {
            "metrics": metrics,
            "excess": excess(metrics),
            "train_seconds": drawn.train_seconds,
            "sample_seconds": drawn.sample_seconds,
            **drawn.facts,
        }
        write_json(kept, found)
        return found

    def _of_run(self, name: str, config: RunConfig) -> _Drawn:
        """Train a model in a run of its own, or finish the run that is there, and draw rows."""
        steps, prepared = 0, 0.0
        started = time.perf_counter()

        def on_start(run: Run, total: int, how: str) -> None:
            nonlocal steps, prepared
            steps, prepared = total, time.perf_counter() - started

        def on_progress(progress: Progress) -> None:
            self._announce(f"{name}: step {progress.step:,} of {steps:,}")

        callbacks = Callbacks(on_start=on_start, on_progress=on_progress, should_stop=self._should_stop)
        run = Run(self._folder / "runs" / name)
        if run.exists:
            record = resume(run, device=self._device, callbacks=callbacks)
        else:
            record = train(config, path=run.path, device=self._device, callbacks=callbacks, data=self._data)
        train_seconds = prepared + record["train_seconds"] + record.get("compile_seconds", 0.0)
        model = load_model(run, device=choose_device(self._device))
        self._announce(f"{name}: {self._n:,} samples")
        trained = time.perf_counter()
        rows = model.sample(self._n, seed=self._seed, options=AS_DRAWN)
        facts = {key: record[key] for key in KEPT if key in record}
        return _Drawn(rows, train_seconds, time.perf_counter() - trained, facts)

    def _of_peer(self, name: str) -> _Drawn:
        """Fit a peer and draw rows; whatever goes wrong in another package is the reason of its row."""
        peer: type[Peer] = PEERS[name]
        try:
            started = time.perf_counter()
            fitted = peer.fit(self._data.train, self._data.encoding, seed=self._seed)
            trained = time.perf_counter()
            rows = fitted.sample(self._n, seed=self._seed)
        except InputError:
            raise
        except Exception as error:
            reason = f"{type(error).__name__}: {error}".rstrip(".")
            raise InputError(f"The package {peer.package} failed with {reason}.", "Leave this model out.") from error
        return _Drawn(rows, trained - started, time.perf_counter() - trained, {})
