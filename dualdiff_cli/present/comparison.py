"""What `dualdiff compare` shows: one table with a row for each model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .tables import Column, Table, Value, with_interval

__all__ = ["floor_of", "models_table"]

SHOWN = (
    "kl_real_generated",
    "kl_generated_real",
    "sliced_wasserstein",
    "classifier_auc",
    "memorisation",
    "copies",
)
"""The metrics of the table; the record has all of them."""

EXCESS = {
    "bits": "Excess: the sum of the two KL divergences less their floors, in bits; the least excess is the best.",
    "AUC": "Excess: the AUC of the classifier less its floor, as some models have no divergences; the least is best.",
}
"""What the excess is, by its unit."""


def models_table(record: Mapping[str, Any]) -> Table:
    """Lay out the models of a comparison, below a row with the floors that perfect samples get.

    Args:
        record: what the job ``compare`` returns.

    """
    models: Mapping[str, Mapping[str, Any]] = record["models"]
    scored = [model["metrics"] for model in models.values() if "metrics" in model]
    shown = [metric for metric in SHOWN if any(with_interval(metrics.get(metric)) is not None for metrics in scored)]
    heads = ("model", "excess", *shown, "training, s", "sampling, s", "verdict")
    floors = [floor_of(metric, scored) for metric in shown]
    perfect = ("perfect samples", None, *floors, None, None, "the floor of each score")
    rows = tuple(_row(name, model, shown, _verdict(name, record)) for name, model in models.items())
    title = (
        f"{record['dataset']}: {record['rows']:,} training rows, {record['held_out']:,} held-out rows, "
        f"{record['n_generated']:,} generated rows"
    )
    return Table(title, tuple(Column(head, ".3g") for head in heads), (perfect, *rows), _notes(record, shown))


def floor_of(metric: str, scored: Sequence[Mapping[str, Any]]) -> float | None:
    """Give the floor of a metric, which all models share; None where no model has a floor.

    Args:
        metric: its name.
        scored: the "metrics" of each model that has been scored.

    """
    floors = (metrics[metric]["floor"] for metrics in scored if metric in metrics)
    return next((floor for floor in floors if floor is not None), None)


def _row(name: str, model: Mapping[str, Any], shown: list[str], verdict: str) -> tuple[Value, ...]:
    metrics = model.get("metrics", {})
    scores = [with_interval(metrics.get(metric)) for metric in shown]
    seconds = [model.get("train_seconds"), model.get("sample_seconds")]
    return (name, with_interval(model.get("excess")), *scores, *seconds, verdict)


def _verdict(name: str, record: Mapping[str, Any]) -> str:
    model = record["models"][name]
    if "error" in model:
        return str(model["error"])
    best = record["best_by_metric"]
    among = [metric.replace("_", " ") for metric in SHOWN if best.get(metric, [""])[0] == name]
    overall = ["best"] if name == record["best"] else ["as good as the best"] if name in record["as_good"] else []
    return "; ".join([*overall, *([f"best in {', '.join(among)}"] if among else [])])


def _notes(record: Mapping[str, Any], shown: list[str]) -> tuple[str, ...]:
    units = {model["excess"]["unit"] for model in record["models"].values() if model.get("excess")}
    notes = [
        *(EXCESS[unit] for unit in EXCESS if unit in units),
        "Best in a metric: at the floor, or nearest to it from the worse side. In brackets stand 95 % intervals.",
    ]
    for metric in shown:
        _, *others = record["best_by_metric"].get(metric, [None])
        if others:
            notes.append(f"{metric}: as good as the best within the intervals: {', '.join(others)}.")
    missing: dict[tuple[str, str], list[str]] = {}
    for name, model in record["models"].items():
        for metric, score in model.get("metrics", {}).items():
            if metric in SHOWN and score["value"] is None:
                missing.setdefault((metric, " ".join(score.get("notes", ()))), []).append(name)
    notes += [f"{metric} of {', '.join(names)}: {why}" for (metric, why), names in missing.items()]
    simpler = record["simpler"]
    if simpler:
        k = simpler["components"]
        what = "a single Gaussian" if k == 1 else f"a mixture of {k} Gaussians"
        notes.append(f"Instead of {simpler['instead_of']}, {what} is as good here: --model {simpler['model']}.")
    return tuple(notes)
