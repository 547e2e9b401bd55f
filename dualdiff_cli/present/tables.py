"""One table of values, from which Markdown, CSV and LaTeX are made here, and the terminal's text in `terminal`.

A cell holds a value and not a text: the column says how its values are written, and CSV gets all their digits.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, field
from typing import Any, TypeAlias

from tabulate import LATEX_ESCAPE_RULES, SEPARATING_LINE, tabulate

__all__ = [
    "Bounded",
    "Column",
    "Estimate",
    "Range",
    "Table",
    "Value",
    "facts_table",
    "interval_of",
    "number",
    "with_interval",
]


@dataclass(frozen=True)
class Estimate:
    """A mean and the standard deviation of the values whose mean it is; None for the deviation of a single value."""

    mean: float
    std: float | None


@dataclass(frozen=True)
class Range:
    """The lower and the upper end of an interval."""

    low: float
    high: float


@dataclass(frozen=True)
class Bounded:
    """A value and the two ends of its interval."""

    value: float
    low: float
    high: float


Value: TypeAlias = str | int | float | Estimate | Range | Bounded | None

MISSING = "–"
LEAST_EXPONENT = 1e15
"""From here on a number is written with an exponent: nobody counts so many digits."""
# The heads of the CSV columns into which a value of several numbers is opened, after the head of its own column.
CSV_PARTS: dict[type, tuple[str, ...]] = {
    Estimate: ("", " std"),
    Range: (" low", " high"),
    Bounded: ("", " low", " high"),
}


@dataclass(frozen=True)
class Column:
    """A column's head and the format of its floating-point numbers.

    Attributes:
        head: the name over the column.
        spec: in Python's format language: ".3f" gives three decimals, "+.3f" the sign too, ".3g" three significant
            digits, which numbers below 10¹⁵ have without an exponent.
        colours: the colours of some texts on a terminal, in the words of rich.

    """

    head: str
    spec: str = ".3f"
    colours: Mapping[str, str] = field(default_factory=dict, hash=False)

    def text(self, value: Value) -> str:
        """Write one value."""
        match value:
            case None:
                return MISSING
            case str():
                return value
            case bool():
                return "yes" if value else "no"
            case int():
                return f"{value:,}"
            case Estimate(mean, std):
                spread = "" if std is None else f" ± {std:{self.spec.lstrip('+')}}"
                return self._number(mean) + spread
            case Range(low, high):
                return f"{self._number(low)} … {self._number(high)}"
            case Bounded(mean, low, high):
                return f"{self._number(mean)} ({self._number(low)} … {self._number(high)})"
            case _:
                return self._number(value)

    def _number(self, value: float) -> str:
        text = f"{value:{self.spec}}"
        if float(text.replace(",", "")) == 0:
            text = text.lstrip("+-")  # what is rounded to zero has no sign
        if "e+" in text and abs(value) < LEAST_EXPONENT:
            text = f"{float(text):,.0f}"
        return text.replace("-", "−")


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        title: the line over the table.
        columns: the head and the format of every column.
        rows: one value for each column.
        notes: sentences that stand below the table.

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
        """Give a heading, a GitHub-flavoured table and the notes as a list."""
        heads = [_markdown(column.head) for column in self.columns]
        body = [list(map(_markdown, texts)) for texts in self.texts()]
        table = tabulate(body, heads, tablefmt="pipe", disable_numparse=True, colalign=self._alignment())
        notes = [f"* {_markdown(note)}" for note in self.notes]
        return "\n".join([f"## {_markdown(self.title)}", "", table, "", *notes, ""])

    def to_csv(self) -> str:
        """Give heads and values in full; an estimate, a range and a bounded value take several columns."""
        parts = [
            next((CSV_PARTS[type(row[i])] for row in self.rows if type(row[i]) in CSV_PARTS), ("",))
            for i in range(len(self.columns))
        ]
        file = io.StringIO()
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(c.head + part for c, names in zip(self.columns, parts, strict=True) for part in names)
        for row in self.rows:
            cells: list[object] = []
            for value, names in zip(row, parts, strict=True):
                numbers = astuple(value) if isinstance(value, Estimate | Range | Bounded) else (value,)
                cells += [*numbers, *[None] * (len(names) - len(numbers))]
            writer.writerow(cells)
        return file.getvalue()

    def to_latex(self) -> str:
        """Give a ``table`` with the rules of the package booktabs; the notes stand below it in a smaller type.

        Signs such as λ and ± stay as they are, as LaTeX engines of today read Unicode.
        """
        body: list[list[str]] = self.texts()
        for place in reversed(self.groups()):
            body.insert(place, [SEPARATING_LINE])
        heads = [column.head for column in self.columns]
        table = tabulate(body, heads, tablefmt="latex_booktabs", disable_numparse=True, colalign=self._alignment())
        return "\n".join(
            [
                "% For LuaLaTeX or XeLaTeX, with a font that has the signs used here, such as DejaVu Serif.",
                r"\begin{table}",
                r"\centering",
                rf"\caption{{{_latex(self.title)}}}",
                r"\resizebox{\linewidth}{!}{%",
                table + "}",
                *([r"\par\medskip\footnotesize", " ".join(map(_latex, self.notes))] if self.notes else []),
                r"\end{table}",
                "",
            ]
        )

    def texts(self) -> list[list[str]]:
        """Write the values of every row."""
        return [[c.text(value) for c, value in zip(self.columns, row, strict=True)] for row in self.rows]

    def words(self) -> list[bool]:
        """Say of every column whether all its values are words."""
        return [all(isinstance(row[i], str) for row in self.rows) for i in range(len(self.columns))]

    def lead(self) -> int:
        """Count the columns of words at the left, which name the rows."""
        return (*self.words(), False).index(False)

    def groups(self) -> Sequence[int]:
        """Give the rows where the first column changes; none where the first column never repeats a value."""
        first = [row[0] for row in self.rows]
        changes = [i for i in range(1, len(first)) if first[i] != first[i - 1]]
        return changes if len(changes) < len(first) - 1 else []

    def _alignment(self) -> list[str]:
        return ["left" if words else "right" for words in self.words()]


def number(value: Value, digits: int = 3) -> str:
    """Write one value outside of a table, with so many significant digits."""
    return Column("", f".{digits}g").text(value)


def interval_of(score: Mapping[str, Any]) -> Range | None:
    """Give the 95 % interval of a score; None where the score has none, or where an end of it is not finite.

    Args:
        score: what `metrics.score.Score.to_dict` gives, or another record with a "value" and its "ci95".

    """
    ends = score["ci95"]
    return None if ends is None or None in ends else Range(*ends)


def with_interval(score: Mapping[str, Any] | None) -> Value:
    """Give the value of a score together with its 95 % interval, or alone where `interval_of` is None."""
    if score is None or score["value"] is None:
        return None
    value, interval = score["value"], interval_of(score)
    return value if interval is None else Bounded(value, interval.low, interval.high)


def facts_table(facts: Mapping[str, object], *, title: str = "") -> Table:
    """Lay out names and values in two columns without heads.

    A mapping within ``facts`` takes one row for each of its values, and a list takes one line. Floating-point numbers
    have four significant digits.
    """
    return Table(title, (Column(""), Column("")), tuple(_fact_rows(facts)))


def _fact_rows(facts: Mapping[str, object]) -> Iterable[tuple[str, str]]:
    for name, value in facts.items():
        if isinstance(value, Mapping):
            yield from _fact_rows({f"{name}, {part}": inner for part, inner in value.items()})
        else:
            yield name, _fact(value)


def _fact(value: object) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(_fact, value)) or "none"
    return number(value if isinstance(value, int | float | None) else str(value), 4)


def _markdown(text: str) -> str:
    # tabulate escapes for LaTeX and HTML, but leaves Markdown as it is.
    return re.sub(r"([\\|*_<\[`])", r"\\\1", text).replace("\n", " ")


def _latex(text: str) -> str:
    return text.translate(str.maketrans(LATEX_ESCAPE_RULES))
