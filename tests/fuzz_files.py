"""Files that are read from outside of runs: exported files, tables, and the records of comparisons and benchmarks."""

from __future__ import annotations

import functools
import json
import random
import shutil
import warnings
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import onnx
import polars as pl
from fuzzing import Damage, Target, damaged_bytes, damaged_cells, damaged_tree, damaged_values, packed
from tiny import finished, narrow, tiny

from dualdiff_cli import seeding
from dualdiff_cli.bench.benchmark import BenchRequest, bench
from dualdiff_cli.bench.records import compare_benchmarks, read_benchmark
from dualdiff_cli.bench.tables import bench_tables, benchmark_comparison_table
from dualdiff_cli.data import READABLE, load_data, write_chunks
from dualdiff_cli.exporting.metadata import FORMAT_VERSION
from dualdiff_cli.exporting.runtime import ExportedModel
from dualdiff_cli.jobs import report as reports
from dualdiff_cli.jobs.compare import compare
from dualdiff_cli.jobs.export import export
from dualdiff_cli.paper.experiment import Experiment
from dualdiff_cli.present.report.comparison import comparison_page
from dualdiff_cli.store.atomic import write_json
from dualdiff_cli.store.run import Run

__all__ = ["data_files", "exports", "records"]

VALUES = (damaged_bytes, damaged_values)
CELLS = (damaged_bytes, damaged_cells)
PACKED = (damaged_bytes, packed(damaged_cells))
ROWS = 30
KEPT_EXPORT = Path(__file__).parent / "formats" / f"export-{FORMAT_VERSION}" / "sampler.onnx"


def data_files(folder: Path) -> dict[str, Target]:
    """Write a table in every format that can be read."""
    rng = seeding.stream(0, "a table to damage")
    days = pl.Series(["2024-01-01", "2024-02-29", "1969-07-20"] * (ROWS // 3)).str.to_date()
    table = pl.DataFrame(
        {"a": rng.normal(size=ROWS), "k": range(ROWS), "s": ["ab", "c", None] * (ROWS // 3), "day": days}
    )
    found = {}
    for suffix in READABLE:
        path = folder / f"data{suffix}"
        written = path.with_name(path.name.replace(".txt", ".tsv"))
        write_chunks(written, [table.select("a", "k") if suffix == ".npy" else table], rows=ROWS)
        path.write_bytes(written.read_bytes())
        damages, share = DAMAGES[suffix]
        found[f"data{suffix}"] = Target(path, functools.partial(_learn, path), damages, share)
    return found


def _learn(path: Path) -> None:
    """Read a table and fit an encoding to it, which takes every row there and back."""
    data = load_data(path, seed=0)
    data.encoding.decode(data.encoding.encode(data.train, seeding.stream(0, "what integers hide")))


def _sheet(content: bytes, draws: random.Random) -> bytes:
    """Damage an Excel file, or one of the files that are packed in it."""
    if draws.random() < 0.3:
        return damaged_bytes(content, draws)
    with zipfile.ZipFile(BytesIO(content)) as book:
        name = draws.choice(book.namelist())
    return _repacked(content, name, lambda part: damaged_bytes(part, draws))


def _repacked(content: bytes, name: str, change: Callable[[bytes], bytes]) -> bytes:
    """Change one of the files in an archive."""
    out = BytesIO()
    with zipfile.ZipFile(BytesIO(content)) as old, zipfile.ZipFile(out, "w") as new:
        for info in old.infolist():
            part = old.read(info)
            with warnings.catch_warnings(action="ignore"):
                new.writestr(info, change(part) if info.filename == name else part)
    return out.getvalue()


DAMAGES: dict[str, tuple[tuple[Damage, ...], float]] = {
    **dict.fromkeys((".csv", ".tsv", ".txt"), (CELLS, 0.2)),
    **dict.fromkeys((".csv.gz", ".tsv.gz", ".txt.gz"), (PACKED, 0.1)),
    **dict.fromkeys((".ndjson", ".jsonl"), (VALUES, 0.15)),
    ".parquet": ((damaged_bytes,), 0.7),
    ".npy": ((damaged_bytes,), 0.5),
    ".xlsx": ((_sheet,), 0.05),
}
"""How each format of tables is damaged, and its share of the inputs."""


def exports(folder: Path, *, all_of_them: bool) -> dict[str, Target]:
    """Export a small model in every format.

    A short run damages an ONNX file that is kept and a TorchScript file, because other exports take seconds.
    """
    run = finished(narrow(objective={"conditional": 0.25}), folder / "narrow")
    found = {}
    for format, what, given, share in (
        ("onnx", "sampler", False, 0.1),
        ("onnx", "denoiser", False, 0.1),
        ("onnx", "sampler", True, 0.05),
        ("torchscript", "sampler", False, 0.05),
        ("pt2", "sampler", False, 0.01),
    ):
        name = f"{format} {what}{' with given cells' if given else ''}"
        output = folder / f"{name.replace(' ', '-')}.{ {'torchscript': 'ts'}.get(format, format) }"
        if all_of_them or format == "torchscript":
            export(run, format=format, what=what, given=given, device="cpu", output=output)
        elif name == "onnx sampler":
            shutil.copy(KEPT_EXPORT, output)
        else:
            continue
        damages = (damaged_bytes, _properties) if format == "onnx" else (damaged_bytes, _archive)
        found[name] = Target(output, functools.partial(_draw_exported, output), damages, share)
    return found


def _draw_exported(path: Path) -> None:
    ExportedModel.open(path, device="cpu", trust=True).sample(3, seed=0)


def _properties(content: bytes, draws: random.Random) -> bytes:
    """Damage one value of the metadata of an ONNX file."""
    model = onnx.load_from_string(content)
    entry = draws.choice(model.metadata_props)
    damaged = damaged_tree([json.loads(entry.value)], draws)
    entry.value = json.dumps(damaged[0] if isinstance(damaged, list) and damaged else None)
    if draws.random() < 0.02:
        entry.value = "[" * 100_000
    return bytes(model.SerializeToString())


def _archive(content: bytes, draws: random.Random) -> bytes:
    """Damage one value of the metadata in an archive."""
    with zipfile.ZipFile(BytesIO(content)) as archive:
        name = next(name for name in archive.namelist() if name.endswith("dualdiff.json"))
    return _repacked(content, name, lambda part: json.dumps(damaged_tree(json.loads(part), draws)).encode())


def records(folder: Path, run: Run) -> dict[str, Target]:
    """Make the records of a comparison, of a benchmark and of an experiment of `reproduce`."""
    settings = ("data.points=200", "data.held_out_points=200", "model.components=3")
    again = functools.partial(
        compare,
        "line",
        models=["mixture", "kernel-density"],
        n=100,
        settings=settings,
        device="cpu",
        path=folder / "compared",
    )
    again()
    comparison = folder / "compared" / "comparison.json"
    record = folder / "bench.json"
    small = ("model.width=8", "model.blocks=1", "model.gate_hidden=[8]", "schedule.length=8", "data.points=200")
    request = BenchRequest(
        datasets=("line",),
        models=("baseline",),
        backends=("eager", "published"),
        tasks=("train", "latency"),
        samples=200,
        repeats=2,
        seconds_per_block=0.0,
        settings=(*small, "data.held_out_points=200", "sampling.steps=4", "training.batch=16"),
    )
    bench(request, device="cpu", threads=1, output=record)
    experiment = _experiment(folder, run)

    def compared() -> None:
        bench_tables(read_benchmark(record))
        benchmark_comparison_table(compare_benchmarks(record, record))

    return {
        "comparison": Target(comparison, lambda: comparison_page(reports._comparison(comparison)), VALUES, 0.5),
        "request of a comparison": Target(folder / "compared" / "request.json", again, VALUES, 0.05),
        "scores of a comparison": Target(folder / "compared" / "scores" / "mixture.json", again, VALUES, 0.05),
        "bench record": Target(record, compared, VALUES, 0.2),
        "experiment": Target(experiment.result_path, lambda: (experiment.result(), experiment.is_done()), VALUES),
    }


def _experiment(folder: Path, run: Run) -> Experiment:
    """Make a finished experiment with the scores of a run."""
    experiment = Experiment("line", "dual-expert", "paper", 0, runs=str(folder / "experiments"))
    asked = {"sampling": [None, None], "generated": 10_000, "metrics": None}
    trained = (run.load_training() or {}) | {"seconds_around": 1.0}
    evaluation = (run.load_evaluation() or {}) | {"asked": asked, "evaluate_seconds": 1.0}
    write_json(experiment.result_path, {"train": trained, "evaluations": [evaluation]})
    finished(tiny("paper"), experiment.path)
    return experiment
