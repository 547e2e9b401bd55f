"""The record of a benchmark: its rows are related to each other and to the paper, and compared with another record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..checked import LARGEST_TEXT, check_schema, parse_json, read_bytes, refusing
from ..paper.values import published
from .clock import ratio_of_medians
from .record_file import KEY, RecordFile

__all__ = ["compare_benchmarks", "read_benchmark", "related"]

UNITS = {"train": "steps", "sample": "points", "latency": "call"}
"""What the whole of a task consists of."""


def _seconds(row: Mapping[str, Any]) -> list[float]:
    """Give the seconds of the whole task according to each block."""
    return [raw * row["whole"] / row["block"] for raw in row["raw_s"]]


def related(rows: Sequence[dict[str, Any]], samples: int) -> list[dict[str, Any]]:
    """Add to each row its rate and its comparisons: with the baseline, with the published loop, and with the paper.

    Args:
        rows: records of measurements; see `clock.Measurement.record`.
        samples: number of points in the sampling task.

    """
    by_key = {tuple(row[part] for part in KEY): row for row in rows if row["raw_s"]}
    paper = published("table2") | published("table1")
    result = []
    for row in rows:
        dataset, model, _, task, backend = key = tuple(row[part] for part in KEY)
        column = {"train": "train_time_s", "sample": "inference_time_s"}.get(task, "")
        units = {"train": row["whole"], "sample": samples, "latency": 1}[task]
        plainly = (dataset, model, "paper", task, "published")
        seconds = paper.get((dataset, model), {}).get(column)
        reference = paper.get((dataset, "baseline"), {}).get(column) if model != "baseline" else None
        result.append(
            row
            | {
                "per_second": units / row["median_s"] if row["median_s"] else None,
                "ratio_to_baseline": _ratio(by_key, key, (dataset, "baseline", *key[2:])),
                "ratio_to_published": _ratio(by_key, key, plainly) if backend != "published" else None,
                "paper_s": seconds,
                "paper_ratio_to_baseline": seconds / reference
                if seconds and reference and model != "baseline"
                else None,
            }
        )
    return result


def _ratio(by_key: Mapping[tuple[Any, ...], Mapping[str, Any]], key: Any, other: Any) -> dict[str, float] | None:
    """Give the ratio of the times of two rows that took turns; None where `_of_medians` gives none."""
    if key == other or key not in by_key or other not in by_key:
        return None
    a, b = _seconds(by_key[key]), _seconds(by_key[other])
    rounds = min(len(a), len(b))  # an interrupted round has a time of only one of the two
    return _of_medians(a[:rounds], b[:rounds], paired=True)


def _of_medians(a: Sequence[float], b: Sequence[float], *, paired: bool = False) -> dict[str, float] | None:
    """Give the ratio of two medians; None of a single time, whose scatter nobody knows."""
    return ratio_of_medians(a, b, paired=paired)._asdict() if min(len(a), len(b)) > 1 else None


def compare_benchmarks(before: Path, after: Path) -> dict[str, Any]:
    """Compare two records of ``dualdiff bench`` row by row.

    Args:
        before, after: the JSON files of the two records.

    Returns:
        ``rows``, matched by data set, model, recipe, task and backend, each with both medians and the ratio of after to
        before with its 95 % interval, None of a single time; ``unequal``, the rows whose tasks differ in size, each
        with both sizes and no ratio; ``unmatched``, the rows that have times in only one of the records; and
        ``threads`` and ``settings`` of both records, None for settings that an older record does not hold.

    Raises:
        InputError: a file is not a record of ``dualdiff bench``.

    """
    records = {"before": read_benchmark(before), "after": read_benchmark(after)}
    old, new = map(_by_key, records.values())
    both = [key for key in new if key in old]
    rows, unequal = [], []
    for key in both:
        a, b = old[key], new[key]
        labels = dict(zip(KEY, key, strict=True))
        sizes = {side: _size(row, records[side]["samples"]) for side, row in (("before", a), ("after", b))}
        if sizes["before"] != sizes["after"]:
            unequal.append(labels | sizes)
            continue
        rows.append(
            labels
            | {"device_before": a["device"], "device_after": b["device"]}
            | {"before_s": a["median_s"], "after_s": b["median_s"]}
            | {"unstable": a["unstable"] or b["unstable"]}
            | {"ratio": _of_medians(_seconds(b), _seconds(a))}
        )
    unmatched = {"before": [list(key) for key in old if key not in new]}
    unmatched |= {"after": [list(key) for key in new if key not in old]}
    return {
        "before": str(before),
        "after": str(after),
        "threads": {side: record["environment"]["threads"] for side, record in records.items()},
        "settings": {side: record.get("settings") for side, record in records.items()},
        "rows": rows,
        "unequal": unequal,
        "unmatched": unmatched,
    }


def _size(row: Mapping[str, Any], samples: int) -> str:
    """Say how large the whole task of a row is; the published sampling counts steps of all points."""
    if row["task"] == "sample" and row["whole"] != samples:
        return f"{samples:,} points in {row['whole']:,} steps"
    return f"{row['whole']:,} {UNITS[row['task']]}"


def read_benchmark(path: Path) -> dict[str, Any]:
    """Read a record that ``dualdiff bench --output`` wrote.

    Raises:
        InputError: the file is not a record of ``dualdiff bench``.

    """
    with refusing(f"{path} is not a record of `dualdiff bench`.", "Name a file that its --output wrote."):
        record: dict[str, Any] = parse_json(read_bytes(path, limit=LARGEST_TEXT))
        check_schema(record, RecordFile)
        return record


def _by_key(record: Mapping[str, Any]) -> dict[tuple[Any, ...], dict[str, Any]]:
    return {tuple(row[part] for part in KEY): row for row in record["rows"] if row["raw_s"]}
