"""Rows that meet a condition: drawn, tested, and kept if they pass.

Where a condition is so rare that this would take too long, the rows that were kept are moved on; see `moving`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from ..errors import InputError
from ..models import FromNoise
from .moving import MOST_CHAINS, Chains
from .quoted_dates import SQL_TOKEN, with_typed_dates

__all__ = ["Selection", "equalities", "most_candidates"]

MOST_CANDIDATES = 200
"""The number of rows that are drawn at most for each row that is wanted."""
LEAST_CANDIDATES = 100_000
"""The number of rows that are drawn, however few are wanted, before the condition is given up."""

ENOUGH_STARTS = 100
"""With so many accepted rows, no more rows are drawn where that will not suffice anyway: they are moved on."""
SOME_STARTS = 20
"""So many accepted rows are enough where they have taken long to find."""
LONG = 20_000
"""It has taken long once so many rows have been drawn."""
LEAST_STARTS = 10
"""With fewer accepted rows among all drawn ones, the condition is given up."""

TESTED_ALONE = 32
"""So many accepted and so many refused rows are tested once more, each by itself."""

_EQUALITY = re.compile(
    r"""\s*(?:"(?P<quoted>[^"]+)"|(?P<plain>[^\W\d]\w*))\s*=\s*"""
    r"""(?:(?:date\s*)?'(?P<text>(?:[^']|'')*)'|(?P<truth>true|false)|"""
    r"""(?P<number>[+-]?(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?))\s*""",
    re.IGNORECASE,
)


class Selection:
    """The rows of a model that a predicate of SQL accepts.

    Args:
        predicate: what polars' SQL takes after WHERE.

    Attributes:
        candidates: how many rows have been drawn.
        accepted: how many of them met the predicate.
        chains: moved the accepted rows on, where these were too few; else None.

    Raises:
        InputError: the predicate cannot be parsed.

    """

    def __init__(self, predicate: str) -> None:
        self.predicate, self.candidates, self.accepted = predicate, 0, 0
        self.chains: Chains | None = None
        self._untested = {True: TESTED_ALONE, False: TESTED_ALONE}
        self._meets = self._parsed(predicate)

    def _parsed(self, predicate: str) -> pl.Expr:
        try:
            return pl.sql_expr(predicate)
        except pl.exceptions.PolarsError as error:
            raise self._refused(error) from error

    def rows(
        self, chunks: Iterator[pl.DataFrame], n: int, *, from_noise: FromNoise | None = None, seed: int = 0
    ) -> Iterator[pl.DataFrame]:
        """Take rows until n of them have been accepted; move the accepted rows on where these will be too few.

        Args:
            chunks: `most_candidates` drawn rows, which are taken as far as they are needed.
            n: the number of rows that are wanted.
            from_noise: how the model makes rows of noise; None if it does not, and no row can be moved.
            seed: of the rows.

        Raises:
            InputError: the predicate names something that is no column, or too few of all rows were accepted.

        """
        numbers: list[npt.NDArray[np.int64]] = []
        wanted = n
        for frame in chunks:
            if not self.candidates:
                moments = [name for name, dtype in frame.schema.items() if dtype.is_temporal()]
                self._meets = self._parsed(with_typed_dates(self.predicate, moments))
            meets = self._accepts(frame)
            self._check_each_alone(frame, meets)
            if self.accepted < MOST_CHAINS:
                numbers.append(self.candidates + np.flatnonzero(meets))
            kept = frame.filter(meets)
            self.candidates += frame.height
            self.accepted += kept.height
            if kept.height:
                yield kept.head(wanted)
            wanted -= kept.height
            if wanted <= 0:
                return
            enough = SOME_STARTS if self.candidates >= LONG else ENOUGH_STARTS
            if from_noise and self.accepted >= enough and self._falls_short(n):
                break
        if from_noise is not None and self.accepted >= LEAST_STARTS:
            starts = from_noise.of_rows(np.concatenate(numbers)[:MOST_CHAINS], seed=seed)
            self.chains = Chains(from_noise, self._accepts, starts, seed=seed)
        if self.chains is None or self.chains.independent < LEAST_STARTS:
            raise InputError(
                f"Of {self.candidates:,} drawn rows {self.accepted:,} meet the condition {self.predicate}, {n:,} are "
                f"wanted, and at least {LEAST_STARTS} are needed to make more of them.",
                "Ask for a condition that is met more often, for fewer rows, or for exact values with --given.",
            )
        yield from self.chains.rows(wanted)

    def _falls_short(self, n: int) -> bool:
        """Say whether fewer than n of all candidates will be accepted, if things go on like this."""
        return self.accepted / self.candidates * most_candidates(n) < n

    def _check_each_alone(self, rows: pl.DataFrame, meets: npt.NDArray[np.bool_]) -> None:
        """Refuse a predicate that looks at other rows too: rows are drawn in blocks, on which its answer would depend.

        Whatever a predicate is made of, it looks at one row only if its answer stays the same when a row is alone.

        Raises:
            InputError: an accepted row is refused alone, or the other way round.

        """
        for answer, untested in self._untested.items():
            numbers = np.flatnonzero(meets == answer)[:untested].tolist()
            self._untested[answer] -= len(numbers)
            if any(self._accepts(rows[k : k + 1])[0] != answer for k in numbers):
                raise InputError(
                    f"The condition {self.predicate} compares a row with other rows, and has to be about one row.",
                    "Leave aggregates such as AVG and window functions with OVER out, and write numbers instead, "
                    'as in "energy > 5".',
                )

    def _accepts(self, rows: pl.DataFrame) -> npt.NDArray[np.bool_]:
        """Say which rows meet the predicate, (n,); a row for which it is unknown does not."""
        try:
            found = rows.select(self._meets.fill_null(value=False).alias("meets"))["meets"]
        except pl.exceptions.PolarsError as error:
            raise self._refused(error) from error
        if found.dtype != pl.Boolean:
            raise self._refused(TypeError("it is neither true nor false"))
        if len(found) != rows.height:
            found = pl.Series("meets", found.to_list() * rows.height)
        meets: npt.NDArray[np.bool_] = found.to_numpy()
        return meets

    def _refused(self, error: BaseException) -> InputError:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        if isinstance(error, pl.exceptions.InvalidOperationError) and "date" in reason.lower():
            return InputError(
                f"The condition {self.predicate} cannot be used: {reason.partition(' (create')[0]}.",
                "Write a date as DATE '2021-04-01' and a moment as TIMESTAMP '2021-04-01 12:00:00'.",
            )
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
    for token in SQL_TOKEN.findall(predicate):
        if token.lower() == "and":
            parts.append("")
        else:
            parts[-1] += token
    for part in parts:
        match = _EQUALITY.fullmatch(part)
        if match:
            number, text = match["number"], match["text"]
            value = _plain(number) if number else match["truth"] or text.replace("''", "'")
            found[match["quoted"] or match["plain"]] = value
    return found


def _plain(number: str) -> str:
    """Write a number as its digits with a point, so that 1e3 is a whole number, too."""
    number = number.removeprefix("+")
    is_plain = re.fullmatch(r"-?\d+(\.\d+)?", number)
    return number if is_plain else np.format_float_positional(float(number), trim="-")
