"""A kind of column that this test brings along, with three features, goes through everything that a model can do.

Nothing but the encoding may know how many features a column has. The new kind is one class and one line of the
registry, as any kind of column is; the line names a module of the package, and this file stands in for that module.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import onnxruntime
import polars as pl
import pytest
import torch
from numpy.testing import assert_allclose
from tiny import tiny_of

from dualdiff_cli import seeding
from dualdiff_cli.config.registry import COLUMN_KINDS, MODEL_KINDS
from dualdiff_cli.data import ColumnEncoding, FloatArray, TableEncoding
from dualdiff_cli.errors import InputError
from dualdiff_cli.exporting.runtime import ExportedModel
from dualdiff_cli.jobs.evaluate import evaluate
from dualdiff_cli.jobs.export import export
from dualdiff_cli.jobs.sample import sample
from dualdiff_cli.jobs.train import train
from dualdiff_cli.models import load_model
from dualdiff_cli.models.diffusion import DiffusionModel
from dualdiff_cli.store.run import Run

# After twelve steps a network lets some rows run away.
pytestmark = pytest.mark.filterwarnings("ignore:.* drawn again")
CPU = torch.device("cpu")
WIDTH = 5  # of x, grade and count: 1 + 3 + 1
DIFFUSION = pytest.mark.parametrize("run", ["diffusion"], indirect=True)  # no other model can be exported
MEANS = {1: -4.0, 2: 0.0, 3: 6.0}
"""The mean of x by grade."""


class GradeColumn(ColumnEncoding):
    """A grade g ∈ {1, 2, 3}: three features, of which the g-th is 1 and the others are 0; the largest is the grade."""

    kind: Literal["grade"] = "grade"

    @property
    def width(self) -> int:
        return 3

    @property
    def whole(self) -> bool:
        return True

    @classmethod
    def suits(cls, column: pl.Series) -> bool:
        return column.name == "grade"

    @classmethod
    def fit(cls, column: pl.Series, *, standardise: bool) -> Self:
        return cls(name=column.name)

    def encode(self, column: pl.Series, rng: np.random.Generator | None) -> FloatArray:
        return np.eye(3)[column.to_numpy() - 1]

    def values(self, features: Any) -> Any:
        return features[:, 0] * 0 + features.argmax(1) + 1

    def series(self, values: FloatArray) -> pl.Series:
        return pl.Series(self.name, values).cast(pl.Int64)


@pytest.fixture(autouse=True, scope="module")
def _registered() -> Iterator[None]:
    """Add the line "grade" to the registry, before the kinds that would also take the column."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "dualdiff_cli.data.encoding.grade", sys.modules[__name__])
        lines = {"grade": "data.encoding.grade:GradeColumn", **COLUMN_KINDS._places}
        patch.setattr(COLUMN_KINDS, "_places", lines)
        yield


def rows(n: int) -> pl.DataFrame:
    rng = seeding.stream(0, "test")
    grade = rng.choice([1, 2, 3], n, p=[0.5, 0.2, 0.3])
    x = np.array([MEANS[g] for g in grade]) + rng.normal(size=n)
    return pl.DataFrame({"x": x, "grade": grade, "count": rng.poisson(5.0, n)})


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "grades.csv"
    rows(500).write_csv(path)
    return path


@pytest.fixture(scope="module", params=MODEL_KINDS)
def run(request: pytest.FixtureRequest, table: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    path = tmp_path_factory.mktemp(request.param) / "run"
    record = train(tiny_of(request.param, dataset=str(table)), path=path, device="cpu")
    assert math.isfinite(record["held_out_loss"])
    return Run.open(path)


def test_three_features_belong_to_the_column_and_are_decoded_from_its_span() -> None:
    frame = rows(100)
    encoding = TableEncoding.fit(frame)
    assert [column.kind for column in encoding.columns] == ["number", "grade", "integer"]
    assert encoding.width == WIDTH
    assert encoding.spans == [slice(0, 1), slice(1, 4), slice(4, 5)]
    assert len(encoding.resolution) == WIDTH
    z = encoding.encode(frame, seeding.stream(1, "test"))
    assert z.shape == (100, WIDTH)
    decoded = encoding.decode(z)
    assert decoded.drop("x").equals(frame.drop("x"))
    assert_allclose(decoded["x"], frame["x"])
    by_torch = encoding.values(torch.from_numpy(z))
    assert all(np.array_equal(a, b) for a, b in zip(encoding.values(z), by_torch, strict=True))
    assert TableEncoding.model_validate_json(encoding.model_dump_json()) == encoding


def test_a_model_draws_rows_with_the_columns_of_the_table(run: Run, tmp_path: Path) -> None:
    record = sample(run, n=200, output=tmp_path / "rows.parquet", device="cpu")
    assert record["columns"] == ["x", "grade", "count"]
    drawn = pl.read_parquet(tmp_path / "rows.parquet")
    assert drawn.schema == {"x": pl.Float64, "grade": pl.Int64, "count": pl.Int64}
    assert set(drawn["grade"]) == {1, 2, 3}
    assert load_model(run, device=CPU).encoding.width == WIDTH


def test_a_model_is_scored_on_the_features(run: Run) -> None:
    record = evaluate(run, n=100, device="cpu")
    for name in ("sliced_wasserstein", "classifier_two_sample"):
        assert math.isfinite(record["metrics"][name]["value"])


def test_a_likelihood_in_the_columns_own_units_is_refused(run: Run) -> None:
    model = load_model(run, device=CPU)
    assert not model.encoding.has_density
    said = "'grade' of kind grade has no density" if model.has_density else "tabddpm has no density"
    with pytest.raises(InputError, match=said):
        evaluate(run, n=100, exact=True, device="cpu")


@pytest.mark.parametrize("run", ["mixture", "kernel-density"], indirect=True)  # twelve steps teach a network nothing
def test_models_that_fit_at_once_learn_how_the_features_go_together(run: Run) -> None:
    drawn = load_model(run, device=CPU).sample(5000, seed=0)
    shares = drawn["grade"].value_counts(normalize=True).sort("grade")["proportion"]
    assert_allclose(shares, [0.5, 0.2, 0.3], atol=0.06)
    for grade, mean in MEANS.items():
        assert abs(drawn.filter(grade=grade)["x"].mean() - mean) < 1  # type: ignore[operator]


@pytest.fixture(scope="module")
def exported(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("exported") / "sampler.onnx"
    record = export(run, output=path, device="cpu")
    assert record["outputs"] == ["samples", "x", "grade", "count", "features"]
    assert record["max_abs_error"] <= record["tolerance"]
    return path


@DIFFUSION
def test_the_network_and_the_exported_graph_are_as_wide_as_the_features(run: Run, exported: Path) -> None:
    model = load_model(run, device=CPU)
    assert isinstance(model, DiffusionModel)
    t = torch.tensor(model.denoiser.schedule.t_max, dtype=torch.float64)
    assert model.denoiser(torch.zeros(2, WIDTH), t).shape == (2, WIDTH)
    with pytest.raises(RuntimeError):
        model.denoiser(torch.zeros(2, 3), t)
    session = onnxruntime.InferenceSession(str(exported), providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].shape[1] == WIDTH
    shapes = {output.name: output.shape[1:] for output in session.get_outputs()}
    assert shapes == {"samples": [3], "x": [], "grade": [], "count": [], "features": [WIDTH]}


@DIFFUSION
def test_an_exported_file_draws_the_rows_of_the_run(run: Run, exported: Path, tmp_path: Path) -> None:
    model = ExportedModel.open(exported, device="cpu")
    assert model.encoding == load_model(run, device=CPU).encoding
    record = sample(model, n=300, output=tmp_path / "rows.parquet", seed=4)
    assert record["columns"] == ["x", "grade", "count"]
    by_file, by_run = pl.read_parquet(tmp_path / "rows.parquet"), load_model(run, device=CPU).sample(300, seed=4)
    assert by_file.schema == by_run.schema
    assert_allclose(by_file["x"], by_run["x"], atol=1e-3)
    assert (by_file["grade"] == by_run["grade"]).mean() > 0.98  # type: ignore[operator]
    assert evaluate(model, n=100)["metrics"]["sliced_wasserstein"]["value"] > 0
