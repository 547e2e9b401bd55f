"""Which values a configuration may have."""

from __future__ import annotations

import re
import tomllib
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from dualdiff_cli.config.recipes import resolve, resolve_diffusion
from dualdiff_cli.config.registry import MODEL_KINDS
from dualdiff_cli.config.schema import CONFIGS, DiffusionConfig, KernelDensityConfig, MixtureConfig, parse_config
from dualdiff_cli.errors import InputError


def test_the_file_leaves_no_setting_to_a_default() -> None:
    def keys(section: BaseModel) -> dict[str, Any]:
        values = ((name, getattr(section, name)) for name in type(section).model_fields)
        return {
            name: {} if v == {} else keys(v) if isinstance(v, BaseModel) else None
            for name, v in values
            if v is not None
        }

    def shape(table: dict[str, Any]) -> dict[str, Any]:
        return {key: shape(value) if isinstance(value, dict) else None for key, value in table.items()}

    config = resolve_diffusion(dataset="line", options={"data": {"columns": ["x"]}})
    assert "columns" in shape(tomllib.loads(config.to_toml()))["data"]
    assert shape(tomllib.loads(config.to_toml())) == keys(config)


@pytest.mark.parametrize(
    "setting",
    [
        "seed=-1",
        "seed=9223372036854775808",
        "training.steps=0",
        "training.steps=1.5",
        "training.steps=many",
        "training.batch=1",
        "training.batch=",
        "training.learning_rate=0.0",
        "training.learning_rate=nan",
        "training.weight_decay=-0.1",
        "training.ema_decay=1.0",
        "training=3",
        "data.held_out_fraction=1.0",
        "data.points=19",
        "model.experts=0",
        "model.width=1",
        "objective.prediction=nose",
        "objective.diversity=-1.0",
        "sampling.steps=0",
        "dataset=3",
    ],
)
def test_a_value_out_of_range_is_refused_by_key_and_value(setting: str) -> None:
    key, _, value = setting.partition("=")
    with pytest.raises(InputError, match=rf"^The setting {re.escape(key)} = '?{re.escape(value)}'? is not allowed\."):
        resolve_diffusion(dataset="line", settings=[setting])


@pytest.mark.parametrize("setting", ["model.gate_hidden=[]", "model.head_hidden=[0]", "model.head_hidden=128"])
def test_a_list_of_widths_holds_widths(setting: str) -> None:
    with pytest.raises(InputError, match=re.escape("The setting " + setting.partition("=")[0])):
        resolve_diffusion(dataset="line", settings=[setting])


@pytest.mark.parametrize("model", ["dual-expert", "baseline"])
def test_only_one_network_is_matched_and_only_to_several(model: str) -> None:
    with pytest.raises(InputError, match="match_parameters takes 2 or more, and only with experts = 1"):
        resolve_diffusion(
            dataset="line", model=model, settings=[f"model.match_parameters={2 if model == 'dual-expert' else 1}"]
        )


@pytest.mark.parametrize(
    ("settings", "allowed"),
    [
        (["sigma_min=0.1", "sigma_max=0.2"], True),
        (["sigma_min=0.2", "sigma_max=0.2"], False),
        (["sigma_min=5.5"], False),
        (["sigma_max=0.021"], True),
        (["sigma_max=0.02"], False),  # what the data may make of sigma_min
    ],
)
def test_noise_grows_with_time(settings: list[str], allowed: bool) -> None:
    settings = [f"schedule.{setting}" for setting in settings]
    if allowed:
        resolve_diffusion(dataset="line", settings=settings)
    else:
        with pytest.raises(InputError, match="sigma_max must be larger than sigma_min"):
            resolve_diffusion(dataset="line", settings=settings)


def test_posterior_means_are_not_taken_of_noise_that_was_matched_to_its_points() -> None:
    matched = "objective.coupling=optimal-transport"
    with pytest.raises(InputError, match="references=0"):
        resolve_diffusion(dataset="line", recipe="precise", settings=[matched])
    config = resolve_diffusion(dataset="line", recipe="precise", settings=[matched, "objective.references=0"])
    assert config.objective.coupling == "optimal-transport"


def test_only_a_table_is_rescaled_to_end_in_pure_noise() -> None:
    rescaled = ["schedule.zero_terminal_snr=true"]
    assert resolve_diffusion(dataset="line", settings=["schedule.name=cosine", *rescaled]).schedule.zero_terminal_snr
    with pytest.raises(InputError, match="zero_terminal_snr rescales a table"):
        resolve_diffusion(dataset="line", settings=["schedule.name=straight-line", *rescaled])


def test_a_configuration_cannot_be_changed() -> None:
    config = resolve_diffusion(dataset="line")
    with pytest.raises(ValidationError):
        config.seed = 3  # type: ignore[misc]
    with pytest.raises(ValidationError):
        config.training.steps = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("model", "setting"),
    [
        ("mixture", "components=0"),
        ("mixture", "covariance=round"),
        ("mixture", "largest=0"),
        ("kernel-density", "bandwidth=0.0"),
        ("kernel-density", "folds=1"),
    ],
)
def test_settings_of_other_models_are_refused_by_key_and_value(model: str, setting: str) -> None:
    key, _, value = setting.partition("=")
    with pytest.raises(InputError, match=rf"^The setting model\.{key} = '?{re.escape(value)}'? is not allowed\."):
        resolve(dataset="line", model=model, settings=[f"model.{setting}"])


def test_folds_judge_at_two_noise_levels_or_more() -> None:
    """The derivative of the signal-to-noise ratio has no value at one level."""
    with pytest.raises(InputError, match=r"^The setting folds\.levels = '?1'? is not allowed\."):
        resolve(dataset="line", recipe="few-rows", settings=["folds.levels=1", "folds.bands=1"])


def test_the_kind_of_the_model_decides_which_sections_there_are() -> None:
    assert set(CONFIGS) == set(MODEL_KINDS)
    for kind, config in CONFIGS.items():
        parsed = parse_config({"dataset": "line", "recipe": "any", "model": {"kind": kind, "name": "any"}})
        assert type(parsed) is config
        assert parse_config(parsed.model_dump(mode="json")) == parsed
    assert {"training", "sampling"} <= DiffusionConfig.model_fields.keys()
    assert not {"training", "sampling"} & (MixtureConfig.model_fields.keys() | KernelDensityConfig.model_fields.keys())


def test_a_configuration_of_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ValidationError, match="diffusion"):
        parse_config({"dataset": "line", "recipe": "any", "model": {"kind": "forest", "name": "any"}})


@pytest.mark.parametrize(
    "setting",
    [
        *(
            "model.width=1000000000",
            "model.experts=1000000000",
            "model.blocks=1000000000",
            "model.gate_hidden=[1000000000]",
        ),
        *("training.batch=1000000000000", "training.steps=10000000000000", "sampling.steps=1000000000"),
        *(
            "schedule.sigma_max=inf",
            "schedule.sigma_min=nan",
            "schedule.length=1000000000",
            "training.learning_rate=inf",
        ),
        *("data.points=1000000000000", "folds.number=100000", "objective.references=1000000000"),
        "model.width=60000",  # one such layer is allowed, three blocks of two are not
    ],
)
def test_a_value_that_no_machine_can_hold_is_refused_by_its_name(setting: str) -> None:
    with pytest.raises(InputError) as caught:
        resolve(dataset="moons", recipe="precise", settings=[setting])
    assert setting.split("=")[0].split(".")[0] in caught.value.problem
    assert caught.value.exit_code == 2
