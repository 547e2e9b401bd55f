"""What an evaluation can say beyond samples: the model's exact likelihood, and which part costs how many bits."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl
import torch

from .. import seeding
from ..config.recipes import with_sampling
from ..data import Data
from ..diffusion.denoisers import Denoiser
from ..diffusion.exact import exact_denoiser
from ..diffusion.likelihood import path_divergence
from ..diffusion.samplers import build_sampler, generate
from ..errors import InputError
from ..metrics import Points, Score, kl_divergence
from ..metrics.score import Interval, mean_interval
from ..models import DrawingOptions, Model
from ..models.diffusion import DiffusionModel
from .inputs import diffusion_model

__all__ = ["density_notes", "diagnosable", "diagnose", "exact_scores", "path_score"]

EXACT_ROWS = 2_000
"""The number of held-out rows whose log-density is computed."""
CHECKED_ROWS = 200
"""The number of these that the integrator's error is estimated on."""
PATH_ROWS = 20_000
"""The number of held-out rows whose paths are compared with the exact denoiser's."""

Part = dict[str, Any]


def exact_scores(model: Model, data: Data, *, seed: int) -> dict[str, Score]:
    """Give the negative log-likelihood of held-out rows in bits and, where the truth is known, what the model loses.

    `kl_real_model` is D(real ‖ model) = E[log2 p(x) − log2 q(x)]. Its terms are paired row by row, which takes most of
    the scatter out of it; no neighbours are involved, so it has no bias and its floor is 0. `nll_excess` is the same
    divergence as the difference from the entropy. Whole numbers are spread over their unit interval.

    Raises:
        InputError: the model has no density.

    """
    rows = seeding.shuffled(data.held_out, EXACT_ROWS, seeding.stream(seed, "rows of the likelihood"))
    log_q = model.log_density(rows, seed=seed) / math.log(2)
    notes = density_notes(model, rows[:CHECKED_ROWS], seed=seed)

    def score(terms: Points, *, less: float = 0.0, floor: float | None, notes: tuple[str, ...] = ()) -> Score:
        interval = mean_interval((terms - less).tolist())
        value, n = float(terms.mean()) - less, rows.height
        return Score(value=value, unit="bits", ci95=interval, floor=floor, n_real=n, n_generated=0, notes=notes)

    if data.density is None:
        return {"nll_held_out": score(-log_q, floor=None, notes=notes)}
    entropy = data.density.entropy() / math.log(2)
    return {
        "nll_held_out": score(-log_q, floor=entropy, notes=notes),
        "nll_excess": score(-log_q, less=entropy, floor=0.0),
        "kl_real_model": score(data.density.log_prob(rows.to_numpy()) / math.log(2) - log_q, floor=0.0),
    }


def density_notes(model: Model, rows: pl.DataFrame, *, seed: int) -> tuple[str, ...]:
    """Say what is to be known about log-densities: what `log_slope` leaves out, and the error at checked rows."""
    reflecting = ", ".join(f"'{column.name}'" for column in model.encoding.columns if column.reflects)
    bounds = (
        f"What the model reflects at the bounds of {reflecting} is missing from the density inside them, so that the "
        "density is too small near the bounds and its integral is less than one."
    )
    return tuple(filter(None, [bounds if reflecting else "", model.density_note(rows, seed=seed)]))


def diagnosable(model: Model, data: Data) -> DiffusionModel:
    """Give the model as one that can be diagnosed.

    Raises:
        InputError: the model is not a diffusion model in a run, or the data came from a file, or the network has learnt
            coupled noise and points, whose flow is no denoiser of the data.

    """
    model = diffusion_model(
        model,
        "does not have the denoiser of a run, which --diagnose needs",
        "Leave out --diagnose, or use it on the run of another model, such as dual-expert.",
    )
    if data.density is None:
        raise InputError(
            f"A diagnosis needs the exact denoiser of the data, which a file like {data.name} does not have.",
            "Leave out --diagnose, or use it on a run of one of `dualdiff datasets`.",
        )
    objective = model.config.objective
    if objective.teacher is not None or objective.coupling != "independent":
        raise InputError(
            "A diagnosis asks for a denoiser of the data, and this model has learnt coupled noise and points.",
            "Leave out --diagnose, or use it on a run with the independent coupling, such as a reflow's teacher.",
        )
    return model


def path_score(model: DiffusionModel, data: Data, *, seed: int) -> Score:
    """Give the network's own error in bits: the divergence of paths, without a sampler, neighbours or a floor.

    It bounds what the network can add to kl_real_generated, and resolves differences far below the scatter of that.
    """
    oracle = _oracle(model, data)
    rows = data.held_out[:PATH_ROWS]
    x = torch.from_numpy(model.encoding.encode(rows, seeding.stream(seed, "dequantise"))).to(model.device)
    terms = path_divergence(model.denoiser, oracle, x, seed=seed).cpu().numpy() / math.log(2)
    notes = ("An upper bound for what the network adds; schedule and sampler have no part in it.",)
    interval = mean_interval(terms.tolist())
    value, n = float(terms.mean()), len(terms)
    return Score(value=value, unit="bits", ci95=interval, floor=0.0, n_real=n, n_generated=0, notes=notes)


def diagnose(
    model: DiffusionModel,
    data: Data,
    *,
    real: Points,
    scores: Mapping[str, Score],
    options: DrawingOptions,
    seed: int,
) -> dict[str, dict[str, Part]]:
    """Split both divergences into what the estimator, the schedule with the sampler, and the network put into them.

    The same sampler turns the same noise into rows a second time, with the density's exact denoiser in place of the
    network. With F the floor, E the divergence of those rows and V that of the model's, V = F + (E − F) + (V − E).
    The intervals are those of independent rows. As the three share their real rows, and the last two their noise, the
    intervals are rather too wide.

    Args:
        model: the run's.
        data: a density's.
        real: what the scores were taken against, (n, d).
        scores: of the model's own rows, with their floors.
        options: what drew the model's rows.
        seed: of the model's rows.

    Returns:
        By metric: "floor", "schedule_and_sampler", "network" and "total", each {"value", "ci95"} in bits.

    """
    names = {"kl_real_generated": False, "kl_generated_real": True}
    n = scores["kl_real_generated"].n_generated
    sampler = build_sampler(with_sampling(model.config.sampling, sampler=options.sampler, steps=options.steps))
    width = model.encoding.width
    chunks = list(generate(sampler, _oracle(model, data), n, dim=width, seed=seed, device=model.device))
    rows = model.encoding.decode(np.concatenate(chunks)).to_numpy()
    return {
        name: _split(scores[name], kl_divergence(real, rows, reverse=reverse, seed=seed))
        for name, reverse in names.items()
    }


def _oracle(model: DiffusionModel, data: Data) -> Denoiser:
    """Give the exact denoiser of the density, for the model's features."""
    assert data.density is not None, "checked with the request"
    shift, scale = model.encoding.affine
    return exact_denoiser(data.density, model.denoiser.schedule, shift=shift, scale=scale).to(model.device)


def _split(total: Score, exact: Score) -> dict[str, Part]:
    floor = math.nan if total.floor is None else total.floor  # a divergence of too few rows has no floor
    floor_half = 1.96 * (total.floor_spread or 0.0)  # of one draw: the spread of a few is itself uncertain
    total_half, exact_half = _half(total.ci95), _half(exact.ci95)
    return {
        "floor": _part(floor, floor_half),
        "schedule_and_sampler": _part(exact.value - floor, math.hypot(exact_half, floor_half)),
        "network": _part(total.value - exact.value, math.hypot(total_half, exact_half)),
        "total": _part(total.value, total_half),
    }


def _half(interval: Interval | None) -> float:
    return math.nan if interval is None else (interval[1] - interval[0]) / 2


def _part(value: float, half: float) -> Part:
    """Give a part in bits with its interval; None for what a score without a floor or an interval leaves unknown."""
    known = math.isfinite(value)
    ci95 = [value - half, value + half] if known and math.isfinite(half) else None
    return {"value": value if known else None, "unit": "bits", "ci95": ci95}
