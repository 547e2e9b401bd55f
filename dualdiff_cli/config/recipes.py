"""How a request becomes a configuration.

A configuration is put together in layers, each overriding the one before: the recipe, the model variant, a TOML file,
the command's own options, and ``--set key=value``.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ..checked import check_nesting, read_toml
from ..errors import InputError
from .layers import (
    CONFIG_FILE,
    DEFAULT_MODEL,
    DEFAULT_RECIPE,
    FEW_ROWS,
    FEW_ROWS_RECIPE,
    MODELS,
    MODELS_FOR_FEW_ROWS,
    PLAIN_LAYER,
    PLAIN_RECIPE,
    RECIPES,
    REFINEMENTS,
    REFLOW,
    Layer,
)
from .nesting import merge, nested
from .refusals import refusal
from .registry import known_name
from .schema import CONFIGS, DiffusionConfig, RunConfig, parse_config
from .sections import SamplingConfig

__all__ = [
    "DEFAULT_MODEL",
    "DEFAULT_RECIPE",
    "FEW_ROWS",
    "MODELS",
    "RECIPES",
    "Request",
    "has_setting",
    "resolve",
    "resolve_diffusion",
    "with_sampling",
]


def resolve(
    *,
    dataset: str | None = None,
    model: str | None = None,
    recipe: str | None = None,
    file: str | Path | None = None,
    experts: int | None = None,
    teacher: str | Path | None = None,
    options: Layer | None = None,
    settings: Sequence[str] | None = None,
    rows: int | None = None,
) -> RunConfig:
    """Put the layers of a request together.

    Args:
        dataset, model, recipe: names; None leaves the choice to the file, and then to the defaults.
        file: the path of a TOML file with any part of a configuration.
        teacher: the run to reflow, from which the data set, its seed and settings, and the finest frequency are taken.
        experts: the number of experts; for ``baseline-matched``, the number whose parameter count it matches.
        options: the values of the command's own options, nested like the configuration.
        settings: ``key=value`` strings with dotted keys and TOML values; bare words are strings.
        rows: the number of training rows, which decides the recipe if none is named; None takes `DEFAULT_RECIPE`. A
            request that states a number of folds takes the recipe for few rows in any case.

    Raises:
        InputError: a name is unknown or differs from the file's, a file cannot be read, or a value is not allowed.

    Examples:
        >>> import dualdiff_cli as dualdiff
        >>> config = dualdiff.resolve(dataset="moons", recipe="precise", settings=["sampling.sampler=ddpm"])
        >>> config.model.name, config.sampling.sampler
        ('dual-expert', 'ancestral')

    """
    from_file = _read_toml(Path(file), "Check --config.") if file else {}
    named = {"dataset": dataset, "recipe": recipe, "model": {"name": model} if model else None}
    named = {key: value for key, value in named.items() if value is not None}
    asked = (_parse_setting(setting) for setting in settings or ())
    stated = merge({"model": {}}, from_file, named, options or {}, *asked)
    section = stated["model"]
    model = known_name("model", str(section.get("name", DEFAULT_MODEL)), MODELS)
    if section.get("kind", _kind_of(model)) != _kind_of(model):
        raise InputError(
            f"The model {model!r} is of the kind {_kind_of(model)!r}, and model.kind says {section['kind']!r}.",
            "Leave model.kind out: the model's name decides.",
        )
    one_network = experts is None and section.get("experts", 1) == 1
    suits_few = model in MODELS_FOR_FEW_ROWS and one_network and teacher is None and not _beyond_folds(stated)
    few = suits_few and (_asks_for_folds(stated) or (rows is not None and rows < FEW_ROWS))
    recipe, layer = _recipe_of(model, stated.get("recipe", FEW_ROWS_RECIPE if few else None))
    labels = {"recipe": recipe, "model": {"name": model}}
    _check_names(from_file, recipe=recipe, model=model)
    if "training" in (options or {}) and _kind_of(model) != "diffusion":
        raise InputError(
            f"The model {model!r} does not take --steps, --compile and --precision.",
            "Leave these options out; --set model.KEY=VALUE changes the settings that the model has, such as "
            "model.steps of spline-flow and tabddpm.",
        )
    defaults = merge(layer, MODELS[model], REFINEMENTS.get((recipe, model), {}))
    if teacher is not None:
        if _kind_of(model) != "diffusion":
            raise InputError(
                f"The model {model!r} cannot take part in a reflow: it is no diffusion model.",
                "Leave --model out, or leave --reflow out.",
            )
        defaults = merge(defaults, REFLOW, _of_teacher(Path(teacher), dataset=stated.get("dataset")))
    layers = merge(defaults, stated, _experts_layer(model, experts), labels)
    if "dataset" not in layers:
        raise InputError(
            "No data set was named.", "Name one, such as moons or a file; `dualdiff datasets` lists what there is."
        )
    try:
        return parse_config(layers)
    except ValidationError as error:
        raise refusal(error) from error


class Request:
    """A request whose configuration may depend on the number of training rows.

    Args:
        request: the arguments of `resolve`, without ``rows``.

    """

    def __init__(self, **request: Any) -> None:
        self._request = request

    def config(self, rows: int | None = None) -> RunConfig:
        """Resolve the request; see `resolve`."""
        return resolve(**self._request, rows=rows)


def resolve_diffusion(**request: Any) -> DiffusionConfig:
    """As `resolve`, for what only diffusion models can do.

    Raises:
        InputError: as for `resolve`, or the model is no diffusion model.

    """
    config = resolve(**request)
    if not isinstance(config, DiffusionConfig):
        raise InputError(f"The model {config.model.name!r} is no diffusion model.", "Name one, such as dual-expert.")
    return config


def has_setting(model: str, setting: str) -> bool:
    """Say whether the configuration of a model has the key of a ``key=value`` setting."""
    section: Any = CONFIGS[_kind_of(model)]
    for part in setting.partition("=")[0].strip().split("."):
        fields = getattr(section, "model_fields", {})
        if part not in fields:
            return False
        section = fields[part].annotation
    return True


def _kind_of(model: str) -> str:
    """Give the kind of a model, which its name decides."""
    return str(MODELS[model]["model"].get("kind", "diffusion"))


def _asks_for_folds(stated: Layer) -> bool:
    """Say whether settings state a number of folds other than zero."""
    folds = stated.get("folds")
    return isinstance(folds, Mapping) and bool(folds.get("number"))


def _beyond_folds(stated: Layer) -> bool:
    """Say whether settings ask for what a training in folds does not do; see `DiffusionConfig`."""
    needed: dict[str, dict[str, Any]] = {
        "schedule": {"name": "log-snr-uniform"},
        "objective": {"coupling": "independent", "weighting": "uniform", "diversity": 0, "balance": 0},
    }
    return any(
        section.get(key, value) != value
        for name, values in needed.items()
        if isinstance(section := stated.get(name, {}), Mapping)
        for key, value in values.items()
    )


def _recipe_of(model: str, asked: Any) -> tuple[str, Layer]:
    """Give the name and the layer of a model's recipe, the one that was asked for or the model's default."""
    if _kind_of(model) != "diffusion":
        if asked not in (None, PLAIN_RECIPE):
            raise InputError(f"The recipe {asked!r} is not for {model!r}, which takes none.", "Leave --recipe out.")
        return PLAIN_RECIPE, PLAIN_LAYER
    if str(asked) in MODELS:
        raise InputError(f"{asked!r} is a model and no recipe.", f"Leave --recipe out, and give --model {asked}.")
    recipe = known_name("recipe", str(asked or DEFAULT_RECIPE), RECIPES)
    return recipe, RECIPES[recipe]


def with_sampling(sampling: SamplingConfig, *, sampler: str | None, steps: int | None) -> SamplingConfig:
    """Give the sampling with the values that were asked for in place of its own.

    Raises:
        InputError: a value is not allowed.

    """
    asked = {name: value for name, value in {"sampler": sampler, "steps": steps}.items() if value is not None}
    try:
        return SamplingConfig.model_validate({**sampling.model_dump(), **asked})
    except ValidationError as error:
        raise refusal(error) from error


def _experts_layer(model: str, experts: int | None) -> Layer:
    if experts is None:
        return {}
    if "match_parameters" in MODELS[model]["model"]:
        return {"model": {"match_parameters": experts}}
    if _kind_of(model) != "diffusion":
        raise InputError(f"The model {model!r} has no experts.", "Leave --experts out.")
    if model == "baseline" and experts != 1:
        raise InputError(f"A baseline has one network, not {experts}.", "Use --model dual-expert with --experts.")
    return {"model": {"experts": experts}}


_OF_TEACHER: dict[str, type] = {"dataset": str, "seed": int, "data": dict, "model": dict}
"""The entries of a teacher's configuration that a reflow takes over, and their types."""


def _of_teacher(teacher: Path, *, dataset: object) -> Layer:
    """Give the layer that a reflow takes from its teacher's configuration, where a file stands with its whole path."""
    path = teacher / CONFIG_FILE
    if not path.is_file():
        raise InputError(f"{teacher} is not a run: it has no {CONFIG_FILE}.", "Give --reflow a directory of `train`.")
    config = _read_toml(path, "Restore it, or train the teacher again.")
    if not all(isinstance(config.get(key), kind) for key, kind in _OF_TEACHER.items()):
        raise InputError(f"{path} is damaged.", "Restore it, or train the teacher again.")
    if dataset is not None and config["dataset"] not in (dataset, str(Path(str(dataset)).resolve())):
        raise InputError(
            f"The run {teacher} has learnt {config['dataset']}, not {dataset}.", "Leave --dataset out with --reflow."
        )
    frequency = config["model"].get("finest_frequency")
    return {
        **{key: config[key] for key in ("dataset", "seed", "data")},
        "objective": {"teacher": str(teacher.resolve())},
        "model": {} if frequency is None else {"finest_frequency": frequency},
    }


def _read_toml(path: Path, remedy: str) -> dict[str, Any]:
    try:
        return read_toml(path)
    except OSError as error:
        raise InputError(f"The configuration file {path} cannot be read: {error.strerror}.", remedy) from error
    except ValueError as error:
        raise InputError(f"The configuration file {path} is not TOML: {error}.", "Correct that line.") from error


def _check_names(from_file: Layer, *, recipe: str, model: str) -> None:
    """Refuse the name of another recipe or model than the file's: the file may hold all values of its own."""
    named = from_file.get("model", {}).get("name")
    choices = (("recipe", from_file.get("recipe"), recipe, [*RECIPES, PLAIN_RECIPE]), ("model", named, model, MODELS))
    for kind, there, asked, known in choices:
        if there is not None and known_name(kind, str(there), known) != asked:
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
        check_nesting(value)
    except tomllib.TOMLDecodeError:
        value = text
    except (RecursionError, ValueError) as error:
        raise InputError(f"The value of --set {key.strip()} cannot be read: {error}.", "Give a plain value.") from error
    return nested({key.strip(): value})
