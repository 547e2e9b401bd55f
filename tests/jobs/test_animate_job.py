"""A film of a diffusion."""

from __future__ import annotations

import os
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.animation import FFMpegWriter
from PIL import Image
from short_runs import copy_of

from dualdiff_cli.errors import InputError
from dualdiff_cli.jobs.animate import animate
from dualdiff_cli.present.figures.film import Film
from dualdiff_cli.seeding import stream


def test_a_gif_of_a_density_has_its_frames_and_they_move(tmp_path: Path) -> None:
    record = animate(dataset="two-modes", output=tmp_path / "film.gif", points=60, frames=5)
    assert (record["run"], record["dataset"], record["sampler"]) == (None, "two-modes", "ddim")
    assert record["bytes"] == (tmp_path / "film.gif").stat().st_size
    with Image.open(tmp_path / "film.gif") as film:
        assert film.n_frames >= 5
        pictures = []
        for frame in range(5):
            film.seek(frame)
            pictures.append(np.asarray(film.convert("L"), np.float64))
    assert all(np.abs(b - a).max() > 100 for a, b in pairwise(pictures))


def test_an_html_film_needs_no_network(tmp_path: Path) -> None:
    animate(dataset="two-modes", output=tmp_path / "film.html", sampler="ancestral", points=30, frames=3)
    page = (tmp_path / "film.html").read_text(encoding="utf-8")
    assert not re.search(r"https?://", page)
    assert "fa fa-" not in page
    assert page.count("data:image/png;base64") == 18  # three frames and the rest at the end


def test_an_mp4_is_written_or_the_program_that_is_missing_is_named(tmp_path: Path) -> None:
    if FFMpegWriter.isAvailable():
        assert animate(dataset="two-modes", output=tmp_path / "film.mp4", points=30, frames=3)["bytes"] > 1000
        return
    with pytest.raises(InputError, match="ffmpeg") as refusal:
        animate(dataset="two-modes", output=tmp_path / "film.mp4", points=30, frames=3)
    assert ".gif" in refusal.value.remedy
    assert not (tmp_path / "film.mp4").exists()


@pytest.mark.skipif(os.name == "nt", reason="a program is a shell script")
def test_a_program_that_fails_leaves_no_film_and_another_format_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ffmpeg").write_text("#!/bin/sh\nexit 1\n", encoding="utf-8")
    (tmp_path / "ffmpeg").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="ffmpeg") as refusal:
        animate(dataset="two-modes", output=tmp_path / "film.mp4", points=30, frames=3)
    assert ".gif" in refusal.value.remedy
    assert not (tmp_path / "film.mp4").exists()


def test_the_film_of_a_run_takes_the_sampler_of_the_run_and_stays_in_it(
    trained: dict[str, Any], tmp_path: Path
) -> None:
    run = copy_of(trained, tmp_path / "run")
    record = animate(run, points=40, frames=4, device="cpu")
    assert record["sampler"] == run.config.sampling.sampler  # type: ignore[attr-defined]
    assert record["output"] == str(run.path / "figures" / "diffusion.gif")
    assert Path(record["output"]).is_file()


def test_the_left_half_runs_from_data_to_noise_and_the_right_half_from_noise_to_data() -> None:
    rng = stream(0, "film")
    forward, reverse = rng.normal(size=(4, 10, 2)), rng.normal(size=(4, 8, 2))
    film = Film(forward, reverse, [np.inf, 2.0, 0.5, 0.0], title="t", sampler="heun")
    for frame in (0, 2, 3, 7):
        film.show(frame)
        left, right = film.positions
        k = min(frame, 3)
        np.testing.assert_array_equal(left, forward[3 - k])
        np.testing.assert_array_equal(right, reverse[k])
    left_title, right_title = (axes.get_title(loc="left") for axes in film.figure.axes)
    assert "pure noise" in left_title
    assert "heun" in right_title
    assert "no noise" in right_title
    with pytest.raises(ValueError, match="equally many frames"):
        Film(forward, reverse[:3], [1.0, 2.0, 3.0, 4.0], title="", sampler="")


def test_names_of_no_film_and_too_few_frames_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"film\.avi") as refusal:
        animate(dataset="dino", output=tmp_path / "film.avi")
    assert ".gif" in refusal.value.remedy
    with pytest.raises(InputError, match="1 frames"):
        animate(dataset="dino", output=tmp_path / "film.gif", frames=1)
