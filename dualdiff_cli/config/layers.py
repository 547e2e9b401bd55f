"""The recipes and the models by name: layers of a configuration, in plain values that take no time to import.

A new recipe is one entry of `RECIPES`, and a new variant of a model is one entry of `MODELS`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .registry import MODEL_KINDS, PEERS

__all__ = [
    "COMPARED",
    "CONFIG_FILE",
    "DEFAULT_MODEL",
    "DEFAULT_RECIPE",
    "FEW_ROWS",
    "FEW_ROWS_RECIPE",
    "MODELS",
    "MODELS_FOR_FEW_ROWS",
    "PLAIN_LAYER",
    "PLAIN_RECIPE",
    "RECIPES",
    "REFINEMENTS",
    "REFLOW",
    "Layer",
]

Layer = Mapping[str, Any]

RECIPES: dict[str, Layer] = {
    # The training and sampling of the paper, whose values are the defaults of sections.py and schema.py.
    "paper": {},
    # Fidelity to the distribution, within the paper's number of steps; benchmarks/ablation.py tries its parts.
    "precise": {
        "data": {"standardise": "always"},
        "schedule": {"name": "log-snr-uniform"},
        "objective": {
            "prediction": "velocity",
            "stratified": True,
            "references": 512,
            "bounded": True,
            "conditional": None,
        },
        "model": {"activation": "silu", "time_bias": True, "gate_on": "time", "embedding": "multiscale"},
        "training": {
            "learning_rate": 2e-3,
            "annealing": "linear",
            "warmup": 200,
            "beta2": 0.99,
            "ema_decay": 0.998,
            "ema_every": 1,
            "ema_warmup": 0,
            "precision": "auto",
        },
        "sampling": {"sampler": "dpmpp-2m-sde", "steps": 50, "grid": "log-snr"},
    },
    # Hundreds to thousands of rows: what unseen rows say decides when to stop, and what each expert counts.
    "few-rows": {
        "data": {"standardise": "always"},
        "schedule": {"name": "log-snr-uniform", "sigma_max": 8.0},
        "objective": {
            "prediction": "velocity",
            "stratified": True,
            "references": 1024,
            "bounded": True,
            "conditional": 0.25,
        },
        "model": {
            "width": 128,
            "activation": "silu",
            "time_bias": True,
            "embedding": "multiscale",
            "finest_frequency": 128.0,
            "frequencies": 8,
        },
        "training": {
            "steps": 3_000,
            "learning_rate": 3e-3,
            "annealing": "constant",
            "warmup": 100,
            "beta2": 0.99,
            "weight_decay": 0.0,
            "clip_norm": 1.0,
            "ema_decay": 0.998,
            "ema_every": 1,
            "ema_warmup": 0,
            "log_every": 25,
            "checkpoint_every": 250,
        },
        "folds": {"number": 4},
        "sampling": {"sampler": "dpmpp-2m-sde", "steps": 100, "grid": "log-snr"},
    },
}

FEW_ROWS = 20_000
"""The recipe is `few-rows` below this number of training rows, and `precise` from there on, unless one is named."""

_DUAL_EXPERT: Layer = {"experts": 2}
_ENHANCED_GATING: Layer = {**_DUAL_EXPERT, "gate_hidden": [256, 128]}
_INCREASED_CAPACITY: Layer = {**_ENHANCED_GATING, "head_hidden": [128]}

MODELS: dict[str, Layer] = {
    "baseline": {"model": {"experts": 1}},
    "baseline-matched": {"model": {"experts": 1, "match_parameters": 2}},
    "dual-expert": {"model": _DUAL_EXPERT},
    "enhanced-gating": {"model": _ENHANCED_GATING},
    "increased-capacity": {"model": _INCREASED_CAPACITY},
    # The published figure was run with λ = 0.1; the paper's text says 0.05 (--set objective.diversity=0.05).
    "diversity-loss": {"model": _INCREASED_CAPACITY, "objective": {"diversity": 0.1}},
    **{kind: {"model": {"kind": kind}} for kind in MODEL_KINDS if kind != "diffusion"},
}

# A recipe may change some models only. Under `precise` each expert has a share of the noise levels: that scores like a
# gate and costs half as much to train and to sample. The other models vary the gate, and keep it.
_BY_LEVEL: Layer = {"model": {"gate_on": "level"}}
_LEARNT_AND_CLOSED_FORM: Layer = {"model": {"experts": 1}}
REFINEMENTS: dict[tuple[str, str], Layer] = {
    ("precise", "dual-expert"): _BY_LEVEL,
    ("precise", "baseline-matched"): _BY_LEVEL,
    ("few-rows", "dual-expert"): _LEARNT_AND_CLOSED_FORM,
    ("few-rows", "baseline"): {"folds": {"mixture": False, "independent": False}},
}

# A reflow learns straight lines between noise and points, which a few steps can follow.
REFLOW: Layer = {
    "schedule": {"name": "straight-line"},
    "objective": {"prediction": "flow", "references": 0, "conditional": 0.0},
    "sampling": {"sampler": "euler", "steps": 5, "grid": "uniform"},
}

CONFIG_FILE = "config.toml"
"""The file of a run that holds its configuration, which a reflow reads of its teacher."""
DEFAULT_MODEL = "dual-expert"
DEFAULT_RECIPE = "precise"
FEW_ROWS_RECIPE = "few-rows"
MODELS_FOR_FEW_ROWS = ("dual-expert", "baseline")
"""The models that the recipe `few-rows` knows."""
COMPARED = (DEFAULT_MODEL, "kernel-density", "mixture", "spline-flow", *PEERS)
"""The models of a comparison that names none; `tabddpm` trains for minutes and has to be named."""
PLAIN_RECIPE = "plain"
"""The only recipe of models that are not diffusion models."""
PLAIN_LAYER: Layer = {"data": {"standardise": "always"}}
