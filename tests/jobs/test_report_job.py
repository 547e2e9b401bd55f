"""The report of a run and of a comparison: one HTML file that needs nothing else."""

from __future__ import annotations

import json
import re
from functools import partial
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from short_runs import copy_of

from dualdiff_cli.errors import InputError
from dualdiff_cli.jobs.compare import compare
from dualdiff_cli.jobs.evaluate import evaluate
from dualdiff_cli.jobs.report import report
from dualdiff_cli.metrics import overall_verdict

VOID = {"meta", "link", "br", "i/", "img", "input", "hr"}


class Reader(HTMLParser):
    """Checks that elements are closed in order, and keeps ids, text and headings."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.headings: list[str] = []
        self.text = ""
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.ids += [value for name, value in attrs if name == "id" and value]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.ids += [value for name, value in attrs if name == "id" and value]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += f"{data}\n"
        if self.open and self.open[-1] in ("h1", "h2", "h3"):
            self.headings.append(data)


def read(path: str | Path) -> Reader:
    page = Path(path).read_text(encoding="utf-8")
    assert not re.search(r'(?:src|href)="(?!#|data:)', page), "the page needs another file"
    assert not re.search(r"url\((?!#)", page)
    assert "@import" not in page
    return Reader(page)


@pytest.fixture
def _few_generated_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Score 300 generated rows in place of the 10,000 that a report takes by itself."""
    monkeypatch.setattr("dualdiff_cli.jobs.report.evaluate", partial(evaluate, n=300))


def test_the_report_of_a_run_scores_it_first_says_so_and_holds_every_part(
    trained: dict[str, Any], tmp_path: Path
) -> None:
    run = copy_of(trained, tmp_path / "run")
    record = report(run, seed=7, device="cpu")
    assert record["scored_now"]
    assert record["output"] == str(run.path / "report.html")
    assert record["bytes"] == Path(record["output"]).stat().st_size
    scores = json.loads((run.path / "evaluation.json").read_text(encoding="utf-8"))["metrics"]
    assert record["verdict"] == overall_verdict(scores).level
    page = read(record["output"])
    assert len(set(page.ids)) == len(page.ids)
    assert set(scores) <= set(page.text.split())
    assert record["sentence"] in page.text
    assert {"Scores", "Columns in numbers", "Training", "How this was made", "Machine"} <= set(page.headings)
    assert "scored for this report" in page.text
    assert f"dualdiff evaluate {run} --seed 7\ndualdiff report {run} --seed 7\n" in page.text


@pytest.mark.usefixtures("_few_generated_rows")
def test_scores_of_the_same_model_are_used_and_scores_of_another_model_are_not(
    trained: dict[str, Any], tmp_path: Path
) -> None:
    run = copy_of(trained, tmp_path / "run")
    report(run, device="cpu")
    again = report(str(run), output=tmp_path / "again.html", device="cpu")
    assert not again["scored_now"]
    page = read(again["output"])
    assert "scored for this report" not in page.text
    assert f"dualdiff evaluate {run} -n 300\n" in page.text
    scores = json.loads((run.path / "evaluation.json").read_text(encoding="utf-8"))
    run.save_evaluation({**scores, "model_sha256": "0" * 64})
    assert report(run, device="cpu")["scored_now"]


@pytest.mark.usefixtures("_few_generated_rows")
def test_a_file_with_whole_numbers_has_a_row_and_a_picture_for_each_column(
    of_people: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dualdiff_cli.present.report.run.MOST_CORRELATED", 1)
    run = copy_of(of_people, tmp_path / "run")
    page = read(report(run, device="cpu")["output"])
    assert {"age (years)", "income"} <= {line.strip() for line in page.text.splitlines()}
    assert "Which columns go together" in page.headings
    assert "The maps show the first 1 of 2 such columns." in page.text


@pytest.mark.usefixtures("_few_generated_rows")
def test_a_model_without_steps_has_a_report_without_a_training_section(simpler: dict[str, Any], tmp_path: Path) -> None:
    run = copy_of(simpler, tmp_path / "run")
    page = read(report(run, device="cpu")["output"])
    assert "Training" not in page.headings
    assert "Scores" in page.headings


@pytest.mark.usefixtures("_few_generated_rows")
def test_names_from_the_data_cannot_become_html(tmp_path: Path, of_people: dict[str, Any]) -> None:
    import polars as pl

    from dualdiff_cli.config.recipes import resolve
    from dualdiff_cli.jobs.train import train

    path = tmp_path / "odd.csv"
    rows = pl.DataFrame({"<script>x</script>": [0.1 * k for k in range(80)], "y": [float(k % 7) for k in range(80)]})
    rows.write_csv(path)
    train(resolve(dataset=str(path), model="kernel-density"), path=tmp_path / "run", device="cpu")
    page = Path(report(tmp_path / "run", device="cpu")["output"]).read_text(encoding="utf-8")
    assert "<script" not in page
    assert "&lt;script&gt;x" in page


def test_the_report_of_a_comparison_has_a_row_for_each_model(tmp_path: Path) -> None:
    record = compare(
        "moons",
        models=["mixture", "kernel-density", "forest"],
        n=200,
        device="cpu",
        settings=["data.points=300", "data.held_out_points=200", "model.components=3", "model.folds=2"],
    )
    path = tmp_path / "compare.json"
    path.write_text(json.dumps(record), encoding="utf-8")
    answer = report(path)
    assert (answer["run"], answer["comparison"]) == (None, str(path))
    assert answer["output"] == str(tmp_path / "compare.html")
    page = read(answer["output"])
    assert all(name in page.text for name in ("mixture", "kernel-density", "forest", "perfect samples"))
    assert answer["verdict"] == overall_verdict(record["models"][record["best"]]["metrics"]).level


def test_a_comparison_that_is_damaged_is_refused_and_scores_without_notes_are_shown(tmp_path: Path) -> None:
    score = {"value": None, "unit": "bits", "ci95": None, "floor": 0.1, "n_real": 9, "n_generated": 9}
    kept = {"metrics": {"copies": score}, "excess": None, "train_seconds": 1.0, "sample_seconds": 1.0}
    whole: dict[str, Any] = {
        "dataset": "moons",
        "rows": 9,
        "held_out": 9,
        "n_generated": 9,
        "models": {"mixture": kept, "arf": {"error": "It failed."}},
        "best": "mixture",
        "as_good": [],
        "best_by_metric": {},
        "simpler": None,
    }
    path = tmp_path / "compare.json"
    path.write_text(json.dumps(whole), encoding="utf-8")
    assert report(path, device="cpu")["verdict"] == "unknown"
    for damage in (
        {"best": "arf"},
        {"best": "nobody"},
        {"as_good": ["nobody"]},
        {"simpler": {}},
        {"models": {"mixture": kept, "arf": {"error": "It failed.", "metrics": 3}}},
    ):
        path.write_text(json.dumps(whole | damage), encoding="utf-8")
        with pytest.raises(InputError, match="not the record of a comparison"):
            report(path, device="cpu")


def test_what_is_neither_a_run_nor_a_comparison_is_refused(tmp_path: Path, trained: dict[str, Any]) -> None:
    other = tmp_path / "other.json"
    other.write_text('{"models": []}', encoding="utf-8")
    with pytest.raises(InputError, match=r"other\.json") as refusal:
        report(other)
    assert "compare --json" in refusal.value.remedy
    with pytest.raises(InputError, match=r"no-run"):
        report(tmp_path / "no-run")
    run = copy_of(trained, tmp_path / "run")
    (run.path / "model.safetensors").unlink()
    with pytest.raises(InputError, match="no trained model"):
        report(run, device="cpu")


def test_a_page_that_is_no_html_file_is_refused_before_anything_is_scored(
    tmp_path: Path, trained: dict[str, Any]
) -> None:
    run = copy_of(trained, tmp_path / "run")
    with pytest.raises(InputError, match=r"page\.txt") as refusal:
        report(run, output=tmp_path / "page.txt", device="cpu")
    assert ".html" in refusal.value.remedy
    assert run.load_evaluation() is None
