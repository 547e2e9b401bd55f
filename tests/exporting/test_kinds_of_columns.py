"""An exported file decodes columns of every kind as the run does."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from every_kind import KINDS, every_kind
from tiny import narrow, untrained

from dualdiff_cli import seeding
from dualdiff_cli.data import TableEncoding
from dualdiff_cli.diffusion.samplers import draw_noise
from dualdiff_cli.errors import InputError
from dualdiff_cli.exporting.runtime import ExportedModel
from dualdiff_cli.jobs.export import export
from dualdiff_cli.models.diffusion import DiffusionModel
from dualdiff_cli.models.fitting import build_denoiser
from dualdiff_cli.store.run import Run

ONE_OF_EACH = ["detector", "flag", "many", "gauss", "fraction", "price", "uniform", "angle", "date", "temp", "same"]
FRAME = every_kind().select(*ONE_OF_EACH, "long")


def run_of(frame: pl.DataFrame, path: Path, kinds: Mapping[str, str] = KINDS) -> Run:
    """A run with an untrained model of the columns of a frame."""
    encoding = TableEncoding.fit(frame, kinds={name: kind for name, kind in kinds.items() if name in frame.columns})
    config = narrow().model_copy(update={"dataset": "table.csv"})
    denoiser = build_denoiser(config, encoding.layout).requires_grad_(False).eval()
    run = Run.create(config, path)
    DiffusionModel(config, encoding, denoiser, torch.device("cpu")).save(run)
    return run


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Rows of an exported file and rows of its run, from the same seed."""
    folder = tmp_path_factory.mktemp("kinds")
    run = run_of(FRAME, folder / "run")
    record = export(run, format="onnx", output=folder / "sampler.onnx", device="cpu")
    own = ExportedModel.open(record["output"], device="cpu").sample(300, seed=3)
    return own, DiffusionModel.load(run, device=torch.device("cpu")).sample(300, seed=3)


def test_an_exported_file_draws_the_cells_of_every_kind_that_the_run_draws(
    drawn: tuple[pl.DataFrame, pl.DataFrame],
) -> None:
    own, expected = drawn
    assert own.schema == expected.schema == FRAME.schema
    for name in ONE_OF_EACH:
        a, b = own[name], expected[name]
        # A value at the border of two categories or steps may fall on the other side by rounding.
        assert (a.is_null() == b.is_null()).mean() > 0.98  # type: ignore[operator]
        both = a.is_not_null() & b.is_not_null()
        a, b = a.filter(both), b.filter(both)
        if a.dtype.is_float():
            near = np.isclose(a.to_numpy(), b.to_numpy(), rtol=1e-3, atol=1e-2)
            assert near.mean() > 0.97
        elif len(a):
            assert (a == b).mean() > 0.97  # type: ignore[operator]


def test_whole_numbers_of_nineteen_digits_leave_the_file_exactly(drawn: tuple[pl.DataFrame, pl.DataFrame]) -> None:
    own, expected = drawn
    assert own["long"].dtype == pl.Int64
    assert int((own["long"] - expected["long"]).abs().max()) <= 10  # type: ignore[arg-type]
    assert own["long"].n_unique() > 200  # neighbours that float64 could not tell apart


def test_whole_numbers_of_formulas_leave_the_file_rounded_and_as_nan_where_they_are_missing(tmp_path: Path) -> None:
    n, rng = 300, seeding.stream(0, "formulas")
    a, b, price = rng.integers(0, 9, n), rng.integers(1, 9, n), rng.integers(1000, 3000, n) / 100
    there = pl.int_range(n) % 2 == 0
    frame = pl.DataFrame({"a": a, "b": b, "price": price, "parts": rng.choice([0, 1, 3], n)}).with_columns(
        pl.when(there).then("a"),
        pl.when(there).then(pl.col("a") + pl.col("b")).alias("total"),
        (100 * pl.col("price")).round().cast(pl.Int64).alias("cents"),
        pl.when(pl.col("parts") > 0).then((pl.col("b") / pl.col("parts")).round()).cast(pl.Int64).alias("share"),
        (pl.col("b") * pl.col("parts")).alias("product"),
        today=pl.lit(dt.date(2023, 1, 2)),
        same=pl.lit(9 * 10**18 + 1),
    )
    kinds = {"total": "= a + b", "cents": "= 100*price", "share": "= b / parts", "product": "= b*parts"}
    record = export(run_of(frame, tmp_path / "run", kinds), output=tmp_path / "sampler.onnx", device="cpu")
    exported = ExportedModel.open(record["output"], device="cpu")
    noise = draw_noise(0, 0, dim=exported.encoding.width, draws=5)
    outputs = exported.outputs(noise[0], noise[1:])
    rows = exported.encoding.decode(outputs["features"].numpy())
    assert {name for name in kinds if outputs[name].dtype == torch.int64} == {"cents", "product"}
    assert {name for name in kinds if rows[name].null_count()} == {"total", "share"}
    for name, number in {"today": 1_672_617_600_000_000, "same": 9 * 10**18 + 1}.items():
        assert outputs[name].dtype == torch.int64
        assert set(outputs[name].tolist()) == {number}
    for name in kinds:
        assert rows[name].dtype == pl.Int64
        expected = rows[name].cast(pl.Float64).fill_null(np.nan)
        for found in (outputs[name], outputs["samples"][:, frame.columns.index(name)]):
            np.testing.assert_array_equal(found.double().numpy(), expected)


def test_whole_numbers_and_dates_with_gaps_leave_the_file_with_their_origin_and_one_text_with_gaps_does(
    tmp_path: Path,
) -> None:
    n, rng = 300, seeding.stream(0, "gaps")
    monday = pl.Series([dt.date(2020, 1, 6)])
    frame = pl.DataFrame({"id": 9 * 10**18 + rng.integers(0, 10**6, n), "week": rng.integers(0, 200, n)}).with_columns(
        pl.when(pl.int_range(n) % 3 > 0).then("id"),
        pl.when(pl.int_range(n) % 2 > 0).then(pl.lit(monday) + pl.duration(weeks="week")).alias("monday"),
        pl.when(pl.int_range(n) % 4 > 0).then(pl.lit("a")).alias("mark"),
    )
    record = export(run_of(frame, tmp_path / "run", {}), output=tmp_path / "sampler.onnx", device="cpu")
    exported = ExportedModel.open(record["output"], device="cpu")
    noise = draw_noise(0, 0, dim=exported.encoding.width, draws=5)
    outputs = exported.outputs(noise[0], noise[1:])
    rows = exported.encoding.decode(outputs["features"].numpy())
    microseconds = pl.col("monday").cast(pl.Datetime("us"))
    for name, expected in rows.select("id", microseconds).cast(pl.Float64).fill_null(np.nan).to_dict().items():
        np.testing.assert_allclose(outputs[name].numpy(), expected, rtol=1e-15)
    np.testing.assert_array_equal(outputs["mark"].isnan(), rows["mark"].is_null())


def test_a_formula_of_whole_numbers_of_nineteen_digits_leaves_the_file_with_their_origin(tmp_path: Path) -> None:
    rng = seeding.stream(0, "moments")
    frame = pl.DataFrame({"t_ns": 17 * 10**17 + rng.integers(0, 10**9, 300) * 10**6, "y": rng.normal(size=300)})
    frame = frame.with_columns((pl.col("t_ns") / 1e9).alias("t_s"))
    record = export(run_of(frame, tmp_path / "run", {"t_s": "= t_ns/1e9"}), output=tmp_path / "s.onnx", device="cpu")
    exported = ExportedModel.open(record["output"], device="cpu")
    noise = draw_noise(0, 0, dim=exported.encoding.width, draws=5)
    outputs = exported.outputs(noise[0], noise[1:])
    rows = exported.encoding.decode(outputs["features"].numpy())
    for found in (outputs["t_s"], outputs["samples"][:, 2]):
        np.testing.assert_allclose(found.numpy(), rows["t_s"], rtol=1e-15)


def test_a_column_of_whole_numbers_that_no_output_can_hold_is_refused_by_name(tmp_path: Path) -> None:
    ids = pl.Series("id", [2**64 - 1 - k for k in range(40)], dtype=pl.UInt64)
    run = Run.create(narrow(), tmp_path / "run")
    untrained(narrow(), TableEncoding.fit(pl.DataFrame([ids]))).save(run)
    with pytest.raises(InputError, match="'id'") as caught:
        export(run, device="cpu")
    assert "--columns" in caught.value.remedy
