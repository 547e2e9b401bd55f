"""Run the paper's experiments again, with seeds, and leave its tables and figures as files."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import joblib

from ..compute.machine import describe_machine
from ..errors import unknown_name
from ..store.atomic import write_json, write_text
from .cells import Cell
from .grid import Engine, GridProgress, run_grid
from .pictures import draw_figures
from .results import METRICS, TABLES, Row, rows_of, summarise
from .tables import reproduction_tables

__all__ = ["ReproduceRequest", "reproduce"]

FIGURES = "figures"
WHAT = (*TABLES, FIGURES, "all")
OF_FIGURES = "table2"
"""The table whose configurations the figures of samples, losses and gates show."""


@dataclass(frozen=True)
class ReproduceRequest:
    """What is to be reproduced.

    Attributes:
        what: ``table1``, ``table2``, ``figures`` (of both tables' runs) or ``all``.
        seeds: runs of every row, with the seeds 0, 1, ….
        recipe: how all of them are trained and sampled.
        steps: of every training; None takes the recipe's own.
        datasets: instead of each table's own.
        settings: ``key=value`` for every run, as `train --set` takes them.
        jobs: processes, of one thread each; None takes as many as there are cores.
        engine: what spreads the runs.
        output: where tables and pictures go, and the runs into its folder ``runs``.

    """

    what: str
    seeds: int = 5
    recipe: str = "paper"
    steps: int | None = None
    datasets: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    jobs: int | None = None
    engine: Engine = "joblib"
    output: Path = Path("reproduction")

    @property
    def tables(self) -> tuple[str, ...]:
        """The tables whose runs it takes.

        Raises:
            InputError: what is asked for is not known.

        """
        if self.what not in WHAT:
            raise unknown_name("table or figures", self.what, WHAT)
        return (self.what,) if self.what in TABLES else tuple(TABLES)

    def cells(self) -> dict[tuple[Row, int], Cell]:
        """Give the run of every row and seed; what two tables share is one run. First seeds come first."""
        rows = dict.fromkeys(row for table in self.tables for row in rows_of(table, self.datasets))
        return {(row, seed): self._cell(row, seed) for seed in range(self.seeds) for row in rows}

    def _cell(self, row: Row, seed: int) -> Cell:
        return Cell(
            row.dataset,
            self.recipe,
            row.model,
            seed,
            steps=self.steps,
            settings=(*row.settings, *self.settings),
            runs=str(self.output / "runs"),
            metrics=tuple(name for name in METRICS if name.startswith("kl_")),
        )


def reproduce(
    request: ReproduceRequest,
    *,
    on_progress: Callable[[GridProgress], None] = lambda progress: None,
    should_stop: Callable[[], bool] = lambda: False,
    announce: Callable[[str], None] = lambda what: None,
) -> dict[str, Any]:
    """Do the runs that are not done yet; write ``<table>.json``, ``.md``, ``.csv`` and ``.tex``, and the figures.

    Args:
        request: what is asked for.
        on_progress, should_stop: see `run_grid`.
        announce: told which figure is being drawn.

    Returns:
        For one table the record of the ``reproduce`` command's contract, with the metrics of `summarise`; otherwise
        ``tables`` with the records that are asked for, ``figures`` (paths) and ``left_out`` (sentences).

    Raises:
        Interrupted: stopped; everything is saved.
        InputError: a name is unknown, a setting is not allowed, or Ray is not installed.

    """
    cells = request.cells()
    started = time.monotonic()
    found = run_grid(
        list(cells.values()), jobs=request.jobs, engine=request.engine, on_progress=on_progress, should_stop=should_stop
    )
    wall_seconds = time.monotonic() - started
    results: dict[Row, dict[int, dict[str, Any]]] = {}
    for (row, seed), result in zip(cells, found, strict=True):
        results.setdefault(row, {})[seed] = result
    records = [_record(request, table, results, wall_seconds) for table in request.tables]
    if request.what != FIGURES:
        for record in records:
            record["files"] = _write(record, request.output / record["table"])
        if request.what in TABLES:
            return records[0]
    its_rows = rows_of(OF_FIGURES, request.datasets)
    figures, left_out = draw_figures(
        [row for row in its_rows if row.dataset == its_rows[0].dataset],
        {row: _finished(row, cells, results[row]) for row in its_rows},
        [row for record in records for row in record["rows"]],
        request.output / FIGURES,
        recipe=request.recipe,
        announce=announce,
    )
    shown = [] if request.what == FIGURES else records
    return {"tables": shown, "figures": figures, "left_out": left_out}


def _finished(
    row: Row, cells: Mapping[tuple[Row, int], Cell], results: Mapping[int, Mapping[str, Any]]
) -> dict[int, Path]:
    return {seed: cells[row, seed].path for seed, result in results.items() if "error" not in result}


def _record(
    request: ReproduceRequest, table: str, results: Mapping[Row, Mapping[int, dict[str, Any]]], wall_seconds: float
) -> dict[str, Any]:
    return {
        "table": table,
        "recipe": request.recipe,
        "seeds": request.seeds,
        "steps": request.steps,
        "settings": list(request.settings),
        "jobs": request.jobs or joblib.cpu_count(),
        "wall_seconds": wall_seconds,
        "machine": describe_machine(),
        "rows": summarise(rows_of(table, request.datasets), results, table=table, recipe=request.recipe),
    }


def _write(record: dict[str, Any], stem: Path) -> list[str]:
    quality, cost = reproduction_tables(record)
    texts = {
        ".md": quality.to_markdown() + "\n" + cost.to_markdown(),
        ".csv": quality.beside(cost, shared=2).to_csv(),
        ".tex": quality.to_latex() + "\n" + cost.to_latex(),
    }
    for suffix, text in texts.items():
        write_text(stem.with_suffix(suffix), text)
    write_json(stem.with_suffix(".json"), record)
    return [str(stem.with_suffix(suffix)) for suffix in (".json", *texts)]
