"""Train several models on the same rows and score them alike."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import polars as pl

from ..checked import read_object
from ..compute.device import choose_device
from ..compute.memory import require_memory
from ..config.layers import COMPARED, MODELS
from ..config.recipes import has_setting, resolve
from ..config.registry import PEERS, known_name
from ..config.schema import RunConfig
from ..data import Data
from ..errors import InputError, Interrupted
from ..metrics import SCORED_FROM
from ..models import AS_DRAWN, load_model
from ..models.peers import Peer
from ..store.atomic import read_json, write_json
from ..store.lock import LOCK, sole_use
from ..store.run import Run
from ..training.loop import Progress
from ..training.session import Callbacks
from .comparison_file import KeptScores
from .evaluate import GENERATED, require_scorable
from .inputs import load_run_data
from .ranking import as_good, best_by_metric, best_overall, excess, in_one_unit
from .train import resume, train
from .truth import Announce, Truth

__all__ = ["compare"]

SIMPLE = "mixture"
"""The model that is simpler than a diffusion model, and says so where it is as good."""
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


def compare(
    dataset: str,
    *,
    models: Sequence[str] | None = None,
    n: int = GENERATED,
    seed: int = 0,
    device: str = "auto",
    settings: Sequence[str] = (),
    path: str | Path | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    announce: Announce = lambda what: None,
    on_note: Callable[[str], None] = lambda note: None,
) -> dict[str, Any]:
    """Train several models on the same rows and score rows of each against the same held-out rows.

    Args:
        dataset: a name or a file.
        models: names of models and peers; None takes `COMPARED`.
        n: the number of rows that each model draws.
        seed: of the split, of every training, of the drawn rows and of the scores.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:i``; peers stay on the CPU.
        settings: ``key=value`` strings, each of which applies to the models that have such a setting.
        path: a folder that keeps the runs and the scores, so that a comparison that was stopped goes on; None keeps
            neither.
        should_stop: asked between two steps, and between two models.
        announce: told what is being computed.
        on_note: told each sentence about the data that the user should know.

    Returns:
        The record of the ``compare`` command's contract. A model that cannot be trained, drawn from or scored has the
        entry {"error": sentence}. "best" is the model with the least excess, "as_good" names those that are as
        good, and "best_by_metric" names for each metric the best model and those that are as good; see `ranking`.
        "simpler" says whether a Gaussian mixture is as good as the diffusion model.

    Raises:
        Interrupted: stopped by ``should_stop``; with a ``path``, all models that are finished are kept.
        InputError: the data set, a model or a setting is unknown, there are too few rows to score, or the folder holds
            another comparison.
        DeviceError: the device is not there.

    """
    require_scorable(n)
    names = tuple(dict.fromkeys(known_name("model", name, [*MODELS, *PEERS]) for name in models or COMPARED))
    place = str(choose_device(device))
    shared = next(iter(_configure(dataset, names, seed, settings).values()))
    data, seed = load_run_data(shared), shared.seed
    for note in (*data.notes, *_without_effect(names, settings)):
        on_note(note)
    _require_rows(data)
    require_memory(n, data.train.width)
    configs = _configure(dataset, names, seed, settings, rows=data.train.height)
    request = {"data": data.provenance, "n": n, "seed": seed, "settings": list(settings)}
    with _folder(path, request) as folder:
        comparison = _Comparison(data, n, seed, place, folder, should_stop, announce)
        rows: dict[str, Any] = {}
        for name in names:
            try:
                rows[name] = comparison.row(name, configs.get(name))
            except Interrupted as stop:
                remedy = (
                    "Nothing is kept; name a folder with --run-dir to be able to go on."
                    if path is None
                    else f"What is finished is kept in {path}: the same command goes on."
                )
                raise Interrupted(f"Stopped after {len(rows)} of {len(names)} models.", remedy) from stop
        rows = in_one_unit(rows)
        best = best_overall(rows)
        record = {
            "dataset": dataset if data.density else str(Path(dataset).resolve()),
            "rows": data.train.height,
            "held_out": data.held_out.height,
            "columns": data.train.width,
            "n_generated": n,
            "seed": seed,
            "device": place,
            "run_dir": None if path is None else str(path),
            "models": rows,
            "best": best,
            "as_good": [name for name in rows if best not in (None, name) and as_good(rows[name], rows[best])],
            "best_by_metric": best_by_metric(rows),
            "simpler": _simpler(rows, configs),
        }
        write_json(folder / "comparison.json", record)
    return record


def _require_rows(data: Data) -> None:
    """See that the models can be scored, before any of them is trained.

    Raises:
        InputError: there are too few held-out or training rows.

    """
    held_out, train = data.held_out.height, data.train.height
    if min(held_out, train) < SCORED_FROM:
        few = f"{held_out} held-out" if held_out < SCORED_FROM else f"{train} training"
        share = math.ceil(100 * SCORED_FROM / (held_out + train)) / 100
        raise InputError(
            f"{few} rows are too few to compare models: at least {SCORED_FROM} are needed.",
            f"Give more rows, or choose the held-out share with --set data.held_out_fraction={share:g}.",
        )


def _configure(
    dataset: str, names: Sequence[str], seed: int, settings: Sequence[str], *, rows: int | None = None
) -> dict[str, RunConfig]:
    """Give the configurations of the models among the names, and that of a mixture where all names are peers."""
    of_house = [name for name in names if name in MODELS] or [SIMPLE]
    # A setting of a model that is not compared this time may have been meant for an earlier call; one that no model has
    # is handed on, to be refused.
    unknown = [setting for setting in settings if not any(has_setting(name, setting) for name in MODELS)]
    configs = {}
    for name in of_house:
        own = [setting for setting in settings if has_setting(name, setting)]
        configs[name] = resolve(
            dataset=dataset, model=name, options={"seed": seed}, settings=[*own, *unknown], rows=rows
        )
        if (configs[name].dataset, configs[name].model.name) != (dataset, name):
            raise InputError("--set names another data set or another model.", "Use --dataset and --model.")
    return configs


def _without_effect(names: Sequence[str], settings: Sequence[str]) -> list[str]:
    """Say for each setting that only models beyond the names have that it changes nothing."""
    return [
        f"The setting {setting} changes nothing: none of the models that are compared has it."
        for setting in settings
        if not setting.startswith(("data.", "seed"))  # all models have the same rows
        and not any(name in MODELS and has_setting(name, setting) for name in names)
    ]


@contextmanager
def _folder(path: str | Path | None, request: Mapping[str, Any]) -> Iterator[Path]:
    """Give the folder of a comparison: a new one, that of the same request, or a temporary one.

    Raises:
        InputError: the folder holds something else, or another process compares models there.

    """
    if path is None:
        with TemporaryDirectory(prefix="dualdiff-") as temporary:
            yield Path(temporary)
        return
    folder = Path(path)
    other = InputError(
        f"The folder {path} is not empty, and does not hold a comparison with these rows and settings.",
        "Name another folder with --run-dir, or repeat the command that the folder was made with.",
    )
    if folder.exists() and not folder.is_dir():
        raise other
    folder.mkdir(parents=True, exist_ok=True)
    is_new = all(each.name == LOCK for each in folder.iterdir())
    with sole_use(folder):
        kept = read_json(folder / "request.json")
        if kept is None and is_new:
            write_json(folder / "request.json", request)
        elif kept != request:
            raise other
        yield folder


class _Comparison:
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


def _simpler(rows: Mapping[str, Any], configs: Mapping[str, RunConfig]) -> dict[str, Any] | None:
    """Say which simpler model is as good as the first diffusion model; None where there is none."""
    diffusion = next((name for name, config in configs.items() if config.model.kind == "diffusion"), None)
    if diffusion is None or not as_good(rows.get(SIMPLE, {}), rows[diffusion]):
        return None
    return {"model": SIMPLE, "components": rows[SIMPLE]["components"], "instead_of": diffusion}
