"""Dates in a condition that are written as plain texts: ``day > '2021-04-01'`` means ``day > DATE '2021-04-01'``."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from datetime import UTC, datetime

__all__ = ["SQL_TOKEN", "with_typed_dates"]

SQL_TOKEN = re.compile(r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|\w+|.""", re.DOTALL)
"""A text, a name in quotes, a word, or any other character."""
COMPARISONS = ("<", ">", "=", "!")
TYPES = ("DATE", "DATETIME", "INTERVAL", "TIME", "TIMESTAMP")
"""The words that give the text behind them a type."""


def with_typed_dates(predicate: str, moments: Collection[str]) -> str:
    """Give the texts a type that are compared with a column of dates, which polars compares with no text.

    Args:
        predicate: what SQL takes after WHERE.
        moments: the names of the columns that hold dates, or dates with a time.

    Returns:
        The predicate, in which only texts that are dates and stand directly beside a comparison with such a column,
        after BETWEEN or in the brackets of IN have changed.

    """
    tokens = SQL_TOKEN.findall(predicate)
    places = [k for k, token in enumerate(tokens) if not token.isspace()]
    words = [tokens[k].upper() if tokens[k][0] not in "'\"" else tokens[k] for k in places]
    for i, place in enumerate(places):
        if _unquoted(tokens[place]) in moments:
            for k in _compared_with(words, i):
                if k < len(words) and words[k].startswith("'") and (k == 0 or words[k - 1] not in TYPES):
                    tokens[places[k]] = _typed_literal(words[k])
    return "".join(tokens)


def _unquoted(token: str) -> str:
    """Give the name that a token stands for; no name for a text."""
    return token[1:-1].replace('""', '"') if token.startswith('"') else token


def _compared_with(words: Sequence[str], column: int) -> Iterator[int]:
    """Give the places of the words, such as texts, that the column in a place is compared with."""
    before = column - 1
    while before > 0 and words[before] in COMPARISONS:
        before -= 1
    after = column + 1
    if 0 <= before < column - 1 and words[after : after + 1] != [":"]:  # day::text is a text
        yield before
    if words[after : after + 1] == ["NOT"]:
        after += 1
    if words[after : after + 1] == ["BETWEEN"]:
        yield after + 1
        if "AND" in words[after:]:
            yield words.index("AND", after) + 1
    elif words[after : after + 2] == ["IN", "("]:
        yield from range(after + 2, words.index(")", after) if ")" in words[after:] else len(words))
    elif words[after : after + 1] and words[after] in COMPARISONS:
        while after < len(words) and words[after] in COMPARISONS:
            after += 1
        yield after


def _typed_literal(text: str) -> str:
    """Write a text in quotes as a date, or as a moment if it has a time; a text that is neither stays as it is."""
    try:
        moment = datetime.fromisoformat(text[1:-1].strip())
    except ValueError:
        return text
    if moment.tzinfo is not None:  # tables hold moments in UTC
        moment = moment.astimezone(UTC).replace(tzinfo=None)
    if moment.time() == datetime.min.time():
        return f"DATE '{moment.date().isoformat()}'"
    return f"TIMESTAMP '{moment.isoformat(sep=' ')}'"
