"""The benchmarks of samplers and of the recipe's parts, at a small size."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import finished, narrow

from dualdiff_cli.config.registry import SAMPLERS
from dualdiff_cli.models.diffusion import DiffusionModel
from dualdiff_cli.store.run import Run

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def samplers() -> dict[str, Any]:
    return runpy.run_path(str(BENCHMARKS / "samplers.py"))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return finished(narrow(data={"points": 300, "held_out_points": 300}), tmp_path_factory.mktemp("runs") / "run")


@pytest.mark.parametrize("budget", [5, 20])
def test_every_sampler_stays_within_its_evaluations_and_could_not_take_another_step(
    budget: int, samplers: dict[str, Any], run: Run
) -> None:
    denoiser = DiffusionModel.load(run, device=torch.device("cpu")).denoiser
    bench = samplers["Bench"](run.path, n=30, seed=0)
    for name in SAMPLERS:
        steps = samplers["steps_within"](SAMPLERS[name], budget, denoiser)
        if name == "adaptive":
            continue
        if steps is None:
            assert name == "annealed-langevin"
            continue
        taken = [
            bench.measure(samplers["Cell"](name, "log-snr", n, "network"))["evaluations"] for n in (steps, steps + 1)
        ]
        assert taken[0] <= budget < taken[1]


def test_the_table_shows_network_and_exact_denoiser_side_by_side(samplers: dict[str, Any], run: Run) -> None:
    bench = samplers["Bench"](run.path, n=200, seed=0)
    rows = [bench.measure(samplers["Cell"]("euler", "log-snr", 5, which)) for which in ("network", "exact")]
    ((_, _, _, network, exact, *_),) = samplers["table"](rows, bench.floors()).rows
    values = [row["metrics"]["kl_real_generated"]["value"] for row in rows]
    assert [network.value, exact.value] == values
    assert values[1] < values[0]


def test_every_change_of_the_ablation_is_a_configuration_of_its_own() -> None:
    ablation = runpy.run_path(str(BENCHMARKS / "ablation.py"))
    changes = list(ablation["CHANGES"])
    experiments = ablation["experiments_of"](["dino"], changes, seeds=1, steps=None, runs=Path("runs"))
    configs = [experiment.config for experiment in experiments]
    assert all(a != b for i, a in enumerate(configs) for b in configs[:i])
