"""`explore` from the command line."""

from __future__ import annotations

from pathlib import Path

from commands import answer, dualdiff, refused

FEW = ("--points", "20", "--frames", "4", "--sampler", "ddim")


def test_explore_answers_with_the_page_of_a_density_and_of_a_run(run: Path) -> None:
    record = answer("explore", "--dataset", "two-modes", *FEW)
    assert (record["output"], record["page"], record["samplers"]) == ("explorer", "explorer/index.html", ["ddim"])
    assert Path("explorer/index.html").is_file()
    assert answer("explore", run, "-o", "of-run", *FEW)["run"] == str(run)
    shown = dualdiff("explore", "--dataset", "two-modes", *FEW)
    assert "explorer/index.html" in shown.stdout


def test_explore_refuses_what_it_cannot_show(run: Path) -> None:
    assert "both named" in refused("explore", run, "--dataset", "dino")
    assert "no sampler" in refused("explore", "--dataset", "dino", "--sampler", "dimm")
    assert "nowhere" in refused("explore", "nowhere")
