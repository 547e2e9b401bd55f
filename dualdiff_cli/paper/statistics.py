"""What several seeds of one row say together, beside the value that the paper published.

The paper ran every configuration once. `summarise` gives the mean and the standard deviation s of n seeds. One further
run, such as the paper's, is expected within the 95 % prediction interval

    x̄ ± t_{0.975, n−1} · s · √(1 + 1/n).

A model is compared with the baseline by the differences at equal seeds, because runs with equal seeds share their data
(Student's paired t test).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..data import DENSITIES
from ..metrics.score import mean_interval
from .values import BASELINE, PaperRow, published

__all__ = ["REPORTED", "ReportedMetric", "finished_seeds", "main_divergence", "paired_difference", "summarise"]


@dataclass(frozen=True)
class ReportedMetric:
    """A quantity that the tables report.

    Attributes:
        unit: the unit of all values.
        paper: the column of the paper's CSV files that holds the published value; None where there is none.
        paired: whether the difference from the baseline is reported. It is not for seconds, because they depend on what
            else the machine does.
        recipe_bound: whether the unit depends on the recipe, so that the published value stands beside runs of the
            paper's recipe only, and without a setting of `OF_THE_UNIT`.

    """

    unit: str
    paper: str | None = None
    paired: bool = True
    recipe_bound: bool = False


REPORTED = {
    "kl_published": ReportedMetric("bits", "kl_bits"),
    "kl_real_generated": ReportedMetric("bits"),
    "kl_generated_real": ReportedMetric("bits"),
    "training_loss_published": ReportedMetric("mean squared error", "eval_loss", recipe_bound=True),
    "held_out_loss": ReportedMetric("mean squared error", recipe_bound=True),
    "train_seconds": ReportedMetric("seconds", "train_time_s", paired=False),
    "sample_seconds": ReportedMetric("seconds", "inference_time_s", paired=False),
}

OF_THE_UNIT = ("data.standardise", "objective.", "schedule.")
"""The beginnings of settings that decide what a loss is the error of."""

Results = Mapping[int, Mapping[str, Any]]
"""By seed, what `Experiment.result` gives."""


def summarise(
    rows: Sequence[PaperRow],
    results: Mapping[PaperRow, Results],
    *,
    table: str,
    recipe: str,
    settings: Sequence[str] = (),
) -> list[dict[str, Any]]:
    """Summarise the seeds of every row.

    Args:
        rows: the rows of the table.
        results: for every row the results of all seeds, those of failed experiments included.
        table: the table whose published values stand beside the summaries.
        recipe: the recipe of all runs.
        settings: ``key=value``, what the request changes of the recipe, beside the settings of a row.

    Returns:
        For each row ``dataset``, ``model``, ``settings``, ``label``, ``parameters`` (their number), ``failed`` (a list
        of ``seed`` and ``reason``), and for each name in `REPORTED` a dictionary with ``mean``, ``std``, ``n``,
        ``ci95`` (Student's interval of the mean), ``prediction95`` (the interval of one further run), ``values`` (by
        seed), ``unit``, ``floor``, ``paper``, ``difference`` (mean minus paper) and ``to_baseline`` (see
        `paired_difference`).

    """
    paper = published(table)
    values = {row: {name: _by_seed(name, results[row]) for name in REPORTED} for row in rows}
    summaries = []
    for row in rows:
        finished = [result for result in results[row].values() if "error" not in result]
        published_here = paper.get(row.key, {})
        baseline = values.get(PaperRow(row.dataset, BASELINE)) if row.model != BASELINE else None
        summary: dict[str, Any] = {
            "dataset": row.dataset,
            "model": row.model,
            "settings": list(row.settings),
            "label": row.label,
            "parameters": finished[0]["train"]["parameters"] if finished else None,
            "failed": [{"seed": s, "reason": r["error"]} for s, r in results[row].items() if "error" in r],
        }
        for name, metric in REPORTED.items():
            in_the_papers_unit = recipe == "paper" and not any(each.startswith(OF_THE_UNIT) for each in settings)
            comparable = in_the_papers_unit or not metric.recipe_bound
            compared = baseline[name] if metric.paired and baseline else None
            summary[name] = {
                **_over_seeds(values[row][name], published_here.get(metric.paper or "") if comparable else None),
                "unit": metric.unit,
                "floor": _mean_floor(name, finished),
                "to_baseline": None if compared is None else paired_difference(values[row][name], compared),
            }
        summaries.append(summary)
    return summaries


def main_divergence(dataset: str) -> str:
    """Name the divergence by which models of a data set are compared: one of `REPORTED`.

    It is ``kl_published`` for a density. The paper's definition is about densities, so a file has no such score, and
    its divergence is ``kl_real_generated``.
    """
    return "kl_published" if dataset in DENSITIES else "kl_real_generated"


def finished_seeds(rows: Sequence[Mapping[str, Any]]) -> int:
    """Give the largest number of finished seeds of a row.

    Args:
        rows: summaries; see `summarise`.

    """
    return max((row["train_seconds"]["n"] for row in rows), default=0)


def paired_difference(values: Mapping[int, float], baseline: Mapping[int, float]) -> dict[str, Any] | None:
    """Compare a model with the baseline at equal seeds.

    Args:
        values: the model's values by seed.
        baseline: the baseline's values by seed.

    Returns:
        ``mean``, ``ci95`` and ``n`` of the differences, and ``p`` of Student's two-sided paired t test. ``ci95`` and
        ``p`` are None where there is one difference or where all differences are equal. The result is None where the
        two share no seed.

    """
    from scipy.stats import ttest_rel  # The import is slow, and only this function needs it.

    seeds = sorted(values.keys() & baseline.keys())
    if not seeds:
        return None
    x, y = (np.array([by_seed[seed] for seed in seeds]) for by_seed in (values, baseline))
    scattered = len(seeds) > 1 and float(np.ptp(x - y)) > 0
    return {
        "mean": float(np.mean(x - y)),
        "ci95": mean_interval((x - y).tolist()) if scattered else None,
        "p": float(ttest_rel(x, y).pvalue) if scattered else None,
        "n": len(seeds),
    }


def _by_seed(name: str, results: Results) -> dict[int, float]:
    """Take one reported metric out of the finished experiments."""
    found = {}
    for seed, result in results.items():
        if "error" in result:
            continue
        evaluation = result["evaluations"][0]
        seconds = {"train_seconds": result["train"]["train_seconds"], "sample_seconds": evaluation["sample_seconds"]}
        value = seconds[name] if name in seconds else evaluation["metrics"].get(name, {}).get("value")
        if value is not None:
            found[seed] = float(value)
    return found


def _over_seeds(by_seed: Mapping[int, float], paper: float | None) -> dict[str, Any]:
    x = list(by_seed.values())
    n = len(x)
    mean = float(np.mean(x)) if n else None
    ci95 = mean_interval(x)
    # An inflation of n + 1 turns the variance of the mean, s²/n, into that of one further run, s²·(1 + 1/n).
    prediction95 = mean_interval(x, inflation=n + 1)
    return {
        "mean": mean,
        "std": float(np.std(x, ddof=1)) if n > 1 else None,
        "n": n,
        "ci95": None if ci95 is None else list(ci95),
        "prediction95": None if prediction95 is None else list(prediction95),
        "values": {str(seed): value for seed, value in by_seed.items()},
        "paper": paper,
        "difference": None if mean is None or paper is None else mean - paper,
    }


def _mean_floor(name: str, finished: Sequence[Mapping[str, Any]]) -> float | None:
    floors = [result["evaluations"][0]["metrics"].get(name, {}).get("floor") for result in finished]
    known = [floor for floor in floors if floor is not None]
    return float(np.mean(known)) if known else None
