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
"""What a σ_min that is left to the data is at most, in standard deviations."""


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DataConfig(_Section):
    """Which points are learnt from, and which are kept aside."""

    points: Annotated[int, Field(ge=20)] = 100_000
    """Training points drawn from a density; a file brings its own number."""
    held_out_points: Annotated[int, Field(ge=20)] = 100_000
    """Held-out points drawn from a density."""
    held_out_fraction: Fraction = 0.1
    """Share of a file's rows that training never sees."""
    columns: tuple[str, ...] | None = None
    missing: Literal["error", "drop"] = "error"
    standardise: Literal["files", "always"] = "files"
    """Give columns zero mean and unit variance: always, or for files only (the paper trains in data units)."""


class ModelConfig(_Section):
    """A network: one residual MLP, or several of them mixed by a gate."""

    kind: Literal["diffusion"] = "diffusion"
    name: str
    experts: Count = 1
    width: Annotated[int, Field(ge=2)] = 256
    blocks: Count = 3
    head_hidden: tuple[Count, ...] = ()
    gate_hidden: Annotated[tuple[Count, ...], Field(min_length=1)] = (256,)
    activation: Activation = "relu"
    time_bias: bool = False
    """Tell every block the time, and not the first layer only."""
    gate_on: Literal["point", "time", "level"] = "point"
    """What the gate sees: the noisy point and the time, or the time alone. With ``level`` there is no gate: each expert
    has an equal share of the noise levels to itself, and only that one is evaluated."""
    embedding: Literal["paper", "multiscale"] = "paper"
    finest_frequency: Positive | None = None
    """Of the multiscale embedding, in radians a unit; None takes 1/σ_min of the schedule."""
    match_parameters: Annotated[int, Field(ge=0)] = 0
    """With one expert: widen it to the parameter count of this many experts and their gate."""

    @model_validator(mode="after")
    def _one_network_is_matched(self) -> Self:
        if self.match_parameters and (self.experts != 1 or self.match_parameters < 2):
            raise ValueError("match_parameters takes 2 or more, and only with experts = 1")
        return self


class ScheduleConfig(_Section):
    """How noise grows with time."""

    name: ScheduleName = "linear-beta"
    length: Annotated[int, Field(ge=2)] = 100
    """Entries of a table, or the table that a continuous schedule is the limit of."""
    beta_min: Fraction = 1e-4
    beta_max: Fraction = 0.02
    zero_terminal_snr: bool = False
    """Rescale a table so that it ends in pure noise."""
    sigma_min: Positive | None = None
    """σ/α at the clean end of variance-exploding, log-snr-uniform and learned; None asks the data's neighbours."""
    sigma_max: Positive = 5.0
    """σ/α at the noisy end of these; of a learned schedule where its training begins."""

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
    """What the network predicts and what it is penalised for."""

    prediction: Prediction = "noise"
    weighting: Literal["uniform", "min-snr", "likelihood"] = "uniform"
    """What an error counts: the same in the prediction's own unit, min(SNR, 5) in x, or as in the variational bound."""
    stratified: bool = False
    """Spread a batch's times evenly over the time axis."""
    coupling: Literal["independent", "optimal-transport"] = "independent"
    """Which noise meets which point of a batch."""
    teacher: str | None = None
    """A finished run whose flow says which noise meets which point: reflow."""
    references: Annotated[int, Field(ge=0)] = 0
    """Take the noise out of the targets with the posterior mean over this many training points; 0 leaves it in."""
    diversity: Annotated[float, Field(ge=0)] = 0.0
    """λ of the paper's diversity loss."""
    bounded: bool = False
    """Limit the answers of the denoiser by the range of the training points, so that no sample grows without bound."""
    balance: Annotated[float, Field(ge=0)] = 0.0
    """Weight of a term that asks the experts of a batch to be used equally."""

    @model_validator(mode="after")
    def _posterior_means_are_of_independent_noise(self) -> Self:
        if self.references and self.coupling != "independent":
            raise ValueError("references needs the independent coupling: set references=0 to use another one")
        if self.teacher and (self.references or self.coupling != "independent"):
            raise ValueError("a teacher says which noise meets which point: set references=0 and no coupling with it")
        return self


class TrainingConfig(_Section):
    """The optimiser's budget and habits."""

    steps: Count = 10_000
    batch: Annotated[int, Field(ge=2)] = 256
    learning_rate: Positive = 3e-4
    annealing: Literal["cosine", "linear"] = "cosine"
    warmup: Annotated[int, Field(ge=0)] = 0
    """Steps over which the learning rate rises."""
    beta2: Fraction = 0.999
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    clip_norm: Positive = 0.5
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.995
    ema_every: Count = 10
    ema_warmup: Annotated[int, Field(ge=0)] = 100
    log_every: Count = 100
    checkpoint_every: Count = 1_000
    compile: Literal["auto", "on", "off"] = "auto"
    """Compile batch, loss and gradient; auto does where the run is long enough to repay it."""
    precision: Literal["auto", "float32", "bfloat16"] = "float32"
    """Of the matrix products; auto takes what is fast here."""


class SamplingConfig(_Section):
    """How points are drawn when the user does not say."""

    sampler: SamplerName = "ancestral"
    steps: Count = 100
    grid: Grid = "uniform"
    eta: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of fresh noise in ddim."""


class SettledConfig(_Section):
    """What the data decided: a setting that still has the value here is decided anew by the data of another run."""

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


class RunConfig(_Section):
    """Everything that shapes a run, resolved; a kind of model adds sections of its own."""

    dataset: str
    recipe: str
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    data: DataConfig = DataConfig()
    model: ModelConfig | KernelDensitySettings | MixtureSettings

    def to_toml(self) -> str:
        """Give the configuration as TOML, which has no null: what is None is left out."""
        return tomli_w.dumps(self.model_dump(mode="json", exclude_none=True))


class KernelDensityConfig(RunConfig):
    """A run of a kernel density."""

    model: KernelDensitySettings


class MixtureConfig(RunConfig):
    """A run of a Gaussian mixture."""

    model: MixtureSettings


class DiffusionConfig(RunConfig):
    """A run of a diffusion model."""

    model: ModelConfig
    schedule: ScheduleConfig = ScheduleConfig()
    objective: ObjectiveConfig = ObjectiveConfig()
    training: TrainingConfig = TrainingConfig()
    sampling: SamplingConfig = SamplingConfig()
    settled: SettledConfig = SettledConfig()

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
