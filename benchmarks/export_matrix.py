"""What can be exported, how large and how true it is: models × recipes × formats × sampler and denoiser × batch sizes.

    python benchmarks/export_matrix.py
    python benchmarks/export_matrix.py --model dual-expert --recipe precise --train-steps 10000 --speed

Every row has a status; if an export is refused, or a model under a recipe, the status gives the reason. Errors are
differences to the run's own result on the same noise, in units of the features: standard deviations of a column, but
under the recipe paper the units of the data. "First" is the time from opening the file to the first result of that
batch size, in a process that has loaded its libraries. ``--speed`` also times 10,000 samples by every format and by
torch, eager and compiled. The script prints Markdown tables, and writes JSON after each model.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dualdiff_cli import Run, export, resolve, train
from dualdiff_cli.compute.machine import describe_machine
from dualdiff_cli.config.recipes import MODELS, RECIPES
from dualdiff_cli.config.registry import MODEL_KINDS
from dualdiff_cli.diffusion.samplers import build_sampler, draw_noise
from dualdiff_cli.errors import DualdiffError
from dualdiff_cli.exporting.formats import FORMATS
from dualdiff_cli.exporting.runtime import ExportedModel
from dualdiff_cli.models.diffusion import DiffusionModel
from dualdiff_cli.present.tables import Column, Table
from dualdiff_cli.store.atomic import write_json

CPU = torch.device("cpu")
NETWORKS = [name for name in MODELS if name not in MODEL_KINDS]
"""The diffusion models; the other models bear the names of their kinds, and cannot be exported."""
LARGEST_CHUNK = 2048
SMALL = {"model": {"width": 16, "blocks": 1, "gate_hidden": [16]}, "sampling": {"steps": 4}}
LABELS = ("model", "recipe", "format", "what", "precision", "batch", "status")


def model_of(recipe: str, name: str, *, train_steps: int, small: bool, runs: Path) -> Run:
    """Train a model for a few steps, or open the run of an earlier call."""
    path = runs / f"{recipe}-{name}-{train_steps}{'-small' * small}"
    if not (path / "model.safetensors").exists():
        points = {"points": 2000, "held_out_points": 2000} if small else {}
        options = {"training": {"steps": train_steps}, "data": points, **(SMALL if small else {})}
        train(resolve(dataset="moons", recipe=recipe, model=name, options=options), path=path, device="cpu")
    return Run.open(path)


class Reference:
    """The samples and the denoised points of a run, computed once, as features."""

    def __init__(self, run: Run, batches: Sequence[int]) -> None:
        self.model = DiffusionModel.load(run, device=CPU)
        self.sampler = build_sampler(self.model.config.sampling)
        blocks = range(-(-max(batches) // LARGEST_CHUNK))
        dim = self.model.encoding.width
        self.noise = torch.cat([draw_noise(7, b, dim=dim, draws=self.sampler.draws) for b in blocks], dim=1)
        self.noise = self.noise[:, : max(batches)]
        self.t = self.model.denoiser.schedule.times(3)[1]
        with torch.no_grad():
            parts = self.noise.split(LARGEST_CHUNK, dim=1)
            walks = [self.sampler(self.model.denoiser, part[0], part[1:]) for part in parts]
            self.samples = torch.cat(walks)
            self.denoised = self.model.denoiser(self.noise[0], self.t)

    def call(self, exported: ExportedModel, n: int) -> tuple[Tensor, Tensor]:
        """Give the file's result on the first n points, and the run's own result, both as features (n, width)."""
        if exported.what == "denoiser":
            return exported.denoiser()(self.noise[0, :n], self.t), self.denoised[:n]
        noise = self.noise[:, :n].contiguous()
        samples = exported.walk(noise[0], noise[1:] if len(noise) > 1 else None)
        shift, scale = map(torch.from_numpy, self.model.encoding.affine)
        return (samples - shift) / scale, self.samples[:n]


def cells(run: Run, reference: Reference, *, batches: Sequence[int], **request: Any) -> list[dict[str, Any]]:
    """Export once and measure every batch size; if the export is refused, every row gives the reason."""
    labels = {"model": reference.model.config.model.name, "recipe": reference.model.config.recipe, **request}
    try:
        record = export(run, device="cpu", **request)
    except DualdiffError as error:
        return [refused(error, **labels, batch=n) for n in batches]
    rows = []
    for n in batches:
        started = time.perf_counter()
        result, expected = reference.call(ExportedModel.open(Path(record["output"]), device="cpu", trust=True), n)
        seconds = time.perf_counter() - started
        measured = {"max_abs_error": float((result - expected).abs().max()), "first_seconds": seconds}
        kept = {name: record[name] for name in ("bytes", "tolerance", "opset", "provider", "seconds")}
        rows.append({**labels, "batch": n, "status": "ok", **kept, **measured})
    return rows


def refused(error: DualdiffError, **labels: Any) -> dict[str, Any]:
    """Give the row of what cannot be exported, with the reason; what is not in the labels is None."""
    row = dict.fromkeys((*LABELS, "bytes", "max_abs_error", "first_seconds"))
    return {**row, **labels, "status": f"refused: {error.problem}"}


def speed(run: Run, *, n: int = 10_000, repeats: int = 5) -> list[dict[str, Any]]:
    """Time the drawing of n points in every way, the ways in turn, ``repeats`` times."""
    model = DiffusionModel.load(run, device=CPU)
    ways: dict[str, Callable[[int], object]] = {"torch eager": lambda seed: model.sample(n, seed=seed)}
    compiled = DiffusionModel.load(run, device=CPU)
    compiled.denoiser.network.compile()
    ways["torch compiled"] = lambda seed: compiled.sample(n, seed=seed)
    for format in FORMATS:
        exported = ExportedModel.open(
            Path(export(run, format=format, device="cpu")["output"]), device="cpu", trust=True
        )
        ways[f"{format} file"] = lambda seed, exported=exported: exported.sample(n, seed=seed)  # type: ignore[misc]
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    reasons: dict[str, str] = {}
    for repeat in range(-1, repeats):  # the first round warms up and is not counted
        for way, draw in ways.items():
            if way in reasons:
                continue
            started = time.perf_counter()
            try:
                draw(repeat + 1)
            except Exception as error:  # for example because there is no compiler
                reasons[way] = f"failed: {str(error).strip().splitlines()[0]}"
                continue
            if repeat >= 0:
                seconds[way].append(time.perf_counter() - started)
    return [{"way": way, "points": n, "status": reasons.get(way, "ok"), **spread(seconds[way])} for way in ways]


def spread(seconds: Sequence[float]) -> dict[str, Any]:
    """Median and interquartile range."""
    if len(seconds) < 2:
        return {"median_s": None, "iqr_s": None, "repeats": len(seconds)}
    low, _, high = np.percentile(seconds, [25, 50, 75])
    return {"median_s": statistics.median(seconds), "iqr_s": float(high - low), "repeats": len(seconds)}


def matrix(rows: Sequence[dict[str, Any]]) -> Table:
    """Give one row for each cell of the matrix."""
    body = tuple(
        (
            *(row[name] for name in LABELS),
            None if row["bytes"] is None else row["bytes"] / 1e6,
            row["max_abs_error"],
            row["first_seconds"],
        )
        for row in rows
    )
    measured = (Column("MB", ".2f"), Column("max error", ".1e"), Column("first, s"))
    return Table("Export", (*map(Column, LABELS), *measured), body)


def times(speeds: Sequence[dict[str, Any]]) -> Table:
    """Give one row for each way to draw 10,000 samples."""
    body = tuple((s["way"], s["status"], s["median_s"], s["iqr_s"]) for s in speeds)
    heads = ("10,000 samples by", "status", "median, s", "interquartile range, s")
    return Table("Speed", tuple(Column(head, ".2f") for head in heads), body)


def main(arguments: Sequence[str] | None = None) -> None:
    """Fill the matrix."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", action="append", choices=NETWORKS, help="default: all")
    parser.add_argument("--recipe", action="append", choices=RECIPES, help="default: all")
    parser.add_argument("--format", action="append", choices=FORMATS, help="default: all")
    parser.add_argument("--precision", action="append", help="default: float32")
    parser.add_argument("--batch", action="append", type=int, help="default: 1, 2, 7 and 10,000")
    parser.add_argument("--train-steps", type=int, default=200)
    parser.add_argument("--small", action="store_true", help="narrow networks and few steps, to see that it works")
    parser.add_argument("--speed", action="store_true", help="also time 10,000 samples of the first model")
    parser.add_argument("--runs", type=Path, default=Path("runs/export"))
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/export.json"))
    args = parser.parse_args(arguments)
    warnings.simplefilter("ignore")

    batches = args.batch or [1, 2, 7, 10_000]
    requests = list(product(args.format or FORMATS, ("sampler", "denoiser"), args.precision or ["float32"]))
    rows: list[dict[str, Any]] = []
    speeds: list[dict[str, Any]] = []
    record = {"machine": describe_machine(), "train_steps": args.train_steps, "rows": rows, "speed": speeds}
    for recipe, name in product(args.recipe or RECIPES, args.model or NETWORKS):
        try:
            run = model_of(recipe, name, train_steps=args.train_steps, small=args.small, runs=args.runs)
        except DualdiffError as error:  # a recipe need not suit every model
            rows.append(refused(error, model=name, recipe=recipe))
            print(f"{recipe} {name}: {rows[-1]['status']}", flush=True)
        else:
            reference = Reference(run, batches)
            for format, what, precision in requests:
                rows += cells(run, reference, batches=batches, format=format, what=what, precision=precision)
                print(f"{recipe} {name} {format} {what} {precision}: {rows[-1]['status']}", flush=True)
            if args.speed and not speeds:
                speeds += speed(run)
        write_json(args.output, record)
    print(matrix(rows).to_markdown())
    if speeds:
        print(times(speeds).to_markdown())


if __name__ == "__main__":
    main()
