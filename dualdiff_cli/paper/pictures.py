"""The paper's five figures from the runs of a grid."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from ..compute.device import choose_device
from ..diffusion.samplers import BLOCK
from ..jobs.inputs import reload_data
from ..jobs.plot import gate_weights
from ..models.diffusion import TrainedModel
from ..present.figures.style import save
from ..store.run import Run
from .cells import EVALUATION_SEED
from .figures import divergences, gates_histograms, gates_scatter, losses, samples
from .results import Row

__all__ = ["draw_figures"]

POINTS = 2 * BLOCK
FORMATS = ("png", "svg")


def draw_figures(
    rows: Sequence[Row],
    runs: Mapping[Row, Mapping[int, Path]],
    summaries: Sequence[Mapping[str, Any]],
    folder: Path,
    *,
    recipe: str,
    announce: Callable[[str], None] = lambda what: None,
) -> tuple[list[str], list[str]]:
    """Draw what the finished runs allow.

    Args:
        rows: configurations of one data set, for the figures 2 to 5.
        runs: for every row the directories of its finished runs, by seed.
        summaries: the rows of all tables (see `reproduction.summarise`), for figure 1.
        folder: where the pictures go, as PNG and SVG.
        recipe: of the runs.
        announce: told what is being drawn.

    Returns:
        The paths, and a sentence for each figure that is left out.

    """
    seeds = max((row["kl_published"]["n"] for row in summaries), default=0)
    told = f"recipe {recipe} · {seeds} seeds"
    left_out: list[str] = []
    announce("figure 1")
    pictures = {"figure1-divergences": divergences(summaries, title=f"Divergence · {told}")}
    finished = {row: runs[row] for row in rows if runs.get(row)}
    if finished:
        pictures |= _of_runs(finished, recipe=recipe, told=told, left_out=left_out, announce=announce)
    else:
        left_out.append("Figures 2 to 5 are left out: no run of their data set has finished.")
    paths = [path for name, figure in pictures.items() for path in save(figure, folder / name, formats=FORMATS)]
    return [str(path) for path in paths], left_out


def _of_runs(
    finished: Mapping[Row, Mapping[int, Path]],
    *,
    recipe: str,
    told: str,
    left_out: list[str],
    announce: Callable[[str], None],
) -> dict[str, Figure]:
    """Draw figures 2 to 5; samples and gates are those of the first seed, whose noise is the same for all."""
    pictures, generated, gates, seeds_shown = {}, {}, {}, set()
    data: np.ndarray | None = None
    columns, dataset, penalised = [""], "", set()
    for row, by_seed in finished.items():
        announce(f"samples of {row.label}")
        seed, path = min(by_seed.items())
        seeds_shown.add(seed)
        model = TrainedModel.load(Run.open(path), choose_device("cpu"))
        generated[row.label] = np.concatenate(list(model.sample(POINTS, seed=EVALUATION_SEED + seed)))
        if data is None:
            data = reload_data(Run.open(path)).held_out[:POINTS]
            columns, dataset = [column.name for column in model.columns], Path(row.dataset).name
        if model.config.objective.diversity:
            penalised.add(row.label)
        if model.config.model.experts == 2 and model.config.model.gate_on == "point":
            gates[row.label] = generated[row.label], gate_weights(model, generated[row.label])
    shown = f"{dataset} · recipe {recipe} · seed {', '.join(map(str, sorted(seeds_shown)))}"
    if data is not None and len(columns) > 1:
        pictures["figure2-samples"] = samples(data, generated, columns=columns, title=f"Samples · {shown}")
    else:
        left_out.append("Figures 2 and 4 are left out: the data have one column.")
    announce("losses")
    pictures["figure3-losses"] = losses(
        {row.label: [_losses(path) for path in by_seed.values()] for row, by_seed in finished.items()},
        penalised=penalised,
        title=f"Training loss, mean and range of seeds · {dataset} · {told}",
    )
    if not gates:
        left_out.append(
            f"Figures 4 and 5 are left out: under the recipe {recipe} no gate sees the point; `dualdiff plot` draws "
            "its profile over the noise level."
        )
        return pictures
    if len(columns) > 1:
        pictures["figure4-gates"] = gates_scatter(gates, columns=columns, title=f"Gate · {shown}")
    weights = {label: weight for label, (_, weight) in gates.items()}
    pictures["figure5-gates"] = gates_histograms(weights, title=f"Gate on samples · {shown}")
    return pictures


def _losses(path: Path) -> tuple[np.ndarray, np.ndarray]:
    records = Run.open(path).load_metrics()
    return np.array([record["step"] for record in records]), np.array([record["loss"] for record in records])
