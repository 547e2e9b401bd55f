"""What a run is asked for: one frozen, validated description, read from and written to TOML.

The defaults are the paper's, as published. A run's configuration is complete: nothing that shapes it is left to a
default that could change later, so ``dualdiff train --config`` on its ``config.toml`` gives the same run.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self, Union

import tomli_w
from pydantic import (
    Discriminator,
    Field,
    Tag,
    TypeAdapter,
    model_validator,
)

from .sections import (
    MOST_ACTIVATIONS,
    BatchSize,
    Count,
    DataConfig,
    Few,
    FoldsConfig,
    NetworkSettings,
    NotNegative,
    ObjectiveConfig,
    Positive,
    SamplingConfig,
    ScheduleConfig,
    Section,
    SettledConfig,
    TrainingConfig,
    Widths,
)

__all__ = [
    "CONFIGS",
    "DiffusionConfig",
    "KernelDensityConfig",
    "KernelDensitySettings",
    "MixtureConfig",
    "MixtureSettings",
    "RunConfig",
    "SplineFlowConfig",
    "SplineFlowSettings",
    "TabDDPMConfig",
    "TabDDPMSettings",
    "parse_config",
]


class KernelDensitySettings(Section):
    """A Gaussian kernel about every training row."""

    kind: Literal["kernel-density"] = "kernel-density"
    name: str = "kernel-density"
    bandwidth: Positive | None = None
    """The standard deviation of the kernel, in standard deviations of a column; None chooses it by cross-validation."""
    folds: Annotated[int, Field(ge=2, le=1_000)] = 5


class MixtureSettings(Section):
    """A mixture of Gaussians, fitted by expectation maximisation."""

    kind: Literal["mixture"] = "mixture"
    name: str = "mixture"
    components: Annotated[int, Field(ge=1, le=10_000)] | None = None
    """The number of Gaussians; None chooses the number by the Bayesian information criterion."""
    covariance: Literal["full", "tied", "diag", "spherical", "full-scales", "tied-scales"] | None = None
    """The form of the covariance matrices; None chooses the form by the same criterion. With "-scales" every Gaussian
    has several widths around its mean, and so heavier tails."""
    largest: Annotated[int, Field(ge=1, le=10_000)] = 100
    """The largest number of Gaussians that is tried."""


class SplineFlowSettings(Section):
    """A neural spline flow and its training."""

    kind: Literal["spline-flow"] = "spline-flow"
    name: str = "spline-flow"
    transforms: Few = 2
    """The number of autoregressive maps that follow each other."""
    bins: Annotated[int, Field(ge=2, le=1_000)] = 8
    """The number of pieces of each spline."""
    hidden: Annotated[Widths, Field(min_length=1)] = (64, 64)
    """The widths of the hidden layers of the network that computes the knots."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2
    steps: Count = 20_000
    """The largest number of optimiser steps; training usually stops long before."""
    patience: Count = 30
    """Training stops after so many rounds that have not raised the likelihood of unseen rows.

    A round is a pass over the rows, and 100 steps at most.
    """
    batch: BatchSize = 128
    learning_rate: Positive = 3e-3
    weight_decay: NotNegative = 0.01


class TabDDPMSettings(Section):
    """Gaussian and multinomial diffusion with one MLP, and its training.

    The defaults are those of the example in the authors' code, but for the number of steps: the example has 1,000, and
    the authors' search over settings chose 30,000 for nearly all of their tables.
    """

    kind: Literal["tabddpm"] = "tabddpm"
    name: str = "tabddpm"
    timesteps: Annotated[int, Field(ge=2, le=10_000)] = 1_000
    """The number of entries of the cosine schedule, and of the steps of its sampler."""
    hidden: Annotated[Widths, Field(min_length=1)] = (256, 256)
    """The widths of the hidden layers of the MLP."""
    steps: Count = 30_000
    """The number of optimiser steps."""
    batch: BatchSize = 4096
    learning_rate: Positive = 1e-3
    """The learning rate of the first step; it falls linearly to zero."""
    weight_decay: NotNegative = 1e-5


class RunConfig(Section):
    """Everything that shapes a run, resolved; a kind of model adds sections of its own.

    Examples:
        >>> import dualdiff_cli as dualdiff
        >>> config = dualdiff.resolve(dataset="moons", model="mixture")
        >>> isinstance(config, dualdiff.RunConfig)
        True
        >>> print(config.to_toml().splitlines()[0])
        dataset = "moons"

    """

    dataset: str
    recipe: str
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    data: DataConfig = DataConfig()
    model: NetworkSettings | KernelDensitySettings | MixtureSettings | SplineFlowSettings | TabDDPMSettings

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


class TabDDPMConfig(RunConfig):
    """A run of TabDDPM."""

    model: TabDDPMSettings


class DiffusionConfig(RunConfig):
    """A run of a diffusion model."""

    model: NetworkSettings
    schedule: ScheduleConfig = ScheduleConfig()
    objective: ObjectiveConfig = ObjectiveConfig()
    training: TrainingConfig = TrainingConfig()
    folds: FoldsConfig = FoldsConfig()
    sampling: SamplingConfig = SamplingConfig()
    settled: SettledConfig = SettledConfig()

    @model_validator(mode="after")
    def _folds_ignore_no_setting(self) -> Self:
        objective, model, training = self.objective, self.model, self.training
        needs = {
            "no teacher": objective.teacher is None,
            "schedule.name=log-snr-uniform": self.schedule.name == "log-snr-uniform",
            "objective.coupling=independent": objective.coupling == "independent",
            "objective.weighting=uniform": objective.weighting == "uniform",
            "objective.diversity=0": not objective.diversity,
            "objective.balance=0": not objective.balance,
            "model.experts=1": model.experts == 1,
            "model.match_parameters=0": not model.match_parameters,
            "training.compile=off": training.compile != "on",
            "training.precision=float32": training.precision != "bfloat16",
        }
        missing = [need for need, met in needs.items() if not met]
        if self.folds.number and missing:
            raise ValueError(f"folds need {', '.join(missing)}; --recipe precise trains without folds")
        return self

    @model_validator(mode="after")
    def _a_batch_fits_into_memory(self) -> Self:
        c, networks = self.model, max(self.model.experts, self.folds.number)
        activations = self.training.batch * networks * 2 * c.blocks * c.width
        if activations > MOST_ACTIVATIONS:
            raise ValueError(
                f"a batch of {self.training.batch:,} rows needs about {activations:,} activations of the network, and "
                f"at most {MOST_ACTIVATIONS:,} are allowed"
            )
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
    config.model_fields["model"].annotation.model_fields["kind"].default: config  # type: ignore[union-attr]
    for config in RunConfig.__subclasses__()
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
