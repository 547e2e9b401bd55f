"""The denoising losses of a trained diffusion model, on held-out and on training rows."""

from __future__ import annotations

import torch

from .. import seeding
from ..checked import refusing
from ..config.schema import DiffusionConfig
from ..data import Data, TableEncoding
from ..diffusion.denoisers import LearntDenoiser
from ..metrics import Score
from ..store.run import Run
from ..training.gaps import completed_features, held_out_features
from ..training.loss import LossEstimate, estimate_loss
from ..training.reflow import Pairs, held_out_loss
from .fitting import build_network_denoiser

__all__ = ["loss_unit", "losses_of_run"]

LOSS_POINTS = 100_000
"""The largest number of training rows that the published training loss is taken on."""


def loss_unit(config: DiffusionConfig) -> str:
    """Say what a loss of the training is measured in."""
    return f"mean squared error of the {config.objective.prediction}"


def losses_of_run(
    denoiser: LearntDenoiser,
    run: Run,
    data: Data,
    *,
    config: DiffusionConfig,
    encoding: TableEncoding,
    device: torch.device,
    seed: int,
) -> dict[str, Score]:
    """Score the averaged weights on held-out rows and, as the paper does, the last weights on training rows.

    Args:
        denoiser: of the averaged weights.
        run: whose training state has the last weights, if they are kept.
        data: of the run.
        config: of the run.
        encoding: between columns and features.
        device: where the denoiser is.
        seed: of the noise.

    Raises:
        InputError: the training state is damaged.

    """
    pairs, unit, state = Pairs.load(run), loss_unit(config), run.load_state()
    if pairs is not None or config.folds.number:
        state = None  # the paper's loss is that of one network on training rows
    if state is None:
        held_out = held_out_features(encoding, data, seed=config.seed)
    else:
        (rows, *_), held_out = completed_features(encoding, data, seed=config.seed)
    judged = torch.from_numpy(held_out).float().to(device)
    scores = {"held_out_loss": _score(held_out_loss(denoiser, judged, pairs, seed=seed), unit)}
    if state is not None:
        last = build_network_denoiser(config, encoding.width, encoding.layout.discrete)
        with refusing(f"The training state of the run {run} is damaged.", "Remove its state.pt."):
            last.load_weights(state["trainer"]["network"])
        rows = seeding.subsample(rows, LOSS_POINTS, seed=seed, role="rows of the training loss")
        training = torch.from_numpy(rows).float().to(device)
        scores["training_loss_published"] = _score(estimate_loss(last.to(device), training, seed=seed), unit)
    return scores


def _score(estimate: LossEstimate, unit: str) -> Score:
    interval = None
    if estimate.standard_error is not None:
        half = 1.96 * estimate.standard_error
        interval = (estimate.mean - half, estimate.mean + half)
    return Score(value=estimate.mean, unit=unit, ci95=interval, n_real=estimate.n, n_generated=0)
