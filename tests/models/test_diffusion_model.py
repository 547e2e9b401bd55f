from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from safetensors.torch import load_file, save_file
from tiny import tiny

from dualdiff_cli.compute.execution import PLAIN, REPAID_BY_SAMPLING, Execution
from dualdiff_cli.config.recipes import resolve
from dualdiff_cli.config.registry import SAMPLERS
from dualdiff_cli.config.schema import RunConfig, SamplingConfig
from dualdiff_cli.data import Column, Scaler
from dualdiff_cli.diffusion.samplers import BLOCK, build_sampler, points_per_call
from dualdiff_cli.diffusion.samplers.ancestral import DDIM
from dualdiff_cli.diffusion.samplers.generation import MOST_BLOCKS
from dualdiff_cli.diffusion.schedules import build_schedule
from dualdiff_cli.errors import InputError
from dualdiff_cli.models.diffusion import DiffusionModel, build_denoiser, training_layer
from dualdiff_cli.store.run import Run

CPU = torch.device("cpu")
COLUMNS = (Column("height"), Column("größe", "integer"))
SCALER = Scaler(np.array([100.0, -1 / 3]), np.array([0.1, 7.0]))


def untrained(config: RunConfig, scaler: Scaler = SCALER) -> DiffusionModel:
    return DiffusionModel(config, build_denoiser(config, 2), scaler, COLUMNS, CPU)


def points(model: DiffusionModel, n: int, *, seed: int = 0) -> np.ndarray:
    return np.concatenate(list(model.sample(n, seed=seed)))


@pytest.fixture
def saved(either_config: RunConfig, tmp_path: Path) -> Run:
    run = Run.create(either_config, tmp_path / "run")
    untrained(either_config).save(run)
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
    config = resolve(dataset="line", settings=[f"schedule.{setting}" for setting in settings])
    schedule = build_schedule(config.schedule)
    alpha, sigma = schedule(torch.tensor([schedule.t_min, schedule.t_max], dtype=torch.float64))
    assert_allclose((sigma / alpha) ** 2, [first, last], rtol=1e-9)


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_sampler_is_built_by_its_name(name: str) -> None:
    sampler = build_sampler(SamplingConfig.model_validate({"sampler": name, "steps": 7}))
    assert type(sampler) is SAMPLERS[name]
    assert sampler.steps == 7


def test_ddim_is_built_with_its_share_of_fresh_noise() -> None:
    sampler = build_sampler(SamplingConfig(sampler="ddim", eta=0.25))
    assert isinstance(sampler, DDIM)
    assert sampler.eta == 0.25


def test_initial_weights_depend_on_the_seed_alone(either_config: RunConfig) -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = build_denoiser(either_config, 2).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    again = build_denoiser(either_config, 2).state_dict()
    other = build_denoiser(either_config.model_copy(update={"seed": 1}), 2).state_dict()
    # a block's bias by time starts at zero
    drawn = [name for name in first if name.startswith("network.") and ".time." not in name]
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert drawn
    assert not any(torch.equal(first[name], other[name]) for name in drawn)


def test_a_saved_model_loads_as_it_was(saved: Run, either_config: RunConfig) -> None:
    model = DiffusionModel.load(saved, CPU)
    assert model.config == either_config
    assert model.columns == COLUMNS
    assert (model.scaler.shift == SCALER.shift).all()
    assert (model.scaler.scale == SCALER.scale).all()
    assert not model.denoiser.training
    assert not any(p.requires_grad for p in model.denoiser.parameters())
    assert np.array_equal(points(model, 5), points(untrained(either_config), 5))


def test_loading_takes_the_weights_from_the_file_and_not_from_the_seed(saved: Run, either_config: RunConfig) -> None:
    other = either_config.model_copy(update={"seed": 1})
    DiffusionModel(either_config, build_denoiser(other, 2), SCALER, COLUMNS, CPU).save(saved)
    assert np.array_equal(points(DiffusionModel.load(saved, CPU), 5), points(untrained(other), 5))


def test_samples_come_in_data_units(either_config: RunConfig) -> None:
    standard = points(untrained(either_config, Scaler.identity(2)), 7)
    assert standard.shape == (7, 2)
    assert standard.dtype == np.float64
    assert_allclose(points(untrained(either_config), 7), standard * SCALER.scale + SCALER.shift, rtol=1e-12)


def test_samples_depend_on_their_seed(either_config: RunConfig) -> None:
    model = untrained(either_config)
    assert np.array_equal(points(model, 3, seed=5), points(model, 3, seed=5))
    assert not np.array_equal(points(model, 3, seed=5), points(model, 3, seed=6))


def test_samples_in_bfloat16_are_the_same_but_for_its_rounding(either_config: RunConfig) -> None:
    model = untrained(either_config)
    weights = [p.clone() for p in model.denoiser.parameters()]
    plain, rounded = points(model, 200), points(model.carried_out(replace(PLAIN, precision="bfloat16")), 200)
    assert not np.array_equal(plain, rounded)
    assert np.abs(plain - rounded).max() < 0.05 * plain.std()
    assert all(torch.equal(p, w) for p, w in zip(model.denoiser.parameters(), weights, strict=True))


def test_a_compiled_model_draws_the_same_points_but_for_rounding_and_any_number_of_them() -> None:
    model = untrained(tiny("precise"))
    compiled = model.carried_out(replace(PLAIN, compiled=True, required=True))
    for n in (200, 9):
        assert_allclose(points(compiled, n), points(model, n), atol=1e-4)


def test_a_compiled_model_is_called_with_one_size_and_a_last_call_that_is_not_full_gives_the_same_points() -> None:
    model, sizes = untrained(tiny("precise")), set()
    n = MOST_BLOCKS * BLOCK + 5
    expected = points(model, n)
    model.denoiser.register_forward_pre_hook(lambda _, inputs: sizes.add(len(inputs[0])))
    padded = points(replace(model, execution=replace(PLAIN, compiled=True)), n)
    assert sizes == {MOST_BLOCKS * BLOCK}
    assert padded.shape == (n, 2)
    assert_allclose(padded, expected, atol=1e-4)


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
    model = DiffusionModel.load(saved, CPU)
    experts = 2 if model.config.recipe == "precise" else 1  # of which a point meets one
    enough = REPAID_BY_SAMPLING * experts / (4 * sum(p.numel() for p in model.denoiser.parameters()))
    few, many = (model.choose_execution(int(share * enough), 4) for share in (0.9, 1.1))
    assert (few.compiled, many.compiled) == (False, True)
    assert few.precision == many.precision == "float32"


def test_the_trial_is_of_the_shape_that_a_network_multiplies() -> None:
    precise, paper = tiny("precise"), tiny("paper")
    assert training_layer(precise) == (2, 8, 8)  # each expert has its half of the batch
    assert training_layer(paper) == (2, 16, 8)
    uneven = precise.model_copy(update={"training": precise.training.model_copy(update={"batch": 15})})
    assert training_layer(uneven) == (2, 15, 8)


def test_a_model_of_another_configuration_is_refused(saved: Run, either_config: RunConfig, tmp_path: Path) -> None:
    wider = either_config.model_copy(update={"model": either_config.model.model_copy(update={"width": 9})})
    other = Run.create(wider, tmp_path / "wider")
    (other.path / "model.safetensors").write_bytes((saved.path / "model.safetensors").read_bytes())
    with pytest.raises(InputError, match="wider is not its configuration's"):
        DiffusionModel.load(other, CPU)


@pytest.mark.parametrize(
    "metadata",
    [None, {"columns": "[]"}, {"columns": '[{"nme": "x"}]', "scaler": '{"shift": [0], "scale": [1]}'}],
)
def test_weights_that_another_program_wrote_are_refused(saved: Run, metadata: dict[str, str] | None) -> None:
    path = saved.path / "model.safetensors"
    save_file(load_file(path), path, metadata=metadata)
    with pytest.raises(InputError, match="is not its configuration's"):
        DiffusionModel.load(saved, CPU)
