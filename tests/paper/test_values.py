"""The paper's rows and the values that it published for them."""

from __future__ import annotations

import pytest

from dualdiff_cli.config.recipes import resolve
from dualdiff_cli.errors import InputError
from dualdiff_cli.paper.values import PAPER_TABLES, published, rows_of


def test_tables_have_the_papers_rows_and_the_control_beside_them() -> None:
    for table in PAPER_TABLES:
        figures = published(table)
        known = {key for key in figures if not key[1].startswith("diversity-loss objective")}
        rows = rows_of(table)
        assert known <= {(row.dataset, row.model) for row in rows}
        assert {row.model for row in rows} - {model for _, model in known} == {"baseline-matched"}
    assert len(rows_of("table1")) == 12
    assert [row.label for row in rows_of("table2")][4:6] == ["diversity-loss, λ = 0.1", "diversity-loss, λ = 0.05"]


def test_every_row_is_a_run_that_can_be_asked_for() -> None:
    for table in PAPER_TABLES:
        for row in rows_of(table):
            config = resolve(dataset=row.dataset, recipe="paper", model=row.model, settings=row.settings)
            wanted = {"diversity-loss, λ = 0.1": 0.1, "diversity-loss, λ = 0.05": 0.05}.get(row.label, 0.0)
            assert config.objective.diversity == wanted


def test_other_data_sets_take_a_tables_models() -> None:
    assert {row.dataset for row in rows_of("table2", ["moons", "own.csv"])} == {"moons", "own.csv"}
    assert len(rows_of("table2", ["moons"])) == len(rows_of("table2"))


def test_unknown_table_is_named() -> None:
    with pytest.raises(InputError, match="table3"):
        rows_of("table3")


def test_published_figures_are_the_papers() -> None:
    assert published("table1")["circle", "dual-expert"]["kl_bits"] == 0.355
    assert published("table2")["dino", "diversity-loss"] == {
        "eval_loss": 0.667,
        "kl_bits": 0.650,
        "train_time_s": 75.91,
        "inference_time_s": 0.295,
    }
    assert published("table2")["dino", "diversity-loss objective.diversity=0.05"] == {"kl_bits": 0.584}
