"""How the layers of a request become a configuration."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from dualdiff_cli.config.nesting import nested
from dualdiff_cli.config.recipes import (
    DEFAULT_MODEL,
    DEFAULT_RECIPE,
    MODELS,
    RECIPES,
    resolve,
    resolve_diffusion,
    with_sampling,
)
from dualdiff_cli.config.registry import MODEL_KINDS
from dualdiff_cli.config.schema import RunConfig
from dualdiff_cli.config.sections import SamplingConfig
from dualdiff_cli.errors import InputError, unknown_name

NETWORKS = [name for name in MODELS if name not in MODEL_KINDS]
OTHERS = [name for name in MODELS if name in MODEL_KINDS]
FOLDED = ["dual-expert", "baseline"]
PAIRS = [(recipe, model) for recipe in RECIPES for model in NETWORKS if recipe != "few-rows" or model in FOLDED]
AWKWARD = {
    "seed": 2**63 - 1,
    "data": {"columns": ["a b", 'quote"\\', "größe\t"], "held_out_fraction": 0.1 + 0.2},
    "training": {"learning_rate": 1 / 3, "weight_decay": 5e-324, "clip_norm": float("inf")},
}


def written(config: RunConfig, directory: Path) -> Path:
    path = directory / "config.toml"
    path.write_text(config.to_toml(), encoding="utf-8")
    return path


@pytest.mark.parametrize(("recipe", "model"), PAIRS)
def test_a_resolved_configuration_resolves_to_itself(recipe: str, model: str, tmp_path: Path) -> None:
    config = resolve_diffusion(dataset='a "b"\\ü.csv', model=model, recipe=recipe, options=AWKWARD)
    assert resolve_diffusion(file=written(config, tmp_path)) == config
    assert config.training.learning_rate == 1 / 3
    assert config.data.columns == ("a b", 'quote"\\', "größe\t")


@pytest.mark.parametrize("model", [model for model in NETWORKS if model not in FOLDED])
def test_folds_train_one_network_of_the_stated_width_and_no_gate(model: str) -> None:
    with pytest.raises(InputError, match=r"folds need .*model\.(experts=1|match_parameters=0)"):
        resolve(dataset="line", model=model, recipe="few-rows")


@pytest.mark.parametrize("model", OTHERS)
def test_a_model_without_a_network_has_one_recipe_and_resolves_to_itself(model: str, tmp_path: Path) -> None:
    config = resolve(dataset="line", model=model)
    assert (config.recipe, config.data.standardise, config.model.name) == ("plain", "always", model)
    assert resolve(file=written(config, tmp_path)) == config
    assert resolve(dataset="line", model=model, recipe="plain") == config


@pytest.mark.parametrize("model", OTHERS)
@pytest.mark.parametrize(
    ("request_", "problem", "remedy"),
    [
        ({"recipe": "precise"}, "recipe 'precise'", "--recipe"),
        ({"settings": ["recipe=paper"]}, "recipe 'paper'", "--recipe"),
        ({"experts": 2}, "no experts", "--experts"),
        ({"options": {"training": {"steps": 3}}}, "--steps", "Leave these options out"),
        ({"settings": ["sampling.steps=3"]}, "'sampling'", "data, dataset, model"),
        ({"settings": ["model.kind=diffusion"]}, "model.kind says 'diffusion'", "model.kind"),
    ],
)
def test_what_only_a_network_has_is_refused_for_other_models(
    model: str, request_: dict[str, Any], problem: str, remedy: str
) -> None:
    with pytest.raises(InputError) as caught:
        resolve(dataset="line", model=model, **request_)
    assert problem in caught.value.problem
    assert remedy in caught.value.remedy


def test_the_name_of_a_model_in_place_of_a_recipe_is_answered_with_the_option_for_models() -> None:
    with pytest.raises(InputError, match="'tabddpm' is a model") as caught:
        resolve(dataset="line", recipe="tabddpm")
    assert "--model tabddpm" in caught.value.remedy
    assert caught.value.exit_code == 2


def test_the_recipe_of_other_models_is_none_for_a_network() -> None:
    with pytest.raises(InputError, match="no recipe 'plain'"):
        resolve(dataset="line", recipe="plain")


@pytest.mark.parametrize("kind", ["mixture", "mixtre", "3"])
def test_the_kind_of_a_model_is_decided_by_its_name(kind: str) -> None:
    with pytest.raises(InputError, match="'dual-expert' is of the kind 'diffusion'"):
        resolve(dataset="line", settings=[f"model.kind={kind}"])


def test_what_only_networks_can_do_is_refused_for_other_models() -> None:
    with pytest.raises(InputError, match="'mixture' is no diffusion model"):
        resolve_diffusion(dataset="line", model="mixture")


def test_layers_override_in_the_documented_order(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # Layer i sets the keys from the i-th on, so that each key ends with the value of the last layer that knows it.
    keys = ["steps", "batch", "ema_every", "log_every", "checkpoint_every"]
    layers = [{"training": dict.fromkeys(keys[i:], 10 + i)} for i in range(len(keys))]
    monkeypatch.setitem(RECIPES, "thorough", layers[0])
    monkeypatch.setitem(MODELS, "wide", {"model": {}, **layers[1]})
    path = tmp_path / "part.toml"
    path.write_text("[training]\n" + "".join(f"{key} = {value}\n" for key, value in layers[2]["training"].items()))
    settings = [f"training.{key}={value}" for key, value in layers[4]["training"].items()]
    config = resolve_diffusion(
        dataset="line", recipe="thorough", model="wide", file=path, options=layers[3], settings=settings
    ).training
    assert [getattr(config, key) for key in keys] == [10, 11, 12, 13, 14]
    assert config.learning_rate == 3e-4  # of neither


def test_names_override_in_the_documented_order(tmp_path: Path) -> None:
    path = tmp_path / "part.toml"
    path.write_text('dataset = "circle"\n')
    from_file = resolve_diffusion(file=path)
    assert (from_file.dataset, from_file.model.name) == ("circle", DEFAULT_MODEL)
    from_options = resolve_diffusion(file=path, dataset="dino", model="enhanced-gating")
    assert (from_options.dataset, from_options.model.name) == ("dino", "enhanced-gating")
    assert from_options.model.gate_hidden == (256, 128)
    set_last = resolve_diffusion(
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
    config = resolve_diffusion(dataset="line", model="baseline", recipe="paper")
    path = written(config, tmp_path)
    if not complete:
        path.write_text('recipe = "paper"\nmodel.name = "baseline"\n', encoding="utf-8")
    there, name = {"model": ("baseline", "enhanced-gating"), "recipe": ("paper", "precise")}[kind]
    with pytest.raises(InputError) as caught:
        resolve_diffusion(dataset="line", file=path, **asked)
    assert caught.value.problem == f"The configuration file is of the {kind} {there!r}, and {name!r} was asked for."
    assert caught.value.remedy.startswith(f"Leave {kind} {name!r} out, or remove ")


def test_the_names_of_a_file_may_be_repeated(tmp_path: Path) -> None:
    config = resolve_diffusion(dataset="line", model="baseline", recipe="paper")
    path = written(config, tmp_path)
    assert resolve_diffusion(file=path, dataset="line", model="baseline", recipe="paper") == config


def test_a_file_that_names_no_model_goes_under_any(tmp_path: Path) -> None:
    path = tmp_path / "part.toml"
    path.write_text("[model]\nwidth = 9\n[training]\nsteps = 7\n")
    for model in NETWORKS:
        config = resolve_diffusion(dataset="line", model=model, recipe="paper", file=path)
        assert (config.model.name, config.model.width, config.training.steps) == (model, 9, 7)


def test_the_last_of_two_equal_settings_counts() -> None:
    assert resolve_diffusion(dataset="line", settings=["seed=1", "seed=2"]).seed == 2


def test_without_names_the_defaults_are_taken() -> None:
    config = resolve_diffusion(dataset="line")
    assert (config.model.name, config.recipe) == (DEFAULT_MODEL, DEFAULT_RECIPE)


def test_the_paper_recipe_is_the_paper() -> None:
    config = resolve_diffusion(dataset="dino", model="diversity-loss", recipe="paper")
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
        (["model.name=mixture", "model.componnts=3"], "componnts", "components"),
        (["model.name=kernel-density", "model.bandwith=3"], "bandwith", "bandwidth"),
        (["model.name=kernel-density", "sed=3"], "sed", "seed"),
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


@pytest.mark.parametrize("setting", ["model=baseline", "model=3", "recipe=3", "recipe=[1]", "model.name=3"])
def test_a_name_in_the_wrong_place_or_of_the_wrong_type_is_refused(setting: str) -> None:
    with pytest.raises(InputError, match=setting.partition("=")[2].strip("[]")):
        resolve_diffusion(dataset="line", settings=[setting])


@pytest.mark.parametrize("setting", ["seed", "=3", " =3"])
def test_a_setting_without_key_or_value_is_refused(setting: str) -> None:
    with pytest.raises(InputError, match="key=value"):
        resolve_diffusion(dataset="line", settings=[setting])


@pytest.mark.parametrize("keys", [("training", "training.batch"), ("training.batch", "training")])
def test_a_key_is_a_value_or_a_section_whatever_comes_first(keys: tuple[str, str]) -> None:
    with pytest.raises(InputError, match=r"^The setting training = 8 is not allowed\. It has settings of its own\."):
        nested(dict.fromkeys(keys, 8))


def test_settings_are_read_as_toml_and_bare_words_as_text() -> None:
    config = resolve_diffusion(
        dataset="line",
        settings=["data.columns=['x', 'y']", "training.learning_rate=1e-2", "data.missing=drop", "training.batch = 4"],
    )
    assert config.data.columns == ("x", "y")
    assert (config.training.learning_rate, config.data.missing, config.training.batch) == (0.01, "drop", 4)


def test_a_request_without_data_set_is_refused() -> None:
    with pytest.raises(InputError, match="No data set was named"):
        resolve_diffusion()


def test_a_file_without_data_set_is_completed_by_the_option(tmp_path: Path) -> None:
    path = tmp_path / "part.toml"
    path.write_text("seed = 3\n")
    config = resolve_diffusion(dataset="line", file=path)
    assert (config.dataset, config.seed) == ("line", 3)


@pytest.mark.parametrize("content", [b"seed = \n", b"\xff\xfe", b"[training\n"])
def test_a_file_that_is_not_toml_is_named(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "broken.toml"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"broken\.toml is not TOML"):
        resolve_diffusion(dataset="line", file=path)


def test_a_file_that_cannot_be_read_is_named_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"missing\.toml cannot be read: No such file"):
        resolve_diffusion(dataset="line", file=tmp_path / "missing.toml")
    with pytest.raises(InputError, match="Is a directory"):
        resolve_diffusion(dataset="line", file=tmp_path)


@pytest.mark.parametrize("left_out", ["dataset", "recipe", "model", "model.name"])
def test_what_has_no_default_is_never_found_missing_later(left_out: str, tmp_path: Path) -> None:
    """A name that is left out has a default, but the data set, which is asked for by name."""
    *_, key = left_out.rpartition(".")
    table = tomllib.loads(resolve_diffusion(dataset="line", recipe=DEFAULT_RECIPE, model=DEFAULT_MODEL).to_toml())
    del (table["model"] if left_out == "model.name" else table)[key]
    path = tmp_path / "part.toml"
    path.write_text(tomli_w.dumps(table), encoding="utf-8")
    if left_out == "dataset":
        with pytest.raises(InputError, match="No data set was named"):
            resolve_diffusion(file=path)
    else:
        config = resolve_diffusion(file=path)
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
    assert resolve_diffusion(dataset="line", experts=4).model.experts == 4
    matched = resolve_diffusion(dataset="line", model="baseline-matched", experts=4).model
    assert (matched.experts, matched.match_parameters) == (1, 4)


def test_a_baseline_has_one_network() -> None:
    with pytest.raises(InputError, match="dual-expert with --experts"):
        resolve_diffusion(dataset="line", model="baseline", experts=2)
    assert resolve_diffusion(dataset="line", model="baseline", experts=1).model.experts == 1


@pytest.mark.parametrize(
    ("settings", "meant"),
    [
        (["steps=5"], ["training.steps", "sampling.steps"]),
        (["batch=5"], ["training.batch"]),
        (["model.sampler=euler"], ["sampling.sampler"]),
        (["model.name=mixture", "components=3"], ["model.components"]),
    ],
)
def test_a_setting_in_the_wrong_place_is_answered_with_its_places(settings: list[str], meant: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        resolve(dataset="line", settings=settings)
    assert repr(settings[-1].partition("=")[0]) in caught.value.problem
    assert re.findall(r"[a-z]+\.[a-z]+", caught.value.remedy) == meant
