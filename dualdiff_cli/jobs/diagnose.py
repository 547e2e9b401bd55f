"""What an evaluation can say beyond samples: the model's exact likelihood, and which part costs how many bits."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from ..config.schema import RunConfig
from ..data import Data
from ..diffusion.exact import exact_denoiser
from ..diffusion.likelihood import LARGEST_STEP, log_density, path_divergence
from ..diffusion.samplers import Sampler, generate
from ..errors import InputError
from ..metrics import Points, Score, kl_divergence
from ..metrics.score import Interval, mean_interval
from ..models.diffusion import TrainedModel
from .inputs import held_out_points

__all__ = ["check_request", "diagnose", "exact_scores", "path_score"]

EXACT_POINTS = 2_000
"""Held-out points whose log-density is computed."""
CHECKED_POINTS = 200
"""Of these, the points that the integrator's error is estimated on."""
PATH_POINTS = 20_000
"""Held-out points whose paths are compared with the exact denoiser's."""

Part = dict[str, Any]


def exact_scores(model: TrainedModel, data: Data, *, seed: int) -> dict[str, Score]:
    """Negative log-likelihood of held-out points in bits and, where the truth is known, what the model loses to it.

    `kl_real_model` is D(real ‖ model) = E[log2 p(x) − log2 q(x)], its terms paired point by point, which takes most of
    the scatter out of it; no neighbours are involved, so it has no bias and its floor is 0. `nll_excess` is the same
    divergence as the difference from the entropy. Whole numbers are spread over their unit interval.
    """
    points = held_out_points(data, seed=seed)
    points = np.random.default_rng(seed).permutation(points)[:EXACT_POINTS]
    log_q = log_density(model.denoiser, model.scaler, points) / math.log(2)
    checked = points[:CHECKED_POINTS]
    coarse = log_density(model.denoiser, model.scaler, checked, step=2 * LARGEST_STEP) / math.log(2)
    moved = abs(float(np.mean(coarse - log_q[: len(checked)])))
    sigma_min = math.exp(-float(model.denoiser.schedule.lam_end))
    notes = (
        f"Of the probability flow, which deterministic samplers follow, with noise of {sigma_min:.2g} standard "
        f"deviations on its points; with twice the integrator's step it would differ by {moved:.1g} bits.",
    )

    def score(terms: Points, *, less: float = 0.0, floor: float | None, notes: tuple[str, ...] = ()) -> Score:
        interval = mean_interval((terms - less).tolist())
        value, n = float(terms.mean()) - less, len(points)
        return Score(value=value, unit="bits", ci95=interval, floor=floor, n_real=n, n_generated=0, notes=notes)

    if data.density is None:
        return {"nll_held_out": score(-log_q, floor=None, notes=notes)}
    entropy = data.density.entropy() / math.log(2)
    return {
        "nll_held_out": score(-log_q, floor=entropy, notes=notes),
        "nll_excess": score(-log_q, less=entropy, floor=0.0),
        "kl_real_model": score(data.density.log_prob(points) / math.log(2) - log_q, floor=0.0),
    }


def check_request(config: RunConfig, data: Data, *, files: bool, diagnosis: bool) -> None:
    """Refuse what has no likelihood or no exact denoiser before anything is computed.

    Raises:
        InputError: points come from files; or a diagnosis is asked for, and the data came from a file or the network
            has learnt coupled noise and points, whose flow is no denoiser of the data.

    """
    if files:
        raise InputError(
            "--exact and --diagnose are about the model itself, not about points in a file.",
            "Leave out --samples and --against, or the two flags.",
        )
    if diagnosis and data.density is None:
        raise InputError(
            f"A diagnosis needs the exact denoiser of the data, which a file like {data.name} does not have.",
            "Leave out --diagnose, or use it on a run of one of `dualdiff datasets`.",
        )
    coupled = config.objective.teacher is not None or config.objective.coupling != "independent"
    if diagnosis and coupled:
        raise InputError(
            "A diagnosis asks for a denoiser of the data, and this model has learnt coupled noise and points.",
            "Leave out --diagnose, or use it on a run with the independent coupling, such as a reflow's teacher.",
        )


def path_score(model: TrainedModel, data: Data, *, seed: int) -> Score:
    """The network's own error with no sampler, no neighbours and no floor: the divergence of paths, in bits.

    It bounds what the network can add to kl_real_generated, and resolves differences far below that estimate's scatter.
    """
    assert data.density is not None, "checked with the request"
    oracle = exact_denoiser(data.density, model.scaler, model.denoiser.schedule).to(model.device)
    points = model.scaler.transform(held_out_points(data, seed=seed)[:PATH_POINTS])
    x = torch.from_numpy(points).to(model.device)
    terms = path_divergence(model.denoiser, oracle, x, seed=seed).cpu().numpy() / math.log(2)
    notes = ("An upper bound for what the network adds; schedule and sampler have no part in it.",)
    interval = mean_interval(terms.tolist())
    value, n = float(terms.mean()), len(terms)
    return Score(value=value, unit="bits", ci95=interval, floor=0.0, n_real=n, n_generated=0, notes=notes)


def diagnose(
    model: TrainedModel,
    data: Data,
    *,
    real: Points,
    scores: Mapping[str, Score],
    sampler: Sampler,
    seed: int,
) -> dict[str, dict[str, Part]]:
    """Split both divergences into what the estimator, the schedule with the sampler, and the network put into them.

    The same sampler turns the same noise into points a second time, with the density's exact denoiser in place of the
    network. With F the floor, E the divergence of those points and V that of the model's, V = F + (E − F) + (V − E).
    The intervals are those of independent points; as the three share their real points, and the last two their noise,
    they are rather too wide.

    Args:
        model: the run's.
        data: a density's.
        real: what the scores were taken against, (n, d).
        scores: of the model's own points, with their floors.
        sampler: what drew these.
        seed: of these.

    Returns:
        By metric: "floor", "schedule_and_sampler", "network" and "total", each {"value", "ci95"} in bits.

    """
    assert data.density is not None, "checked with the request"
    oracle = exact_denoiser(data.density, model.scaler, model.denoiser.schedule).to(model.device)
    names = {"kl_real_generated": False, "kl_generated_real": True}
    n, d = scores["kl_real_generated"].n_generated, real.shape[1]
    chunks = list(generate(sampler, oracle, n, dim=d, seed=seed, device=model.device))
    points = model.scaler.inverse(np.concatenate(chunks))
    return {
        name: _split(scores[name], kl_divergence(real, points, reverse=reverse, seed=seed))
        for name, reverse in names.items()
    }


def _split(total: Score, exact: Score) -> dict[str, Part]:
    assert total.floor is not None, "a density's scores have floors"
    floor_half = 1.96 * (total.floor_spread or 0.0)  # of one draw: the spread of a few is itself uncertain
    total_half, exact_half = _half(total.ci95), _half(exact.ci95)
    return {
        "floor": _part(total.floor, floor_half),
        "schedule_and_sampler": _part(exact.value - total.floor, math.hypot(exact_half, floor_half)),
        "network": _part(total.value - exact.value, math.hypot(total_half, exact_half)),
        "total": _part(total.value, total_half),
    }


def _half(interval: Interval | None) -> float:
    return math.nan if interval is None else (interval[1] - interval[0]) / 2


def _part(value: float, half: float) -> Part:
    ci95 = [value - half, value + half] if math.isfinite(half) else None
    return {"value": value, "unit": "bits", "ci95": ci95}
