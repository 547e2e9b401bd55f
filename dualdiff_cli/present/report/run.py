"""The page of a run, from plain values, rows and figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl
from markupsafe import Markup
from matplotlib.figure import Figure

from ...metrics import Verdict, overall_verdict
from ..figures.correlations import correlation_map, rank_correlations
from ..figures.marginals import marginal
from ..figures.points import rows_beside_samples
from ..figures.scales import ColumnScale, scale_of
from ..verdicts import IN_PLAIN_WORDS, MARKS
from .columns import STATISTICS, summarise_columns
from .inline import inline_svg
from .page import fill_page
from .scores import score_cards

__all__ = ["RunContents", "run_page"]

MOST_MARGINALS = 48
"""The largest number of columns that have a picture each."""
MOST_CORRELATED = 40
"""The largest number of columns in a map of correlations."""
CLOSENESS = ("memorisation", "copies")


@dataclass(frozen=True)
class RunContents:
    """All that the page of a run is made of.

    Attributes:
        title: the data set and the model.
        facts: groups of names and values: what was learnt, how, and on what.
        scores: the "metrics" of the evaluation's record.
        n_real, n_generated: the numbers of rows that were scored.
        scored_now: whether the scores were computed for this report.
        real, generated: rows with the same columns.
        losses, experts: figures; None where the model has none.
        kinds: for each column the kind of its encoding.
        commands: the command lines that made the run, its scores and this page.
        config: the text of the configuration.

    """

    title: str
    facts: Mapping[str, Sequence[tuple[str, str]]]
    scores: Mapping[str, Mapping[str, Any]]
    n_real: int
    n_generated: int
    scored_now: bool
    real: pl.DataFrame
    generated: pl.DataFrame
    losses: Figure | None
    experts: Figure | None
    kinds: Mapping[str, str]
    commands: Sequence[str]
    config: str


def run_page(contents: RunContents) -> tuple[str, Verdict]:
    """Make the page; also give its verdict."""
    judged = overall_verdict(contents.scores)
    drawable = [scale for name in contents.real.columns if (scale := scale_of(contents.real[name])) is not None]
    # The places of the words of a column have no order, except for the two truth values.
    ordered = [scale for scale in drawable if scale.kind != "category" or scale.labels == ("false", "true")]
    cards = score_cards(contents.scores)
    page = fill_page(
        "run.html",
        contents=contents,
        verdict=judged,
        marks=MARKS,
        plain=IN_PLAIN_WORDS,
        cards=[card for card in cards if card.name not in CLOSENESS],
        closeness=[card for card in cards if card.name in CLOSENESS],
        statistics=STATISTICS,
        columns=summarise_columns(contents.real, contents.generated),
        marginals=[
            _svg(marginal(contents.real[scale.name], contents.generated[scale.name], scale), f"m{k}", scale.name)
            for k, scale in enumerate(drawable[:MOST_MARGINALS])
        ],
        without_marginal=len(contents.real.columns) - len(drawable[:MOST_MARGINALS]),
        points=_optional(rows_beside_samples(contents.real, contents.generated, title=""), "p", "data and samples"),
        correlations=_correlations(contents, ordered[:MOST_CORRELATED]) if len(ordered) > 1 else [],
        ordered=len(ordered),
        most_correlated=MOST_CORRELATED,
        losses=_optional(contents.losses, "l", "the training loss by step"),
        experts=_optional(contents.experts, "e", "the weights of the experts by noise level"),
    )
    return page, judged


def _svg(figure: Figure, key: str, label: str) -> Markup:
    return Markup(inline_svg(figure, key=key, label=label))


def _optional(figure: Figure | None, key: str, label: str) -> Markup | None:
    return None if figure is None else _svg(figure, key, label)


def _correlations(contents: RunContents, ordered: Sequence[ColumnScale]) -> list[Markup]:
    """Draw the maps of the data, of the samples, and of their difference, for two or more columns."""
    names = [scale.name for scale in ordered]
    real, generated = (rank_correlations(rows, ordered) for rows in (contents.real, contents.generated))
    maps = {"data": real, "samples": generated, "samples − data": generated - real}
    return [
        _svg(correlation_map(values, names, title=title), f"c{k}", f"rank correlations: {title}")
        for k, (title, values) in enumerate(maps.items())
    ]
