"""The sections of a configuration: frozen, validated values, whose defaults are the paper's, as published."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from .registry import SAMPLERS, SCHEDULES, check_column_kind

__all__ = [
    "LARGEST_SIGMA_MIN",
    "MOST_ACTIVATIONS",
    "Activation",
    "BatchSize",
    "Count",
    "DataConfig",
    "Few",
    "FoldsConfig",
    "Fraction",
    "Grid",
    "NetworkSettings",
    "NotNegative",
    "ObjectiveConfig",
    "Positive",
    "Prediction",
    "SamplingConfig",
    "ScheduleConfig",
    "Section",
    "SettledConfig",
    "TrainingConfig",
    "Weighting",
    "Widths",
]

MOST_STEPS = 10**12
"""The largest number of steps of a training, or of steps between two events of a training."""
WIDEST = 2**16
"""The largest width of a layer: the product of two such layers has 2^32 weights, 16 GiB."""
MOST_WEIGHTS = 2**30
"""The largest number of weights of a network, about: 4 GiB, and 20 GiB with gradients, moments and averages."""
MOST_ACTIVATIONS = 2**32
"""The largest number of activations that a training step keeps, about: 16 GiB."""
MOST_SAMPLE_STEPS = 10_000
"""The largest number of steps of a sampler; nothing is gained beyond 1,000."""
MOST_ROWS = 10**9
"""The largest number of rows that are drawn from a density: 8 GB a column."""

Count = Annotated[int, Field(ge=1, le=MOST_STEPS)]
CountOrNone = Annotated[int, Field(ge=0, le=MOST_STEPS)]
Few = Annotated[int, Field(ge=1, le=1_000)]
Width = Annotated[int, Field(ge=1, le=WIDEST)]
Widths = Annotated[tuple[Width, ...], Field(max_length=64)]
BatchSize = Annotated[int, Field(ge=2, le=2**24)]
Rows = Annotated[int, Field(ge=20, le=MOST_ROWS)]
Positive = Annotated[float, Field(ge=1e-12, le=1e12)]
NotNegative = Annotated[float, Field(ge=0, le=1e12)]
Fraction = Annotated[float, Field(gt=0, lt=1)]
SamplerName = Annotated[str, AfterValidator(SAMPLERS.check)]
ScheduleName = Annotated[str, AfterValidator(SCHEDULES.check)]

Activation = Literal["relu", "silu"]
"""The nonlinearity between the layers of a network."""
Prediction = Literal["noise", "data", "velocity", "flow", "score", "edm"]
"""The quantity that the output of a network stands for; ``diffusion.network_denoiser`` gives the equations."""
Weighting = Literal["uniform", "min-snr", "likelihood"]
"""How much an error counts at each noise level; ``diffusion.network_denoiser`` gives the equations."""
Grid = Literal["uniform", "log-snr", "karras"]
"""How the levels of a sampler are spaced: evenly in t, evenly in λ = log(α/σ), or by the rule of Karras et al."""

LARGEST_SIGMA_MIN = 0.02
"""The largest σ_min that the data may decide, in standard deviations."""


class Section(BaseModel):
    """Settings that cannot be changed and take no unknown names."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class DataConfig(Section):
    """The rows that training learns from, and the rows that it never sees."""

    points: Rows = 100_000
    """The number of training rows that are drawn from a density; for a file its own number of rows counts."""
    held_out_points: Rows = 100_000
    """The number of held-out rows that are drawn from a density."""
    held_out_fraction: Fraction = 0.1
    """The share of a file's rows that is held out."""
    columns: tuple[str, ...] | None = None
    missing: Literal["keep", "drop", "error"] = "keep"
    """What happens to rows with missing values: they are learnt with their gaps, left out, or refused."""
    kinds: dict[str, Annotated[str, AfterValidator(check_column_kind)]] = {}
    """The kinds of some columns, by name; the data decide the others."""
    standardise: Literal["files", "always"] = "files"
    """Whether columns get zero mean and unit variance: always, or for files only. The paper trains in data units."""


class NetworkSettings(Section):
    """The network of a diffusion model: one residual MLP, or several of them mixed by a gate."""

    kind: Literal["diffusion"] = "diffusion"
    name: str
    experts: Few = 1
    width: Annotated[int, Field(ge=2, le=WIDEST)] = 256
    blocks: Few = 3
    head_hidden: Widths = ()
    gate_hidden: Annotated[Widths, Field(min_length=1)] = (256,)
    activation: Activation = "relu"
    time_bias: bool = False
    """Whether every block sees the time; otherwise only the first layer does."""
    gate_on: Literal["point", "time", "level"] = "point"
    """What the gate sees: the noisy point and the time, or the time alone. With ``level`` there is no gate: each expert
    has an equal share of the noise levels, and only the expert of the current level is evaluated."""
    embedding: Literal["paper", "multiscale"] = "paper"
    finest_frequency: Positive | None = None
    """The finest frequency of the multiscale embedding, in radians per feature unit; None takes 1/σ_min."""
    frequencies: Annotated[int, Field(ge=2, le=WIDEST)] = 64
    """The number of frequencies of the multiscale embedding."""
    match_parameters: Annotated[int, Field(ge=0, le=1_000)] = 0
    """For one expert: the number of experts whose parameter count, with their gate, the width is chosen to match."""

    @model_validator(mode="after")
    def _one_network_is_matched(self) -> Self:
        if self.match_parameters and (self.experts != 1 or self.match_parameters < 2):
            raise ValueError("match_parameters takes 2 or more, and only with experts = 1")
        return self

    @model_validator(mode="after")
    def _weights_fit_into_memory(self) -> Self:
        heads = sum(map(math.prod, pairwise((self.width, *self.head_hidden))))
        gate = sum(map(math.prod, pairwise((self.width, *self.gate_hidden, self.experts))))
        networks = max(self.experts, self.match_parameters)
        weights = networks * (2 * self.blocks * self.width**2 + 2 * self.frequencies * self.width + heads) + gate
        if weights > MOST_WEIGHTS:
            raise ValueError(
                f"a network of about {weights:,} weights is too large; at most {MOST_WEIGHTS:,} are allowed"
            )
        return self


class ScheduleConfig(Section):
    """How noise grows with time."""

    name: ScheduleName = "linear-beta"
    length: Annotated[int, Field(ge=2, le=1_000_000)] = 100
    """The number of entries of a table; for linear-beta-continuous, of the table that it is the limit of."""
    beta_min: Fraction = 1e-4
    beta_max: Fraction = 0.02
    zero_terminal_snr: bool = False
    """Whether a table is rescaled so that it ends in pure noise."""
    sigma_min: Annotated[float, Field(ge=1e-8, le=1e6)] | None = None
    """σ/α at the clean end of variance-exploding, log-snr-uniform and learned; None lets the data decide."""
    sigma_max: Annotated[float, Field(gt=0, le=1e6)] = 5.0
    """σ/α at the noisy end of the same schedules; for a learned schedule its first value."""

    @model_validator(mode="after")
    def _only_tables_are_rescaled(self) -> Self:
        if self.zero_terminal_snr and self.name not in ("linear-beta", "cosine"):
            raise ValueError("zero_terminal_snr rescales a table: linear-beta or cosine")
        return self

    @model_validator(mode="after")
    def _noise_grows(self) -> Self:
        least = LARGEST_SIGMA_MIN if self.sigma_min is None else self.sigma_min
        if self.sigma_max <= least:
            raise ValueError(f"sigma_max must be larger than sigma_min, {least}")
        return self


class ObjectiveConfig(Section):
    """The loss that the network is trained to minimise."""

    prediction: Prediction = "noise"
    weighting: Weighting = "uniform"
    """The weight of an error: 1 in the unit of the prediction, min(SNR, 5) in x, or that of the variational bound."""
    stratified: bool = False
    """Whether the times of a batch are spread evenly over the time axis."""
    coupling: Literal["independent", "optimal-transport"] = "independent"
    """How noise is assigned to the points of a batch."""
    teacher: str | None = None
    """For a reflow, the directory of the finished run whose flow assigns noise to points."""
    references: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    """The number of training points whose posterior mean is the target; with 0 the target is the clean point itself."""
    diversity: NotNegative = 0.0
    """λ of the paper's diversity loss."""
    bounded: bool = False
    """Whether the denoiser's answers are limited by the range of the training points, so that no sample diverges."""
    conditional: Annotated[float, Field(ge=0, lt=1)] | None = 0.0
    """The share of the rows of a batch in which the network is shown the clean values of a random part of the columns,
    so that it learns every conditional distribution too. None takes 0.25 for a table of more than one feature, and
    0 for a density or where noise is coupled to points."""
    balance: NotNegative = 0.0
    """The weight of the load-balancing loss, which is least when all experts are used equally."""

    @model_validator(mode="after")
    def _posterior_means_are_of_independent_noise(self) -> Self:
        if self.references and self.coupling != "independent":
            raise ValueError("references needs the independent coupling: set references=0 to use another one")
        if self.teacher and (self.references or self.coupling != "independent"):
            raise ValueError("a teacher assigns noise to points: set references=0 and the independent coupling")
        return self


class TrainingConfig(Section):
    """The optimiser: its budget, learning rate, weight decay, gradient clipping and EMA."""

    steps: Count = 10_000
    batch: BatchSize = 256
    learning_rate: Positive = 3e-4
    annealing: Literal["cosine", "linear", "constant"] = "cosine"
    warmup: CountOrNone = 0
    """The number of steps of the linear learning-rate warm-up."""
    beta2: Fraction = 0.999
    weight_decay: NotNegative = 0.01
    clip_norm: Annotated[float, Field(gt=0, allow_inf_nan=True)] = 0.5
    """The largest norm of the gradient; infinity does not clip."""
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.995
    ema_every: Count = 10
    ema_warmup: CountOrNone = 100
    log_every: Count = 100
    checkpoint_every: Count = 1_000
    compile: Literal["auto", "on", "off"] = "auto"
    """Whether the training step is compiled; auto compiles it where the run is long enough to repay that."""
    precision: Literal["auto", "float32", "bfloat16"] = "float32"
    """The precision of matrix products; auto takes bfloat16 where the processor has instructions for it."""


class SamplingConfig(Section):
    """How rows are drawn unless the user names another way."""

    sampler: SamplerName = "ancestral"
    steps: Annotated[int, Field(ge=1, le=MOST_SAMPLE_STEPS)] = 100
    grid: Grid = "uniform"
    eta: Annotated[float, Field(ge=0, le=1)] = 0.0
    """The share of fresh noise in ddim, η."""


class FoldsConfig(Section):
    """A training in folds, with checkpoints and experts chosen by rows that a fold has not seen; for few rows."""

    number: Annotated[int, Field(ge=0, le=100)] = 0
    """The number of folds; 0 trains one network on all rows."""
    bands: Few = 6
    """The number of bands of noise levels; each band takes the checkpoint that is best there."""
    levels: Annotated[int, Field(ge=2, le=1_000)] = 24
    """The number of noise levels at which unseen rows are denoised; a multiple of ``bands``."""
    patience: Count = 2
    """The number of checkpoints in a row at which the networks gain little, after which the training ends."""
    mixture: bool = True
    """Whether the denoiser of a Gaussian mixture is an expert beside the networks."""
    independent: bool = True
    """Whether the denoiser of independent features is an expert beside the networks."""

    @model_validator(mode="after")
    def _bands_divide_the_levels(self) -> Self:
        if self.number == 1 or self.levels % self.bands:
            raise ValueError("folds.number is 0 or at least 2, and folds.levels is a multiple of folds.bands")
        return self


class SettledConfig(Section):
    """What the data decided. If a setting still has the value noted here, the data of another run decide it anew."""

    sigma_min: Positive | None = None
    finest_frequency: Positive | None = None
    conditional: float | None = None
