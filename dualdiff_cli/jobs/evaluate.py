"""Score a run, or a file of points, against held-out truth."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..compute.device import choose_device
from ..compute.execution import AnyPrecision
from ..config.recipes import with_sampling
from ..config.schema import RunConfig
from ..data import Column, Data, dequantise, draw, read_table
from ..diffusion.samplers import build_sampler
from ..errors import InputError
from ..exporting.runtime import ExportedModel
from ..metrics import Score, score_samples
from ..models.diffusion import TrainedModel, build_denoiser
from ..store.atomic import write_json
from ..store.run import Run
from ..training.loss import LossEstimate, estimate_loss
from .diagnose import check_request, diagnose, exact_scores, path_score
from .inputs import held_out_points, load_run_data, reload_data, training_points
from .reflow import held_out_loss, kept_pairs

__all__ = ["evaluate", "evaluate_exported", "evaluate_files"]

GENERATED = 10_000
"""Points that a model is asked for, as in the paper."""
REAL = 100_000
"""Most points that stand for the truth, as in the paper."""
FLOOR_DRAWS = 3
"""Draws of perfect samples that the floors are averaged over."""

Announce = Callable[[str], None]


def _silent(what: str) -> None:
    del what


def evaluate(
    run: Run,
    *,
    samples: Path | None = None,
    against: Path | None = None,
    n: int = GENERATED,
    sampler: str | None = None,
    sample_steps: int | None = None,
    exact: bool = False,
    diagnosis: bool = False,
    metrics: Collection[str] | None = None,
    seed: int = 0,
    device: str = "auto",
    precision: AnyPrecision = "float32",
    announce: Announce = _silent,
) -> dict[str, Any]:
    """Score a finished run's model, or points that are said to be its, against points that it never saw.

    Args:
        run: a finished one.
        samples: a file of generated points to score in place of fresh ones.
        against: a file of true points to score against in place of the held-out ones.
        n: number of points to generate.
        sampler, sample_steps: the method and its number of steps; None takes the run's own.
        exact: whether to compute the model's likelihood too; see `diagnose.exact_scores`.
        diagnosis: whether to split the divergences by their causes; see `diagnose.diagnose`.
        metrics: names of the scores of points that are wanted, see `metrics.METRICS`; None takes all of them, and so
            does a diagnosis.
        seed: of the generated points, of the subsamples and of the perfect samples behind the floors.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:i``.
        precision: of the network's matrix products while points are drawn; ``auto`` takes what is clearly faster.
        announce: told what is being computed.

    Returns:
        The record of the ``evaluate`` command's contract; with all scores and for the run's own sampling also left in
        ``evaluation.json``.

    Raises:
        InputError: the run is not finished, its data file has changed, a file lacks the run's columns, there are too
            few points, a metric is unknown, or the likelihood or the diagnosis of what has none is asked for.
        DeviceError: the device is not there.

    """
    place = choose_device(device)
    model = TrainedModel.load(run, place)
    data = reload_data(run)
    sampling = with_sampling(model.config.sampling, sampler=sampler, steps=sample_steps)
    metrics = None if diagnosis else metrics
    if exact or diagnosis:
        check_request(model.config, data, files=not (samples is None and against is None), diagnosis=diagnosis)
    if samples is None:
        announce(f"{n:,} samples")
        execution = model.choose_execution(n, sampling.steps, precision=precision)
        execution.apply()
        started = time.perf_counter()
        chunks = model.carried_out(execution).sample(n, seed=seed, sampler=build_sampler(sampling))
        generated = _as_data(np.concatenate(list(chunks)), model.columns)
        drawn: dict[str, Any] = {
            "sampler": sampling.sampler,
            "sample_steps": sampling.steps,
            "precision": execution.precision,
            "sample_seconds": time.perf_counter() - started,
        }
    else:
        drawn = {}
        generated = _read_points(samples, model.columns)
    truth, scores = _score(generated, data, against=against, metrics=metrics, seed=seed, announce=announce)
    if samples is None:
        announce("losses")
        scores |= _losses(run, model, data, seed=seed)
    if exact:
        announce("exact likelihood")
        scores |= exact_scores(model, data, seed=seed)
    if diagnosis:
        announce("paths of the exact denoiser")
        scores |= {"kl_path": path_score(model, data, seed=seed)}
    record = _record(model.config, run, truth.real, generated, scores) | drawn
    if diagnosis:
        announce("exact denoiser")
        method = build_sampler(sampling)
        record["diagnosis"] = diagnose(model, data, real=truth.real, scores=scores, sampler=method, seed=seed)
    its_own = samples is None and sampling == model.config.sampling and drawn["precision"] == "float32"
    if its_own and against is None and metrics is None:
        write_json(run.path / "evaluation.json", record)
    return record


def evaluate_exported(
    exported: ExportedModel,
    *,
    against: Path | None = None,
    n: int = GENERATED,
    sampler: str | None = None,
    sample_steps: int | None = None,
    seed: int = 0,
    announce: Announce = _silent,
) -> dict[str, Any]:
    """Score an exported file's points against held-out ones; the run is not needed, but a data file it came from is.

    Args:
        exported: the file.
        against, n, sampler, sample_steps, seed, announce: as in `evaluate`; another sampler only for a denoiser.

    Returns:
        The record of the ``evaluate`` command's contract.

    Raises:
        InputError: the data file has changed, or the exported file's sampler is another one.

    """
    config = exported.config
    data = load_run_data(config)
    if exported.metadata["data"].get("sha256") != data.provenance.get("sha256"):
        raise InputError(
            f"The file {data.name} has changed since the run behind {exported.path} was begun.", "Restore it."
        )
    sampling = with_sampling(exported.sampling, sampler=sampler, steps=sample_steps)
    announce(f"{n:,} samples")
    chunks = exported.sample(n, seed=seed, sampling=sampling)
    generated = _as_data(np.concatenate(list(chunks)), exported.columns)
    truth, scores = _score(generated, data, against=against, seed=seed, announce=announce)
    drawn = {"sampler": sampling.sampler, "sample_steps": sampling.steps, "provider": exported.provider}
    return _record(config, None, truth.real, generated, scores) | {"from": str(exported.path)} | drawn


def evaluate_files(samples: Path, against: Path, *, seed: int = 0, announce: Announce = _silent) -> dict[str, Any]:
    """Score one file of points against another of the same columns; no run is needed.

    Half of the true points stand for the truth, the other half for perfect samples.

    Raises:
        InputError: a file cannot be read, the columns differ, or there are too few points.

    """
    real = read_table(against)
    columns = real.columns
    rng = np.random.default_rng(seed)
    shuffled = dequantise(rng.permutation(real.values), columns, rng)
    generated = dequantise(_read_points(samples, columns), columns, rng)
    half = len(shuffled) // 2
    scale = shuffled.std(axis=0)
    truth, perfect = shuffled[:half][:REAL] / scale, shuffled[half:] / scale
    n = min(len(generated), len(perfect))
    scores = score_samples(
        real=truth,
        generated=rng.permutation(generated)[:n] / scale,
        perfect=[perfect[i : i + n] for i in range(0, FLOOR_DRAWS * n, n) if i + n <= len(perfect)],
        unit="standard deviations",
        seed=seed,
        progress=announce,
    )
    return _record(None, None, truth, generated[:n], scores, dataset=str(against))


def _score(
    generated: np.ndarray,
    data: Data,
    *,
    against: Path | None,
    metrics: Collection[str] | None = None,
    seed: int,
    announce: Announce,
) -> tuple[_Truth, dict[str, Score]]:
    real = data.held_out if against is None else _read_points(against, data.columns)
    truth = _Truth(data, real[:REAL], len(generated), seed=seed)
    scores = score_samples(
        real=truth.real,
        generated=truth.prepare(generated),
        perfect=truth.perfect,
        # The paper's definition is about its own densities; a file's training points are where its floor comes from.
        published_real=truth.training if data.density else None,
        modes=data.density.modes if data.density else None,
        only=metrics,
        unit=truth.unit,
        seed=seed,
        progress=announce,
    )
    return truth, scores


class _Truth:
    """True points in the shape that the scores want them.

    A density is scored in data units, as the paper does. A file's columns may differ in unit, so they are divided by
    their standard deviation; whole numbers are spread over their unit interval on both sides, because nearest-neighbour
    distances between repeated values are zero.
    """

    def __init__(self, data: Data, real: np.ndarray, n_generated: int, *, seed: int) -> None:
        self.columns = data.columns
        self._rng = np.random.default_rng([seed, 1])
        self.scale = np.ones(real.shape[1]) if data.density else data.train.std(axis=0)
        self.unit = "data units" if data.density else "standard deviations"
        self.real = self.prepare(real)
        self.training = self.prepare(data.train[:REAL])
        if data.density:
            self.perfect = [draw(data.density, n_generated, seed=seed, role=f"perfect-{k}") for k in range(FLOOR_DRAWS)]
        else:
            shuffled = self._rng.permutation(self.training)
            draws = min(FLOOR_DRAWS, len(shuffled) // n_generated) or 1
            self.perfect = np.array_split(shuffled[: draws * n_generated], draws)

    def prepare(self, points: np.ndarray) -> np.ndarray:
        """(n, d) in data units → (n, d) in the units of the scores."""
        return dequantise(points, self.columns, self._rng) / self.scale


def _as_data(points: np.ndarray, columns: tuple[Column, ...]) -> np.ndarray:
    """Round what a file would hold as whole numbers."""
    whole = [column.kind == "integer" for column in columns]
    return np.where(whole, points.round(), points)


def _read_points(path: Path, columns: tuple[Column, ...]) -> np.ndarray:
    return read_table(path, columns=[column.name for column in columns], constant="keep").values


def _losses(run: Run, model: TrainedModel, data: Data, *, seed: int) -> dict[str, Score]:
    """Held-out loss of the averaged weights, and the paper's: the last weights on the points they were trained on."""

    def score(estimate: LossEstimate) -> Score:
        half = 1.96 * estimate.standard_error
        interval = (estimate.mean - half, estimate.mean + half)
        return Score(value=estimate.mean, unit=unit, ci95=interval, n_real=estimate.n, n_generated=0)

    def scaled(points: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(model.scaler.transform(points)).float().to(model.device)

    unit = f"mean squared error of the {model.config.objective.prediction}"
    held_out = scaled(held_out_points(data, seed=seed))
    pairs = kept_pairs(run)
    losses = {"held_out_loss": score(held_out_loss(model.denoiser, held_out, pairs, seed=seed))}
    state = run.load_state()
    if state is not None and pairs is None:
        last = build_denoiser(model.config, len(model.columns))
        last.load_weights(state["trainer"]["network"])
        training = scaled(training_points(model.config, data)[:REAL])
        losses["training_loss_published"] = score(estimate_loss(last.to(model.device), training, seed=seed))
    return losses


def _record(
    config: RunConfig | None,
    run: Run | None,
    real: np.ndarray,
    generated: np.ndarray,
    scores: dict[str, Score],
    *,
    dataset: str | None = None,
) -> dict[str, Any]:
    return {
        "run": None if run is None else str(run),
        "dataset": dataset if config is None else config.dataset,
        "model": None if config is None else config.model.name,
        "recipe": None if config is None else config.recipe,
        "n_real": len(real),
        "n_generated": len(generated),
        "metrics": {name: score.to_dict() for name, score in scores.items()},
    }
