from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from pydantic import BaseModel, ValidationError

from dualdiff_cli.config.recipes import DEFAULT_MODEL, DEFAULT_RECIPE, MODELS, RECIPES, resolve, with_sampling
from dualdiff_cli.config.schema import RunConfig, SamplingConfig
from dualdiff_cli.errors import InputError, unknown_name

AWKWARD = {
    "seed": 2**63 - 1,
    "data": {"columns": ["a b", 'quote"\\', "größe\t"], "held_out_fraction": 0.1 + 0.2},
    "training": {"learning_rate": 1 / 3, "weight_decay": 5e-324, "clip_norm": float("inf")},
}


def written(config: RunConfig, directory: Path) -> Path:
    path = directory / "config.toml"
    path.write_text(config.to_toml(), encoding="utf-8")
    return path


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("model", MODELS)
def test_a_resolved_configuration_resolves_to_itself(model: str, recipe: str, tmp_path: Path) -> None:
    config = resolve(dataset='a "b"\\ü.csv', model=model, recipe=recipe, options=AWKWARD)
    assert resolve(file=written(config, tmp_path)) == config
    assert config.training.learning_rate == 1 / 3
    assert config.data.columns == ("a b", 'quote"\\', "größe\t")


def test_the_file_leaves_no_setting_to_a_default() -> None:
    def keys(section: BaseModel) -> dict[str, Any]:
        values = ((name, getattr(section, name)) for name in type(section).model_fields)
        return {name: keys(v) if isinstance(v, BaseModel) else None for name, v in values if v is not None}

    def shape(table: dict[str, Any]) -> dict[str, Any]:
        return {key: shape(value) if isinstance(value, dict) else None for key, value in table.items()}

    config = resolve(dataset="line", options={"data": {"columns": ["x"]}})
    assert "columns" in shape(tomllib.loads(config.to_toml()))["data"]
    assert shape(tomllib.loads(config.to_toml())) == keys(config)


def test_layers_override_in_the_documented_order(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # Layer i sets the keys from the i-th on, so that each key ends with the value of the last layer that knows it.
    keys = ["steps", "batch", "ema_every", "log_every", "checkpoint_every"]
    layers = [{"training": dict.fromkeys(keys[i:], 10 + i)} for i in range(len(keys))]
    monkeypatch.setitem(RECIPES, "thorough", layers[0])
    monkeypatch.setitem(MODELS, "wide", layers[1])
    path = tmp_path / "part.toml"
    path.write_text("[training]\n" + "".join(f"{key} = {value}\n" for key, value in layers[2]["training"].items()))
    settings = [f"training.{key}={value}" for key, value in layers[4]["training"].items()]
    config = resolve(
        dataset="line", recipe="thorough", model="wide", file=path, options=layers[3], settings=settings
    ).training
    assert [getattr(config, key) for key in keys] == [10, 11, 12, 13, 14]
    assert config.learning_rate == 3e-4  # of neither


def test_names_override_in_the_documented_order(tmp_path: Path) -> None:
    path = tmp_path / "part.toml"
    path.write_text('dataset = "circle"\n')
    from_file = resolve(file=path)
    assert (from_file.dataset, from_file.model.name) == ("circle", DEFAULT_MODEL)
    from_options = resolve(file=path, dataset="dino", model="enhanced-gating")
    assert (from_options.dataset, from_options.model.name) == ("dino", "enhanced-gating")
    assert from_options.model.gate_hidden == (256, 128)
    set_last = resolve(
        file=path, dataset="dino", model="enhanced-gating", settings=["dataset=moons", "model.name=dual-expert"]
    )
    assert (set_last.dataset, set_last.model.name, set_last.model.gate_hidden) == ("moons", "dual-expert", (256,))


@pytest.mark.parametrize(
    ("kind", "asked"),
    [
        ("model", {"model": "enhanced-gating"}),
        ("model", {"settings": ["model.name=enhanced-gating"]}),
        ("recipe", {"recipe": "precise"}),
        ("recipe", {"settings": ["recipe=precise"]}),
    ],
)
@pytest.mark.parametrize("complete", [True, False])
def test_a_file_is_not_put_under_the_name_of_another_model_or_recipe(
    kind: str, asked: dict[str, Any], complete: bool, tmp_path: Path
) -> None:
    config = resolve(dataset="line", model="baseline", recipe="paper")
    path = written(config, tmp_path)
    if not complete:
        path.write_text('recipe = "paper"\nmodel.name = "baseline"\n', encoding="utf-8")
    there, name = {"model": ("baseline", "enhanced-gating"), "recipe": ("paper", "precise")}[kind]
    with pytest.raises(InputError) as caught:
        resolve(dataset="line", file=path, **asked)
    assert caught.value.problem == f"The configuration file is of the {kind} {there!r}, and {name!r} was asked for."
    assert caught.value.remedy.startswith(f"Leave {kind} {name!r} out, or remove ")


def test_the_names_of_a_file_may_be_repeated(tmp_path: Path) -> None:
    config = resolve(dataset="line", model="baseline", recipe="paper")
    path = written(config, tmp_path)
    assert resolve(file=path, dataset="line", model="baseline", recipe="paper") == config


def test_a_file_that_names_no_model_goes_under_any(tmp_path: Path) -> None:
    path = tmp_path / "part.toml"
    path.write_text("[model]\nwidth = 9\n[training]\nsteps = 7\n")
    for model in MODELS:
        config = resolve(dataset="line", model=model, recipe="paper", file=path)
        assert (config.model.name, config.model.width, config.training.steps) == (model, 9, 7)


def test_the_last_of_two_equal_settings_counts() -> None:
    assert resolve(dataset="line", settings=["seed=1", "seed=2"]).seed == 2


def test_without_names_the_defaults_are_taken() -> None:
    config = resolve(dataset="line")
    assert (config.model.name, config.recipe) == (DEFAULT_MODEL, DEFAULT_RECIPE)


def test_the_paper_recipe_is_the_paper() -> None:
    config = resolve(dataset="dino", model="diversity-loss", recipe="paper")
    t, s = config.training, config.schedule
    assert (t.learning_rate, t.steps, t.batch, t.clip_norm) == (3e-4, 10_000, 256, 0.5)
    assert (t.ema_decay, t.ema_every, t.ema_warmup) == (0.995, 10, 100)
    assert (s.name, s.length, s.beta_min, s.beta_max) == ("linear-beta", 100, 1e-4, 0.02)
    assert (config.sampling.sampler, config.sampling.steps) == ("ancestral", 100)
    assert (config.objective.prediction, config.objective.diversity) == ("noise", 0.1)
    assert (config.data.points, config.data.standardise) == (100_000, "files")


@pytest.mark.parametrize(
    ("settings", "misspelt", "meant"),
    [
        (["training.bach=3"], "bach", "batch"),
        (["trainning.batch=3"], "trainning", "training"),
        (["model.expert=3"], "expert", "experts"),
        (["sed=3"], "sed", "seed"),
        (["model.name=dual-exprt"], "dual-exprt", "dual-expert"),
        (["recipe=papr"], "papr", "paper"),
    ],
)
def test_a_misspelt_name_is_answered_with_the_close_match(settings: list[str], misspelt: str, meant: str) -> None:
    with pytest.raises(InputError) as caught:
        resolve(dataset="line", settings=settings)
    assert repr(misspelt) in caught.value.problem
    assert f"Did you mean {meant!r}?" in caught.value.remedy


def test_a_name_like_no_other_is_answered_with_the_choice_alone() -> None:
    error = unknown_name("fruit", "xyz", {"pear": 1, "apple": 2})
    assert error.problem == "There is no fruit 'xyz'."
    assert error.remedy == "Choose from apple, pear."


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
        resolve(dataset="line", settings=[setting])


@pytest.mark.parametrize("setting", ["model.gate_hidden=[]", "model.head_hidden=[0]", "model.head_hidden=128"])
def test_a_list_of_widths_holds_widths(setting: str) -> None:
    with pytest.raises(InputError, match=re.escape("The setting " + setting.partition("=")[0])):
        resolve(dataset="line", settings=[setting])


@pytest.mark.parametrize("model", ["dual-expert", "baseline"])
def test_only_one_network_is_matched_and_only_to_several(model: str) -> None:
    with pytest.raises(InputError, match="match_parameters takes 2 or more, and only with experts = 1"):
        resolve(dataset="line", model=model, settings=[f"model.match_parameters={2 if model == 'dual-expert' else 1}"])


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
        resolve(dataset="line", settings=settings)
    else:
        with pytest.raises(InputError, match="sigma_max must be larger than sigma_min"):
            resolve(dataset="line", settings=settings)


def test_posterior_means_are_not_taken_of_noise_that_was_matched_to_its_points() -> None:
    matched = "objective.coupling=optimal-transport"
    with pytest.raises(InputError, match="references=0"):
        resolve(dataset="line", recipe="precise", settings=[matched])
    config = resolve(dataset="line", recipe="precise", settings=[matched, "objective.references=0"])
    assert config.objective.coupling == "optimal-transport"


def test_only_a_table_is_rescaled_to_end_in_pure_noise() -> None:
    rescaled = ["schedule.zero_terminal_snr=true"]
    assert resolve(dataset="line", settings=["schedule.name=cosine", *rescaled]).schedule.zero_terminal_snr
    with pytest.raises(InputError, match="zero_terminal_snr rescales a table"):
        resolve(dataset="line", settings=["schedule.name=straight-line", *rescaled])


@pytest.mark.parametrize("setting", ["model=baseline", "model=3", "recipe=3", "recipe=[1]", "model.name=3"])
def test_a_name_in_the_wrong_place_or_of_the_wrong_type_is_refused(setting: str) -> None:
    with pytest.raises(InputError, match=setting.partition("=")[2].strip("[]")):
        resolve(dataset="line", settings=[setting])


@pytest.mark.parametrize("setting", ["seed", "=3", " =3"])
def test_a_setting_without_key_or_value_is_refused(setting: str) -> None:
    with pytest.raises(InputError, match="key=value"):
        resolve(dataset="line", settings=[setting])


def test_settings_are_read_as_toml_and_bare_words_as_text() -> None:
    config = resolve(
        dataset="line",
        settings=["data.columns=['x', 'y']", "training.learning_rate=1e-2", "data.missing=drop", "training.batch = 4"],
    )
    assert config.data.columns == ("x", "y")
    assert (config.training.learning_rate, config.data.missing, config.training.batch) == (0.01, "drop", 4)


def test_a_request_without_data_set_is_refused() -> None:
    with pytest.raises(InputError, match="No data set was named"):
        resolve()


def test_a_file_without_data_set_is_completed_by_the_option(tmp_path: Path) -> None:
    path = tmp_path / "part.toml"
    path.write_text("seed = 3\n")
    config = resolve(dataset="line", file=path)
    assert (config.dataset, config.seed) == ("line", 3)


@pytest.mark.parametrize("content", [b"seed = \n", b"\xff\xfe", b"[training\n"])
def test_a_file_that_is_not_toml_is_named(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "broken.toml"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"broken\.toml is not TOML"):
        resolve(dataset="line", file=path)


def test_a_file_that_cannot_be_read_is_named_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"missing\.toml cannot be read: No such file"):
        resolve(dataset="line", file=tmp_path / "missing.toml")
    with pytest.raises(InputError, match="Is a directory"):
        resolve(dataset="line", file=tmp_path)


def test_a_configuration_cannot_be_changed() -> None:
    config = resolve(dataset="line")
    with pytest.raises(ValidationError):
        config.seed = 3  # type: ignore[misc]
    with pytest.raises(ValidationError):
        config.training.steps = 3  # type: ignore[misc]


@pytest.mark.parametrize("left_out", ["dataset", "recipe", "model", "model.name"])
def test_what_has_no_default_is_never_found_missing_later(left_out: str, tmp_path: Path) -> None:
    """A name that is left out has a default, but the data set, which is asked for by name."""
    *_, key = left_out.rpartition(".")
    table = tomllib.loads(resolve(dataset="line", recipe=DEFAULT_RECIPE, model=DEFAULT_MODEL).to_toml())
    del (table["model"] if left_out == "model.name" else table)[key]
    path = tmp_path / "part.toml"
    path.write_text(tomli_w.dumps(table), encoding="utf-8")
    if left_out == "dataset":
        with pytest.raises(InputError, match="No data set was named"):
            resolve(file=path)
    else:
        config = resolve(file=path)
        assert (config.model.name, config.recipe) == (DEFAULT_MODEL, DEFAULT_RECIPE)


def test_sampling_takes_what_is_asked_for_and_keeps_the_rest() -> None:
    sampling = SamplingConfig(sampler="ancestral", steps=50)
    assert with_sampling(sampling, sampler=None, steps=None) == sampling
    assert with_sampling(sampling, sampler=None, steps=7) == SamplingConfig(sampler="ancestral", steps=7)


@pytest.mark.parametrize(("sampler", "steps", "key"), [("ancestrl", None, "sampler"), (None, 0, "steps")])
def test_sampling_that_is_not_there_is_refused(sampler: str | None, steps: int | None, key: str) -> None:
    with pytest.raises(InputError, match=key):
        with_sampling(SamplingConfig(), sampler=sampler, steps=steps)


def test_experts_count_those_of_the_model_or_of_what_it_is_the_control_of() -> None:
    assert resolve(dataset="line", experts=4).model.experts == 4
    matched = resolve(dataset="line", model="baseline-matched", experts=4).model
    assert (matched.experts, matched.match_parameters) == (1, 4)


def test_a_baseline_has_one_network() -> None:
    with pytest.raises(InputError, match="dual-expert with --experts"):
        resolve(dataset="line", model="baseline", experts=2)
    assert resolve(dataset="line", model="baseline", experts=1).model.experts == 1
