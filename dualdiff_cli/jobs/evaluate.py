"""Score rows against truth: those of a run, of an exported file, or of a file of samples."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import polars as pl

from ..compute.device import choose_device
from ..compute.memory import require_memory
from ..data import Data, read_table
from ..data.split import left_out
from ..errors import InputError
from ..metrics import SCORED_FROM, Score
from ..models import DrawingOptions, Model
from ..store.run import Run
from . import diagnose
from .inputs import data_of_file, data_of_run, halves, opened
from .truth import Announce, Truth

if TYPE_CHECKING:
    from ..exporting.runtime import ExportedModel

__all__ = ["GENERATED", "evaluate", "require_scorable"]

GENERATED = 10_000
"""The number of rows that a model is asked for, as in the paper."""
MOSTLY = 0.5
"""A warning is given if the share of copies in a file exceeds the floor by more than this."""


@dataclass(frozen=True)
class _Subject:
    """What is scored, and against what.

    Attributes:
        data: training and held-out rows.
        real: the rows to score against.
        name: of the data set.
        samples: the rows of a file that are scored; None where fresh ones are.
        model: what rows are drawn from; None where both sides are files.
        run: the model's run.

    """

    data: Data
    real: pl.DataFrame
    name: str
    samples: pl.DataFrame | None = None
    model: Model | None = None
    run: Run | None = None

    def rows(
        self, n: int, *, seed: int, options: DrawingOptions, announce: Announce
    ) -> tuple[pl.DataFrame, dict[str, Any]]:
        """Give the rows that are scored, and for n fresh ones how they were drawn."""
        if self.samples is not None:
            return self.samples, {}
        assert self.model is not None, "two files are a subject with samples"
        require_memory(n, self.model.encoding.width)
        announce(f"{n:,} samples")
        started = time.perf_counter()
        drawing = self.model.draw(n, seed=seed, options=replace(options, redraw=False))
        rows = pl.concat(drawing.chunks)
        return rows, {**drawing.facts, "sample_seconds": time.perf_counter() - started}

    def losses(self, seed: int, announce: Announce) -> dict[str, Score]:
        """Score what the model of a run was trained to minimise, beside fresh rows; no score for all else."""
        if self.run is None or self.model is None or self.samples is not None:
            return {}
        announce("losses")
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
    choose_device(device)
    files = samples is not None or against is not None
    if files and (exact or diagnosis):
        raise InputError(
            "--exact and --diagnose are about the model itself, not about rows in a file.",
            "Leave out --samples and --against, or the two flags.",
        )
    if samples is None:
        require_scorable(n)
    read = partial(_read_rows, on_note=on_note)
    if source is None:
        subject = _two_files(samples, against, read, on_note=on_note)
    else:
        subject = _subject(source, samples, against, data, device, read)
    data, model, metrics = subject.data, subject.model, None if diagnosis else metrics
    diagnosed = diagnose.diagnosable(model, data) if diagnosis and model is not None else None
    generated, facts = subject.rows(n, seed=seed, options=options, announce=announce)
    if against is not None:
        _warn_of_learnt(data, subject.real, against)
    truth = Truth(data, subject.real, generated.height, seed=seed)
    scores = truth.score(generated, metrics=metrics, target=target, announce=announce)
    if samples is not None:
        _warn_of_copies(scores, samples)
    if against is None:  # the losses are of the run's own held-out rows
        scores |= subject.losses(seed, announce)
    if exact and model is not None:
        announce("exact likelihood")
        scores |= diagnose.exact_scores(model, data, seed=seed)
    if diagnosed is not None:
        announce("exact denoiser")
        scores |= {"kl_path": diagnose.path_score(diagnosed, data, seed=seed)}
        facts["diagnosis"] = diagnose.diagnose(
            diagnosed, data, real=truth.real, scores=scores, options=options, seed=seed
        )
    named = {key: None if file is None else str(file) for key, file in (("samples", samples), ("against", against))}
    record = _record(subject, truth, generated, scores) | named | {"seed": seed} | facts
    own = options == DrawingOptions() and not files and metrics is None and target is None
    if own and subject.run is not None:
        subject.run.save_evaluation(record)
    return record


def require_scorable(n: int) -> None:
    """See that so many generated rows can be scored, before anything is trained or drawn.

    Raises:
        InputError: they are too few.

    """
    if n < SCORED_FROM:
        raise InputError(f"{n} generated rows cannot be scored.", f"Ask for at least {SCORED_FROM} rows.")


def _subject(
    source: Run | ExportedModel | str | Path,
    samples: str | Path | None,
    against: str | Path | None,
    data: Data | None,
    device: str,
    read: Callable[..., pl.DataFrame],
) -> _Subject:
    """Load a model and, unless the caller has them, the rows that it was trained for; read the files that are named."""
    source = Run.open(source) if isinstance(source, str | Path) else source
    run, model = opened(source, device)
    if data is None:
        data = data_of_run(source) if isinstance(source, Run) else data_of_file(source)
    types = data.train.schema
    return _Subject(
        data,
        real=data.held_out if against is None else read(against, types),
        name=model.config.dataset,
        samples=None if samples is None else read(samples, types),
        model=model,
        run=run,
    )


def _two_files(
    samples: str | Path | None,
    against: str | Path | None,
    read: Callable[..., pl.DataFrame],
    *,
    on_note: Callable[[str], None],
) -> _Subject:
    """Read the rows to score, and the true rows with the same columns, without those that identify the true rows.

    Nobody says what made the rows of a file, so there are no learnt rows to compare them with.

    Raises:
        InputError: one of the files is not named, or a file is refused.

    """
    if samples is None or against is None:
        raise InputError("There is nothing to score.", "Name a run, or two files with --samples and --against.")
    generated = read(samples)
    real = read(against, generated.schema)
    keys = left_out(real, source=str(against))
    if len(keys) == real.width:
        raise InputError(f"Every column of {against} is an identifier, which cannot be scored.", "Give other columns.")
    for key in keys:
        on_note(f"The column '{key}' identifies the rows and is not scored.")
    generated = generated.drop(keys)
    data = halves(Path(against).name, real.drop(keys), seed=0)
    if Path(samples).resolve() == Path(against).resolve():
        warnings.warn(f"The rows of {samples} are scored against themselves.", stacklevel=3)
    return _Subject(data, data.held_out, str(against), generated)


def _read_rows(
    path: str | Path, types: Mapping[str, pl.DataType] = MappingProxyType({}), *, on_note: Callable[[str], None]
) -> pl.DataFrame:
    """Read rows that are only scored, and tell the notes of reading.

    Args:
        path: the file.
        types: the columns that are wanted, and their types; all columns if there are none.
        on_note: see `evaluate`.

    Raises:
        InputError: the file is refused; the remedy names no option, because `evaluate` has none for files.

    """
    try:
        table = read_table(path, columns=[*types] or None, learnt=types)
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


def _warn_of_learnt(data: Data, real: pl.DataFrame, against: str | Path) -> None:
    """Warn where most rows of the file of true rows are training rows: a model that copies them then looks perfect."""
    if data.density is not None or not data.learnt or dict(real.schema) != dict(data.train.schema):
        return  # a file with other types is not the one that was learnt
    shares = [
        rows.join(data.train, on=real.columns, how="semi", nulls_equal=True).height / max(1, rows.height)
        for rows in (real, data.held_out)
    ]
    if shares[0] - shares[1] > MOSTLY:
        warnings.warn(
            f"{100 * shares[0]:.0f} % of the rows of {against} are rows that the model was trained on. A model that "
            "copies these rows would have perfect scores, so score against rows that the model has not seen.",
            stacklevel=3,
        )


def _record(subject: _Subject, truth: Truth, generated: pl.DataFrame, scores: dict[str, Score]) -> dict[str, Any]:
    config = None if subject.model is None else subject.model.config
    return {
        "run": None if subject.run is None else str(subject.run),
        "model_sha256": None if subject.run is None else subject.run.model_sha256,
        "dataset": subject.name,
        "model": None if config is None else config.model.name,
        "recipe": None if config is None else config.recipe,
        "n_real": len(truth.real),
        "n_generated": generated.height,
        "metrics": {name: score.to_dict() for name, score in scores.items()},
    }
