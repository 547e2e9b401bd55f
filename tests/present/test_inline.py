"""Figures as parts of a page."""

from __future__ import annotations

import re

from matplotlib.figure import Figure

from dualdiff_cli.present.report.inline import inline_svg


def test_ids_are_those_of_the_figure_and_texts_stay_as_they_are() -> None:
    figure = Figure(figsize=(2, 2))
    axes = figure.subplots()
    axes.plot([1, 2])
    axes.set_title('url(#1) id="x" href="#a"', parse_math=False)
    svg = inline_svg(figure, key="k1", label="a line")
    texts = re.sub(r"<[^>]*>", "", svg).replace("&quot;", '"')
    assert 'url(#1) id="x" href="#a"' in texts
    tags = "".join(re.findall(r"<[^>]*>", svg))
    names = set(re.findall(r'\bid="([^"]*)"', tags))
    assert all(name.startswith("k1-") for name in names)
    used = set(re.findall(r'(?:url\(|href=")#([^)"]*)', tags))
    assert used
    assert used <= names
