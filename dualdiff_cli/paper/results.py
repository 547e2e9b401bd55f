"""The paper's result tables: their rows, its figures, and what several seeds of ours say beside them.

The paper ran everything once. A row of ours is a mean over seeds with its standard deviation; a single further run, as
the paper's was, is expected within the 95 % prediction interval

    x̄ ± t_{0.975, n−1} · s · √(1 + 1/n)

and a model differs from the baseline as far as the differences at equal seeds, which share their data, differ from zero
(Student's paired t test).
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import numpy as np
from scipy.special import stdtrit

from ..errors import unknown_name
from ..metrics.score import mean_interval

__all__ = ["METRICS", "TABLES", "Metric", "Row", "paired_difference", "published", "rows_of", "summarise"]

Result = Mapping[str, Any]
"""What a cell of a grid keeps: the records of its training and of its evaluations."""


@dataclass(frozen=True)
class Metric:
    """What a row shows of its runs, and the paper's column for it, where it has one."""

    unit: str
    paper: str | None = None
    paired: bool = True
    """Whether it is a property of the model, to be compared with the baseline's, and not of a busy machine."""
    of_recipe: bool = False
    """Whether its unit is the recipe's, so that the paper's figure stands beside the paper's recipe only."""


METRICS = {
    "kl_published": Metric("bits", "kl_bits"),
    "kl_real_generated": Metric("bits"),
    "kl_generated_real": Metric("bits"),
    "training_loss_published": Metric("mean squared error", "eval_loss", of_recipe=True),
    "held_out_loss": Metric("mean squared error", of_recipe=True),
    "train_seconds": Metric("seconds", "train_time_s", paired=False),
    "sample_seconds": Metric("seconds", "inference_time_s", paired=False),
}

BASELINE = "baseline"
_PAPERS_DATASETS = ("circle", "dino", "line", "moons")
_HALF_DIVERSITY = ("objective.diversity=0.05",)
_CONTROL = ("baseline-matched", ())

TABLES: dict[str, tuple[tuple[str, ...], tuple[tuple[str, tuple[str, ...]], ...]]] = {
    "table1": (_PAPERS_DATASETS, ((BASELINE, ()), ("dual-expert", ()), _CONTROL)),
    "table2": (
        ("dino",),
        (
            (BASELINE, ()),
            ("dual-expert", ()),
            ("enhanced-gating", ()),
            ("increased-capacity", ()),
            ("diversity-loss", ()),
            ("diversity-loss", _HALF_DIVERSITY),
            _CONTROL,
        ),
    ),
}
"""Data sets, and models with their settings: the paper's rows, the λ that its text claims, and the control it lacks."""

_LABELS = {
    ("diversity-loss", ()): "diversity-loss, λ = 0.1",
    ("diversity-loss", _HALF_DIVERSITY): "diversity-loss, λ = 0.05",
}


@dataclass(frozen=True)
class Row:
    """One row of a table: a model of a data set, with the settings that make it another than the name says."""

    dataset: str
    model: str
    settings: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """What the row is called."""
        return _LABELS.get((self.model, self.settings), " ".join([self.model, *self.settings]))


def rows_of(table: str, datasets: Sequence[str] = ()) -> tuple[Row, ...]:
    """Give a table's rows; of its own data sets, or of others.

    Raises:
        InputError: there is no such table.

    """
    if table not in TABLES:
        raise unknown_name("table", table, TABLES)
    its_own, models = TABLES[table]
    return tuple(Row(dataset, model, settings) for dataset in datasets or its_own for model, settings in models)


def published(table: str) -> dict[tuple[str, str], dict[str, float]]:
    """Read the paper's figures by data set and model: a table's, and what its logs hold beyond them."""
    figures = {}
    for name in ("logs", table):
        with (files(__package__) / f"{name}.csv").open(encoding="utf-8") as file:
            for row in csv.DictReader(file):
                key = (row.pop("dataset"), row.pop("model"))
                figures[key] = {column: float(value) for column, value in row.items() if value}
    return figures


def paired_difference(values: Mapping[int, float], baseline: Mapping[int, float]) -> dict[str, Any] | None:
    """Compare a model with the baseline at equal seeds.

    Args:
        values, baseline: by seed.

    Returns:
        ``mean``, ``ci95`` and ``n`` of the differences, and ``p`` of Student's paired t test, two-sided; interval and p
        are None where the differences do not scatter, and everything is where no seed is in both.

    """
    from scipy.stats import ttest_rel  # slow to import, and only this needs it

    seeds = sorted(values.keys() & baseline.keys())
    if not seeds:
        return None
    ours, theirs = np.array([values[s] for s in seeds]), np.array([baseline[s] for s in seeds])
    scattered = len(seeds) > 1 and float(np.ptp(ours - theirs)) > 0
    return {
        "mean": float(np.mean(ours - theirs)),
        "ci95": mean_interval((ours - theirs).tolist()) if scattered else None,
        "p": float(ttest_rel(ours, theirs).pvalue) if scattered else None,
        "n": len(seeds),
    }


def summarise(
    rows: Sequence[Row], results: Mapping[Row, Mapping[int, Result]], *, table: str, recipe: str
) -> list[dict[str, Any]]:
    """Put the seeds of every row together.

    Args:
        rows: of the table.
        results: by row and seed, of finished and of failed cells.
        table: whose published figures stand beside ours.
        recipe: of all runs.

    Returns:
        For each row ``dataset``, ``model``, ``settings``, ``label``, ``parameters``, ``failed`` (seeds with their
        reasons), and for each of `METRICS` a dictionary: ``mean``, ``std``, ``n``, ``ci95`` (Student, of the mean),
        ``prediction95`` (of one further run), ``values`` (by seed), ``floor``, ``paper``, ``difference`` (ours minus
        the paper's) and ``to_baseline`` (see `paired_difference`).

    """
    paper = published(table)
    values = {
        row: {name: _values(name, results[row]) for name in METRICS if results.get(row)}
        for row in rows
        if row in results
    }
    summaries = []
    for row in rows:
        done = [result for result in results[row].values() if "error" not in result]
        theirs = paper.get((row.dataset, " ".join([row.model, *row.settings])), {})
        baseline = values.get(Row(row.dataset, BASELINE), {})
        summary: dict[str, Any] = {
            "dataset": row.dataset,
            "model": row.model,
            "settings": list(row.settings),
            "label": row.label,
            "parameters": done[0]["train"]["parameters"] if done else None,
            "failed": [{"seed": s, "reason": r["error"]} for s, r in results[row].items() if "error" in r],
        }
        for name, metric in METRICS.items():
            comparable = recipe == "paper" or not metric.of_recipe
            figure = theirs.get(metric.paper) if metric.paper and comparable else None
            compared = metric.paired and row.model != BASELINE
            summary[name] = {
                **_over_seeds(values[row][name], figure),
                "unit": metric.unit,
                "floor": _floor(name, done),
                "to_baseline": paired_difference(values[row][name], baseline[name]) if compared and baseline else None,
            }
        summaries.append(summary)
    return summaries


def _values(name: str, results: Mapping[int, Result]) -> dict[int, float]:
    """Take a metric out of the finished cells, by seed."""
    found = {}
    for seed, result in results.items():
        if "error" in result:
            continue
        evaluation = result["evaluations"][0]
        if name == "train_seconds":
            value = result["train"][name]
        elif name == "sample_seconds":
            value = evaluation[name]
        else:
            value = evaluation["metrics"].get(name, {}).get("value")
        if value is not None:
            found[seed] = float(value)
    return found


def _over_seeds(by_seed: Mapping[int, float], paper: float | None) -> dict[str, Any]:
    x = np.array(list(by_seed.values()))
    n = len(x)
    mean = float(x.mean()) if n else None
    std = float(x.std(ddof=1)) if n > 1 else None
    interval = mean_interval(x.tolist())
    prediction = None
    if mean is not None and std is not None:
        half = float(stdtrit(n - 1, 0.975)) * std * math.sqrt(1 + 1 / n)
        prediction = [mean - half, mean + half]
    return {
        "mean": mean,
        "std": std,
        "n": n,
        "ci95": None if interval is None else list(interval),
        "prediction95": prediction,
        "values": {str(seed): value for seed, value in by_seed.items()},
        "paper": paper,
        "difference": None if mean is None or paper is None else mean - paper,
    }


def _floor(name: str, done: Sequence[Result]) -> float | None:
    floors = [result["evaluations"][0]["metrics"].get(name, {}).get("floor") for result in done]
    known = [floor for floor in floors if floor is not None]
    return float(np.mean(known)) if known else None
