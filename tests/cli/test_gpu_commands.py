"""Every command that asks a model, on a GPU: a tensor that is left on the CPU is found only there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from commands import answer, settings

from dualdiff_cli import seeding
from dualdiff_cli.config.registry import MODEL_KINDS, SAMPLERS

pytestmark = pytest.mark.gpu

DEVICE = ("--device", "cuda")
WORDS = ("--steps", "20", *DEVICE)
SMALL_FOLDS = settings("model.width=8", "folds.levels=6", "sampling.steps=4")
SMALL_NETWORK = settings("data.points=400", "data.held_out_points=400", "training.batch=16", "sampling.steps=8")
OTHER_KINDS = [kind for kind in MODEL_KINDS if kind != "diffusion"]
N = 150


@pytest.fixture(scope="module")
def table(elsewhere: Path) -> Path:
    """Rows with a category, gaps and a column that follows from two others."""
    rng = seeding.stream(0, "rows for a GPU")
    a, b = rng.normal(size=(2, N)).round(3)
    x = [None if k % 9 == 0 else float(value) for k, value in enumerate(rng.lognormal(1, 0.5, N))]
    path = elsewhere / "mixed.csv"
    pl.DataFrame({"kind": rng.choice(list("AB"), N), "x": x, "a": a, "b": b, "sum": a + b}).write_csv(path)
    return path


@pytest.fixture(scope="module")
def mixed(table: Path, elsewhere: Path) -> str:
    words = ("train", "--dataset", table, *WORDS, *SMALL_FOLDS, "--run-dir", elsewhere / "mixed")
    return str(answer(*words)["run"])


@pytest.fixture(scope="module", params=["paper", "precise"])
def density(request: pytest.FixtureRequest, elsewhere: Path) -> str:
    recipe = str(request.param)
    words = ("train", "--dataset", "two-modes", "--recipe", recipe, *WORDS, *SMALL_NETWORK)
    return str(answer(*words, "--run-dir", elsewhere / f"density-{recipe}")["run"])


@pytest.mark.parametrize(
    "words",
    [
        ("sample", "-n", "50", "-o", "rows.csv"),
        ("sample", "-n", "50", "-o", "given.csv", "--given", "kind=A", "--guidance", "1.5"),
        ("sample", "-n", "50", "-o", "where.csv", "--where", "a > 0 AND kind = 'B'"),
        ("evaluate", "-n", "100"),
        ("explore", "--points", "20", "--frames", "4", "--given", "kind=A", "--given", "x=2"),
        ("report",),
        ("plot",),
    ],
    ids=lambda words: "-".join(words[:1] + words[5:6]),
)
def test_a_run_of_a_table_answers_every_command(mixed: str, words: tuple[str, ...]) -> None:
    assert answer(words[0], mixed, *words[1:], *DEVICE)["run"] == mixed


def test_gaps_are_filled(mixed: str, table: Path) -> None:
    answer("impute", mixed, table, "-o", "filled.csv", *DEVICE)
    filled = pl.read_csv("filled.csv")
    assert not sum(filled.null_count().row(0))
    assert filled["a"].equals(pl.read_csv(table)["a"])


@pytest.mark.parametrize(
    "words",
    [
        ("sample", "-n", "50", "-o", "rows.csv"),
        ("evaluate", "-n", "100", "--exact"),
        ("explore", "--points", "20", "--frames", "4"),
        ("animate", "--points", "20", "--frames", "4", "-o", "film.html"),
        ("report",),
        ("plot",),
    ],
    ids=lambda words: words[0],
)
def test_a_run_of_a_density_answers_every_command(density: str, words: tuple[str, ...]) -> None:
    assert answer(words[0], density, *words[1:], *DEVICE)["run"] == density


def test_rows_have_finite_log_densities(density: str) -> None:
    answer("sample", density, "-n", "20", "-o", "drawn.csv", *DEVICE)
    answer("score", "drawn.csv", density, "-o", "scores.csv", *DEVICE)
    assert np.isfinite(pl.read_csv("scores.csv").select(pl.last()).to_numpy()).all()


@pytest.mark.parametrize("model", ["baseline", "enhanced-gating", *OTHER_KINDS])
def test_every_other_model_is_trained_and_drawn_from(model: str, table: Path, elsewhere: Path) -> None:
    path = elsewhere / f"of-{model}"
    few = settings("model.steps=50") if model == "tabddpm" else () if model in OTHER_KINDS else ("--steps", "20")
    run = answer("train", "--dataset", table, "--model", model, *few, *DEVICE, "--run-dir", path)["run"]
    assert answer("sample", run, "-n", "50", "-o", "rows.csv", *DEVICE)["n"] == 50


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_draws(density: str, sampler: str) -> None:
    assert answer("sample", density, "-n", "50", "-o", "rows.csv", "--sampler", sampler, *DEVICE)["n"] == 50
