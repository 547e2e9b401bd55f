"""Score rows against truth: those of a run, of an exported file, or of a file of samples."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from .. import seeding
from ..compute.device import choose_device
from ..compute.memory import require_memory
from ..data import Data, read_table
from ..errors import InputError
from ..metrics import Score
from ..models import DrawingOptions, Model, load_model
from ..store.run import Run
from . import diagnose
from .inputs import data_of_file, data_of_run
from .truth import Announce, Truth

if TYPE_CHECKING:
    from ..exporting.runtime import ExportedModel

__all__ = ["GENERATED", "evaluate"]

GENERATED = 10_000
"""The number of rows that a model is asked for, as in the paper."""
MOSTLY = 0.5
"""A warning is given if the share of copies in a file exceeds the floor by more than this."""


@dataclass(frozen=True)
class _Subject:
    """What is scored, and against what.

    Attributes:
        data: training and held-out rows.
        name: of the data set.
        model: what rows are drawn from; None where the rows are in a file.
        run: the model's run.
        labels: further entries of the record.

    """

    data: Data
    name: str
    model: Model | None = None
    run: Run | None = None
    labels: Mapping[str, Any] = field(default_factory=dict)

    def losses(self, seed: int) -> dict[str, Score]:
        """Score what a run's model was trained to minimise."""
        assert self.model is not None
        assert self.run is not None
        return self.model.losses(self.run, self.data, seed=seed)


def evaluate(
    source: Run | ExportedModel | str | Path | None = None,
    *,
    samples: str | Path | None = None,
    against: str | Path | None = None,
    data: Data | None = None,
    n: int = GENERATED,
    options: DrawingOptions = DrawingOptions(),
    exact: bool = False,
    diagnosis: bool = False,
    metrics: Collection[str] | None = None,
    target: str | None = None,
    seed: int = 0,
    device: str = "auto",
    announce: Announce = lambda what: None,
    on_note: Callable[[str], None] = lambda note: None,
) -> dict[str, Any]:
    """Score generated rows against rows that no model has learnt.

    Args:
        source: a finished run or its directory, or an exported file; None where ``samples`` and ``against`` are files,
            of which one is scored against the other.
        samples: a file of generated rows to score in place of fresh ones.
        against: a file of true rows to score against in place of the held-out ones; columns of the file that the
            generated rows do not have are left out.
        data: training and held-out rows of the source, where the caller has them; None reads or draws them.
        n: the number of rows to generate.
        options: how the rows are drawn, where the model leaves a choice.
        exact: whether to score the model's likelihood, too; see `diagnose.exact_scores`.
        diagnosis: whether to split the divergences by their causes; see `diagnose.diagnose`.
        metrics: the names of the wanted scores, see `metrics.METRICS`; None takes all of them, and so does a diagnosis.
        target: a column that trees are to predict from the others, for the score "tstr"; None where no column is.
        seed: of the generated rows, of subsamples, and of the perfect samples behind the floors.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:i``, where a run's model is loaded.
        announce: told what is being computed.
        on_note: told each sentence about the files that the user should know.

    Returns:
        The record of the ``evaluate`` command's contract. For a run whose own samples are scored in full, the record
        is also left in the run.

    Raises:
        InputError: there is no run, the run is not finished, its data file has changed, a file lacks a column or has
            one of another type, there are too few rows, a metric is unknown, an option does not apply, or the model has
            no likelihood or no exact denoiser.
        DeviceError: the device is not there.

    Examples:
        >>> import dualdiff_cli as dualdiff
        >>> small = ["model.components=4", "data.points=500", "data.held_out_points=500"]
        >>> config = dualdiff.resolve(dataset="moons", model="mixture", settings=small)
        >>> run = dualdiff.train(config)["run"]
        >>> record = dualdiff.evaluate(run, n=500, metrics=["sliced_wasserstein"])
        >>> record["metrics"]["sliced_wasserstein"]["unit"]
        'data units'

    """
    if isinstance(source, str | Path):
        source = Run.open(source)
    generated: pl.DataFrame | None = None
    if source is None:
        generated, subject = _two_files(samples, against, on_note)
    else:
        subject = _subject(source, device, data)
    data, model = subject.data, subject.model
    asked, diagnosed = None, None
    if exact or diagnosis:
        asked = diagnose.asked_model(model, files=not (samples is None and against is None))
    if diagnosis and asked is not None:
        diagnosed, metrics = diagnose.diagnosable(asked, data), None
    drawn: dict[str, Any] = {}
    if samples is not None:
        generated = _read_rows(samples, data.train.columns, on_note) if generated is None else generated
    else:
        assert model is not None
        require_memory(n, model.encoding.width)
        announce(f"{n:,} samples")
        started = time.perf_counter()
        drawing = model.draw(n, seed=seed, options=replace(options, redraw=False))
        generated = pl.concat(drawing.chunks)
        drawn = {**drawing.facts, "sample_seconds": time.perf_counter() - started}
    real = data.held_out if against is None or source is None else _read_rows(against, data.train.columns, on_note)
    truth = Truth(data, real, generated.height, seed=seed)
    # Nobody says what made a file of samples, so there are no training rows to compare its rows with.
    scores = truth.score(generated, memorisation=source is not None, metrics=metrics, target=target, announce=announce)
    if samples is not None:
        _warn_of_copies(scores, samples)
    if samples is None and subject.run is not None:
        announce("losses")
        scores |= subject.losses(seed)
    if exact and asked is not None:
        announce("exact likelihood")
        scores |= diagnose.exact_scores(asked, data, seed=seed)
    if diagnosed is not None:
        announce("exact denoiser")
        scores |= {"kl_path": diagnose.path_score(diagnosed, data, seed=seed)}
        drawn["diagnosis"] = diagnose.diagnose(
            diagnosed, data, real=truth.real, scores=scores, options=options, seed=seed
        )
    record = _record(subject, truth, generated, scores) | drawn
    own = options == DrawingOptions() and samples is None and against is None and metrics is None and target is None
    if own and subject.run is not None:
        subject.run.save_evaluation(record)
    return record


def _subject(source: Run | ExportedModel, device: str, data: Data | None) -> _Subject:
    """Load a model and, unless the caller has them, the rows that it was trained for."""
    if isinstance(source, Run):
        config = source.config
        labels = {"model": config.model.name, "recipe": config.recipe}
        model = load_model(source, device=choose_device(device))
        return _Subject(data or data_of_run(source), config.dataset, model, source, labels)
    config = source.config
    labels = {"model": config.model.name, "recipe": config.recipe}
    return _Subject(data or data_of_file(source), config.dataset, source, None, labels)


def _two_files(
    samples: str | Path | None, against: str | Path | None, on_note: Callable[[str], None]
) -> tuple[pl.DataFrame, _Subject]:
    """Read the rows to score, and the true rows with the same columns.

    Raises:
        InputError: one of the files is not named, or a file is refused.

    """
    if samples is None or against is None:
        raise InputError("There is nothing to score.", "Name a run, or two files with --samples and --against.")
    generated = _read_rows(samples, None, on_note)
    real = _halves(Path(against), generated.columns, on_note)
    if Path(samples).resolve() == Path(against).resolve():
        warnings.warn(f"The rows of {samples} are scored against themselves.", stacklevel=3)
    return generated, _Subject(real, str(against))


def _halves(path: Path, columns: list[str], on_note: Callable[[str], None]) -> Data:
    """Read true rows from a file: one half stands for the truth, the other half for perfect samples."""
    rows = _read_rows(path, columns, on_note)
    order = seeding.stream(0, "halves").permutation(rows.height)
    half = rows.height // 2
    return Data(path.name, rows[order[half:]], rows[order[:half]], None, {})


def _read_rows(path: str | Path, columns: list[str] | None, on_note: Callable[[str], None]) -> pl.DataFrame:
    """Read rows that are only scored, and tell the notes of reading.

    Raises:
        InputError: the file is refused; the remedy names no option, because `evaluate` has none for files.

    """
    try:
        table = read_table(path, columns=columns)
    except InputError as error:
        raise error.without_options("Mend these values, or leave the column out of the file.") from error
    for note in table.notes:
        on_note(note)
    return table.rows


def _warn_of_copies(scores: Mapping[str, Score], samples: str | Path) -> None:
    """Warn where most rows of a file are rows that the model was trained on: the other scores then say little."""
    copies = scores.get("copies")
    if copies is not None and copies.value - (copies.floor or 0.0) > MOSTLY:
        warnings.warn(
            f"{100 * copies.value:.0f} % of the rows of {samples} repeat rows that the model was trained on, or nearly "
            f"so; of rows that it has not seen {100 * (copies.floor or 0.0):.0f} % do. The other scores are of copies.",
            stacklevel=3,
        )


def _record(subject: _Subject, truth: Truth, generated: pl.DataFrame, scores: dict[str, Score]) -> dict[str, Any]:
    return {
        "run": None if subject.run is None else str(subject.run),
        "model_sha256": None if subject.run is None else subject.run.model_sha256,
        "dataset": subject.name,
        "model": None,
        "recipe": None,
        **subject.labels,
        "n_real": len(truth.real),
        "n_generated": generated.height,
        "metrics": {name: score.to_dict() for name, score in scores.items()},
    }
