"""What people read of a benchmark, and of two of them side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from ..present.terminal import facts_table, number

__all__ = ["bench_tables", "comparison_table"]

CAPTION = """Times are of the whole task; where only a part of it was measured, the last column says how much.
~ unstable: the interquartile range is more than a tenth of the median. Memory: what a first call adds.
× baseline and × published: ratios of medians of interleaved rounds, the former with its 95 % interval.
Paper: the same ratio of its tables (its text says 1.45 for training, 1.42 for sampling); V100: its own single run."""
COLUMNS = (
    "median,\ns",
    "IQR,\ns",
    "p95,\ns",
    "×\nbaseline",
    "paper's\n×",
    "V100,\ns",
    "×\npublished",
    "a\nsecond",
)


def bench_tables(record: Mapping[str, Any]) -> RenderableType:
    """Show a benchmark: the machine, and for every data set training and sampling, models × backends."""
    rows = record["rows"]
    single = {_cell(row): row["median_s"] for row in rows if row["task"] == "latency"}
    alone = {row["task"] for row in rows} == {"latency"}
    tables: list[RenderableType] = [facts_table(_bench_facts(record))]
    for dataset in dict.fromkeys(row["dataset"] for row in rows):
        for task, what in (("train", "training"), ("sample", "sampling"), ("latency", "one call for one point")):
            part = [row for row in rows if row["dataset"] == dataset and row["task"] == task]
            if part and (task != "latency" or alone):
                tables.append(_bench_table(part, title=f"{dataset}: {what}", single=single))
    return Group(*tables, CAPTION)


def _bench_facts(record: Mapping[str, Any]) -> dict[str, object]:
    """Say what the times were taken with."""
    e = record["environment"]
    clocks = e["processor_mhz"] or ()
    providers = {(row["backend"], row["requested_provider"], row["provider"] or "none") for row in record["rows"]}
    gpu = {"GPU": ", ".join(e["gpus"]) or "none"}
    if "gpu_driver" in e:
        gpu |= {"driver, clocks at rest": f"{e['gpu_driver']}, {e['gpu_clocks']}"}
    return {
        "processor": f"{e['processor']}, {e['cores']} cores, threads: {e['threads']}",
        "clock, MHz": f"{min(clocks):.0f} to {max(clocks):.0f}" if clocks else "not told",
        "load average": ", ".join(f"{load:.2f}" for load in e["load_average"] or ()) or "not told",
        "device": e["device"],
        **(gpu if e["device"] != "cpu" else {}),
        "versions": ", ".join(f"{name} {version}" for name, version in e["versions"].items()),
        "provider, asked → actual": "; ".join(f"{name} {a} → {b}" for name, a, b in sorted(providers)),
    }


def _cell(row: Mapping[str, Any]) -> tuple[str, ...]:
    return row["dataset"], row["model"], row["backend"]


def _bench_table(rows: Sequence[Mapping[str, Any]], *, title: str, single: Mapping[Any, float | None]) -> Table:
    sampling = rows[0]["task"] == "sample"
    failures = [f"{row['model']}, {row['backend']}: {row['failure']}" for row in rows if row["failure"]]
    caption = escape("\n".join(failures)) or None
    table = Table(title=title, title_justify="left", caption=caption, caption_justify="left", box=SIMPLE_HEAD)
    for name in ("model", "backend"):
        table.add_column(name, no_wrap=True)
    one = ["1 point,\nms"] if sampling else []
    for name in (*COLUMNS, *one, "prepare,\ns", "memory,\nMB", "measured"):
        table.add_column(name, justify="right", no_wrap=True)
    for model, group in groupby(rows, key=lambda row: row["model"]):
        table.add_section()
        for i, row in enumerate(group):
            parameters = f"{row['parameters']:,}" if i == 1 else ""
            labels = (escape(model) if i == 0 else parameters, row["backend"])
            if row["median_s"] is None:
                table.add_row(*labels, *["–"] * (len(table.columns) - 2))
                continue
            published, memory = row["ratio_to_published"], row["memory_bytes"]
            values: list[object] = [row["iqr_s"], row["p95_s"], _ratio(row["ratio_to_baseline"])]
            values += [row["paper_ratio_to_baseline"], row["paper_s"], published and published["value"]]
            values += [row["per_second"], *([_scaled(single.get(_cell(row)), 1e3)] if sampling else [])]
            values += [row["prepare_s"], _scaled(memory, 1e-6)]
            values += [f"{row['block']:,}/{row['whole']:,}" if row["extrapolated"] else "all"]
            table.add_row(*labels, _short(row["median_s"]) + " ~" * row["unstable"], *map(_short, values))
    return table


def _scaled(value: float | None, factor: float) -> float | None:
    return None if value is None else factor * value


def _short(value: object) -> str:
    """Three digits, which is more than a timing has."""
    return f"{float(f'{value:.3g}'):g}" if isinstance(value, float) else number(value)


def comparison_table(record: Mapping[str, Any]) -> RenderableType:
    """Show two benchmarks row by row, and what only one of them has."""
    title = f"{record['after']} over {record['before']}: ratio of medians, 95 % interval"
    table = Table(title=escape(title), title_justify="left")
    for name in ("data set", "model", "recipe", "task", "backend"):
        table.add_column(name)
    for name in ("before, s", "after, s", "ratio"):
        table.add_column(name, justify="right")
    for row in record["rows"]:
        labels = [row[part] for part in ("dataset", "model", "recipe", "task", "backend")]
        if row["device_before"] != row["device_after"]:
            labels[-1] += f", {row['device_before']} → {row['device_after']}"
        mark = " ~" * row["unstable"]
        times = (number(row["before_s"]), number(row["after_s"]), _ratio(row["ratio"]) + mark)
        table.add_row(*map(escape, labels), *times)
    alone = [
        f"only in {record[side]}: {', '.join(map(str, key))}"
        for side in ("before", "after")
        for key in record["unmatched"][side]
    ]
    return Group(table, *map(escape, alone))


def _ratio(ratio: Mapping[str, float] | None) -> str:
    return "–" if ratio is None else f"{ratio['value']:.3g} ({ratio['low']:.3g}–{ratio['high']:.3g})"
