"""What a run is asked for: one frozen, validated description, read from and written to TOML.

The defaults are the paper's, as published. A run's configuration is complete: nothing that shapes it is left to a
default that could change later, so ``dualdiff train --config`` on its ``config.toml`` gives the same run.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self, Union

import tomli_w
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    TypeAdapter,
    model_validator,
)

from .registry import SAMPLERS, SCHEDULES

__all__ = [
    "CONFIGS",
    "LARGEST_SIGMA_MIN",
    "Activation",
    "DataConfig",
    "DiffusionConfig",
    "FoldsConfig",
    "Grid",
    "KernelDensityConfig",
    "KernelDensitySettings",
    "MixtureConfig",
    "MixtureSettings",
    "ModelConfig",
    "ObjectiveConfig",
    "Prediction",
    "RunConfig",
    "SamplingConfig",
    "ScheduleConfig",
    "SettledConfig",
    "SplineFlowConfig",
    "SplineFlowSettings",
    "TrainingConfig",
    "parse_config",
]

Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(gt=0, lt=1)]
SamplerName = Annotated[str, AfterValidator(SAMPLERS.check)]
ScheduleName = Annotated[str, AfterValidator(SCHEDULES.check)]

Activation = Literal["relu", "silu"]
"""The nonlinearity between the layers of a network."""
Prediction = Literal["noise", "data", "velocity", "flow", "score", "edm"]
"""The quantity that the output of a network stands for; ``diffusion.denoisers`` gives the equations."""
Grid = Literal["uniform", "log-snr", "karras"]
"""How the levels of a sampler are spaced: evenly in t, evenly in λ = log(α/σ), or by the rule of Karras et al."""

LARGEST_SIGMA_MIN = 0.02
"""The largest σ_min that the data may decide, in standard deviations."""


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DataConfig(_Section):
    """The rows that training learns from, and the rows that it never sees."""

    points: Annotated[int, Field(ge=20)] = 100_000
    """The number of training rows that are drawn from a density; for a file its own number of rows counts."""
    held_out_points: Annotated[int, Field(ge=20)] = 100_000
    """The number of held-out rows that are drawn from a density."""
    held_out_fraction: Fraction = 0.1
    """The share of a file's rows that is held out."""
    columns: tuple[str, ...] | None = None
    missing: Literal["error", "drop"] = "error"
    standardise: Literal["files", "always"] = "files"
    """Whether columns get zero mean and unit variance: always, or for files only. The paper trains in data units."""


class ModelConfig(_Section):
    """The network of a diffusion model: one residual MLP, or several of them mixed by a gate."""

    kind: Literal["diffusion"] = "diffusion"
    name: str
    experts: Count = 1
    width: Annotated[int, Field(ge=2)] = 256
    blocks: Count = 3
    head_hidden: tuple[Count, ...] = ()
    gate_hidden: Annotated[tuple[Count, ...], Field(min_length=1)] = (256,)
    activation: Activation = "relu"
    time_bias: bool = False
    """Whether every block sees the time; otherwise only the first layer does."""
    gate_on: Literal["point", "time", "level"] = "point"
    """What the gate sees: the noisy point and the time, or the time alone. With ``level`` there is no gate: each expert
    has an equal share of the noise levels, and only the expert of the current level is evaluated."""
    embedding: Literal["paper", "multiscale"] = "paper"
    finest_frequency: Positive | None = None
    """The finest frequency of the multiscale embedding, in radians per feature unit; None takes 1/σ_min."""
    frequencies: Annotated[int, Field(ge=2)] = 64
    """The number of frequencies of the multiscale embedding."""
    match_parameters: Annotated[int, Field(ge=0)] = 0
    """For one expert: the number of experts whose parameter count, with their gate, the width is chosen to match."""

    @model_validator(mode="after")
    def _one_network_is_matched(self) -> Self:
        if self.match_parameters and (self.experts != 1 or self.match_parameters < 2):
            raise ValueError("match_parameters takes 2 or more, and only with experts = 1")
        return self


class ScheduleConfig(_Section):
    """How noise grows with time."""

    name: ScheduleName = "linear-beta"
    length: Annotated[int, Field(ge=2)] = 100
    """The number of entries of a table; for linear-beta-continuous, of the table that it is the limit of."""
    beta_min: Fraction = 1e-4
    beta_max: Fraction = 0.02
    zero_terminal_snr: bool = False
    """Whether a table is rescaled so that it ends in pure noise."""
    sigma_min: Positive | None = None
    """σ/α at the clean end of variance-exploding, log-snr-uniform and learned; None lets the data decide."""
    sigma_max: Positive = 5.0
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


class ObjectiveConfig(_Section):
    """The loss that the network is trained to minimise."""

    prediction: Prediction = "noise"
    weighting: Literal["uniform", "min-snr", "likelihood"] = "uniform"
    """The weight of an error: 1 in the unit of the prediction, min(SNR, 5) in x, or that of the variational bound."""
    stratified: bool = False
    """Whether the times of a batch are spread evenly over the time axis."""
    coupling: Literal["independent", "optimal-transport"] = "independent"
    """How noise is assigned to the points of a batch."""
    teacher: str | None = None
    """For a reflow, the directory of the finished run whose flow assigns noise to points."""
    references: Annotated[int, Field(ge=0)] = 0
    """The number of training points whose posterior mean is the target; with 0 the target is the clean point itself."""
    diversity: Annotated[float, Field(ge=0)] = 0.0
    """λ of the paper's diversity loss."""
    bounded: bool = False
    """Whether the denoiser's answers are limited by the range of the training points, so that no sample diverges."""
    balance: Annotated[float, Field(ge=0)] = 0.0
    """The weight of the load-balancing loss, which is least when all experts are used equally."""

    @model_validator(mode="after")
    def _posterior_means_are_of_independent_noise(self) -> Self:
        if self.references and self.coupling != "independent":
            raise ValueError("references needs the independent coupling: set references=0 to use another one")
        if self.teacher and (self.references or self.coupling != "independent"):
            raise ValueError("a teacher assigns noise to points: set references=0 and the independent coupling")
        return self


class TrainingConfig(_Section):
    """The optimiser: its budget, learning rate, weight decay, gradient clipping and EMA."""

    steps: Count = 10_000
    batch: Annotated[int, Field(ge=2)] = 256
    learning_rate: Positive = 3e-4
    annealing: Literal["cosine", "linear", "constant"] = "cosine"
    warmup: Annotated[int, Field(ge=0)] = 0
    """The number of steps of the linear learning-rate warm-up."""
    beta2: Fraction = 0.999
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    clip_norm: Positive = 0.5
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.995
    ema_every: Count = 10
    ema_warmup: Annotated[int, Field(ge=0)] = 100
    log_every: Count = 100
    checkpoint_every: Count = 1_000
    compile: Literal["auto", "on", "off"] = "auto"
    """Whether the training step is compiled; auto compiles it where the run is long enough to repay that."""
    precision: Literal["auto", "float32", "bfloat16"] = "float32"
    """The precision of matrix products; auto takes bfloat16 where the processor has instructions for it."""


class SamplingConfig(_Section):
    """How rows are drawn unless the user names another way."""

    sampler: SamplerName = "ancestral"
    steps: Count = 100
    grid: Grid = "uniform"
    eta: Annotated[float, Field(ge=0, le=1)] = 0.0
    """The share of fresh noise in ddim, η."""


class FoldsConfig(_Section):
    """A training in folds, with checkpoints and experts chosen by rows that a fold has not seen; for few rows."""

    number: Annotated[int, Field(ge=0)] = 0
    """The number of folds; 0 trains one network on all rows."""
    bands: Count = 6
    """The number of bands of noise levels; each band takes the checkpoint that is best there."""
    levels: Count = 24
    """The number of noise levels at which unseen rows are denoised; a multiple of ``bands``."""
    patience: Count = 2
    """The number of checkpoints without an improvement in any band after which the training ends."""
    mixture: bool = True
    """Whether the denoiser of a Gaussian mixture is an expert beside the networks."""

    @model_validator(mode="after")
    def _bands_divide_the_levels(self) -> Self:
        if self.number == 1 or self.levels % self.bands:
            raise ValueError("folds.number is 0 or at least 2, and folds.levels is a multiple of folds.bands")
        return self


class SettledConfig(_Section):
    """What the data decided. If a setting still has the value noted here, the data of another run decide it anew."""

    sigma_min: Positive | None = None
    finest_frequency: Positive | None = None


class KernelDensitySettings(_Section):
    """A Gaussian kernel about every training row."""

    kind: Literal["kernel-density"] = "kernel-density"
    name: str = "kernel-density"
    bandwidth: Positive | None = None
    """The standard deviation of the kernel, in standard deviations of a column; None chooses it by cross-validation."""
    folds: Annotated[int, Field(ge=2)] = 5


class MixtureSettings(_Section):
    """A mixture of Gaussians, fitted by expectation maximisation."""

    kind: Literal["mixture"] = "mixture"
    name: str = "mixture"
    components: Count | None = None
    """The number of Gaussians; None chooses the number by the Bayesian information criterion."""
    covariance: Literal["full", "tied", "diag", "spherical"] | None = None
    """The form of the covariance matrices; None chooses the form by the same criterion."""
    largest: Count = 100
    """The largest number of Gaussians that is tried."""


class SplineFlowSettings(_Section):
    """A neural spline flow and its training."""

    kind: Literal["spline-flow"] = "spline-flow"
    name: str = "spline-flow"
    transforms: Count = 2
    """The number of autoregressive maps that follow each other."""
    bins: Annotated[int, Field(ge=2)] = 8
    """The number of pieces of each spline."""
    hidden: Annotated[tuple[Count, ...], Field(min_length=1)] = (64, 64)
    """The widths of the hidden layers of the network that computes the knots."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2
    steps: Count = 20_000
    """The largest number of optimiser steps; training usually stops long before."""
    patience: Count = 30
    """Training stops after so many passes over the rows that have not raised the likelihood of unseen rows."""
    batch: Annotated[int, Field(ge=2)] = 128
    learning_rate: Positive = 3e-3
    weight_decay: Annotated[float, Field(ge=0)] = 0.01


class RunConfig(_Section):
    """Everything that shapes a run, resolved; a kind of model adds sections of its own."""

    dataset: str
    recipe: str
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    data: DataConfig = DataConfig()
    model: ModelConfig | KernelDensitySettings | MixtureSettings | SplineFlowSettings

    def to_toml(self) -> str:
        """Give the configuration as TOML, which has no null: what is None is left out."""
        return tomli_w.dumps(self.model_dump(mode="json", exclude_none=True))


class KernelDensityConfig(RunConfig):
    """A run of a kernel density."""

    model: KernelDensitySettings


class MixtureConfig(RunConfig):
    """A run of a Gaussian mixture."""

    model: MixtureSettings


class SplineFlowConfig(RunConfig):
    """A run of a neural spline flow."""

    model: SplineFlowSettings


class DiffusionConfig(RunConfig):
    """A run of a diffusion model."""

    model: ModelConfig
    schedule: ScheduleConfig = ScheduleConfig()
    objective: ObjectiveConfig = ObjectiveConfig()
    training: TrainingConfig = TrainingConfig()
    folds: FoldsConfig = FoldsConfig()
    sampling: SamplingConfig = SamplingConfig()
    settled: SettledConfig = SettledConfig()

    @model_validator(mode="after")
    def _folds_have_their_own_network(self) -> Self:
        plain = self.objective.teacher is None and self.objective.coupling == "independent" and self.model.experts == 1
        if self.folds.number and not (plain and self.schedule.name == "log-snr-uniform"):
            raise ValueError("folds need schedule.name=log-snr-uniform, the independent coupling and model.experts=1")
        return self

    @model_validator(mode="after")
    def _bounds_are_of_continuous_time(self) -> Self:
        by_likelihood = self.objective.weighting == "likelihood"
        if by_likelihood and self.schedule.name in ("linear-beta", "cosine"):
            raise ValueError("weighting=likelihood integrates over time: use a continuous schedule, not a table")
        if self.schedule.name == "learned" and not by_likelihood:
            raise ValueError("a learned schedule is trained by the bound: set objective.weighting=likelihood")
        if self.schedule.name == "learned" and self.objective.references:
            raise ValueError(
                "references are chosen for a schedule that stays as it is: set objective.references=0 to learn one"
            )
        return self


def _kind(values: Any) -> str:
    """Say of which kind the model of a configuration is; one that does not say so is a diffusion model."""
    section = values.get("model", {}) if isinstance(values, Mapping) else values.model
    return str(section.get("kind", "diffusion") if isinstance(section, Mapping) else section.kind)


CONFIGS: dict[str, type[RunConfig]] = {
    "diffusion": DiffusionConfig,
    "kernel-density": KernelDensityConfig,
    "mixture": MixtureConfig,
    "spline-flow": SplineFlowConfig,
}
"""The configuration of each kind of model."""

_TAGGED: Any = tuple(Annotated[config, Tag(kind)] for kind, config in CONFIGS.items())
_ANY_CONFIG: TypeAdapter[Any] = TypeAdapter(Annotated[Union[_TAGGED], Discriminator(_kind)])  # noqa: UP007


def parse_config(values: Mapping[str, Any]) -> RunConfig:
    """Validate a configuration, whose ``model.kind`` says which sections it may have.

    Raises:
        pydantic.ValidationError: a value is not allowed, or there is no such setting.

    """
    config: RunConfig = _ANY_CONFIG.validate_python(values)
    return config
