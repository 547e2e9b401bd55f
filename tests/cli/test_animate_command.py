"""`animate` from the command line."""

from __future__ import annotations

from pathlib import Path

from commands import answer, dualdiff, refused

FEW = ("--points", "20", "--frames", "3")


def test_animate_answers_with_the_film_of_a_density_and_of_a_run(run: Path) -> None:
    record = answer("animate", "--dataset", "two-modes", *FEW)
    assert (record["output"], record["dataset"], record["sampler"]) == ("two-modes.gif", "two-modes", "ddim")
    assert Path("two-modes.gif").read_bytes().startswith(b"GIF")
    record = answer("animate", run, "-o", "run.gif", "--sampler", "ddim", *FEW)
    assert (record["run"], record["output"]) == (str(run), "run.gif")
    assert "two-modes.gif" in dualdiff("animate", "--dataset", "two-modes", *FEW).stdout


def test_animate_refuses_what_it_cannot_show(run: Path) -> None:
    assert "both named" in refused("animate", run, "--dataset", "dino")
    assert "film.avi" in refused("animate", run, "-o", "film.avi")
    assert "no density" in refused("animate", "--dataset", "dyno")
