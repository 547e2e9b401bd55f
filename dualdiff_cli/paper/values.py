"""The rows of the paper's two result tables, and the values that the paper published for these rows.

``table1.csv`` and ``table2.csv`` hold the published tables. ``logs.csv`` holds values that stand in the paper's logs
only. The settings of a row follow the model's name after a space.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files

import polars as pl

from ..errors import unknown_name

__all__ = ["BASELINE", "PAPER_TABLES", "PaperRow", "published", "rows_of"]

BASELINE = "baseline"

_HALF_DIVERSITY = ("objective.diversity=0.05",)
_LABELS = {
    ("diversity-loss", ()): "diversity-loss, λ = 0.1",
    ("diversity-loss", _HALF_DIVERSITY): "diversity-loss, λ = 0.05",
}


@dataclass(frozen=True)
class PaperRow:
    """One row of a table.

    Attributes:
        dataset: the density's name, or a file.
        model: the model's name.
        settings: ``key=value``, as ``train --set`` takes them, where the row changes the named model.

    """

    dataset: str
    model: str
    settings: tuple[str, ...] = ()

    @property
    def key(self) -> tuple[str, str]:
        """The data set, and the model with its settings, as the CSV files name them."""
        return self.dataset, " ".join([self.model, *self.settings])

    @property
    def label(self) -> str:
        """The model's name as tables and figures show it."""
        return _LABELS.get((self.model, self.settings), self.key[1])


Variant = tuple[str, tuple[str, ...]]
"""A model's name and its settings."""

PAPER_TABLES: dict[str, tuple[tuple[str, ...], tuple[Variant, ...]]] = {
    "table1": (
        ("circle", "dino", "line", "moons"),
        ((BASELINE, ()), ("dual-expert", ()), ("baseline-matched", ())),
    ),
    "table2": (
        ("dino",),
        (
            (BASELINE, ()),
            ("dual-expert", ()),
            ("enhanced-gating", ()),
            ("increased-capacity", ()),
            ("diversity-loss", ()),
            ("diversity-loss", _HALF_DIVERSITY),
            ("baseline-matched", ()),
        ),
    ),
}
"""The data sets of each table, and its models.

Two rows are not in the paper's tables: diversity-loss with λ = 0.05, the value that the paper's text claims (the
published run used 0.1), and baseline-matched, a single network with as many parameters as dual-expert.
"""


def rows_of(table: str, datasets: Sequence[str] = ()) -> tuple[PaperRow, ...]:
    """List the rows of a table.

    Args:
        table: ``table1`` or ``table2``.
        datasets: data sets that replace the table's own; none keeps the table's own.

    Raises:
        InputError: there is no such table.

    """
    if table not in PAPER_TABLES:
        raise unknown_name("table", table, PAPER_TABLES)
    own_datasets, variants = PAPER_TABLES[table]
    return tuple(PaperRow(dataset, *variant) for dataset in datasets or own_datasets for variant in variants)


def published(table: str) -> dict[tuple[str, str], dict[str, float]]:
    """Read the values that the paper published in a table, and those of the paper's logs.

    Returns:
        For each `PaperRow.key` the values by the CSV file's column; a value that the paper does not state is left out.

    """
    values: dict[tuple[str, str], dict[str, float]] = {}
    for name in ("logs", table):
        rows = pl.read_csv((files(__package__) / f"{name}.csv").read_bytes())
        for dataset, model, *numbers in rows.iter_rows():
            named = zip(rows.columns[2:], numbers, strict=True)
            values[dataset, model] = {column: float(number) for column, number in named if number is not None}
    return values
