"""The tables of a reproduction's record: one of the divergences of the samples, and one of losses and seconds.

Our results stand beside the paper's, and the notes below a table say how to read them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from scipy.special import stdtrit

from ..present.tables import Column, Estimate, Range, Table, Value
from .statistics import finished_seeds, main_divergence

__all__ = ["how_trained", "reproduction_tables"]

COST_NOTES = (
    "Loss as published: of the last weights on the training points. Held-out loss: of the averaged (EMA) weights on "
    "held-out points.",
    # Not how many runs: earlier calls of the same command may have had another number of processes.
    "Seconds were taken on one thread while other runs may have shared the machine; the paper's are of a V100. For "
    "timings, use `dualdiff bench`.",
)
DIVERGENCES = {
    "kl_published": "KL as published",
    "kl_real_generated": "KL real‖generated",
    "kl_generated_real": "KL generated‖real",
}


def reproduction_tables(record: Mapping[str, Any]) -> tuple[Table, Table]:
    """Lay out one of the paper's tables as two: the divergences of the samples; and losses and seconds.

    Args:
        record: what the job ``reproduce`` returns for a table: ``table``, ``recipe``, ``seeds``, ``steps`` (None for
            the recipe's number), ``settings``, ``generated`` (which records of earlier versions lack; it was always
            10,000) and ``rows``.

    """
    seeds = f"{record['seeds']} {'seed' if record['seeds'] == 1 else 'seeds'}"
    trained = how_trained(record["recipe"], record["steps"], record["settings"])
    title = f"{record['table'].replace('table', 'Table ')} · {trained} · {seeds}"
    rows = record["rows"]
    first = sorted({main_divergence(row["dataset"]) for row in rows})
    others = [name for name in ("kl_real_generated", "kl_generated_real") if first != [name]]
    words = (Column("data set"), Column("model"))
    quality = (
        *words,
        Column("seeds"),
        Column(" or ".join(DIVERGENCES[name] for name in first)),
        Column("floor"),
        Column("paper's KL"),
        Column("ours − paper", "+.3f"),
        Column("95 % of single runs"),
        Column("ours − baseline", "+.3f"),
        Column("95 % interval of ours − baseline", "+.3f"),
        Column("p", ".2g"),
        *(Column(DIVERGENCES[name]) for name in others),
    )
    cost = (
        *words,
        Column("parameters"),
        Column("loss as published"),
        Column("paper's loss"),
        Column("held-out loss"),
        Column("training, s", ".1f"),
        Column("paper's training (V100), s", ".1f"),
        Column(f"{record.get('generated', 10_000):,} samples, s", ".2f"),
        Column("paper's 10,000 samples (V100), s", ".2f"),
    )
    divergences = tuple(_quality(row, others) for row in rows)
    return (
        Table(f"{title}: divergence in bits", quality, divergences, _quality_notes(record)),
        Table(f"{title}: losses and seconds", cost, tuple(map(_cost, rows)), COST_NOTES),
    )


def how_trained(recipe: str, steps: int | None, settings: Sequence[str]) -> str:
    """Name the recipe of all runs and, for the title of a table or a figure, what the request changes of the recipe.

    Args:
        recipe: the name.
        steps: the number of training steps; None for the recipe's own.
        settings: ``key=value``, as `train --set` takes them.

    """
    fewer = [f"only {steps:,} training steps"] if steps else []
    return " · ".join([f"recipe {recipe}", *fewer, *settings])


def _quality(row: Mapping[str, Any], others: Sequence[str]) -> tuple[Value, ...]:
    kl = row[main_divergence(row["dataset"])]
    against = kl["to_baseline"] or {"mean": None, "ci95": None, "p": None}
    return (
        row["dataset"],
        row["label"] + (" ✗" if row["failed"] else ""),
        finished_seeds([row]),
        _estimate(kl),
        kl["floor"],
        kl["paper"],
        kl["difference"],
        _interval(kl["prediction95"]),
        against["mean"],
        _interval(against["ci95"]),
        against["p"],
        *(_estimate(row[name]) for name in others),
    )


def _cost(row: Mapping[str, Any]) -> tuple[Value, ...]:
    loss, training, sampling = (row[name] for name in ("training_loss_published", "train_seconds", "sample_seconds"))
    return (
        row["dataset"],
        row["label"],
        row["parameters"],
        _estimate(loss),
        loss["paper"],
        _estimate(row["held_out_loss"]),
        _estimate(training),
        training["paper"],
        _estimate(sampling),
        sampling["paper"],
    )


def _quality_notes(record: Mapping[str, Any]) -> tuple[str, ...]:
    n = finished_seeds(record["rows"])
    notes = [
        "Mean ± standard deviation over seeds. The floor is the score of fresh points from the true density; a score "
        "below the floor is not better. The paper made a single run: compare the paper's KL with the interval in which "
        "95 % of single runs are expected. baseline-matched is one network with dual-expert's number of parameters, a "
        "control that the paper lacks.",
    ]
    if n > 1:
        least = float(stdtrit(n - 1, 0.975)) / math.sqrt(n)
        notes.append(
            f"Ours − baseline: mean difference at equal seeds; p is of the paired t test. With {n} seeds the test "
            f"finds only differences beyond {least:.1f} of their standard deviations; a large p is no proof of "
            "equality, and p is not corrected for the number of rows."
        )
    if any(main_divergence(row["dataset"]) != "kl_published" for row in record["rows"]):
        notes.append(
            "A file has no KL as published: its models are compared by KL real‖generated, and the floor is the score "
            "of training rows. Tables without a density, such as those with categories or gaps, have no divergence."
        )
    for row in record["rows"]:
        notes += [f"✗ {row['dataset']}, {row['label']}, seed {f['seed']} failed: {f['reason']}" for f in row["failed"]]
    return tuple(notes)


def _estimate(summary: Mapping[str, Any]) -> Estimate | None:
    return None if summary["mean"] is None else Estimate(summary["mean"], summary["std"])


def _interval(ends: Sequence[float] | None) -> Range | None:
    return None if ends is None else Range(*ends)
