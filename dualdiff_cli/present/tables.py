"""A table of values, written as Markdown, CSV or LaTeX, or shown in a terminal.

A cell is a value, not a text: the column says how it is written, and CSV gets all its digits. A rule is drawn where the
first column changes.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from rich.markup import escape
from rich.table import Table as RichTable

__all__ = ["Column", "Estimate", "Interval", "Table", "Value"]


@dataclass(frozen=True)
class Estimate:
    """A mean and the standard deviation of what it is the mean of; None for a single value."""

    mean: float
    std: float | None


@dataclass(frozen=True)
class Interval:
    """Two ends."""

    low: float
    high: float


Value: TypeAlias = str | int | float | Estimate | Interval | None

MISSING = "–"
_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "±": r"$\pm$",
    "−": "$-$",
    "–": "--",
    "‖": r"$\|$",
    "×": r"$\times$",
    "✗": r"$\times$",
    "·": r"$\cdot$",
    "λ": r"$\lambda$",
    "α": r"$\alpha$",
    "ᾱ": r"$\bar\alpha$",
    "√": r"$\surd$",
    "…": r"\dots{}",
}


@dataclass(frozen=True)
class Column:
    """A column's head, and how its numbers are written: so many decimals, and with ``signed`` always their sign."""

    head: str
    digits: int = 3
    signed: bool = False

    def text(self, value: Value) -> str:
        """Write one value."""
        if value is None:
            return MISSING
        if isinstance(value, str):
            return value
        if isinstance(value, int):
            return f"{value:,}"
        if isinstance(value, Interval):
            return f"{self._number(value.low)} … {self._number(value.high)}"
        if isinstance(value, Estimate):
            spread = "" if value.std is None else f" ± {value.std:.{self.digits}f}"
            return self._number(value.mean) + spread
        return self._number(value)

    def _number(self, value: float) -> str:
        return f"{value:{'+' if self.signed else ''}.{self.digits}f}".replace("-", "−")


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        title: a line over it.
        columns: of every row.
        rows: a value a column.
        notes: sentences below it.

    """

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Value, ...], ...]
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if any(len(row) != len(self.columns) for row in self.rows):
            raise ValueError(f"every row of the table {self.title!r} needs {len(self.columns)} values")

    def beside(self, other: Table, *, shared: int) -> Table:
        """Join two tables of the same rows, whose first ``shared`` columns are the same."""
        rows = tuple((*left, *right[shared:]) for left, right in zip(self.rows, other.rows, strict=True))
        return Table(self.title, (*self.columns, *other.columns[shared:]), rows, self.notes + other.notes)

    def to_markdown(self) -> str:
        """Give a heading, a GitHub-flavoured table and the notes."""
        body = self._texts(_markdown)
        lines = [
            [_markdown(column.head) for column in self.columns],
            ["---", *["---:"] * (len(self.columns) - 1)],
            *body,
        ]
        if self._text_columns > 1:
            lines[1][: self._text_columns] = ["---"] * self._text_columns
        notes = [f"* {_markdown(note)}" for note in self.notes]
        return "\n".join(
            [f"## {_markdown(self.title)}", "", *(f"| {' | '.join(line)} |" for line in lines), "", *notes, ""]
        )

    def to_csv(self) -> str:
        """Give heads and values in full; an estimate takes two columns, an interval too."""
        kinds = [next((type(row[i]) for row in self.rows if row[i] is not None), str) for i in range(len(self.columns))]
        parts = {Estimate: ("", " std"), Interval: (" low", " high")}
        heads = [c.head + part for c, kind in zip(self.columns, kinds, strict=True) for part in parts.get(kind, ("",))]
        file = io.StringIO()
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(heads)
        for row in self.rows:
            cells: list[object] = []
            for value, kind in zip(row, kinds, strict=True):
                if isinstance(value, Estimate):
                    cells += [value.mean, value.std]
                elif isinstance(value, Interval):
                    cells += [value.low, value.high]
                else:
                    cells += [value, None] if kind in parts else [value]
            writer.writerow(["" if cell is None else cell for cell in cells])
        return file.getvalue()

    def to_latex(self) -> str:
        """Give a ``table`` with booktabs' rules; the notes stand below it in a smaller type."""
        rows = [" & ".join(row) + r" \\" for row in self._texts(_latex)]
        for place in reversed(self._breaks()):
            rows.insert(place, r"\midrule")
        alignment = "l" * self._text_columns + "r" * (len(self.columns) - self._text_columns)
        return "\n".join(
            [
                r"\begin{table}",
                r"\centering",
                rf"\caption{{{_latex(self.title)}}}",
                r"\resizebox{\linewidth}{!}{%",
                rf"\begin{{tabular}}{{{alignment}}}",
                r"\toprule",
                " & ".join(_latex(column.head) for column in self.columns) + r" \\",
                r"\midrule",
                *rows,
                r"\bottomrule",
                r"\end{tabular}}",
                *([r"\par\medskip\footnotesize", " ".join(map(_latex, self.notes))] if self.notes else []),
                r"\end{table}",
                "",
            ]
        )

    def to_rich(self) -> RichTable:
        """Give what a terminal shows."""
        table = RichTable(title=escape(self.title), title_justify="left", caption_justify="left")
        for i, column in enumerate(self.columns):
            words = i < self._text_columns
            table.add_column(escape(column.head), justify="left" if words else "right", no_wrap=words)
        breaks = set(self._breaks())
        for i, row in enumerate(self._texts(escape)):
            table.add_row(*row, end_section=i + 1 in breaks)
        table.caption = escape("\n".join(self.notes)) or None
        return table

    @property
    def _text_columns(self) -> int:
        """How many columns, from the left, hold words."""
        words = [all(isinstance(row[i], str) for row in self.rows) for i in range(len(self.columns))]
        return next((i for i, is_text in enumerate(words) if not is_text), len(words))

    def _texts(self, escaped: Callable[[str], str]) -> list[list[str]]:
        return [[escaped(c.text(value)) for c, value in zip(self.columns, row, strict=True)] for row in self.rows]

    def _breaks(self) -> Sequence[int]:
        """Rows before which the first column changes."""
        return [i for i in range(1, len(self.rows)) if self.rows[i][0] != self.rows[i - 1][0]]


def _markdown(text: str) -> str:
    for character in ("\\", "|", "*", "_", "<", "[", "`"):
        text = text.replace(character, f"\\{character}")
    return text.replace("\n", " ")


def _latex(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in text)
