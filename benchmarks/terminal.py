"""Where the published error comes from, without any network: the paper's schedule with the exact denoisers.

    python benchmarks/terminal.py

At its last step the paper's schedule still keeps a part of the signal, but sampling starts from N(0, I). The script
gives for every data set the share ᾱ_T of the signal, the divergence between the noised data and N(0, I), and the
divergence of the samples that the paper's sampler draws with an exact denoiser. It prints a Markdown table, and writes
JSON and a picture.
"""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from dualdiff_cli.compute.machine import describe_machine
from dualdiff_cli.config.recipes import resolve_diffusion
from dualdiff_cli.data import draw, get_density
from dualdiff_cli.diffusion.exact import exact_denoiser
from dualdiff_cli.diffusion.samplers import build_sampler, generate
from dualdiff_cli.diffusion.schedules import build_schedule
from dualdiff_cli.metrics import kl_divergence
from dualdiff_cli.present.figures.panels import name_axes
from dualdiff_cli.present.figures.style import DATA, INK, SAMPLES, save, styled
from dualdiff_cli.present.tables import Column, Table
from dualdiff_cli.seeding import stream

PAPER = Path(__file__).parents[1] / "dualdiff_cli" / "paper" / "table1.csv"
DATASETS = ("circle", "dino", "line", "moons")


def measure(dataset: str, *, n_real: int, n: int) -> tuple[dict[str, Any], np.ndarray]:
    """Measure one data set; give its row, and its points noised to the last step, (n_real, d)."""
    config, density = resolve_diffusion(dataset=dataset, recipe="paper"), get_density(dataset)
    schedule, sampler = build_schedule(config.schedule), build_sampler(config.sampling)
    alpha, sigma = (c[0].item() for c in schedule(schedule.ends))
    real, d = draw(density, n_real, seed=0, role="held-out").to_numpy(), density.dim
    rng = stream(0, "terminal benchmark")
    noised = alpha * real + sigma * rng.standard_normal(real.shape)
    start = rng.standard_normal((n, d))
    denoiser = exact_denoiser(density, schedule)
    points = np.concatenate(list(generate(sampler, denoiser, n, dim=d, seed=0, device=torch.device("cpu"))))
    perfect = draw(density, n, seed=0, role="perfect-0").to_numpy()
    row = {
        "dataset": dataset,
        "terminal_alpha_bar": schedule.terminal_alpha_bar,
        "start": kl_divergence(noised, start).to_dict(),
        "exact": kl_divergence(real, points).to_dict(),
        "floor": kl_divergence(real, perfect, groups=0).value,
        "std_real": real.std(axis=0).tolist(),
        "std_exact": points.std(axis=0).tolist(),
    }
    return row, noised


def table(rows: list[dict[str, Any]]) -> Table:
    """Give one row for each data set."""
    with open(PAPER, encoding="utf-8") as file:
        published = {row["dataset"]: row["kl_bits"] for row in csv.DictReader(file) if row["model"] == "baseline"}
    heads = [
        "data set",
        "ᾱ_T",
        "D(x_T ‖ N(0, I))",
        "std of the data",
        "std of exact samples",
        "D(real ‖ exact samples)",
        "floor",
        "paper's baseline",
    ]
    body = tuple(
        (
            row["dataset"],
            row["terminal_alpha_bar"],
            row["start"]["value"],
            *(", ".join(f"{v:.2f}" for v in row[key]) for key in ("std_real", "std_exact")),
            row["exact"]["value"],
            row["floor"],
            published.get(row["dataset"]),
        )
        for row in rows
    )
    return Table("The end of the paper's schedule", tuple(map(Column, heads)), body, ("Divergences D are in bits.",))


@styled
def picture(noised: dict[str, np.ndarray]) -> Figure:
    """Draw for each data set a histogram of its widest column, noised to the last step, and the density of N(0, 1)."""
    figure = Figure(figsize=(7.2, 2.2), layout="constrained")
    panels = figure.subplots(1, len(noised), sharey=True, squeeze=False)[0]
    axis = np.linspace(-5, 5, 201)
    for axes, (name, points) in zip(panels, noised.items(), strict=True):
        widest = points[:, points.std(axis=0).argmax()]
        axes.hist(widest, bins=100, range=(-5, 5), density=True, color=DATA, alpha=0.6, label="data, noised to the end")
        start = np.exp(-(axis**2) / 2) / np.sqrt(2 * np.pi)
        axes.plot(axis, start, color=SAMPLES, lw=1.4, label="where sampling starts")
        axes.set_title(name)
        axes.set_yticks([0, 0.1, 0.2, 0.3, 0.4])
        name_axes(axes, x=f"widest column, {'xy'[points.std(axis=0).argmax()]}")
    name_axes(panels[0], y="density")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", ncols=2)
    figure.suptitle("The paper's schedule at t = T", x=0.01, ha="left", color=INK)
    return figure


def main() -> None:
    """Measure all data sets, and show the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", action="append", help="default: the paper's four")
    parser.add_argument("--real", type=int, default=100_000)
    parser.add_argument("--points", type=int, default=10_000)
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/terminal.json"))
    parser.add_argument("--figure", type=Path, default=Path("docs/figures/terminal.png"))
    args = parser.parse_args()

    rows, noised = [], {}
    for dataset in args.dataset or DATASETS:
        row, noised[dataset] = measure(dataset, n_real=args.real, n=args.points)
        rows.append(row)
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.figure.parent.mkdir(parents=True, exist_ok=True)
    args.output.write_text(json.dumps({"machine": describe_machine(), "rows": rows}, indent=1) + "\n", encoding="utf-8")
    save(picture(noised), args.figure.with_suffix(""))
    print(table(rows).to_markdown())


if __name__ == "__main__":
    main()
