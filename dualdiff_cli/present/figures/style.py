"""The style of all figures, the palette, and how a figure is saved.

Figures are built without pyplot, so there is no global state and no display. The user's matplotlibrc is not read, and
the same arrays always give the same bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib import style
from matplotlib.figure import Figure

from ...errors import InputError
from ...store.atomic import replaced

__all__ = ["DATA", "EXPERTS", "HELD_OUT", "INK", "SAMPLES", "save", "styled"]

INK = "#333333"
DATA, SAMPLES, HELD_OUT = "#8c8c8c", "#0072b2", "#d55e00"
# Okabe & Ito (2008), "Color Universal Design": distinguishable with any of the common colour vision deficiencies.
EXPERTS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#333333")

# Matplotlib makes ticks as late as at drawing time, so a figure is saved in the same style in which it is built.
styled = style.context(str(Path(__file__).with_name("figures.mplstyle")), after_reset=True)

# The metadata that each writer would add and that changes from one run or one version of Matplotlib to the next.
_NO_METADATA: dict[str, dict[str, None]] = {
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}


@styled
def save(figure: Figure, path_stem: Path | str, *, formats: Sequence[str] = ("png",)) -> list[Path]:
    """Write the figure as ``path_stem`` + "." + format, for each of ``formats`` ("png", "svg", "pdf").

    Each file is written under a temporary name and then renamed, so that nobody ever reads half a picture. The file
    holds neither dates nor versions: the same figure gives the same bytes. The first save fixes the figure's layout.

    Returns:
        The paths, in the order of ``formats``.

    Raises:
        InputError: a format is none of the three; then nothing is written.

    """
    for wanted in formats:
        if wanted not in _NO_METADATA:
            raise InputError(f"Figures cannot be saved as {wanted!r}.", f"Use one of {', '.join(_NO_METADATA)}.")
    stem = Path(path_stem)
    paths = [stem.with_name(f"{stem.name}.{wanted}") for wanted in formats]
    # The layout engine continues from its last result, so every further drawing would move the axes a little.
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for wanted, path in zip(formats, paths, strict=True):
        with replaced(path) as temporary:
            figure.savefig(temporary, format=wanted, metadata=_NO_METADATA[wanted])
    return paths
