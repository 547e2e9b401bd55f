"""Run the paper's experiments with several seeds, and write the tables and figures."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import joblib
import polars as pl
import polars.selectors as cs
from matplotlib.figure import Figure

from ..compute.device import choose_device
from ..compute.machine import describe_machine
from ..diffusion.samplers import BLOCK
from ..errors import unknown_name
from ..jobs.inputs import data_of_run
from ..jobs.plot import gate_weights
from ..models import AS_DRAWN
from ..models.diffusion import DiffusionModel
from ..present.figures.style import save
from ..store.atomic import write_json, write_text
from ..store.run import Run
from .experiment import Experiment, sampling_seed
from .figures import draw_divergences, draw_gate_histograms, draw_gates, draw_losses, draw_samples
from .grid import GridEngine, GridProgress, run_grid
from .statistics import REPORTED, finished_seeds, main_divergence, summarise
from .tables import how_trained, reproduction_tables
from .values import PAPER_TABLES, PaperRow, rows_of

__all__ = ["ReproduceRequest", "reproduce"]

FIGURES = "figures"
FIGURES_OF = "table2"
"""The table whose configurations figures 2 to 5 show."""
POINTS = 2 * BLOCK
"""The number of samples that figures 2, 4 and 5 draw from a run."""

Runs = Mapping[PaperRow, Mapping[int, Run]]
"""The finished runs by row and seed."""


@dataclass(frozen=True)
class ReproduceRequest:
    """What is to be reproduced.

    Attributes:
        what: ``table1``, ``table2``, ``figures`` (from the runs of both tables) or ``all``.
        seeds: the number of runs of every row; their seeds are 0, 1, ….
        recipe: how every run is trained and sampled.
        steps: the number of training steps; None takes the recipe's own.
        datasets: data sets that replace those of each table; none keeps the tables' own.
        settings: ``key=value`` for every run, as ``train --set`` takes them.
        generated: the number of samples that every run is scored by; the default is the paper's.
        jobs: the number of processes, which have one thread each; None takes one process per core.
        engine: what spreads the runs over processes.
        output: the folder of tables and figures; the runs go into the folder ``runs`` within.

    """

    what: str
    seeds: int = 5
    recipe: str = "paper"
    steps: int | None = None
    datasets: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    generated: int = 10_000
    jobs: int | None = None
    engine: GridEngine = "joblib"
    output: Path = Path("reproduction")

    @property
    def tables(self) -> tuple[str, ...]:
        """The tables whose runs are needed.

        Raises:
            InputError: `what` is unknown.

        """
        known = (*PAPER_TABLES, FIGURES, "all")
        if self.what not in known:
            raise unknown_name("table or figures", self.what, known)
        return (self.what,) if self.what in PAPER_TABLES else tuple(PAPER_TABLES)

    def experiments(self) -> dict[tuple[PaperRow, int], Experiment]:
        """Give the experiment of every row and seed, the first seeds first; a row of two tables has one experiment."""
        rows = dict.fromkeys(row for table in self.tables for row in rows_of(table, self.datasets))
        return {
            (row, seed): Experiment(
                row.dataset,
                self.recipe,
                row.model,
                seed,
                steps=self.steps,
                settings=(*row.settings, *self.settings),
                generated=self.generated,
                metrics=tuple(name for name in REPORTED if name.startswith("kl_")),
                runs=str(self.output / "runs"),
            )
            for seed in range(self.seeds)
            for row in rows
        }


def reproduce(
    request: ReproduceRequest,
    *,
    on_progress: Callable[[GridProgress], None] = lambda progress: None,
    should_stop: Callable[[], bool] = lambda: False,
    announce: Callable[[str], None] = lambda what: None,
) -> dict[str, Any]:
    """Run the experiments that are not finished; write the tables as JSON, Markdown, CSV and LaTeX, and the figures.

    Args:
        request: what is to be reproduced.
        on_progress, should_stop: see `run_grid`.
        announce: told which figure is drawn next.

    Returns:
        For one table the record of the ``reproduce`` command's contract, with the metrics of `summarise`; ``jobs``,
        ``wall_seconds`` and ``machine`` are those of this call, also where runs of earlier calls are kept. Otherwise
        ``tables`` (the records of the tables), ``figures`` (paths) and ``left_out`` (sentences that say what
        could not be drawn).

    Raises:
        Interrupted: the grid was stopped; everything is saved.
        InputError: a name is unknown, a setting is not allowed, or Ray is not installed.

    """
    experiments = request.experiments()
    started = time.monotonic()
    found = run_grid(
        list(experiments.values()),
        jobs=request.jobs,
        engine=request.engine,
        on_progress=on_progress,
        should_stop=should_stop,
    )
    wall_seconds = time.monotonic() - started
    results: dict[PaperRow, dict[int, dict[str, Any]]] = {}
    runs: dict[PaperRow, dict[int, Run]] = {}
    for ((row, seed), experiment), result in zip(experiments.items(), found, strict=True):
        results.setdefault(row, {})[seed] = result
        if "error" not in result:
            runs.setdefault(row, {})[seed] = Run.open(experiment.path)
    records = [_record(request, table, results, wall_seconds) for table in request.tables]
    if request.what != FIGURES:
        for record in records:
            record["files"] = _write(record, request.output / record["table"])
        if request.what in PAPER_TABLES:
            return records[0]
    summaries = [row for record in records for row in record["rows"]]
    figures, left_out = _draw(request, runs, summaries, announce=announce)
    paths = [
        str(path)
        for name, figure in figures.items()
        for path in save(figure, request.output / FIGURES / name, formats=("png", "svg"))
    ]
    return {"tables": records, "figures": paths, "left_out": left_out}


def _record(
    request: ReproduceRequest, table: str, results: Mapping[PaperRow, Mapping[int, Any]], wall_seconds: float
) -> dict[str, Any]:
    return {
        "table": table,
        "recipe": request.recipe,
        "seeds": request.seeds,
        "steps": request.steps,
        "settings": list(request.settings),
        "generated": request.generated,
        "jobs": request.jobs or joblib.cpu_count(),
        "wall_seconds": wall_seconds,
        "machine": describe_machine(),
        "rows": summarise(
            rows_of(table, request.datasets), results, table=table, recipe=request.recipe, settings=request.settings
        ),
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


def _draw(
    request: ReproduceRequest, runs: Runs, summaries: Sequence[Mapping[str, Any]], *, announce: Callable[[str], None]
) -> tuple[dict[str, Figure], list[str]]:
    """Draw the figures that the finished runs allow; give them by name, and sentences that say what is left out.

    Figures 2 to 5 show the first data set.
    """
    n = finished_seeds(summaries)
    trained = how_trained(request.recipe, request.steps, request.settings)
    seeds = f"{trained} · {n} {'seed' if n == 1 else 'seeds'}"
    figures: dict[str, Figure] = {}
    left_out = []
    known = {row["dataset"] for row in summaries if _has_divergence(row)}
    if known:
        announce("figure 1")
        shown = [row for row in summaries if row["dataset"] in known]
        figures["figure1-divergences"] = draw_divergences(shown, title=f"Divergence · {seeds}")
    if others := dict.fromkeys(Path(row["dataset"]).name for row in summaries if row["dataset"] not in known):
        left_out.append(
            f"Figure 1 leaves out {', '.join(others)}: no finished run has a divergence. "
            "Tables without a density, such as those with categories or gaps, have none."
        )
    rows = rows_of(FIGURES_OF, request.datasets)
    runs = {row: runs[row] for row in rows if row.dataset == rows[0].dataset and row in runs}
    if not runs:
        return figures, [*left_out, "Figures 2 to 5 are left out: no run of their data set has finished."]
    dataset = Path(rows[0].dataset).name
    of_samples, without = _draw_samples(runs, title=f"{dataset} · {trained}", announce=announce)
    announce("figure 3")
    experiments = request.experiments()
    figures["figure3-losses"] = draw_losses(
        {row.label: [_logged_losses(run) for run in by_seed.values()] for row, by_seed in runs.items()},
        penalised={row.label for row in runs if experiments[row, 0].config.objective.diversity},
        title=f"Training loss, mean and range of the seeds · {dataset} · {seeds}",
    )
    return dict(sorted((figures | of_samples).items())), left_out + without


def _has_divergence(row: Mapping[str, Any]) -> bool:
    """Say whether figure 1 has something to draw for a row: ours or the paper's."""
    kl = row[main_divergence(row["dataset"])]
    return kl["mean"] is not None or kl["paper"] is not None


def _draw_samples(runs: Runs, *, title: str, announce: Callable[[str], None]) -> tuple[dict[str, Figure], list[str]]:
    """Draw figures 2, 4 and 5 from samples of the first finished seed of every row; 2 and 4 show columns of numbers.

    The noise behind the samples is the same for all rows whose first finished seed is the same.
    """
    samples, gates, seeds = {}, {}, set()
    for row, by_seed in runs.items():
        announce(f"samples of {row.label}")
        seed, run = min(by_seed.items())
        seeds.add(seed)
        model = DiffusionModel.load(run, device=choose_device("cpu"))
        drawn = model.sample(POINTS, seed=sampling_seed(seed), options=AS_DRAWN)
        columns = drawn.select(cs.numeric()).columns
        samples[row.label] = drawn.select(columns).cast(pl.Float64).to_numpy()
        if model.config.model.experts == 2 and model.config.model.gate_on == "point":
            gates[row.label] = samples[row.label], gate_weights(model, drawn)
    real = data_of_run(run).held_out[:POINTS].select(columns).cast(pl.Float64).to_numpy()
    title += f" · {'seed' if len(seeds) == 1 else 'seeds'} {', '.join(map(str, sorted(seeds)))}"
    figures, left_out = {}, []
    if len(columns) > 1:
        figures["figure2-samples"] = draw_samples(real, samples, columns=columns, title=f"Samples · {title}")
    else:
        left_out.append("Figures 2 and 4 are left out: the data have fewer than two columns of numbers.")
    if not gates:
        left_out.append(
            "Figures 4 and 5 are left out: no gate of these runs sees the point. `dualdiff plot` draws the gate's "
            "profile over the noise level."
        )
        return figures, left_out
    if len(columns) > 1:
        figures["figure4-gates"] = draw_gates(real, gates, columns=columns, title=f"Gate · {title}")
    weights = {label: weight for label, (_, weight) in gates.items()}
    figures["figure5-gates"] = draw_gate_histograms(weights, title=f"Gate on samples · {title}")
    return figures, left_out


def _logged_losses(run: Run) -> tuple[list[int], list[float]]:
    records = run.load_metrics()
    return [record["step"] for record in records], [record["loss"] for record in records]
