"""How figures are saved, and that only the project's own style decides their look."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib import rcParams
from pictures import beside, normal

from dualdiff_cli.errors import InputError
from dualdiff_cli.present.figures.gates import gate_histogram
from dualdiff_cli.present.figures.losses import loss_curve
from dualdiff_cli.present.figures.panels import MAX_POINTS
from dualdiff_cli.present.figures.style import save


def test_saving_twice_and_building_anew_give_the_same_bytes(tmp_path: Path) -> None:
    formats = ("png", "svg", "pdf")
    for d in (2, 3):
        figures = [beside(normal(500, d), normal(400, d, seed=1)) for _ in range(2)]
        figures.append(figures[0])
        saved = [save(figure, tmp_path / f"{d}-{k}", formats=formats) for k, figure in enumerate(figures)]
        for of_format in zip(*saved, strict=True):
            assert len({path.read_bytes() for path in of_format}) == 1


def test_saved_files_hold_neither_dates_nor_versions(tmp_path: Path) -> None:
    figure = loss_curve([1, 2], [1.0, 0.5], title="")
    for path in save(figure, tmp_path / "f", formats=("png", "svg", "pdf")):
        content = path.read_bytes()
        assert b"Software" not in content
        assert b"dc:date" not in content
        assert b"CreationDate" not in content
        assert b"Matplotlib v" not in content


def test_save_appends_the_format_makes_parents_and_leaves_nothing_else(tmp_path: Path) -> None:
    stem = tmp_path / "runs" / "moons-0.05"
    paths = save(gate_histogram(np.full((5, 2), 0.5)), stem, formats=("svg", "png"))
    assert [path.name for path in paths] == ["moons-0.05.svg", "moons-0.05.png"]
    assert sorted(stem.parent.iterdir()) == sorted(paths)


def test_a_failed_save_keeps_the_old_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figure = gate_histogram(np.full((5, 2), 0.5))
    (path,) = save(figure, tmp_path / "f")
    before = path.read_bytes()

    def half_written(file: Path, **_: object) -> None:
        Path(file).write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(figure, "savefig", half_written)
    with pytest.raises(OSError, match="disk full"):
        save(figure, tmp_path / "f")
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_unknown_format_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"'bmp'.*png, svg, pdf"):
        save(gate_histogram(np.full((5, 2), 0.5)), tmp_path / "f", formats=("png", "bmp"))
    assert list(tmp_path.iterdir()) == []


def test_svg_of_many_points_stays_small(tmp_path: Path) -> None:
    (path,) = save(beside(normal(MAX_POINTS, 2), normal(MAX_POINTS, 2)), tmp_path / "f", formats=("svg",))
    assert path.stat().st_size < 500_000


def test_global_style_is_left_alone_and_does_not_leak_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = save(gate_histogram(np.full((5, 2), 0.5)), tmp_path / "plain")[0].read_bytes()
    monkeypatch.setitem(rcParams, "axes.facecolor", "red")
    monkeypatch.setitem(rcParams, "xtick.direction", "in")
    before = dict(rcParams)
    assert save(gate_histogram(np.full((5, 2), 0.5)), tmp_path / "custom")[0].read_bytes() == plain
    assert dict(rcParams) == before


def test_pyplot_is_never_imported(tmp_path: Path) -> None:
    code = (
        "import sys; from polars import DataFrame; from dualdiff_cli.present.figures.style import save\n"
        "from dualdiff_cli.present.figures.points import *\n"
        "from dualdiff_cli.present.figures.gates import *; x = [[0., 0.], [1., 1.]]\n"
        "rows = DataFrame(x, ['a', 'b'], orient='row')\n"
        "save(rows_beside_samples(rows, rows, title='t'), sys.argv[1], formats=['png', 'svg', 'pdf'])\n"
        "save(gate_scatter(x, x, columns=['a', 'b']), sys.argv[1])\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "f")], check=True)
