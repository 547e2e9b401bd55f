"""Templates become a page."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ... import __version__
from ...metrics.verdict import RELATIVE, SIMULTANEOUS, THRESHOLDS

__all__ = ["fill_page"]

TEMPLATES = Path(__file__).with_name("templates")


@cache
def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def fill_page(template: str, **contents: Any) -> str:
    """Fill a template, such as "run.html", with contents; every text is escaped unless it is marked as HTML.

    Raises:
        jinja2.UndefinedError: the template names something that the contents do not have.

    """
    rules = {"thresholds": THRESHOLDS, "relative": RELATIVE, "simultaneous": SIMULTANEOUS}
    style = (TEMPLATES / "report.css").read_text(encoding="utf-8")
    return _environment().get_template(template).render(style=style, version=__version__, **rules, **contents)
