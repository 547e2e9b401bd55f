"""Rows that meet a condition: drawn, tested, and kept if they pass."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import polars as pl

from ..errors import InputError

__all__ = ["Selection", "equalities", "most_candidates"]

MOST_CANDIDATES = 200
"""The number of rows that are drawn at most for each row that is wanted."""
LEAST_CANDIDATES = 100_000
"""The number of rows that are drawn, however few are wanted, before the condition is given up."""

_EQUALITY = re.compile(
    r"""\s*(?:"(?P<quoted>[^"]+)"|(?P<plain>[^\W\d]\w*))\s*=\s*(?:'(?P<text>(?:[^']|'')*)'|(?P<number>-?\d+(\.\d+)?))\s*"""
)

_TOKEN = re.compile(r"""'(?:[^']|'')*'|"[^"]*"|\w+|.""", re.DOTALL)
"""A text, a name in quotes, a word, or any other character."""


class Selection:
    """The rows of a model that a predicate of SQL accepts.

    Args:
        predicate: what polars' SQL takes after WHERE.

    Attributes:
        candidates: how many rows have been drawn.
        accepted: how many of them met the predicate.

    Raises:
        InputError: the predicate cannot be parsed.

    """

    def __init__(self, predicate: str) -> None:
        self.predicate, self.candidates, self.accepted = predicate, 0, 0
        try:
            self._meets = pl.sql_expr(predicate)
        except pl.exceptions.PolarsError as error:
            raise self._refused(error) from error

    def rows(self, chunks: Iterator[pl.DataFrame], n: int) -> Iterator[pl.DataFrame]:
        """Take rows until n of them have been accepted.

        Args:
            chunks: `most_candidates` drawn rows, which are taken as far as they are needed.
            n: the number of rows that are wanted.

        Raises:
            InputError: the predicate names something that is no column, or the rows came to an end.

        """
        wanted = n
        for frame in chunks:
            try:
                kept = frame.filter(self._meets)
            except pl.exceptions.PolarsError as error:
                raise self._refused(error) from error
            self.candidates += frame.height
            self.accepted += kept.height
            if kept.height:
                yield kept.head(wanted)
            wanted -= kept.height
            if wanted <= 0:
                return
        raise InputError(
            f"Of {self.candidates:,} drawn rows {self.accepted:,} meet the condition {self.predicate}, and {n:,} are "
            "wanted.",
            "Ask for a condition that is met more often, for fewer rows, or for exact values with --given.",
        )

    def _refused(self, error: BaseException) -> InputError:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        return InputError(
            f"The condition {self.predicate} cannot be used: {reason}.",
            "Write what SQL takes after WHERE, such as \"energy > 5 AND detector IN ('A', 'B')\".",
        )


def most_candidates(n: int) -> int:
    """Give the number of rows that are drawn at most where n accepted ones are wanted."""
    return max(LEAST_CANDIDATES, MOST_CANDIDATES * n)


def equalities(predicate: str) -> dict[str, Any]:
    """Find the columns that a predicate sets equal to a value, which can be given instead of selected.

    Only a predicate whose parts are joined by AND is taken apart; OR, NOT, BETWEEN, CASE and parentheses leave it
    whole.
    """
    outside_of_text = re.sub(r"'(?:[^']|'')*'|\"[^\"]*\"", "", predicate)
    if re.search(r"\b(or|not|between|case)\b|[()]", outside_of_text, re.IGNORECASE):
        return {}
    found: dict[str, Any] = {}
    parts = [""]
    for token in _TOKEN.findall(predicate):
        if token.lower() == "and":
            parts.append("")
        else:
            parts[-1] += token
    for part in parts:
        match = _EQUALITY.fullmatch(part)
        if match:
            text = match["text"]
            value = match["number"] if text is None else text.replace("''", "'")
            found[match["quoted"] or match["plain"]] = value
    return found
