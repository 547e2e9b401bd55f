"""The log-density of given rows: closed forms, units, and the tables that are refused."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from scipy.special import logsumexp
from scipy.stats import multivariate_normal
from short_runs import QUICK, short

from dualdiff_cli import resolve, seeding
from dualdiff_cli.config.schema import RunConfig
from dualdiff_cli.errors import InputError
from dualdiff_cli.jobs.evaluate import evaluate
from dualdiff_cli.jobs.score import log_densities, score
from dualdiff_cli.jobs.train import train
from dualdiff_cli.models import TrainableModel, load_model
from dualdiff_cli.models.kernel_density import KernelDensity
from dualdiff_cli.models.mixture import Mixture
from dualdiff_cli.store.run import Run

Rows = np.ndarray
CENTRE, SPREAD = np.array([1000.0, -3.0]), np.array([100.0, 0.02])
"""Of the columns, in units in which a forgotten slope is a factor of a hundred."""


def measured(n: int, *, seed: int) -> pl.DataFrame:
    """Give n rows of two groups in columns of very different units."""
    rng = seeding.stream(seed, "measured rows")
    group = rng.integers(0, 2, n)[:, None]
    z = rng.standard_normal((n, 2)) * [0.5, 0.8] + np.array([-0.9, 0.4]) * (2 * group - 1)
    return pl.DataFrame(CENTRE + SPREAD * z, schema=["load", "shift"])


def simple_config(name: str, file: Path) -> RunConfig:
    """Configure a model that is no diffusion model."""
    return resolve(dataset=str(file), model=name, settings=QUICK[name])


CONFIGS: dict[str, Callable[[str, Path], RunConfig]] = {
    **dict.fromkeys(QUICK, simple_config),
    "baseline": lambda name, file: short(str(file), model=name),
}


@pytest.fixture(scope="module")
def run_of_model(shared: Path) -> Callable[[str], str]:
    """Give the run of a model of `measured` rows, trained once."""
    file = shared / "measured.csv"
    measured(300, seed=0).write_csv(file)
    runs: dict[str, str] = {}

    def run(name: str) -> str:
        if name not in runs:
            path = shared / f"measured-{name}"
            runs[name] = str(train(CONFIGS[name](name, file), path=path, device="cpu")["run"])
        return runs[name]

    return run


def loaded(run: str) -> TrainableModel[Any]:
    return load_model(Run.open(run), device=torch.device("cpu"))


def bits(run: str, rows: pl.DataFrame) -> Rows:
    """Score rows; give the values of the one column, (n,)."""
    frame = score(run, rows, device="cpu")["frame"]
    assert frame.columns == ["log2_density"]
    return frame["log2_density"].to_numpy()  # type: ignore[no-any-return]


def test_a_mixture_scores_rows_with_its_closed_form_in_the_units_of_the_columns(
    run_of_model: Callable[[str], str],
) -> None:
    model = loaded(run_of_model("mixture"))
    assert isinstance(model, Mixture)
    assert [column.kind for column in model.encoding.columns] == ["number", "number"]
    shift, scale = model.encoding.affine
    rows = measured(50, seed=1)
    terms = [
        math.log(weight) + multivariate_normal(shift + scale * mean, covariance * np.outer(scale, scale)).logpdf(rows)
        for weight, mean, covariance in zip(*model.gaussians, strict=True)
    ]
    np.testing.assert_allclose(bits(run_of_model("mixture"), rows), logsumexp(terms, axis=0) / math.log(2), rtol=1e-9)


def test_a_kernel_density_scores_rows_with_its_closed_form(run_of_model: Callable[[str], str]) -> None:
    model = loaded(run_of_model("kernel-density"))
    assert isinstance(model, KernelDensity)
    shift, scale = model.encoding.affine
    rows = measured(20, seed=2).to_numpy()
    width = model.bandwidth * scale
    z = (rows[:, None] - (shift + scale * model.rows)) / width
    kernels = -0.5 * (z**2).sum(2) - np.log(width).sum() - math.log(2 * math.pi)
    expected = (logsumexp(kernels, axis=1) - math.log(len(model.rows))) / math.log(2)
    np.testing.assert_allclose(bits(run_of_model("kernel-density"), pl.DataFrame(rows, ["load", "shift"])), expected)


@pytest.mark.parametrize("name", QUICK)
def test_the_density_in_the_units_of_the_columns_has_the_integral_one(
    name: str, run_of_model: Callable[[str], str]
) -> None:
    axes = [np.linspace(c - 6 * s, c + 6 * s, 81) for c, s in zip(CENTRE, SPREAD, strict=True)]
    grid = np.stack([axis.ravel() for axis in np.meshgrid(*axes)], axis=1)
    cell = math.prod(float(axis[1] - axis[0]) for axis in axes)
    whole = np.exp2(bits(run_of_model(name), pl.DataFrame(grid, ["load", "shift"]))).sum() * cell
    assert whole == pytest.approx(1, abs=0.02)


def test_a_diffusion_model_scores_rows_with_the_density_of_its_features_over_the_scales_of_the_columns(
    run_of_model: Callable[[str], str],
) -> None:
    model = loaded(run_of_model("baseline"))
    shift, scale = model.encoding.affine
    rows = measured(4, seed=1)
    nats = model.log_density_of_features((rows.to_numpy() - shift) / scale) - np.log(scale).sum()
    np.testing.assert_allclose(bits(run_of_model("baseline"), rows), nats / math.log(2), rtol=1e-6)


def test_the_file_has_one_value_a_row_in_the_order_of_the_table_whatever_the_order_of_its_columns(
    run_of_model: Callable[[str], str], tmp_path: Path
) -> None:
    rows = measured(30, seed=3)
    rows.select("shift", pl.lit("a").alias("own"), "load").write_csv(tmp_path / "rows.csv")
    record = score(run_of_model("mixture"), tmp_path / "rows.csv", output=tmp_path / "out.parquet", device="cpu")
    written = pl.read_parquet(tmp_path / "out.parquet")["log2_density"].to_numpy()
    np.testing.assert_allclose(written, bits(run_of_model("mixture"), rows))
    assert record["mean"] == pytest.approx(written.mean())
    assert (record["rows"], record["unit"], record["note"]) == (30, "bits", "")


def test_the_functions_for_python_give_nats_and_the_command_gives_bits(run_of_model: Callable[[str], str]) -> None:
    rows = measured(5, seed=4)
    nats = log_densities(loaded(run_of_model("mixture")), rows, seed=0)
    np.testing.assert_allclose(nats / math.log(2), bits(run_of_model("mixture"), rows))


def test_what_is_unusual_about_a_file_is_told(run_of_model: Callable[[str], str], tmp_path: Path) -> None:
    measured(5, seed=4).write_csv(tmp_path / "rows.csv", separator=";")
    notes: list[str] = []
    score(run_of_model("mixture"), tmp_path / "rows.csv", device="cpu", on_note=notes.append)
    assert [note for note in notes if "semicolons" in note]


def test_the_note_says_what_is_not_exact(run_of_model: Callable[[str], str], of_people: dict[str, object]) -> None:
    rows = measured(5, seed=4)
    assert "probability flow" in score(run_of_model("baseline"), rows, device="cpu")["note"]
    people = pl.DataFrame({"age (years)": [20, 30], "income": [2.0, 3.0]})
    assert "seed" in score(str(of_people["run"]), people, device="cpu")["note"]


def test_the_note_says_that_what_is_reflected_at_bounds_is_missing(tmp_path: Path) -> None:
    rows = pl.DataFrame({"share": seeding.stream(0, "shares").random(300), "own": measured(300, seed=0)["load"]})
    rows.write_csv(tmp_path / "rows.csv")
    config = resolve(dataset=str(tmp_path / "rows.csv"), model="mixture", settings=["model.components=1"])
    run = train(config, path=tmp_path / "run", device="cpu")["run"]
    notes = (
        score(run, rows, device="cpu")["note"],
        evaluate(run, n=50, exact=True)["metrics"]["nll_held_out"]["notes"][0],
    )
    assert all("reflects at the bounds of 'share' is missing" in note for note in notes)


@pytest.mark.parametrize(
    ("change", "problem", "remedy"),
    [
        ({"load": [1000.0, None, None]}, "'load' of the table has 2 missing cells, the first one in row 2", "impute"),
        ({"load": [1000.0, math.nan, 999.0]}, "row 2", "impute"),
        ({"load": [1000.0, math.inf, 999.0]}, "'load' cannot have the value inf of row 2", "Leave"),
        ({"load": ["a", "b", "c"]}, "'load' of the table has the type String", "types"),
        ({"load": None}, "no column 'load'", "load, shift"),
    ],
)
def test_rows_that_have_no_density_are_refused_by_name(
    change: dict[str, list[object] | None], problem: str, remedy: str, run_of_model: Callable[[str], str]
) -> None:
    rows = measured(3, seed=5)
    for name, values in change.items():
        rows = rows.drop(name) if values is None else rows.with_columns(pl.Series(name, values))
    with pytest.raises(InputError) as caught:
        score(run_of_model("mixture"), rows, device="cpu")
    assert problem in caught.value.problem
    assert remedy in caught.value.remedy


def test_a_value_that_a_column_cannot_have_is_refused_with_its_row(of_people: dict[str, object]) -> None:
    people = pl.DataFrame({"age (years)": [20, -300], "income": [2.0, 3.0]})
    with pytest.raises(InputError, match=r"'age \(years\)' cannot have the value -300 of row 2.*1 of 2 rows"):
        score(str(of_people["run"]), people, device="cpu")
    with pytest.raises(InputError, match="type Float64"):
        score(str(of_people["run"]), people.with_columns(pl.Series("age (years)", [20.5, 30.0])), device="cpu")


def test_columns_without_a_density_are_named_with_what_can_be_done(tmp_path: Path) -> None:
    rows = measured(100, seed=6).with_columns(
        side=pl.Series(["left", "right"] * 50), gap=pl.Series([None, *range(99)], dtype=pl.Float64)
    )
    rows.write_csv(tmp_path / "rows.csv")
    config = resolve(dataset=str(tmp_path / "rows.csv"), model="mixture", settings=["model.components=1"])
    run = str(train(config, path=tmp_path / "run", device="cpu")["run"])
    with pytest.raises(InputError) as caught:
        score(run, rows, device="cpu")
    assert "'side' (category), 'gap' (missing)" in caught.value.problem
    assert "--columns load,shift" in caught.value.remedy
    assert "--missing drop" in caught.value.remedy


def test_a_column_that_follows_from_others_adds_no_density_and_has_to_follow(tmp_path: Path) -> None:
    rows = measured(100, seed=7).with_columns(double=2 * pl.col("load"))
    rows.write_csv(tmp_path / "rows.csv")
    settings = ["model.components=1", "data.kinds.double='= 2 * load'"]
    config = resolve(dataset=str(tmp_path / "rows.csv"), model="mixture", settings=settings)
    run = str(train(config, path=tmp_path / "run", device="cpu")["run"])
    encoding = loaded(run).encoding
    z = encoding.encode(rows, None)
    expected = (loaded(run).log_density_of_features(z) - encoding.log_slope(z)) / math.log(2)
    np.testing.assert_allclose(bits(run, rows), expected)
    with pytest.raises(InputError, match=r"'double' cannot have the value .* of row 2: it is learnt as computed"):
        score(run, rows.with_columns(double=pl.col("double") + pl.Series([0.0, 1.0] + [0.0] * 98)), device="cpu")


def test_a_column_with_one_value_or_none_adds_no_density_and_has_to_keep_it(tmp_path: Path) -> None:
    plain = measured(100, seed=8)
    rows = plain.with_columns(year=pl.lit(2024), site=pl.lit("Kiel"), note=pl.lit(None, dtype=pl.String))
    found = []
    for name, frame in (("plain", plain), ("more", rows)):
        frame.write_csv(tmp_path / f"{name}.csv")
        config = resolve(dataset=str(tmp_path / f"{name}.csv"), model="mixture", settings=["model.components=1"])
        found.append(str(train(config, path=tmp_path / name, device="cpu")["run"]))
    np.testing.assert_allclose(bits(found[1], rows), bits(found[0], plain))
    for other, said in (({"year": 2025}, "2025"), ({"site": "Bonn"}, "Bonn")):
        with pytest.raises(InputError, match=f"cannot have the value {said} of row 1: it is learnt as constant"):
            score(found[1], rows.with_columns(**{name: pl.lit(value) for name, value in other.items()}), device="cpu")
