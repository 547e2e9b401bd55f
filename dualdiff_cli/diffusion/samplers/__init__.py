"""Samplers: from noise to data with a denoiser, in one loop that all methods share."""

from __future__ import annotations

from .ancestral import DDIM, Ancestral, PredictorCorrector
from .base import Grid, Level, Sampler
from .flow import AdaptiveFlow, DPMSolver2, Euler, Heun, StochasticHeun
from .generation import BLOCK, draw_noise, generate, generate_by, points_per_call, prepare
from .langevin import AnnealedLangevin, Langevin
from .multistep import DPMSolverPP2M, DPMSolverPP2MSDE, DPMSolverPP3M

__all__ = [
    "BLOCK",
    "DDIM",
    "SAMPLERS",
    "Grid",
    "Level",
    "Sampler",
    "draw_noise",
    "generate",
    "generate_by",
    "points_per_call",
    "prepare",
]

SAMPLERS: dict[str, type[Sampler]] = {
    method.name: method
    for method in (
        Ancestral,
        DDIM,
        Euler,
        Heun,
        StochasticHeun,
        DPMSolver2,
        DPMSolverPP2M,
        DPMSolverPP2MSDE,
        DPMSolverPP3M,
        PredictorCorrector,
        AnnealedLangevin,
        Langevin,
        AdaptiveFlow,
    )
}
