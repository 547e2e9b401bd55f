"""How a reproduced table is laid out: how good the samples are; and losses and seconds.

Each stands beside the paper's figure, and its notes say how to read it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from scipy.special import stdtrit

from ..present.tables import Column, Estimate, Interval, Table, Value

__all__ = ["tables_of"]


def tables_of(record: Mapping[str, Any]) -> tuple[Table, Table]:
    """Lay out the record of a reproduced table: how good the samples are; and losses and seconds.

    Args:
        record: ``table``, ``recipe``, ``seeds``, ``steps`` (None for the recipe's own), ``jobs`` and ``rows``.

    """
    title = f"{record['table'].replace('table', 'Table ')} · recipe {record['recipe']} · {record['seeds']} seeds"
    if record["steps"]:
        title += f" · only {record['steps']:,} training steps"
    words = (Column("data set"), Column("model"))
    quality = (
        *words,
        Column("seeds"),
        Column("KL as published"),
        Column("floor"),
        Column("paper's KL"),
        Column("ours − paper", signed=True),
        Column("95 % of single runs"),
        Column("to baseline", signed=True),
        Column("its 95 % interval", signed=True),
        Column("p"),
        Column("KL real‖generated"),
        Column("KL generated‖real"),
    )
    cost = (
        *words,
        Column("parameters"),
        Column("loss as published"),
        Column("paper's loss"),
        Column("held-out loss"),
        Column("training, s", digits=1),
        Column("paper's (V100), s", digits=1),
        Column("10,000 samples, s", digits=2),
        Column("paper's samples (V100), s", digits=2),
    )
    rows = record["rows"]
    return (
        Table(f"{title}: divergence in bits", quality, tuple(map(_quality, rows)), _quality_notes(record)),
        Table(f"{title}: losses and seconds", cost, tuple(map(_cost, rows)), _cost_notes(record)),
    )


def _quality(row: Mapping[str, Any]) -> tuple[Value, ...]:
    kl = row["kl_published"]
    against = kl["to_baseline"] or {"mean": None, "ci95": None, "p": None}
    return (
        row["dataset"],
        row["label"] + (" ✗" if row["failed"] else ""),
        kl["n"],
        _estimate(kl),
        kl["floor"],
        kl["paper"],
        kl["difference"],
        _interval(kl["prediction95"]),
        against["mean"],
        _interval(against["ci95"]),
        against["p"],
        _estimate(row["kl_real_generated"]),
        _estimate(row["kl_generated_real"]),
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
    n = max((row["kl_published"]["n"] for row in record["rows"]), default=0)
    notes = [
        "Mean ± standard deviation over seeds. The floor is what fresh true points get; below it is not better. "
        "The paper ran once: compare its figure with the interval in which 95 % of single runs are expected. "
        "baseline-matched is one network of dual-expert's parameter count: the control that the paper lacks.",
    ]
    if n > 1:
        least = float(stdtrit(n - 1, 0.975)) / math.sqrt(n)
        notes.append(
            f"To baseline: differences at equal seeds, paired t test. With {n} seeds it finds only differences beyond "
            f"{least:.1f} of their standard deviations; a large p is no proof of equality, and p is not corrected for "
            "the number of rows."
        )
    for row in record["rows"]:
        notes += [f"✗ {row['dataset']}, {row['label']}, seed {f['seed']} failed: {f['reason']}" for f in row["failed"]]
    return tuple(notes)


def _cost_notes(record: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        "Loss as published: the last weights on the training points; held-out: the averaged weights on others.",
        f"Seconds of one thread while {record['jobs']} runs share the machine, beside the paper's on a V100; "
        "`dualdiff bench` is for timings.",
    )


def _estimate(summary: Mapping[str, Any]) -> Estimate | None:
    return None if summary["mean"] is None else Estimate(summary["mean"], summary["std"])


def _interval(ends: Sequence[float] | None) -> Interval | None:
    return None if ends is None else Interval(*ends)
