"""A film of a diffusion: true points dissolve in noise, and beside them a sampler turns noise into points."""

from __future__ import annotations

import re
from collections.abc import Callable
from html import escape
from pathlib import Path
from subprocess import CalledProcessError

import numpy as np
import numpy.typing as npt
from matplotlib import rc_context
from matplotlib.animation import FFMpegWriter, FuncAnimation, PillowWriter
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure

from ...errors import InputError
from ...store.atomic import replaced
from .panels import Array
from .style import INK, SAMPLES, styled

__all__ = ["FILMS", "Film", "check_film"]

DPI = 100
FRAMES_A_SECOND = 15
REST = 15
"""The frames at the end that stand still."""
LARGEST_HTML = 100.0
"""The largest HTML film, in MiB; Matplotlib leaves out frames beyond it."""
SIGNS = {
    "minus": "−",
    "fast-backward": "|◀",
    "step-backward": "◂",
    "play fa-flip-horizontal": "◀",
    "pause": "❚❚",
    "play": "▶",
    "step-forward": "▸",
    "fast-forward": "▶|",
    "plus": "+",
}
"""Characters for the pictures on Matplotlib's buttons, which come from the network."""


class Film:
    """The film as a figure that can be drawn at every frame.

    Args:
        forward, reverse: positions, (F, n, 2) and (F, m, 2); the first frame is noise and the last one is data.
        noise: σ/α at each frame, (F,).
        title: the line over the film.
        sampler: the name over the right half.

    """

    @styled
    def __init__(
        self, forward: npt.ArrayLike, reverse: npt.ArrayLike, noise: npt.ArrayLike, *, title: str, sampler: str
    ) -> None:
        # On the left time runs the other way: from data to noise.
        self._sides = (np.asarray(forward, np.float64)[::-1], np.asarray(reverse, np.float64))
        levels = np.asarray(noise, np.float64)
        self._levels = (levels[::-1], levels)
        self._names = ("forward: data to noise", f"reverse: noise to data · {sampler}")
        if len({len(levels), *map(len, self._sides)}) != 1:
            raise ValueError("both sides and the noise levels must have equally many frames")
        self.frames = len(levels)
        self.figure = Figure(figsize=(6.4, 3.7), dpi=DPI, layout="constrained")
        FigureCanvasAgg(self.figure)
        limit = 1.08 * max(float(np.quantile(np.abs(side[[0, -1]]), 0.999)) for side in self._sides)
        self._dots: list[PathCollection] = []
        self._axes: list[Axes] = list(self.figure.subplots(1, 2))
        for axes, side, colour in zip(self._axes, self._sides, (INK, SAMPLES), strict=True):
            size = float(np.clip(4000 / len(side[0]), 2, 12))
            self._dots.append(axes.scatter(side[0][:, 0], side[0][:, 1], s=size, c=colour, alpha=0.6, linewidths=0))
            axes.set(xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal", xticks=[], yticks=[])
            axes.spines[:].set_visible(True)
        self.figure.suptitle(title, x=0.01, ha="left", parse_math=False)
        self.show(0)

    def show(self, frame: int) -> None:
        """Move the dots to a frame; frames beyond the last one show the last one."""
        frame = min(frame, self.frames - 1)
        for axes, dots, side, levels, name in zip(
            self._axes, self._dots, self._sides, self._levels, self._names, strict=True
        ):
            dots.set_offsets(side[frame])
            axes.set_title(f"{name}\n{_level(levels[frame])}", loc="left")

    @property
    def positions(self) -> list[Array]:
        """The dots of both halves that are shown now."""
        return [np.asarray(dots.get_offsets(), np.float64) for dots in self._dots]

    @styled
    def save(self, path: Path) -> None:
        """Write the film; the suffix says the format.

        Raises:
            InputError: see `check_film`; or ffmpeg failed, for example because it lacks an encoder.

        """
        check_film(path)
        film = FuncAnimation(
            self.figure, self.show, frames=self.frames + REST, interval=1000 / FRAMES_A_SECOND, init_func=list
        )
        with replaced(path) as temporary:
            FILMS[path.suffix.lower()](film, temporary)


def check_film(path: Path) -> None:
    """See that a film of this name can be written.

    Raises:
        InputError: the suffix names no format, or the program that the format needs is not installed.

    """
    if path.suffix.lower() not in FILMS:
        raise InputError(f"'{path}' does not name a film.", f"Give a name that ends in {', '.join(FILMS)} with -o.")
    if path.suffix.lower() == ".mp4" and not FFMpegWriter.isAvailable():
        raise InputError(
            "An .mp4 file needs the program ffmpeg, which was not found.",
            "Install ffmpeg, or write a .gif or .html file.",
        )


def _level(noise: float) -> str:
    if noise == 0:
        return "no noise"
    return "pure noise" if np.isinf(noise) else f"σ/α = {noise:.2g}"


def _gif(film: FuncAnimation, path: Path) -> None:
    film.save(path, writer=PillowWriter(fps=FRAMES_A_SECOND), dpi=DPI)


def _mp4(film: FuncAnimation, path: Path) -> None:
    try:
        film.save(path, writer=FFMpegWriter(fps=FRAMES_A_SECOND), dpi=DPI)
    except CalledProcessError as error:
        raise InputError("The program ffmpeg cannot write the .mp4 file.", "Write a .gif or .html file.") from error


def _html(film: FuncAnimation, path: Path) -> None:
    with rc_context({"animation.embed_limit": LARGEST_HTML, "savefig.dpi": DPI}):
        body = film.to_jshtml(fps=FRAMES_A_SECOND)
    body = re.sub(r'<link[^>]*href="https?://[^>]*>', "", body)
    body = re.sub(r'<i class="fa fa-([\w -]+)"></i>', lambda found: escape(SIGNS.get(found[1], found[1])), body)
    page = f'<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n<title>Diffusion</title>\n{body}\n</html>\n'
    path.write_text(page, encoding="utf-8")


FILMS: dict[str, Callable[[FuncAnimation, Path], None]] = {".gif": _gif, ".mp4": _mp4, ".html": _html}
"""What writes a film, by suffix."""
