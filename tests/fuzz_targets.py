"""The files that the program reads, each with a good example and with the code that reads and uses it."""

from __future__ import annotations

import functools
import hashlib
import io
import json
import random
import tomllib
import warnings
import zipfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import onnx
import tomli_w
import torch
from fuzzing import STRANGE, Damage, damaged_bytes, damaged_tree, damaged_values
from safetensors.torch import load, save
from tiny import finished, narrow, tiny, tiny_of

from dualdiff_cli.bench.benchmark import BenchRequest, bench
from dualdiff_cli.bench.records import compare_benchmarks, read_benchmark
from dualdiff_cli.bench.tables import bench_tables, benchmark_comparison_table
from dualdiff_cli.config.recipes import resolve
from dualdiff_cli.data.schema_file import read_schema
from dualdiff_cli.exporting.runtime import ExportedModel
from dualdiff_cli.jobs import report as reports
from dualdiff_cli.jobs.compare import compare
from dualdiff_cli.jobs.evaluate import evaluate
from dualdiff_cli.jobs.export import export
from dualdiff_cli.jobs.inputs import data_of_run
from dualdiff_cli.jobs.plot import picture_of_losses
from dualdiff_cli.jobs.train import train
from dualdiff_cli.models import kind_of, load_model
from dualdiff_cli.paper.experiment import Experiment
from dualdiff_cli.present.evaluation import evaluation_tables
from dualdiff_cli.present.report.comparison import comparison_page
from dualdiff_cli.store.atomic import write_json
from dualdiff_cli.store.lock import LOCK, in_use
from dualdiff_cli.store.run import Run

__all__ = ["Target", "targets"]

CPU = torch.device("cpu")
KINDS = ("diffusion", "mixture", "kernel-density", "spline-flow")


@dataclass(frozen=True)
class Target:
    """A file, the code that reads it, and the ways in which it is damaged.

    Attributes:
        path: of the file, which holds a good example.
        use: reads the file and uses what it says.
        damages: each makes other bytes of the good ones.
        share: the part of the inputs that this target gets; slow ones get fewer.

    """

    path: Path
    use: Callable[[], object]
    damages: tuple[Damage, ...] = (damaged_bytes, damaged_values)
    share: float = 1.0


def targets(folder: Path) -> dict[str, Target]:
    """Make the good examples in a folder, and name the targets after them."""
    found: dict[str, Target] = {}
    for kind in KINDS:
        run = Run(train(tiny_of(kind, dataset="line"), path=folder / kind, device="cpu")["run"])
        draw = functools.partial(_draw, run)
        found[f"{kind} model.json"] = Target(run.path / "model.json", draw)
        weights, signed = run.path / "model.safetensors", functools.partial(_draw_signed, run)
        found[f"{kind} model.safetensors"] = Target(weights, draw, (damaged_bytes, _weights), 0.2)
        found[f"{kind} weights with their checksum"] = Target(weights, signed, (damaged_bytes, _weights), 0.5)
        config = functools.partial(resolve, file=run.path / "config.toml")
        found[f"{kind} config.toml"] = Target(run.path / "config.toml", config, (damaged_bytes, _toml))
    run = Run(folder / "diffusion")
    evaluate(run, n=100, device="cpu")
    found |= _of_a_run(run)
    found |= _of_exports(folder)
    found |= _of_records(folder, run)
    schema = folder / "schema.toml"
    schema.write_text('[columns]\na = "category"\nb = "number"\n', encoding="utf-8")
    found["schema file"] = Target(schema, functools.partial(read_schema, schema), (damaged_bytes, _toml))
    return found


def _draw(run: Run) -> None:
    load_model(run, device=CPU).sample(3, seed=0)


def _draw_signed(run: Run) -> None:
    """Draw from a run whose description has the checksum of its weights, whatever they are."""
    path = run.path / "model.json"
    before = path.read_bytes()
    checksum = hashlib.sha256((run.path / "model.safetensors").read_bytes()).hexdigest()
    write_json(path, json.loads(before) | {"sha256": checksum})
    try:
        _draw(run)
    finally:
        path.write_bytes(before)


def _of_a_run(run: Run) -> dict[str, Target]:
    model, data = load_model(run, device=CPU), data_of_run(run)
    plan = kind_of(run).plan(run.config, data, device=CPU, run=run)
    scores = run.load_evaluation()
    assert scores is not None

    def facts() -> None:
        reports._facts(run, model, data, scores)

    def judged() -> None:
        if (record := run.load_evaluation()) is not None:
            evaluation_tables(record, title="")

    def resumed() -> None:
        kind_of(run).fit(plan, run, device=CPU)

    holder = {"process": 1234, "host": "elsewhere", "birth": 10.5, "since": 1.8e9}
    write_json(run.path / LOCK, holder)
    return {
        "lock.json": Target(run.path / LOCK, lambda: in_use(run.path)),
        "state.pt": Target(run.path / "state.pt", resumed, (damaged_bytes, _state), 0.5),
        "metrics.jsonl": Target(run.path / "metrics.jsonl", lambda: picture_of_losses(run, title="")),
        "data.json": Target(run.path / "data.json", lambda: data_of_run(run)),
        "training.json": Target(run.path / "training.json", facts),
        "environment.json": Target(run.path / "environment.json", facts),
        "evaluation.json": Target(run.path / "evaluation.json", judged),
    }


def _of_exports(folder: Path) -> dict[str, Target]:
    run = finished(narrow(), folder / "narrow")
    found = {}
    for format, what, share in (("onnx", "sampler", 1.0), ("onnx", "denoiser", 1.0), ("torchscript", "sampler", 0.1)):
        path = Path(export(run, format=format, what=what, device="cpu")["output"])
        damages = (damaged_bytes, _properties) if format == "onnx" else (damaged_bytes, _archive)
        found[f"{format} {what}"] = Target(path, functools.partial(_draw_exported, path), damages, share)
    path = Path(export(run, format="pt2", device="cpu")["output"])
    found["pt2 sampler"] = Target(path, functools.partial(_draw_exported, path), (damaged_bytes, _archive), 0.02)
    return found


def _draw_exported(path: Path) -> None:
    ExportedModel.open(path, device="cpu", trust=True).sample(3, seed=0)


def _of_records(folder: Path, run: Run) -> dict[str, Target]:
    settings = ("data.points=200", "data.held_out_points=200", "model.components=3")
    comparison = folder / "comparison.json"
    write_json(
        comparison, compare("line", models=["mixture", "kernel-density"], n=100, settings=settings, device="cpu")
    )
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
    experiment = Experiment("line", "dual-expert", "paper", 0, runs=str(folder / "experiments"))
    scores = run.load_evaluation() or {}
    asked = {"sampling": [None, None], "generated": 10_000, "metrics": None}
    trained = (run.load_training() or {}) | {"seconds_around": 1.0}
    write_json(
        experiment.result_path, {"train": trained, "evaluations": [scores | {"asked": asked, "evaluate_seconds": 1.0}]}
    )
    finished(tiny("paper"), experiment.path)

    def compared() -> None:
        bench_tables(read_benchmark(record))
        benchmark_comparison_table(compare_benchmarks(record, record))

    return {
        "comparison": Target(comparison, lambda: comparison_page(reports._comparison(comparison))),
        "bench record": Target(record, compared),
        "experiment": Target(experiment.result_path, lambda: (experiment.result(), experiment.is_done())),
    }


def _toml(content: bytes, draws: random.Random) -> bytes:
    if draws.random() < 0.05:
        return b"a = " + b"[" * 10_000
    strange = tuple(value for value in STRANGE if value is not None and value != [None] and value != "\ud7ff")
    with suppress(AttributeError, TypeError):
        return tomli_w.dumps(damaged_tree(tomllib.loads(content.decode()), draws, strange)).encode()
    return content


def _state(content: bytes, draws: random.Random) -> bytes:
    tensors = (torch.zeros(0), torch.zeros(3), torch.full((2, 2), torch.nan), torch.zeros(10, dtype=torch.int8))
    tree = torch.load(io.BytesIO(content), weights_only=True)
    out = io.BytesIO()
    torch.save(damaged_tree(tree, draws, (*STRANGE, *tensors)), out)
    return out.getvalue()


def _weights(content: bytes, draws: random.Random) -> bytes:
    tensors = load(content)
    name = draws.choice(list(tensors))
    how = draws.randrange(5)
    if how == 0:
        del tensors[name]
    elif how == 1:
        tensors[name] = tensors[name].flatten()[:-1]
    elif how == 2:
        tensors[name] = torch.full_like(tensors[name], draws.choice((torch.nan, torch.inf, 1e30)))
    elif how == 3:
        tensors[name] = torch.zeros(2, 3, dtype=torch.int16)
    else:
        tensors["other"] = torch.zeros(1)
    return save(tensors)


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
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(out, "w") as new:
        for info in old.infolist():
            data = old.read(info)
            if info.filename.endswith("dualdiff.json"):
                data = json.dumps(damaged_tree(json.loads(data), draws)).encode()
            with warnings.catch_warnings(action="ignore"):
                new.writestr(info, data)
    return out.getvalue()
