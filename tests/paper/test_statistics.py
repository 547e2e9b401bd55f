"""Statistics over seeds, against SciPy and closed forms, and the tables that show them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from dualdiff_cli.paper.statistics import REPORTED, paired_difference, summarise
from dualdiff_cli.paper.tables import reproduction_tables
from dualdiff_cli.paper.values import PaperRow

ROOT = Path(__file__).parents[2]
BASELINE, DUAL = PaperRow("dino", "baseline"), PaperRow("dino", "dual-expert")
OURS = {0: 1.1, 1: 1.0, 2: 1.3}
THEIRS = {0: 0.8, 1: 0.9, 2: 0.85}


def result(kl: float, *, seconds: float = 2.0) -> dict[str, Any]:
    names = [name for name in REPORTED if not name.endswith("_seconds")]
    metrics = {name: {"value": kl if name.startswith("kl") else 0.5, "floor": -0.07} for name in names}
    metrics["held_out_loss"]["floor"] = None
    return {
        "train": {"parameters": 10, "train_seconds": seconds},
        "evaluations": [{"metrics": metrics, "sample_seconds": 0.25}],
    }


def summaries(recipe: str = "paper", settings: tuple[str, ...] = (), **changed: Any) -> list[dict[str, Any]]:
    results = {BASELINE: {s: result(kl) for s, kl in OURS.items()}, DUAL: {s: result(kl) for s, kl in THEIRS.items()}}
    results[DUAL] |= changed.get("dual", {})
    return summarise([BASELINE, DUAL], results, table="table2", recipe=recipe, settings=settings)


def test_seeds_are_put_together_as_scipy_does() -> None:
    kl = summaries()[0]["kl_published"]
    x = np.array(list(OURS.values()))
    assert kl["mean"] == pytest.approx(x.mean())
    assert kl["std"] == pytest.approx(x.std(ddof=1))
    assert kl["ci95"] == pytest.approx(stats.t.interval(0.95, 2, loc=x.mean(), scale=stats.sem(x)))
    scale = x.std(ddof=1) * math.sqrt(1 + 1 / 3)
    assert kl["prediction95"] == pytest.approx(stats.t.interval(0.95, 2, loc=x.mean(), scale=scale))
    assert (kl["n"], kl["paper"], kl["floor"]) == (3, 1.060, pytest.approx(-0.07))
    assert kl["difference"] == pytest.approx(x.mean() - 1.060)


def test_prediction_interval_holds_a_further_run_in_95_percent() -> None:
    runs = np.random.default_rng(0).normal(size=(2000, 4))
    rows = [PaperRow(f"data set {i}", "baseline") for i in range(len(runs))]
    results = {
        row: {s: result(float(kl)) for s, kl in enumerate(seeds)} for row, seeds in zip(rows, runs[:, :3], strict=True)
    }
    summarised = summarise(rows, results, table="table2", recipe="paper")
    low, high = np.array([row["kl_published"]["prediction95"] for row in summarised]).T
    assert np.mean((low < runs[:, 3]) & (runs[:, 3] < high)) == pytest.approx(0.95, abs=0.015)


def test_paired_test_is_the_one_sample_test_of_the_differences() -> None:
    found = paired_difference(THEIRS, OURS)
    assert found is not None
    differences = [THEIRS[s] - OURS[s] for s in OURS]
    t = np.mean(differences) / stats.sem(differences)
    assert found["mean"] == pytest.approx(np.mean(differences))
    assert found["p"] == pytest.approx(2 * stats.t.sf(abs(t), 2))
    assert found["ci95"] == pytest.approx(stats.t.interval(0.95, 2, np.mean(differences), stats.sem(differences)))
    assert summaries()[1]["kl_published"]["to_baseline"] == found


def test_only_seeds_that_both_have_are_compared() -> None:
    found = paired_difference({1: 2.0, 2: 3.0, 9: 50.0}, {0: -50.0, 1: 1.0, 2: 1.5})
    assert found is not None
    assert (found["mean"], found["n"]) == (1.25, 2)
    assert paired_difference({0: 1.0}, {1: 1.0}) is None
    assert paired_difference({0: 2.0}, {0: 1.0}) == {"mean": 1.0, "ci95": None, "p": None, "n": 1}


def test_differences_that_do_not_scatter_have_no_test() -> None:
    found = paired_difference({0: 2.0, 1: 3.0}, {0: 1.0, 1: 2.0})
    assert found == {"mean": 1.0, "ci95": None, "p": None, "n": 2}


def test_failed_seed_is_marked_and_left_out() -> None:
    summary = summaries(dual={1: {"error": "The loss is no longer a number.", "evaluations": []}})[1]
    assert summary["failed"] == [{"seed": 1, "reason": "The loss is no longer a number."}]
    assert summary["kl_published"]["values"] == {"0": 0.8, "2": 0.85}
    assert summary["kl_published"]["to_baseline"]["n"] == 2


def test_row_whose_runs_all_failed_has_no_figures() -> None:
    failed = {s: {"error": "why", "evaluations": []} for s in OURS}
    baseline, dual = summaries(dual=failed)
    assert dual["kl_published"]["mean"] is None
    assert dual["kl_published"]["to_baseline"] is None
    assert dual["parameters"] is None
    assert baseline["kl_published"]["n"] == 3


def test_papers_losses_stand_beside_its_own_recipe_in_its_own_unit_only() -> None:
    """Another recipe's loss is in another unit, and a setting may change the unit, too; a divergence is not."""
    fewer, changed = ("training.steps=9",), ("objective.prediction=velocity",)
    cases = (("paper", (), 0.658), ("paper", fewer, 0.658), ("paper", changed, None), ("precise", (), None))
    for recipe, settings, loss in cases:
        dual = summaries(recipe, settings)[1]
        assert dual["training_loss_published"]["paper"] == loss
        assert dual["kl_published"]["paper"] == 0.873


def test_models_of_a_file_are_compared_by_a_divergence_that_a_file_has() -> None:
    rows = [PaperRow("people.csv", model) for model in ("baseline", "dual-expert")]
    results = {row: {s: result(kl) for s, kl in OURS.items()} for row in rows}
    for seeds in results.values():
        for one in seeds.values():
            del one["evaluations"][0]["metrics"]["kl_published"]
    summarised = summarise(rows, results, table="table1", recipe="paper")
    record = {"table": "table1", "recipe": "paper", "seeds": 3, "steps": None, "settings": []}
    quality, _ = reproduction_tables({**record, "rows": summarised})
    assert [column.head for column in quality.columns].count("KL real‖generated") == 1
    baseline, dual = (dict(zip([c.head for c in quality.columns], texts, strict=True)) for texts in quality.texts())
    assert (baseline["seeds"], baseline["KL real‖generated"]) == ("3", "1.133 ± 0.153")
    assert dual["ours − baseline"] == "0.000"
    assert "compared by KL real‖generated" in quality.to_markdown()
    mixed, _ = reproduction_tables({**record, "rows": [*summaries(), *summarised]})
    assert mixed.columns[3].head == "KL as published or KL real‖generated"
    assert [texts[3] for texts in mixed.texts()] == ["1.133 ± 0.153", "0.850 ± 0.050", *["1.133 ± 0.153"] * 2]


def test_tables_show_figures_marks_and_how_far_to_trust_them() -> None:
    rows = summaries(dual={1: {"error": "no number", "evaluations": []}})
    record = {"table": "table2", "recipe": "paper", "seeds": 3, "steps": 50, "settings": ["a.b=2"]}
    record |= {"generated": 300, "rows": rows}
    quality, cost = reproduction_tables(record)
    text = quality.to_markdown()
    assert quality.title.startswith("Table 2 · recipe paper · only 50 training steps · a.b=2 · 3 seeds: ")
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]
    assert ["dino", "baseline", "3", "1.133 ± 0.153", "−0.070", "1.060", "+0.073"] in [row[:7] for row in cells]
    assert "dual-expert ✗" in text
    assert "seed 1 failed: no number" in text
    assert "With 3 seeds" in text
    assert "beyond 2.5 of their standard deviations" in text
    heads = [column.head for column in cost.columns if "samples" in column.head]
    assert heads == ["300 samples, s", "paper's 10,000 samples (V100), s"]
    assert len(quality.beside(cost, shared=2).to_csv().splitlines()) == 1 + len(rows)


@pytest.mark.parametrize("name", ["table1", "table2"])
def test_kept_tables_and_their_page_are_what_the_command_writes(name: str) -> None:
    kept = ROOT / "benchmarks" / "results" / "reproduction" / name
    quality, cost = reproduction_tables(json.loads(kept.with_suffix(".json").read_text(encoding="utf-8")))
    assert kept.with_suffix(".md").read_text(encoding="utf-8") == f"{quality.to_markdown()}\n{cost.to_markdown()}"
    page = (ROOT / "docs" / "reproduction.md").read_text(encoding="utf-8").splitlines()
    for table in (quality, cost):
        lines = [[column.head for column in table.columns], *table.texts()]
        assert {f"### {table.title}", *(f"| {' | '.join(line)} |" for line in lines)} <= set(page)
        assert {f"* {note}" for note in table.notes} <= set(page)
