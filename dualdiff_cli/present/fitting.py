"""Fit a table into the width of a terminal: columns that do not fit beside the others stand in a block below them.

Every block begins with the columns that name the rows. A number is never cut or wrapped; words take several lines where
they have to.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.table import Table as RichTable
from rich.text import Text

from .tables import Table

__all__ = ["fitted"]

GAP = 2  # blanks between two columns
COMFORT = 16  # a column of words is not made narrower than this for the sake of a further column


@dataclass(frozen=True)
class _Strip:
    """One column as texts; ``least`` is the smallest width for it, and ``wraps`` says whether a text may be wrapped."""

    head: str
    texts: list[str]
    words: bool
    wraps: bool
    least: int
    colours: Mapping[str, str]


def fitted(table: Table, width: int) -> Iterator[RichTable | Text]:
    """Give the title, the blocks of columns and the notes of a table, from top to bottom, for a terminal's width."""
    if table.title:
        yield Text(table.title, style="bold")
    for number, block in enumerate(_blocks(_strips(table, width), table.lead(), width)):
        if number:
            yield Text()
        yield _drawn(block, table.groups())
    if table.notes:
        yield Text("\n" + "\n".join(table.notes))


def _strips(table: Table, width: int) -> list[_Strip]:
    heads, words, lead = [column.head for column in table.columns], table.words(), table.lead()
    rows = table.texts()
    texts = [[row[i] for row in rows] for i in range(len(heads))]
    whole = [max(_longest(head.split()), _longest(cells)) for head, cells in zip(heads, texts, strict=True)]
    least = [min(w, COMFORT) if is_words else w for w, is_words in zip(whole, words, strict=True)]
    # The names of rows are wrapped only if they leave no room for the widest of the other columns.
    room = width - max(least[lead:], default=width) - lead * GAP
    names_fit = sum(whole[:lead]) <= room
    for i in range(lead):
        least[i] = whole[i] if names_fit else min(least[i], max(room // lead, 1))
    wraps = [is_words and not (i < lead and names_fit) for i, is_words in enumerate(words)]
    colours = [column.colours for column in table.columns]
    return [_Strip(*parts) for parts in zip(heads, texts, words, wraps, least, colours, strict=True)]


def _blocks(strips: Sequence[_Strip], lead: int, width: int) -> Iterator[list[_Strip]]:
    names = list(strips[:lead])
    block = names
    for strip in strips[lead:]:
        if block != names and sum(other.least + GAP for other in block) + strip.least > width:
            yield block
            block = names
        block = [*block, strip]
    yield block


def _drawn(strips: Sequence[_Strip], groups: Sequence[int]) -> RichTable:
    """Draw columns side by side, with an empty line before each group of rows."""
    named = any(strip.head for strip in strips)
    table = RichTable(
        box=SIMPLE_HEAD if named else None,  # SIMPLE_HEAD puts one of the blanks of the gap between two columns
        padding=(0, GAP - named, 0, 0),
        show_header=named,
        show_edge=False,
        pad_edge=False,
    )
    for strip in strips:
        head = strip.head if strip.wraps else textwrap.fill(strip.head, strip.least, break_on_hyphens=False)
        table.add_column(
            Text(head),
            justify="left" if strip.words else "right",
            no_wrap=not strip.wraps,
            min_width=strip.least,
            overflow="fold",
        )
    for i, row in enumerate(zip(*(strip.texts for strip in strips), strict=True)):
        cells = [Text(text, strip.colours.get(text, "")) for strip, text in zip(strips, row, strict=True)]
        table.add_row(*cells, end_section=i + 1 in groups)
    return table


def _longest(texts: Sequence[str]) -> int:
    return max(map(cell_len, texts), default=0)
