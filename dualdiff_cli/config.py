"""What a run is asked for: one frozen, validated description, read from and written to TOML.

A configuration is resolved in layers, each overriding the one before: the recipe, the model variant, a TOML file, the
command's own options, and ``--set key=value``. The result is complete: nothing that shapes a run is left to a default
that could change later, so ``dualdiff train --config`` on a run's ``config.toml`` gives the same run.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from .errors import InputError

__all__ = [
    "DEFAULT_MODEL",
    "DEFAULT_RECIPE",
    "LARGEST_SIGMA_MIN",
    "MODELS",
    "RECIPES",
    "DataConfig",
    "ModelConfig",
    "ObjectiveConfig",
    "RunConfig",
    "SamplingConfig",
    "ScheduleConfig",
    "TrainingConfig",
    "resolve",
    "unknown_name",
    "with_sampling",
]

Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(gt=0, lt=1)]

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

    name: str
    experts: Count = 1
    width: Annotated[int, Field(ge=2)] = 256
    blocks: Count = 3
    head_hidden: tuple[Count, ...] = ()
    gate_hidden: Annotated[tuple[Count, ...], Field(min_length=1)] = (256,)
    activation: Literal["relu", "silu"] = "relu"
    time_bias: bool = False
    """Tell every block the time, and not the first layer only."""
    gate_on: Literal["point", "time"] = "point"
    """What the gate sees: the noisy point and the time, or the time alone."""
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

    name: Literal[
        "linear-beta", "linear-beta-continuous", "cosine", "variance-exploding", "straight-line", "log-snr-uniform"
    ] = "linear-beta"
    length: Annotated[int, Field(ge=2)] = 100
    """Entries of a table, or the table that a continuous schedule is the limit of."""
    beta_min: Fraction = 1e-4
    beta_max: Fraction = 0.02
    zero_terminal_snr: bool = False
    """Rescale a table so that it ends in pure noise."""
    sigma_min: Positive | None = None
    """σ/α at the clean end of variance-exploding and log-snr-uniform; None asks the data's nearest neighbours."""
    sigma_max: Positive = 5.0

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

    prediction: Literal["noise", "data", "velocity", "flow", "score", "edm"] = "noise"
    weighting: Literal["uniform", "min-snr"] = "uniform"
    """What an error counts: the same in the prediction's own unit, or min(SNR, 5) in x."""
    stratified: bool = False
    """Spread a batch's times evenly over the time axis."""
    coupling: Literal["independent", "optimal-transport"] = "independent"
    """Which noise meets which point of a batch."""
    references: Annotated[int, Field(ge=0)] = 0
    """Take the noise out of the targets with the posterior mean over this many training points; 0 leaves it in."""
    diversity: Annotated[float, Field(ge=0)] = 0.0
    """λ of the paper's diversity loss."""
    balance: Annotated[float, Field(ge=0)] = 0.0
    """Weight of a term that asks the experts of a batch to be used equally."""

    @model_validator(mode="after")
    def _posterior_means_are_of_independent_noise(self) -> Self:
        if self.references and self.coupling != "independent":
            raise ValueError("references needs the independent coupling: set references=0 to use another one")
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


class SamplingConfig(_Section):
    """How points are drawn when the user does not say."""

    sampler: Literal[
        "ancestral",
        "ddim",
        "euler",
        "heun",
        "heun-stochastic",
        "dpm-solver-2",
        "dpmpp-2m",
        "dpmpp-2m-sde",
        "dpmpp-3m",
        "predictor-corrector",
        "annealed-langevin",
        "langevin",
        "adaptive",
    ] = "ancestral"
    steps: Count = 100
    grid: Literal["uniform", "log-snr", "karras"] = "uniform"
    """How the steps are spaced."""
    eta: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of fresh noise in ddim."""


class RunConfig(_Section):
    """Everything that shapes a run, resolved."""

    dataset: str
    recipe: str
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    data: DataConfig = DataConfig()
    model: ModelConfig
    schedule: ScheduleConfig = ScheduleConfig()
    objective: ObjectiveConfig = ObjectiveConfig()
    training: TrainingConfig = TrainingConfig()
    sampling: SamplingConfig = SamplingConfig()

    def to_toml(self) -> str:
        """Give the configuration as TOML, which has no null: what is None is left out."""
        return tomli_w.dumps(self.model_dump(mode="json", exclude_none=True))


Layer = Mapping[str, Any]

RECIPES: dict[str, Layer] = {
    # The paper's "Training, sampling": every value above is its own, so its layer has nothing to say.
    "paper": {},
    # docs/fidelity.md says what each of these buys.
    "precise": {
        "data": {"standardise": "always"},
        "schedule": {"name": "log-snr-uniform"},
        "objective": {"prediction": "velocity", "stratified": True, "references": 512},
        "model": {"activation": "silu", "time_bias": True, "gate_on": "time", "embedding": "multiscale"},
        "training": {
            "learning_rate": 2e-3,
            "annealing": "linear",
            "warmup": 200,
            "beta2": 0.99,
            "ema_decay": 0.998,
            "ema_every": 1,
            "ema_warmup": 0,
        },
        "sampling": {"sampler": "dpmpp-2m-sde", "steps": 50, "grid": "log-snr"},
    },
}

_DUAL_EXPERT: Layer = {"experts": 2}
_ENHANCED_GATING: Layer = {**_DUAL_EXPERT, "gate_hidden": [256, 128]}
_INCREASED_CAPACITY: Layer = {**_ENHANCED_GATING, "head_hidden": [128]}

MODELS: dict[str, Layer] = {
    "baseline": {"model": {"experts": 1}},
    "baseline-matched": {"model": {"experts": 1, "match_parameters": 2}},
    "dual-expert": {"model": _DUAL_EXPERT},
    "enhanced-gating": {"model": _ENHANCED_GATING},
    "increased-capacity": {"model": _INCREASED_CAPACITY},
    # λ = 0.1 is what the published figure was run with; the text says 0.05 (see --set objective.diversity=0.05).
    "diversity-loss": {"model": _INCREASED_CAPACITY, "objective": {"diversity": 0.1}},
}

DEFAULT_MODEL = "dual-expert"
DEFAULT_RECIPE = "precise"


def resolve(
    *,
    dataset: str | None = None,
    model: str | None = None,
    recipe: str | None = None,
    file: Path | None = None,
    experts: int | None = None,
    options: Layer | None = None,
    settings: Sequence[str] | None = None,
) -> RunConfig:
    """Put the layers of a request together.

    Args:
        dataset, model, recipe: names; None leaves the choice to the file, and then to the defaults.
        file: a TOML file with any part of a configuration.
        experts: how many the model has, or for ``baseline-matched`` how many it is the control of.
        options: nested values that the command's own options stand for.
        settings: ``key=value`` strings, keys dotted, values as in TOML (bare words are strings).

    Raises:
        InputError: a name is unknown or not the file's, a file cannot be read, or a value is not allowed.

    """
    from_file = _read_toml(file) if file else {}
    named = {"dataset": dataset, "recipe": recipe, "model": {"name": model} if model else None}
    named = {key: value for key, value in named.items() if value is not None}
    stated = _merge(from_file, named, options or {}, *(_parse_setting(setting) for setting in settings or ()))
    section = stated.get("model", {})
    if not isinstance(section, Mapping):
        raise InputError(f"The setting model = {section!r} is not allowed.", "A model's name goes into model.name.")
    recipe = str(stated.get("recipe", DEFAULT_RECIPE))
    model = str(section.get("name", DEFAULT_MODEL))
    if recipe not in RECIPES:
        raise unknown_name("recipe", recipe, RECIPES)
    if model not in MODELS:
        raise unknown_name("model", model, MODELS)
    labels = {"recipe": recipe, "model": {"name": model}}
    _check_names(from_file, recipe=recipe, model=model)
    layers = _merge(RECIPES[recipe], MODELS[model], stated, _experts_layer(model, experts), labels)
    if "dataset" not in layers:
        raise InputError("No data set was named.", "Give --dataset a name or a file; `dualdiff datasets` lists both.")
    try:
        return RunConfig.model_validate(layers)
    except ValidationError as error:
        raise _explain(error) from error


def with_sampling(sampling: SamplingConfig, *, sampler: str | None, steps: int | None) -> SamplingConfig:
    """Give the sampling with the values that were asked for in place of its own.

    Raises:
        InputError: a value is not allowed.

    """
    asked = {name: value for name, value in {"sampler": sampler, "steps": steps}.items() if value is not None}
    try:
        return SamplingConfig.model_validate({**sampling.model_dump(), **asked})
    except ValidationError as error:
        raise _explain(error) from error


def unknown_name(kind: str, name: str, known: Iterable[str]) -> InputError:
    """Say that a name is not one of the known ones, and which it may have been meant to be."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1)
    guess = f"Did you mean {close[0]!r}? " if close else ""
    return InputError(f"There is no {kind} {name!r}.", f"{guess}Choose from {', '.join(known)}.")


def _experts_layer(model: str, experts: int | None) -> Layer:
    if experts is None:
        return {}
    if "match_parameters" in MODELS[model]["model"]:
        return {"model": {"match_parameters": experts}}
    if model == "baseline" and experts != 1:
        raise InputError(f"A baseline has one network, not {experts}.", "Use --model dual-expert with --experts.")
    return {"model": {"experts": experts}}


def _merge(*layers: Layer) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for layer in layers:
        for key, value in layer.items():
            before = merged.get(key, {})
            if isinstance(value, Mapping) and not isinstance(before, Mapping):
                raise InputError(f"The setting {key} = {before!r} is not allowed.", "It has settings of its own.")
            merged[key] = _merge(before, value) if isinstance(value, Mapping) else value
    return merged


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            f"The configuration file {path} cannot be read: {error.strerror}.", "Check --config."
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"The configuration file {path} is not TOML: {error}.", "Mend that line.") from error


def _check_names(from_file: Layer, *, recipe: str, model: str) -> None:
    """Refuse to put a file's values, which may be all there are, under the name of another recipe or model."""
    section = from_file.get("model", {})
    named = section.get("name") if isinstance(section, Mapping) else None
    for kind, there, asked in (("recipe", from_file.get("recipe"), recipe), ("model", named, model)):
        if there is not None and there != asked:
            part = "its [model] section" if kind == "model" else "what it took from that recipe"
            raise InputError(
                f"The configuration file is of the {kind} {there!r}, and {asked!r} was asked for.",
                f"Leave {kind} {asked!r} out, or remove the name and {part} from the file.",
            )


def _parse_setting(setting: str) -> dict[str, Any]:
    key, equals, text = setting.partition("=")
    if not equals or not key.strip():
        raise InputError(f"--set {setting!r} is not of the form key=value.", "Write e.g. --set training.batch=512.")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    for part in reversed(key.strip().split(".")):
        value = {part: value}
    return dict(value)


def _explain(error: ValidationError) -> InputError:
    first = error.errors(include_url=False)[0]
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        section: Any = RunConfig
        for part in first["loc"][:-1]:
            section = section.model_fields[str(part)].annotation
        return unknown_name("setting", str(first["loc"][-1]), section.model_fields)
    value = "" if isinstance(first["input"], Mapping) else f" = {first['input']!r}"
    return InputError(f"The setting {key}{value} is not allowed.", f"{first['msg'].removeprefix('Value error, ')}.")
