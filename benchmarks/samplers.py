"""KL divergence against network evaluations, for every sampler, with the run's network and with the exact denoiser.

    python benchmarks/samplers.py runs/dino-dual-expert-1

The divergence with the exact denoiser is the sampler's own error, and the difference between the two divergences is the
network's error; both start from the same noise. A second call continues an interrupted one. The script prints a
Markdown table, and writes JSON and a picture.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import statistics
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, NullLocator

from dualdiff_cli import Run
from dualdiff_cli.compute.machine import describe_machine
from dualdiff_cli.config.registry import SAMPLERS
from dualdiff_cli.config.sections import Grid
from dualdiff_cli.data import DENSITIES, draw
from dualdiff_cli.diffusion.denoisers import Denoiser
from dualdiff_cli.diffusion.exact import exact_denoiser
from dualdiff_cli.diffusion.samplers import Sampler, generate
from dualdiff_cli.jobs.inputs import data_of_run
from dualdiff_cli.metrics import Score, kl_divergence
from dualdiff_cli.models.diffusion import DiffusionModel
from dualdiff_cli.present.figures.style import EXPERTS, SAMPLES, save, styled
from dualdiff_cli.present.tables import Bounded, Column, Table, Value

DIRECTIONS = {"kl_real_generated": False, "kl_generated_real": True}
REAL, FLOOR_DRAWS = 100_000, 3
EVALUATIONS = (5, 10, 20, 50, 100, 200)
NO_GRID = ("adaptive", "langevin")
"""Samplers that have no grid of noise levels."""
COMPARED = [name for name in SAMPLERS if name != "ddim"]
"""All samplers except DDIM, which without fresh noise is Euler's method."""


@dataclass(frozen=True)
class Cell:
    """A sampler, its grid of noise levels, its number of steps, and the denoiser that it uses."""

    sampler: str
    grid: Grid
    steps: int
    denoiser: str

    @property
    def method(self) -> Sampler:
        """The sampler."""
        return SAMPLERS[self.sampler](steps=self.steps, grid=self.grid)


class Bench:
    """A run, its density and its held-out rows, which every process loads once.

    Args:
        path: a finished run on a named density.
        n: number of points that a sampler draws.
        seed: seed of the points' noise.

    """

    def __init__(self, path: Path, *, n: int, seed: int) -> None:
        torch.set_num_threads(1)
        self.n, self.seed = n, seed
        run = Run.open(path)
        self.model = DiffusionModel.load(run, device=torch.device("cpu"))
        data = data_of_run(run)
        assert data.density is not None, "checked before any process was started"
        self.density, self.real = data.density, data.held_out[:REAL].to_numpy()
        shift, scale = self.model.encoding.affine
        exact = exact_denoiser(data.density, self.model.denoiser.schedule, shift=shift, scale=scale)
        self.denoisers: dict[str, Denoiser] = {"network": self.model.denoiser, "exact": exact}

    def measure(self, cell: Cell) -> dict[str, Any]:
        """Draw points, and estimate the divergence in both directions."""
        denoiser, calls = self.denoisers[cell.denoiser], 0

        def count(*_: object) -> None:
            nonlocal calls
            calls += 1

        counting = denoiser.register_forward_hook(count)
        d, batches = self.model.encoding.width, -(-self.n // 2048)
        chunks = generate(cell.method, denoiser, self.n, dim=d, seed=self.seed, device=torch.device("cpu"))
        points = self.model.encoding.decode(np.concatenate(list(chunks))).to_numpy()
        counting.remove()
        if not np.isfinite(points).all():
            raise ArithmeticError(f"{cell} left the numbers")
        scores = {name: score.to_dict() for name, score in self._scores(points, groups=10).items()}
        return {**vars(cell), "evaluations": round(calls / batches), "metrics": scores}

    def floors(self) -> dict[str, dict[str, float]]:
        """Score fresh points of the density: mean and standard deviation over several draws."""
        perfect = [
            draw(self.density, self.n, seed=self.seed, role=f"perfect-{k}").to_numpy() for k in range(FLOOR_DRAWS)
        ]
        scores = [self._scores(points, groups=0) for points in perfect]
        values = {name: [score[name].value for score in scores] for name in DIRECTIONS}
        return {name: {"mean": statistics.mean(v), "std": statistics.stdev(v)} for name, v in values.items()}

    def _scores(self, points: np.ndarray, *, groups: int) -> dict[str, Score]:
        return {
            name: kl_divergence(self.real, points, reverse=reverse, groups=groups, workers=1)
            for name, reverse in DIRECTIONS.items()
        }


_bench: Bench


def _begin(path: Path, n: int, seed: int) -> None:
    global _bench
    _bench = Bench(path, n=n, seed=seed)


def _measure(cell: Cell) -> dict[str, Any]:
    return _bench.measure(cell)


def _floors() -> dict[str, dict[str, float]]:
    return _bench.floors()


def steps_within(method: type[Sampler], evaluations: int, denoiser: Denoiser) -> int | None:
    """Most steps N ≥ 2 whose a·N + b evaluations are at most as many as given; None if there are none such.

    a and b are read off two short walks of one point.
    """
    calls = []
    for steps in (2, 3):
        sampler, count = method(steps=steps, grid="log-snr"), [0]
        hook = denoiser.register_forward_hook(lambda *_, count=count: count.__setitem__(0, count[0] + 1))
        sampler(denoiser, torch.zeros(1, 2), torch.zeros(sampler.draws - 1, 1, 2) if sampler.stochastic else None)
        hook.remove()
        calls.append(count[0])
    a = calls[1] - calls[0]
    if a == 0:  # it chooses its own number
        return 2
    steps = (evaluations - calls[0]) // a + 2
    return steps if steps >= 2 else None


def cells_of(samplers: list[str], grids: list[Grid], evaluations: list[int], denoiser: Denoiser) -> Iterator[Cell]:
    """Every sampler on every grid that makes a difference to it, few evaluations first."""
    seen = set()
    for budget in sorted(evaluations):
        for name in samplers:
            steps = steps_within(SAMPLERS[name], budget, denoiser)
            for grid in grids[:1] if name in NO_GRID else grids:
                for which in ("network", "exact"):
                    cell = Cell(name, grid, steps or 0, which)
                    if steps is not None and cell not in seen:
                        seen.add(cell)
                        yield cell


def table(rows: list[dict[str, Any]], floors: dict[str, dict[str, float]]) -> Table:
    """Give one row for each sampler, grid and number of evaluations: both divergences with both denoisers."""
    columns = [Column(head) for head in ("sampler", "grid", "evaluations")]
    for name in DIRECTIONS:
        columns += [Column(f"{name}, network (floor {floors[name]['mean']:.3f})"), Column(f"{name}, exact denoiser")]
    keyed = {(r["sampler"], r["grid"], r["steps"], r["denoiser"]): r for r in rows}
    body: list[tuple[Value, ...]] = []
    for sampler, grid, steps in sorted({key[:3] for key in keyed}):
        pair = [keyed.get((sampler, grid, steps, which)) for which in ("network", "exact")]
        counts = " / ".join(dict.fromkeys(str(row["evaluations"]) for row in pair if row))
        scores = [_score(row["metrics"][name]) if row else None for name in DIRECTIONS for row in pair]
        body.append((sampler, "–" if sampler in NO_GRID else grid, counts, *scores))
    notes = ("In brackets stand 95 % intervals; all divergences are in bits.",)
    return Table("Divergence by sampler and number of evaluations", tuple(columns), tuple(body), notes)


def _score(score: dict[str, Any]) -> Value:
    return Bounded(score["value"], *score["ci95"]) if score["ci95"] else score["value"]


@styled
def picture(rows: list[dict[str, Any]], floors: dict[str, dict[str, float]], *, title: str) -> Figure:
    """Small panels, one a sampler, all others faint behind it: divergence over evaluations.

    Drawn is how far the worse of the two directions is above its floor: points drawn too close together are *below* it
    in one direction, and far above in the other.
    """
    names = [name for name in SAMPLERS if any(row["sampler"] == name for row in rows)]
    grids = list(dict.fromkeys(row["grid"] for row in rows))
    lines: dict[tuple[str, str, str], list[tuple[int, float]]] = {}
    for row in sorted(rows, key=lambda row: row["evaluations"]):
        key = (row["sampler"], row["grid"], row["denoiser"])
        above = max(row["metrics"][name]["value"] - floors[name]["mean"] for name in DIRECTIONS)
        lines.setdefault(key, []).append((row["evaluations"], above))
    figure = Figure(figsize=(7.2, 1.75 * -(-len(names) // 4) + 0.7), layout="constrained")
    panels = figure.subplots(-(-len(names) // 4), 4, sharex=True, sharey=True, squeeze=False).ravel()
    colours = {"network": SAMPLES, "exact": EXPERTS[1]}
    for axes, name in zip(panels, names, strict=False):
        for (sampler, grid, denoiser), points in lines.items():
            x, y = zip(*points, strict=True)
            if sampler == name:
                dashed = (0, (1, 1)) if grids.index(grid) else "-"
                axes.plot(x, y, color=colours[denoiser], ls=dashed, marker="o", ms=2.5, lw=1.2, zorder=3)
            elif denoiser == "network" and grid == grids[0]:
                axes.plot(x, y, color="#d9d9d9", lw=0.6, zorder=1)
        _axes(axes)
        axes.set_title(name)
    for axes in panels[len(names) :]:
        axes.set_visible(False)
    figure.supxlabel("denoiser evaluations")
    figure.supylabel("the larger divergence above its floor, bits")
    handles = [Line2D([], [], color=colour, label=f"{name} denoiser") for name, colour in colours.items()]
    handles[0].set_label("trained network")
    styles = ("-", (0, (1, 1)))
    handles += [
        Line2D([], [], color="#333333", ls=style, label=f"{grid} grid")
        for grid, style in zip(grids, styles, strict=False)
    ]
    figure.legend(handles=handles, loc="outside upper right", ncols=4, handlelength=1.6)
    figure.suptitle(title, x=0.01, ha="left")
    return figure


def _axes(axes: Axes) -> None:
    axes.set_xscale("log")
    axes.set_yscale("symlog", linthresh=0.1, linscale=1.2)
    axes.set_xticks([5, 10, 20, 50, 100, 200])
    axes.set_yticks([0, 0.05, 0.1, 1, 10])
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_locator(NullLocator())
    axes.set_ylim(-0.04, 20)
    axes.axhline(0, color="#8a8a8a", lw=0.6)
    axes.grid(axis="y")


def main() -> None:
    """Measure what is not there yet, and show everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a finished run of one of `dualdiff datasets`")
    parser.add_argument(
        "--sampler", action="append", choices=list(SAMPLERS), help="default: all but ddim, which is euler"
    )
    parser.add_argument("--grid", action="append", choices=["uniform", "log-snr", "karras"], help="default: log-snr")
    parser.add_argument("--evaluations", action="append", type=int, help=f"default: {EVALUATIONS}")
    parser.add_argument("--points", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1000, help="of the noise and of the perfect points")
    parser.add_argument("--jobs", type=int, default=2, help="processes, of one thread each")
    parser.add_argument("--output", type=Path, help="default: benchmarks/results/samplers-<dataset>.json")
    parser.add_argument("--figure", type=Path, help="default: docs/figures/samplers-<dataset>.png")
    args = parser.parse_args()

    config = Run.open(args.run).config
    if config.dataset not in DENSITIES:
        parser.error(f"{args.run} is a run of a file, which has no exact denoiser; use one of {', '.join(DENSITIES)}")
    output = args.output or Path(f"benchmarks/results/samplers-{config.dataset}.json")
    figure = args.figure or Path(f"docs/figures/samplers-{config.dataset}.png")
    weights = hashlib.sha256((args.run / "model.safetensors").read_bytes()).hexdigest()
    asked = {"weights": weights, "points": args.points, "seed": args.seed}
    record: dict[str, Any] = {"machine": describe_machine(), "config": config.model_dump(mode="json"), **asked}
    record |= {"floors": None, "rows": []}
    if output.exists():
        before = json.loads(output.read_text(encoding="utf-8"))
        if all(before.get(key) == value for key, value in asked.items()):
            record = before

    model = DiffusionModel.load(Run.open(args.run), torch.device("cpu"))
    cells = cells_of(
        args.sampler or COMPARED, args.grid or ["log-snr"], args.evaluations or list(EVALUATIONS), model.denoiser
    )
    done = {tuple(row[key] for key in vars(Cell("", "uniform", 0, ""))) for row in record["rows"]}
    left = [cell for cell in cells if tuple(vars(cell).values()) not in done]
    output.parent.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(args.jobs, initializer=_begin, initargs=(args.run, args.points, args.seed)) as pool:
        record["floors"] = record["floors"] or pool.submit(_floors).result()
        for number, row in enumerate(as_completed([pool.submit(_measure, cell) for cell in left]), 1):
            record["rows"].append(row.result())
            output.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
            last = record["rows"][-1]
            print(f"{number} of {len(left)}: {last['sampler']} {last['steps']}, {last['denoiser']}", flush=True)

    title = f"{config.dataset} · {config.model.name} · {config.recipe}"
    figure.parent.mkdir(parents=True, exist_ok=True)
    save(picture(record["rows"], record["floors"], title=title), figure.with_suffix(""))
    print(table(record["rows"], record["floors"]).to_markdown())


if __name__ == "__main__":
    main()
