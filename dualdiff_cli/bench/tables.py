"""The tables of a benchmark's record, and of the comparison of two records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..present.tables import Bounded, Column, Table, Value, facts_table
from .record_file import KEY

__all__ = ["bench_tables", "benchmark_comparison_table"]

IN_WORDS = {"train": "training", "sample": "sampling", "latency": "one call for one point"}
NOTES = (
    "Times are of the whole task; where only a part of the task was timed, the column “timed part” says which part.",
    "~ unstable: the interquartile range is more than a tenth of the median.",
    "Call: one call for one point. Memory: what the first call adds.",
    "× baseline and × published: ratios of medians of interleaved rounds, with 95 % intervals.",
    "Paper's ×: the ratio to the baseline in the paper's tables (the paper's text says 1.45 for training and 1.42 for "
    "sampling). V100: the paper's own single run.",
)


def bench_tables(record: Mapping[str, Any]) -> list[Table]:
    """Lay out a benchmark: the machine, and for every data set training and sampling, models × backends."""
    rows = record["rows"]
    single = {_cell(row): row["median_s"] for row in rows if row["task"] == "latency"}
    # The latency is a column beside the sampling, and takes a table of its own only if nothing else was timed.
    tasks = [task for task in IN_WORDS if task != "latency" or {row["task"] for row in rows} == {"latency"}]
    tables = [facts_table(_bench_facts(record))]
    for dataset in dict.fromkeys(row["dataset"] for row in rows):
        for task in tasks:
            part = [row for row in rows if row["dataset"] == dataset and row["task"] == task]
            if part:
                tables.append(_bench_table(part, title=f"{dataset}: {IN_WORDS[task]}", single=single))
    return [*tables[:-1], replace(tables[-1], notes=tables[-1].notes + NOTES)]


def _bench_facts(record: Mapping[str, Any]) -> dict[str, object]:
    """Say what the times were taken with."""
    e = record["environment"]
    clocks = e["processor_mhz"] or ()
    providers = {(row["backend"], row["requested_provider"], row["provider"] or "none") for row in record["rows"]}
    gpu: dict[str, object] = {"GPU": e["gpus"]}
    if "gpu_driver" in e:
        gpu |= {"driver, clocks at rest": f"{e['gpu_driver']}, {e.get('gpu_clocks')}"}
    return {
        "processor": f"{e['processor']}, {e['cores']} cores, threads: {e['threads']}",
        "clock, MHz": f"{min(clocks):.0f} to {max(clocks):.0f}" if clocks else "not known",
        "load average": ", ".join(f"{load:.2f}" for load in e["load_average"] or ()) or "not known",
        "device": e["device"],
        **(gpu if e["device"] != "cpu" else {}),
        "versions": ", ".join(f"{name} {version}" for name, version in e["versions"].items()),
        "provider, asked → actual": "; ".join(f"{name} {a} → {b}" for name, a, b in sorted(providers, key=str)),
    }


def _cell(row: Mapping[str, Any]) -> tuple[str, ...]:
    return row["dataset"], row["model"], row["backend"]


def _bench_table(rows: Sequence[Mapping[str, Any]], *, title: str, single: Mapping[Any, float | None]) -> Table:
    """Give one row for each model and backend, without columns in which no row has a value.

    ``single`` holds the median seconds of one call for one point, by data set, model and backend.
    """
    failures = tuple(f"{row['model']}, {row['backend']}: {row['failure']}" for row in rows if row["failure"])
    body = []
    for row in rows:
        published = row["ratio_to_published"]
        values: dict[str, Value] = {
            "model": row["model"],
            "backend": row["backend"] + " ~" * bool(row["unstable"]),
            "median, s": row["median_s"],
            "IQR, s": row["iqr_s"],
            "p95, s": row["p95_s"],
            "× baseline": _ratio(row["ratio_to_baseline"]),
            "paper's ×": row["paper_ratio_to_baseline"],
            "V100, s": row["paper_s"],
            "× published": _ratio(published),
            "per second": row["per_second"],
            "call, ms": _scaled(single.get(_cell(row)) if row["task"] == "sample" else None, 1e3),
            "prepare, s": row["prepare_s"],
            "memory, MB": _scaled(row["memory_bytes"], 1e-6),
            "timed part": None if row["median_s"] is None else _part(row),
            "parameters": row["parameters"],
        }
        body.append(values)
    heads = [head for head in body[0] if head == "median, s" or any(values[head] is not None for values in body)]
    columns = tuple(Column(head, ".3g") for head in heads)  # a timing has no more than three digits
    return Table(title, columns, tuple(tuple(values[head] for head in heads) for values in body), failures)


def _part(row: Mapping[str, Any]) -> str:
    return f"{row['block']:,}/{row['whole']:,}" if row["extrapolated"] else "all"


def benchmark_comparison_table(record: Mapping[str, Any]) -> Table:
    """Lay out the comparison of two benchmarks row by row; notes say what is not compared, and what else differs."""
    rows = []
    for row in record["rows"]:
        labels = [row[part] for part in KEY]
        if row["device_before"] != row["device_after"]:
            labels[-1] += f", {row['device_before']} → {row['device_after']}"
        labels[-1] += " ~" * bool(row["unstable"])
        rows.append((*labels, row["before_s"], row["after_s"], _ratio(row["ratio"])))
    notes = [
        f"{what}: {_words(of['before'])} in {record['before']}, {_words(of['after'])} in {record['after']}"
        for what, of in (("threads", record["threads"]), ("settings", record["settings"]))
        if of["before"] != of["after"]
    ]
    notes += [
        f"not compared: {', '.join(row[part] for part in KEY)}, {row['before']} in {record['before']}, "
        f"{row['after']} in {record['after']}"
        for row in record["unequal"]
    ]
    notes += [
        f"only in {record[side]}: {', '.join(map(str, key))}"
        for side in ("before", "after")
        for key in record["unmatched"][side]
    ]
    heads = ("data set", "model", "recipe", "task", "backend", "before, s", "after, s", "ratio")
    title = f"{record['after']} over {record['before']}: ratio of medians, 95 % interval"
    return Table(title, tuple(Column(head, ".3g") for head in heads), tuple(rows), tuple(notes))


def _words(condition: int | list[str] | None) -> str:
    if isinstance(condition, list):
        return ", ".join(condition) or "none"
    return "not known" if condition is None else str(condition)


def _scaled(value: float | None, factor: float) -> float | None:
    return None if value is None else factor * value


def _ratio(ratio: Mapping[str, float] | None) -> Bounded | None:
    return None if ratio is None else Bounded(ratio["value"], ratio["low"], ratio["high"])
