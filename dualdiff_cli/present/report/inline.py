"""A figure as a part of an HTML page."""

from __future__ import annotations

import io
import re
from html import escape

from matplotlib import rc_context
from matplotlib.figure import Figure

from ..figures.style import styled

__all__ = ["inline_svg"]


@styled
def inline_svg(figure: Figure, *, key: str, label: str) -> str:
    """Write a figure as an SVG element: no background, so that a page can be dark, and text that can be selected.

    Args:
        figure: the figure.
        key: different for every figure of a page; it begins the ids of the element's parts.
        label: what a screen reader says.

    """
    file = io.StringIO()
    with rc_context({"svg.fonttype": "none"}):
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = file.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    # Only inside tags: a text, such as the name of a column, may look like an id.
    svg = re.sub(r"<[^>]*>", lambda tag: re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{key}-", tag[0]), svg)
    width = re.search(r'width="([\d.]+)pt"', svg)
    points = float(width[1]) if width else 400.0
    head = f'<svg role="img" aria-label="{escape(label, quote=True)}" style="max-width: {points * 4 / 3:.0f}px" '
    return re.sub(r' (width|height)="[\d.]+pt"', "", svg, count=2).replace("<svg ", head, 1).strip()
