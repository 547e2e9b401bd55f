"""Models of few rows, scored against fresh truth: how much each misses the distribution, and whether it copies.

    python benchmarks/few_rows.py --rows 300 1000 --columns 2 5 --truth mixture sheet --seeds 1
    python benchmarks/few_rows.py --model dual-expert dual-expert+folds.bands=1 --truth sheet     # an ablation
    python benchmarks/few_rows.py --show                                           # the table of what is there

Each cell is one truth, number of rows, number of columns, model and seed. A cell that is finished is not run again, and
the cheap cells come first. The excess is the sum of both divergences between fresh true rows and generated rows, in
whitened units and in bits, less the same sum for other fresh true rows in place of the generated ones. Of a real table,
half of the rows is learnt, a quarter stands for the fresh true rows, and the last quarter gives the floor.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from matplotlib.figure import Figure
from truths import TABLES, TRUTHS, Rows, errors_of_weights, real_table

from dualdiff_cli import resolve, seeding, train
from dualdiff_cli.compute.device import choose_device
from dualdiff_cli.compute.machine import describe_machine
from dualdiff_cli.config.registry import PEERS
from dualdiff_cli.data import TableEncoding
from dualdiff_cli.errors import InputError
from dualdiff_cli.metrics import score_generated
from dualdiff_cli.models import load_model
from dualdiff_cli.present.figures.style import EXPERTS, save, styled
from dualdiff_cli.present.tables import Column, Table
from dualdiff_cli.store.atomic import write_json
from dualdiff_cli.store.run import Run

N = 5_000
"""The number of generated rows, and of fresh true rows, of a truth that can be drawn from."""
COUNTED = 20_000
"""The number of generated rows in which the ten modes are counted; in `N` a weight of 1 % is 14 % off by chance."""
LEAST_DRAWN = 0.02
"""A smaller excess, which is within the error, is drawn at this one."""
OURS = "dual-expert"
SCORES = ("kl_real_generated", "kl_generated_real", "classifier_auc", "memorisation", "copies")


class Cell(NamedTuple):
    """One truth, number of rows, number of columns, model and seed."""

    truth: str
    rows: int
    columns: int
    model: str
    seed: int

    def draw(self) -> tuple[Rows, Rows, list[Rows]]:
        """Give the rows to learn, fresh true rows, and other fresh true rows for the floor."""
        if self.truth in TABLES:
            whole = real_table(self.truth)
            order = seeding.stream(self.seed, "parts").permutation(len(whole))
            quarter = (len(whole) - self.rows) // 2
            learnt, real, perfect = np.split(whole[order], [self.rows, self.rows + quarter])
            return learnt, real, [perfect[:quarter]]
        parts = {"rows": self.rows, **dict.fromkeys((f"fresh {k}" for k in range(4)), N)}
        draw = TRUTHS[self.truth]
        learnt, real, *perfect = (draw(self.columns, n, seeding.stream(self.seed, role)) for role, n in parts.items())
        return learnt, real, perfect


def generate(cell: Cell, learnt: Rows, n: int) -> tuple[Rows, dict[str, Any]]:
    """Fit the cell's model in a folder of its own and draw n rows; give them with facts about the fit."""
    frame = pl.DataFrame(learnt, schema=[f"x{i + 1}" for i in range(cell.columns)])
    named, *settings = cell.model.split("+")
    name, _, recipe = named.partition(":")
    if name in PEERS:
        started = time.monotonic()
        peer = PEERS[name].fit(frame, TableEncoding.fit(frame), seed=cell.seed)
        seconds = time.monotonic() - started
        return peer.sample(n, seed=cell.seed).to_numpy(), {"train_seconds": seconds}
    with tempfile.TemporaryDirectory() as folder:
        frame.write_parquet(Path(folder, "rows.parquet"))
        options = {"seed": cell.seed, "data": {"held_out_fraction": max(0.1, 20 / cell.rows)}}
        recipe = recipe or ("few-rows" if name == "dual-expert" else "")
        dataset = str(Path(folder, "rows.parquet"))
        config = resolve(dataset=dataset, model=name, recipe=recipe or None, options=options, settings=settings)
        record = train(config, path=Path(folder, "run"), device="cpu")
        model = load_model(Run.open(record["run"]), device=choose_device("cpu"))
        facts = {key: record.get(key) for key in ("train_seconds", "steps", "components", "expert_usage")}
        return model.sample(n, seed=cell.seed).to_numpy(), facts


def measure(cell: Cell) -> dict[str, Any]:
    """Train the model of a cell and score it against fresh truth."""
    learnt, real, perfect = cell.draw()
    drawn, facts = generate(cell, learnt, COUNTED if cell.truth == "modes" else len(real))
    generated = drawn[: len(real)]
    spread = np.cov(np.concatenate([real, *perfect]).T).reshape(cell.columns, cell.columns)
    whitening = np.linalg.inv(np.linalg.cholesky(spread)).T
    scores = score_generated(
        real=real @ whitening,
        generated=generated @ whitening,
        perfect=[rows @ whitening for rows in perfect],
        training=learnt @ whitening,
        only=SCORES,
        seed=cell.seed,
    )
    values = {name: score.to_dict() for name, score in scores.items()}
    if cell.truth == "modes":
        facts["errors_of_weights"] = errors_of_weights(cell.columns, drawn, learnt, np.concatenate(perfect))
        facts["counted"] = len(drawn)
    return {"scores": values, "excess": _excess([values[name] for name in SCORES[:2]]), **facts}


def _excess(divergences: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Add the divergences less their floors, with the half-width of a 95 % interval; None where one is not known."""
    if any(score[key] is None for score in divergences for key in ("value", "floor", "ci95")):
        return None
    halves = [(score["ci95"][1] - score["ci95"][0]) / 2 for score in divergences]
    floors = [1.96 * (score["floor_spread"] or 0.0) for score in divergences]
    return {"value": sum(s["value"] - s["floor"] for s in divergences), "half": math.hypot(*halves, *floors)}


def table(results: list[dict[str, Any]]) -> Table:
    """Lay out the cells, averaged over seeds; the least excess of each truth is marked."""
    heads = ("truth", "rows × columns", "model", "seeds", "excess, bits", "± 95 %", "AUC", "nearer", "copies, %", "s")
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for r in sorted(results, key=lambda r: (r["truth"], r["rows"], r["columns"])):
        groups.setdefault((r["truth"], f"{r['rows']} × {r['columns']}", r["model"]), []).append(r)

    def mean(values: Iterable[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        return statistics.fmean(known) if known else None

    body = []
    for key, cells in groups.items():
        auc, nearer, copies = (mean(c["scores"][name]["value"] for c in cells) for name in SCORES[2:])
        floor = mean(c["scores"]["copies"]["floor"] for c in cells)
        over = None if copies is None or floor is None else 100 * (copies - floor)
        known = [c["excess"] for c in cells if c["excess"] is not None]
        half = math.hypot(*(e["half"] for e in known)) / len(known) if known else None
        excess = mean(e["value"] for e in known)
        body.append((*key, len(cells), excess, half, auc, nearer, over, mean(c["train_seconds"] for c in cells)))
    columns = tuple(Column(head, ".3g") for head in heads)
    return Table("Few rows, against fresh truth", columns, tuple(body), (*standing(results), *said_of_modes(results)))


def standing(results: list[dict[str, Any]]) -> Iterator[str]:
    """Say how `OURS` stands among the other models where truths can be drawn from; scores are means over seeds."""
    cells: dict[tuple[Any, ...], dict[str, list[dict[str, Any]]]] = {}
    for r in results:
        if r["truth"] in TRUTHS and "+" not in r["model"] and ":" not in r["model"] and r["excess"] is not None:
            cells.setdefault((r["truth"], r["rows"], r["columns"]), {}).setdefault(r["model"], []).append(r)
    near, least, many, worse, judged = 0, 0, 0, [], 0
    for cell, models in cells.items():
        excess = {name: statistics.fmean(r["excess"]["value"] for r in own) for name, own in models.items()}
        own = excess.pop(OURS, None)
        if own is None or not excess:
            continue
        best, judged = min(excess.values()), judged + 1
        near += own <= 1.1 * max(best, 0.0) + 0.05
        if cell[2] >= 5:
            many, least = many + 1, least + (own < best)
        auc = {k: statistics.fmean(r["scores"]["classifier_auc"]["value"] for r in own) for k, own in models.items()}
        if auc.pop(OURS) > min(auc.values()) + 0.02:
            worse.append(f"{cell[0]} {cell[1]} × {cell[2]}")
    yield f"{OURS}: the excess is at most 1.1 × the best other model's + 0.05 bits in {near} of {judged} cells."
    yield f"{OURS}: of {many} cells with five and more columns the excess is the least of all in {least}."
    own = [r for r in results if r["model"] == OURS and r["truth"] in TRUTHS and r["train_seconds"] is not None]
    seconds = [r["train_seconds"] for r in own if r["rows"] <= 5_000]
    if seconds:
        median = statistics.median(seconds)
        yield f"{OURS}: {len(seconds)} trainings of up to 5,000 rows took {median:.0f} s in the median."
    by_size: dict[tuple[int, int], list[float]] = {}
    for r in sorted(own, key=lambda r: (r["rows"], r["columns"])):
        if r["seed"] == 0:
            by_size.setdefault((r["rows"], r["columns"]), []).append(r["train_seconds"])
    for (rows, columns), taken in by_size.items():
        if len(taken) < 2:
            continue
        median, most = statistics.median(taken), max(taken)
        yield (
            f"{OURS}: {rows:,} rows × {columns}, first seeds of {len(taken)} truths: trained in {median:.0f} s in the "
            f"median, {most:.0f} s at most."
        )
    yield f"{OURS}: the AUC is worse than the best other model's by more than 0.02 in {', '.join(worse) or 'no cell'}."


def said_of_modes(results: list[dict[str, Any]]) -> Iterator[str]:
    """Say how far the weights of the ten modes are from the truth."""
    for r in results:
        if r.get("counted") == COUNTED:
            own, learnt, fresh = (f"{100 * error:.0f} %" for error in r["errors_of_weights"])
            size = f"{r['rows']:,} × {r['columns']}, seed {r['seed']}"
            yield (
                f"Ten modes, {size}: the weight of a mode is at most {own} off in {COUNTED:,} rows of {r['model']}, "
                f"{learnt} in the learnt rows, and {fresh} in as many true rows."
            )


def summary(results: list[dict[str, Any]]) -> Table:
    """Lay out the excess of each model side by side, with the half-width of its 95 % interval; seeds are averaged."""
    models = list(dict.fromkeys(r["model"] for r in results))
    sizes = sorted({(r["truth"], r["rows"], r["columns"]) for r in results})

    def text(size: tuple[str, int, int], model: str) -> str:
        own = [r["excess"] for r in results if (r["truth"], r["rows"], r["columns"], r["model"]) == (*size, model)]
        known = [excess for excess in own if excess is not None]
        if not known:
            return "too few rows" if own else "–"
        half = math.hypot(*(excess["half"] for excess in known)) / len(known)
        return f"{statistics.fmean(excess['value'] for excess in known):.2f} ± {half:.2f}"

    body = tuple((size[0], f"{size[1]} × {size[2]}", *(text(size, model) for model in models)) for size in sizes)
    heads = ("truth", "rows × columns", *models)
    return Table("Excess in bits", tuple(Column(head) for head in heads), body)


@styled
def figure(results: list[dict[str, Any]]) -> Figure:
    """Draw the excess of each model, averaged over seeds, one panel a truth and one line a size."""
    truths = list(dict.fromkeys(r["truth"] for r in results))
    models = list(dict.fromkeys(r["model"] for r in results))
    drawn = Figure(figsize=(2.6 * len(truths), 3.2), layout="constrained")
    panels = drawn.subplots(1, len(truths), squeeze=False)[0]
    for panel, truth in zip(panels, truths, strict=True):
        own = [r for r in results if r["truth"] == truth and r["excess"] is not None]
        sizes = sorted({(r["rows"], r["columns"]) for r in own})
        for model in models:
            found: dict[tuple[int, int], list[float]] = {}
            for r in own:
                if r["model"] == model:
                    found.setdefault((r["rows"], r["columns"]), []).append(r["excess"]["value"])
            at = [i for i, size in enumerate(sizes) if size in found]
            values = [max(statistics.fmean(found[sizes[i]]), LEAST_DRAWN) for i in at]
            panel.plot(values, at, "o", ms=4, color=EXPERTS[models.index(model) % len(EXPERTS)], label=model)
        panel.set(xscale="log", xlabel="excess, bits", title=truth)
        panel.set_yticks(range(len(sizes)), [f"{n} × {d}" for n, d in sizes])
    drawn.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(models))
    return drawn


def cells(args: argparse.Namespace) -> list[Cell]:
    """Give the cells that are asked for, the cheap ones first."""
    sizes = [(t, n, d) for t in args.truth if t in TRUTHS for n in args.rows for d in args.columns]
    for name in args.truth:
        if name in TABLES:
            whole = real_table(name)
            sizes.append((name, len(whole) // 2, whole.shape[1]))
    asked = [Cell(*size, model, seed) for size in sizes for model in args.model for seed in range(args.seeds)]
    return sorted(asked, key=lambda cell: (cell.seed, cell.rows * cell.columns))


def main() -> None:
    """Run the cells that are not there yet, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    everything = [*TRUTHS, *TABLES]
    parser.add_argument("--truth", nargs="+", choices=everything, default=everything)
    parser.add_argument("--rows", nargs="+", type=int, default=[300, 1000, 5000])
    parser.add_argument("--columns", nargs="+", type=int, default=[2, 5, 10])
    models = ["mixture", "kernel-density", "dual-expert", "spline-flow", *PEERS]
    parser.add_argument("--model", nargs="+", default=models, help="a model or peer, model:recipe, or model+key=value")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--output", type=Path, default=Path("few-rows.json"))
    parser.add_argument("--figure", type=Path, help="draw the excess of every model in every cell into this file")
    parser.add_argument("--show", action="store_true", help="print the table of what is there, and run nothing")
    args = parser.parse_args()
    kept = json.loads(args.output.read_text(encoding="utf-8")) if args.output.exists() else {"results": []}
    done = {tuple(result[key] for key in Cell._fields) for result in kept["results"]}
    for cell in [] if args.show else cells(args):
        if cell in done:
            continue
        try:
            result = measure(cell)
        except (InputError, ImportError) as error:  # a package is not installed, or not whole
            print(*cell, str(error), flush=True)
            continue
        kept["results"].append({**cell._asdict(), **result})
        write_json(args.output, {**kept, "machine": describe_machine()})
        print(*cell, f"excess {result['excess']}", flush=True)
    chosen = [r for r in kept["results"] if r["truth"] in args.truth and r["model"] in args.model]
    print(summary(chosen).to_markdown())
    print(table(chosen).to_markdown())
    if args.figure:
        save(figure(chosen), args.figure.with_suffix(""))  # `save` appends .png


if __name__ == "__main__":
    main()
