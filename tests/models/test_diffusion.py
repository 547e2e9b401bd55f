"""The diffusion model: the weights that it begins with, what it saves, and how it draws rows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from numpy.testing import assert_allclose
from tiny import integers, tiny, untrained

from dualdiff_cli import seeding
from dualdiff_cli.compute.execution import PLAIN, REPAID_BY_SAMPLING, Execution
from dualdiff_cli.config.recipes import resolve_diffusion
from dualdiff_cli.config.schema import DiffusionConfig
from dualdiff_cli.data import TableEncoding, load_data
from dualdiff_cli.data.encoding.number import NumberColumn
from dualdiff_cli.diffusion.samplers import BLOCK, build_sampler, points_per_call
from dualdiff_cli.diffusion.samplers.generation import MOST_BLOCKS
from dualdiff_cli.diffusion.schedules import build_schedule
from dualdiff_cli.errors import InputError
from dualdiff_cli.models import DrawingOptions, Plan
from dualdiff_cli.models.diffusion import DiffusionModel, check_sampler
from dualdiff_cli.models.fitting import build_network_denoiser, training_layer
from dualdiff_cli.models.walking import ReverseProcess
from dualdiff_cli.store.run import Run

CPU = torch.device("cpu")
PEOPLE = TableEncoding(
    columns=(
        NumberColumn(name="height", shift=100.0, scale=0.1),
        integers("größe", -1 / 3, 7.0),
    )
)
STANDARD = TableEncoding(
    columns=(NumberColumn(name="x", shift=0.0, scale=1.0), NumberColumn(name="y", shift=0.0, scale=1.0))
)


def points(of: DiffusionModel | ReverseProcess, n: int, *, seed: int = 0) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Draw n rows of a model, as a single thread draws them without a compiler, or of a reverse process."""
    process = of.reverse_process() if isinstance(of, DiffusionModel) else of
    return pl.concat(process.draw(n, seed=seed).chunks).to_numpy()


@pytest.fixture
def saved(either_config: DiffusionConfig, tmp_path: Path) -> Run:
    run = Run.create(either_config, tmp_path / "run")
    untrained(either_config, PEOPLE).save(run)
    return run


@pytest.mark.parametrize(
    ("settings", "first", "last"),
    [
        # σ/α at the ends, from each definition
        (["name=linear-beta", "length=2", "beta_max=0.5"], 1e-4 / (1 - 1e-4), 1 / (0.9999 * 0.5) - 1),
        (["name=linear-beta", "length=2", "beta_max=0.5", "zero_terminal_snr=true"], 1e-4 / (1 - 1e-4), np.inf),
        (["name=linear-beta-continuous", "length=50"], np.expm1(1e-4 + 0.0199 / 100), np.expm1(0.005 + 0.995 / 2)),
        (["name=straight-line"], (1e-3 / 0.999) ** 2, np.inf),
        (["name=variance-exploding", "sigma_min=0.01", "sigma_max=5"], 1e-4, 25),
        (["name=log-snr-uniform", "sigma_min=0.02", "sigma_max=7"], 4e-4, 49),
    ],
)
def test_a_schedule_is_built_with_all_its_settings(settings: list[str], first: float, last: float) -> None:
    config = resolve_diffusion(dataset="line", settings=[f"schedule.{setting}" for setting in settings])
    schedule = build_schedule(config.schedule)
    alpha, sigma = schedule(torch.tensor([schedule.t_min, schedule.t_max], dtype=torch.float64))
    assert_allclose((sigma / alpha) ** 2, [first, last], rtol=1e-9)


def test_initial_weights_depend_on_the_seed_alone(either_config: DiffusionConfig) -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = build_network_denoiser(either_config, 2).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    again = build_network_denoiser(either_config, 2).state_dict()
    other = build_network_denoiser(either_config.model_copy(update={"seed": 1}), 2).state_dict()
    # a block's bias by time starts at zero
    drawn = [name for name in first if name.startswith("network.") and ".time." not in name]
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert drawn
    assert not any(torch.equal(first[name], other[name]) for name in drawn)


def test_a_saved_model_loads_as_it_was(saved: Run, either_config: DiffusionConfig) -> None:
    model = DiffusionModel.load(saved, device=CPU)
    assert model.config == either_config
    assert model.encoding == PEOPLE
    assert not model.denoiser.training
    assert not any(p.requires_grad for p in model.denoiser.parameters())
    assert np.array_equal(points(model, 5), points(untrained(either_config, PEOPLE), 5))


def test_loading_takes_the_weights_from_the_file_and_not_from_the_seed(
    saved: Run, either_config: DiffusionConfig
) -> None:
    other = untrained(either_config.model_copy(update={"seed": 1}), PEOPLE)
    other.save(saved)
    assert np.array_equal(points(DiffusionModel.load(saved, device=CPU), 5), points(other, 5))


def test_samples_come_in_the_units_and_types_of_the_columns(either_config: DiffusionConfig) -> None:
    standard = points(untrained(either_config, STANDARD), 7)
    rows = untrained(either_config, PEOPLE).sample(7, seed=0)
    assert rows.schema == {"height": pl.Float64, "größe": pl.Int64}
    assert_allclose(rows["height"], 100 + 0.1 * standard[:, 0], rtol=1e-12)
    assert rows["größe"].to_list() == np.rint(-1 / 3 + 7 * standard[:, 1]).tolist()


def test_samples_in_bfloat16_are_the_same_but_for_its_rounding(either_config: DiffusionConfig) -> None:
    model = untrained(either_config)
    weights = [p.clone() for p in model.denoiser.parameters()]
    process = model.reverse_process(execution=replace(PLAIN, precision="bfloat16"))
    plain, rounded = points(model, 200), points(process, 200)
    assert not np.array_equal(plain, rounded)
    assert np.abs(plain - rounded).max() < 0.05 * plain.std()
    assert all(torch.equal(p, w) for p, w in zip(model.denoiser.parameters(), weights, strict=True))


def test_a_compiled_model_draws_the_same_points_but_for_rounding_and_any_number_of_them() -> None:
    model = untrained(tiny("precise"))
    compiled = model.reverse_process(execution=replace(PLAIN, compiled=True, required=True))
    for n in (200, 9):
        assert_allclose(points(compiled, n), points(model, n), atol=1e-4)


def test_a_compiled_model_is_called_with_one_size_and_a_last_call_that_is_not_full_gives_the_same_points() -> None:
    model, sizes = untrained(tiny("precise")), set()
    n = MOST_BLOCKS * BLOCK + 5
    expected = points(model, n)
    model.denoiser.register_forward_pre_hook(lambda _, inputs: sizes.add(len(inputs[0])))
    padded = points(replace(model.reverse_process(), execution=replace(PLAIN, compiled=True)), n)
    assert sizes == {MOST_BLOCKS * BLOCK}
    assert padded.shape == (n, 2)
    assert_allclose(padded, expected, atol=1e-4)


def test_a_compiled_model_fills_a_call_up_to_the_frame_and_the_rows_that_are_surely_taken_decide_on_compiling(
    saved: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, sizes, asked = untrained(tiny("precise")), set(), []
    model.denoiser.register_forward_pre_hook(lambda _, inputs: sizes.add(len(inputs[0])))
    process = replace(model.reverse_process(), execution=replace(PLAIN, compiled=True))
    assert next(process.draw(10**6, seed=0, frame=BLOCK).chunks).height == BLOCK
    assert sizes == {BLOCK}
    loaded = DiffusionModel.load(saved, device=CPU)
    monkeypatch.setattr(
        DiffusionModel, "choose_execution", lambda self, n, evaluations, **how: asked.append(n) or PLAIN
    )
    loaded.draw(10**6, seed=0, options=DrawingOptions(frame=BLOCK, least=50))
    assert asked == [50]


@pytest.mark.parametrize(
    ("execution", "n", "expected"),
    [
        (PLAIN, 10_000, BLOCK),
        (replace(PLAIN, precision="bfloat16"), 10_000, 5 * BLOCK),
        (replace(PLAIN, compiled=True), 10**6, MOST_BLOCKS * BLOCK),
        (replace(PLAIN, compiled=True), 1, BLOCK),
    ],
)
def test_calls_grow_where_their_surroundings_cost_as_much_as_their_products(
    execution: Execution, n: int, expected: int
) -> None:
    assert points_per_call(CPU, n, execution) == expected


def test_a_loaded_model_is_compiled_for_as_many_points_as_repay_it(saved: Run) -> None:
    model = DiffusionModel.load(saved, device=CPU)
    experts = 2 if model.config.recipe == "precise" else 1  # of which a point meets one
    enough = REPAID_BY_SAMPLING["cpu"] * experts / (4 * sum(p.numel() for p in model.denoiser.parameters()))
    few, many = (model.choose_execution(int(share * enough), 4) for share in (0.9, 1.1))
    assert (few.compiled, many.compiled) == (False, True)
    assert few.precision == many.precision == "float32"


def test_the_trial_is_of_the_shape_that_a_network_multiplies() -> None:
    precise, paper = tiny("precise"), tiny("paper")
    assert training_layer(precise) == (2, 8, 8)  # each expert has its half of the batch
    assert training_layer(paper) == (2, 16, 8)
    uneven = precise.model_copy(update={"training": precise.training.model_copy(update={"batch": 15})})
    assert training_layer(uneven) == (2, 15, 8)


def test_a_model_of_another_configuration_is_refused(
    saved: Run, either_config: DiffusionConfig, tmp_path: Path
) -> None:
    wider = either_config.model_copy(update={"model": either_config.model.model_copy(update={"width": 9})})
    other = Run.create(wider, tmp_path / "wider")
    for name in ("model.safetensors", "model.json"):
        (other.path / name).write_bytes((saved.path / name).read_bytes())
    with pytest.raises(InputError, match="wider is damaged or does not match its configuration"):
        DiffusionModel.load(other, device=CPU)


@pytest.mark.parametrize("recipe", ["paper", "precise"])
def test_a_plan_depends_on_the_rows_and_the_seed_alone(recipe: str) -> None:
    def plan(seed: int) -> Plan[DiffusionConfig]:
        config = resolve_diffusion(dataset="circle", recipe=recipe, settings=[f"seed={seed}"])
        data = load_data("circle", seed=seed, n_train=20_000, n_held_out=20)
        return DiffusionModel.plan(config, data, device=CPU)

    first, again, other = (plan(seed) for seed in (0, 0, 1))
    assert (first.config, first.encoding) == (again.config, again.encoding)
    assert np.array_equal(first.features, again.features)
    assert not np.array_equal(first.features, other.features)
    assert (first.config.schedule != other.config.schedule) == (recipe == "precise")


def test_what_the_data_decide_does_not_depend_on_the_unit_of_a_column(tmp_path: Path) -> None:
    rng = seeding.stream(0, "test")
    values = rng.integers(3, size=(600, 1)) + rng.normal(size=(600, 2)) * 0.03
    found = []
    for scale in (1.0, 1000.0):
        path = tmp_path / f"{scale:.0f}.csv"
        pl.DataFrame(scale * values, schema=["x", "y"]).write_csv(path)
        config = resolve_diffusion(dataset=str(path))
        plan = DiffusionModel.plan(config, load_data(str(path), seed=0), device=CPU)
        found.append(plan.config.schedule.sigma_min)
    assert found[0] == pytest.approx(found[1], rel=1e-9)
    assert 1e-3 < found[0] < 0.02


@pytest.mark.parametrize("standardise", ["files", "always"])
def test_a_density_keeps_its_unit_unless_the_recipe_says_otherwise(standardise: str) -> None:
    config = resolve_diffusion(dataset="circle", recipe="paper", settings=[f"data.standardise={standardise}"])
    plan = DiffusionModel.plan(config, load_data("circle", seed=0, n_train=500, n_held_out=20), device=CPU)
    assert (plan.encoding.log_slope(plan.features[:1])[0] == 0) == (standardise == "files")


@pytest.mark.parametrize(
    "settings", [["objective.coupling=optimal-transport", "objective.references=0"], ["sampling.steps=101"]]
)
def test_a_sampler_that_does_not_suit_is_refused_before_a_run_is_made(settings: list[str]) -> None:
    settings = [*settings, *(["sampling.sampler=ancestral"] if len(settings) == 2 else [])]
    config = resolve_diffusion(dataset="circle", recipe="paper", settings=settings)
    with pytest.raises(InputError) as caught:
        DiffusionModel.plan(config, load_data("circle", seed=0, n_train=100, n_held_out=20), device=CPU)
    assert caught.value.exit_code == 2


def test_more_folds_than_training_rows_are_refused_before_a_run_is_made() -> None:
    data = load_data("circle", seed=0, n_train=18, n_held_out=2)
    most, too_many = (
        resolve_diffusion(dataset="circle", recipe="few-rows", settings=[f"folds.number={k}"]) for k in (18, 19)
    )
    assert DiffusionModel.plan(most, data, device=CPU).config.folds.number == 18
    with pytest.raises(InputError, match=r"^19 folds need at least 19 training rows, and there are 18\."):
        DiffusionModel.plan(too_many, data, device=CPU)


@pytest.mark.parametrize(("sampler", "refused"), [("ancestral", True), ("dpmpp-2m-sde", True), ("heun", False)])
def test_samplers_that_draw_fresh_noise_do_not_follow_coupled_noise(sampler: str, refused: bool) -> None:
    config = tiny(settings=["objective.coupling=optimal-transport", f"sampling.sampler={sampler}"])
    if refused:
        with pytest.raises(InputError, match=sampler):
            check_sampler(config, build_sampler(config.sampling))
    else:
        check_sampler(config, build_sampler(config.sampling))


def test_a_drawing_says_how_the_rows_were_drawn_once_they_are(either_config: DiffusionConfig) -> None:
    drawing = untrained(either_config).draw(10, seed=0, options=DrawingOptions(sampler="heun", steps=3))
    assert sum(chunk.height for chunk in drawing.chunks) == 10
    facts = {"sampler": "heun", "sample_steps": 3, "precision": "float32", "compiled": False}
    assert facts.items() <= drawing.facts.items()
    assert drawing.facts["network_evaluations"] in (5, 6)  # two a step; the last may need only one
