"""The exact likelihood, and the split of the divergences by their causes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from short_runs import copy_of

from dualdiff_cli.data import get_density
from dualdiff_cli.errors import InputError
from dualdiff_cli.jobs.diagnose import _split as split
from dualdiff_cli.jobs.evaluate import evaluate
from dualdiff_cli.jobs.inputs import load_run_data
from dualdiff_cli.metrics import Score
from dualdiff_cli.models import DrawingOptions
from dualdiff_cli.present.evaluation import evaluation_tables


def test_the_exact_likelihood_is_scored_against_the_true_entropy(trained: dict[str, Any], tmp_path: Path) -> None:
    run, density = copy_of(trained, tmp_path / "run"), get_density("eight-gaussians")
    metrics = evaluate(run, n=100, exact=True, device="cpu")["metrics"]
    nll, excess, kl = (metrics[name] for name in ("nll_held_out", "nll_excess", "kl_real_model"))
    assert {score["unit"] for score in (nll, excess, kl)} == {"bits"}
    assert {score["n_real"] for score in (nll, excess, kl)} == {200}
    assert nll["floor"] == pytest.approx(density.entropy() / np.log(2))
    assert (excess["floor"], kl["floor"]) == (0.0, 0.0)
    assert excess["value"] == pytest.approx(nll["value"] - nll["floor"])
    assert kl["ci95"][0] > 0, "a few steps of a tiny network are not perfect"
    truth = density.log_prob(load_run_data(run.config).held_out.to_numpy()) / np.log(2)
    assert excess["value"] - kl["value"] == pytest.approx(-truth.mean() - nll["floor"])
    assert "integrator" in nll["notes"][0]


def test_the_likelihood_of_a_file_has_no_true_entropy_beside_it(of_people: dict[str, Any], tmp_path: Path) -> None:
    metrics = evaluate(copy_of(of_people, tmp_path / "run"), n=100, exact=True, device="cpu")["metrics"]
    assert {"nll_excess", "kl_real_model"}.isdisjoint(metrics)
    nll = metrics["nll_held_out"]
    assert (nll["floor"], nll["n_real"]) == (None, 30)
    # Whole years from 18 to 69 and a normal about a line of them: log2 52 + 2.05 bits, plus what a few steps leave.
    assert 7.7 < nll["value"] < 20


def test_a_diagnosis_splits_the_divergences_into_parts_that_add_up(trained: dict[str, Any], tmp_path: Path) -> None:
    run = copy_of(trained, tmp_path / "run")
    record = evaluate(run, n=300, diagnosis=True, device="cpu")
    assert json.loads((run.path / "evaluation.json").read_text(encoding="utf-8")) == record
    assert set(record["diagnosis"]) == {"kl_real_generated", "kl_generated_real"}
    for name, parts in record["diagnosis"].items():
        metric = record["metrics"][name]
        assert list(parts) == ["floor", "schedule_and_sampler", "network", "total"]
        assert (parts["floor"]["value"], parts["total"]["value"]) == (metric["floor"], metric["value"])
        values = [part["value"] for part in parts.values()]
        assert sum(values[:3]) == pytest.approx(values[3])
        assert all(part["ci95"][0] <= part["value"] <= part["ci95"][1] for part in parts.values())
    assert record["diagnosis"]["kl_generated_real"]["network"]["ci95"][0] > 0
    path = record["metrics"]["kl_path"]
    assert (path["unit"], path["floor"]) == ("bits", 0.0)
    assert 0 < path["ci95"][0] < path["value"] < path["ci95"][1]


def test_a_diagnosis_of_too_few_rows_knows_none_of_its_parts(trained: dict[str, Any], tmp_path: Path) -> None:
    record = evaluate(copy_of(trained, tmp_path / "run"), n=6, diagnosis=True, device="cpu")
    unknown = {"value": None, "unit": "bits", "ci95": None}
    assert list(record["diagnosis"]["kl_real_generated"].values()) == [unknown] * 4
    assert evaluation_tables(record, title="")[1].texts()[0][1:] == ["–"] * 4


def test_parts_of_a_divergence_without_a_floor_are_unknown_and_so_are_their_intervals() -> None:
    exact = Score(value=0.2, unit="bits", ci95=(0.1, 0.3), floor=None, n_real=20, n_generated=20)
    parts = split(replace(exact, value=0.5, ci95=(0.4, 0.6)), exact)
    assert [parts[name]["value"] for name in ("floor", "schedule_and_sampler")] == [None, None]
    assert [parts[name]["ci95"] for name in ("floor", "schedule_and_sampler")] == [None, None]
    assert parts["network"]["value"] == pytest.approx(0.3)
    assert parts["network"]["ci95"] is not None


def test_a_diagnosis_sees_a_sampler_that_is_too_coarse(trained: dict[str, Any], tmp_path: Path) -> None:
    run = copy_of(trained, tmp_path / "run")
    coarse, fine = (
        evaluate(run, n=300, options=DrawingOptions("ddim", steps), diagnosis=True, device="cpu")["diagnosis"]
        for steps in (2, 8)
    )
    cost = [found["kl_real_generated"]["schedule_and_sampler"] for found in (coarse, fine)]
    assert cost[0]["ci95"][0] > max(0.3, cost[1]["ci95"][1])


def test_data_of_a_file_have_no_exact_denoiser(of_people: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"people.csv does not have.*--diagnose"):
        evaluate(of_people["run"], diagnosis=True, device="cpu")


def test_a_model_without_a_denoiser_is_not_diagnosed(simpler: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=rf"{simpler['model']} does not have.*--diagnose"):
        evaluate(simpler["run"], diagnosis=True)


@pytest.mark.parametrize("asked", ["exact", "diagnosis"])
@pytest.mark.parametrize("file", ["samples", "against"])
def test_rows_of_a_file_have_no_likelihood_and_no_denoiser(file: str, asked: str, trained: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"not about rows in a file.*--samples and --against"):
        evaluate(trained["run"], **{file: Path("a.csv"), asked: True}, device="cpu")  # type: ignore[arg-type]
