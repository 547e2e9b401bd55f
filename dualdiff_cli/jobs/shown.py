"""Whose diffusion `animate` and `explore` show: the model of a run, or a density with its exact denoiser."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from .. import seeding
from ..compute.device import choose_device
from ..config.recipes import resolve_diffusion
from ..config.schema import DiffusionConfig
from ..data import Data, Density, FloatArray, Given, TableEncoding, draw, get_density
from ..diffusion.conditions import FreeDenoiser
from ..diffusion.denoisers import Denoiser
from ..diffusion.exact import exact_denoiser
from ..diffusion.schedules import build_schedule
from ..errors import InputError
from ..models import load_model
from ..models.conditioning import conditioned_on
from ..models.diffusion import DiffusionModel
from ..store.run import Run
from .inputs import data_of_run, diffusion_model

__all__ = ["MOST_POINTS", "Shown", "shown_model"]

MOST_POINTS = 2_000
"""The largest number of points; all of them come from one block of noise."""
SCALED_ON = 10_000
"""The points of a density that decide its feature units."""
EXACT = ("schedule.sigma_min=0.02", "schedule.sigma_max=20.0", "model.finest_frequency=50.0")
"""The noise levels of a density; the finest frequency is that of a network, of which there is none."""


@dataclass(frozen=True)
class Shown:
    """A model, or a density with its exact denoiser, whose diffusion is shown.

    Attributes:
        title: what it is called.
        run: where the model is; None for a density.
        denoiser: of all features, without given cells.
        columns: the names of the two features that are shown.
        affine: (shift, scale), each (2,): value of a column = shift + scale·feature; None where a column is encoded in
            another way.
        config: the noise schedule and the spacing of the levels.
        points: true rows as features, (n, 2); where cells are given, those rows that have them, learnt ones too.
        density: what the rows were drawn from; None for a file.
        model, data: the run's; None for a density.
        given: the cells that all drawn points are to have; None where no cell is given.
        plane: the numbers of the two features that are shown.

    """

    title: str
    run: Run | None
    denoiser: Denoiser
    columns: list[str]
    affine: tuple[FloatArray, FloatArray] | None
    config: DiffusionConfig
    points: FloatArray
    density: Density | None
    model: DiffusionModel | None
    data: Data | None
    given: Given | None = None
    plane: tuple[int, int] = (0, 1)

    @property
    def width(self) -> int:
        """The number of all features."""
        return 2 if self.given is None else len(self.given.given)

    def guided(self, guidance: float) -> Denoiser:
        """Give the denoiser of all features that follows the given cells with a weight; see `conditioned_on`."""
        if self.given is None or guidance == 0:
            return self.denoiser
        return conditioned_on(self.denoiser, self.given, guidance=guidance)

    @property
    def of_plane(self) -> Denoiser:
        """The denoiser of the two features that are shown, given the cells."""
        if self.given is None or self.width == 2:
            return self.guided(1.0)
        device = self.denoiser.schedule.device
        values, free = torch.from_numpy(self.given.values).to(device), torch.tensor(self.plane, device=device)
        return FreeDenoiser(self.guided(1.0), values, free)


def shown_model(
    source: Run | str | Path | None,
    dataset: str | None,
    *,
    n: int,
    given: Mapping[str, Any] | None = None,
    device: str = "auto",
) -> Shown:
    """Find whose diffusion is to be shown.

    Args:
        source: a finished run of a diffusion model or its directory; None finds the newest run.
        dataset: the name of a density whose exact denoiser is shown in place of a model.
        n: the number of true rows.
        given: for some columns the value, or its text, that all drawn points are to have; None where whoever asks takes
            no given cells.
        device: where a model is loaded.

    Raises:
        InputError: a run and a density are both named, one does not exist, the model is no diffusion model, it cannot
            have the given cells, or not exactly two features are left to be shown.
        DeviceError: the device is not there.

    """
    if not 1 <= n <= MOST_POINTS:
        raise InputError(f"{n:,} points cannot be shown.", f"Ask for 1 to {MOST_POINTS:,} points.")
    place = choose_device(device)
    if dataset is not None:
        if source is not None:
            raise InputError(f"The run {source} and the density {dataset} were both named.", "Leave one of them out.")
        if given:
            raise InputError(
                f"The exact denoiser of the density {dataset} takes no given cells.",
                "Leave --given out, or name a run of which the model takes given cells.",
            )
        return _of_density(get_density(dataset), n)
    run = Run.open(source)
    model = diffusion_model(
        load_model(run, device=place),
        f"of the run {run} has no noise levels that can be shown",
        "Name the run of another model, such as dual-expert, or a density with --dataset.",
    )
    cells = _present(model.read_given(given), model.encoding) if given else None
    return _of_run(run, model, data_of_run(run), cells, n, takes_given=given is not None)


def _of_run(run: Run, model: DiffusionModel, data: Data, cells: Given | None, n: int, *, takes_given: bool) -> Shown:
    """Give the model of a run, with the features that are not given as the plane, or both features if there are two."""
    encoding = model.encoding
    free = list(range(encoding.width)) if cells is None else np.flatnonzero(~cells.given).tolist()
    if len(free) != 2 and encoding.width == 2:
        free = [0, 1]
    if len(free) != 2:
        way = "give cells of all other columns with --given" if takes_given else "use `dualdiff explore` with --given"
        raise InputError(
            f"The model of the run {run} has {len(free)} features{' that are not given' if takes_given else ''}, and a "
            "plane shows exactly 2.",
            f"Train on two columns with --columns A,B, {way}, or name a density with --dataset.",
        )
    title = f"{data.name} · {model.config.model.name} · {model.config.recipe}"
    if cells is not None:
        title += f" · {cells.words}"
    is_affine = encoding.width == 2 and all(column.affine is not None for column in encoding.columns)
    return Shown(
        title=title,
        run=run,
        denoiser=model.denoiser,
        columns=_axis_names(encoding, free),
        affine=encoding.affine if is_affine else None,
        config=model.config,
        points=encoding.encode(_true_rows(data, cells, n), None)[:, free],
        density=data.density,
        model=model,
        data=data,
        given=cells,
        plane=(free[0], free[1]),
    )


def _true_rows(data: Data, cells: Given | None, n: int) -> pl.DataFrame:
    """Draw at most n held-out rows that have the given cells, and learnt ones where few held-out rows have them."""

    def drawn(rows: pl.DataFrame, most: int) -> pl.DataFrame:
        if cells is not None:
            rows = rows.join(cells.cells, on=cells.cells.columns, how="semi", maintain_order="left").drop_nulls()
        return seeding.subsample(rows, most, seed=0, role="shown rows")

    rows = drawn(data.held_out, n)
    return rows if cells is None else pl.concat([rows, drawn(data.train.select(rows.columns), n - rows.height)])


def _axis_names(encoding: TableEncoding, plane: list[int]) -> list[str]:
    """Give the columns of two features, with numbers where both are of one column."""
    owners = [column.name for column in encoding.columns for _ in range(column.width)]
    first, second = (owners[k] for k in plane)
    return [first, second] if first != second else [f"{first} (1)", f"{first} (2)"]


def _present(given: Given, encoding: TableEncoding) -> Given:
    """Let the cells of the other columns be there, where the model knows that they may be missing."""
    values, known = given.values.copy(), given.given.copy()
    for name, (feature, value) in encoding.presence.items():
        if name not in given.cells.columns:
            values[feature], known[feature] = value, True
    return replace(given, values=values, given=known)


def _of_density(density: Density, n: int) -> Shown:
    """Give a density with its exact denoiser under the noise schedule of the recipe `precise`.

    The origin stays where it is, because it is where plain Langevin dynamics start: between the modes of a density that
    lies symmetrically about it. So that the start is right for all other samplers, the schedule ends in more noise.
    """
    config = resolve_diffusion(dataset=density.name, recipe="precise", settings=EXACT)
    scale = np.sqrt(np.mean(draw(density, SCALED_ON, seed=0, role="units").to_numpy() ** 2, axis=0))
    rows = draw(density, n, seed=0, role="shown")
    return Shown(
        title=f"{density.name} · exact denoiser",
        run=None,
        denoiser=exact_denoiser(density, build_schedule(config.schedule), scale=scale),
        columns=list(density.columns),
        affine=(np.zeros(2), scale),
        config=config,
        points=rows.to_numpy() / scale,
        density=density,
        model=None,
        data=None,
    )
