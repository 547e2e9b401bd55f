"""The estimator: the conventions of scikit-learn, the types of rows, and the run behind it."""

from __future__ import annotations

import gc
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from numpy.testing import assert_array_equal
from painting import painted
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import cross_val_score
from sklearn.utils.validation import check_is_fitted
from tiny import TINY

from dualdiff_cli import DualDiff, Run, evaluate, export, sample
from dualdiff_cli.errors import InputError
from dualdiff_cli.estimator import UnfittedError
from dualdiff_cli.jobs.plot import plot
from dualdiff_cli.jobs.report import report

pytestmark = pytest.mark.slow

RNG = np.random.default_rng(0)
ROWS = RNG.normal(size=(200, 2)) * [1.0, 3.0] + [0.0, 5.0]
GAUSSIAN = {"model.components": 1, "model.covariance": "full"}
FRAME = pl.DataFrame({"mass": ROWS[:, 0], "hits": (ROWS[:, 1] * 4).round().astype(int)})
TINY_SETTINGS = {f"{section}.{key}": value for section, values in TINY.items() for key, value in values.items()}


def gaussian(**parameters: Any) -> DualDiff:
    """A model that is fitted in a moment."""
    return DualDiff(model="mixture", settings=GAUSSIAN, **parameters)


@pytest.fixture(scope="module")
def fitted() -> DualDiff:
    with painted():
        return gaussian().fit(ROWS)


# The conventions of scikit-learn


def test_parameters_are_stored_as_they_are_and_a_clone_has_the_same() -> None:
    estimator = gaussian(seed=3)
    assert estimator.get_params()["settings"] is GAUSSIAN
    assert clone(estimator).get_params() == estimator.get_params()
    assert estimator.set_params(seed=4, device="cpu") is estimator
    assert (estimator.seed, estimator.device) == (4, "cpu")


def test_fit_gives_the_estimator_back_and_notes_what_it_found(fitted: DualDiff) -> None:
    check_is_fitted(fitted)
    assert fitted.n_features_in_ == 2
    assert list(fitted.feature_names_in_) == ["x", "y"]
    assert fitted.record_["model"] == "mixture"
    assert not hasattr(clone(fitted), "run_")


@pytest.mark.parametrize("method", ["sample", "evaluate", "save", "export", "score_samples", "impute"])
def test_an_estimator_without_a_model_refuses(method: str, tmp_path: Path) -> None:
    arguments = {"save": [tmp_path], "export": [tmp_path / "x.onnx"], "score_samples": [ROWS], "impute": [ROWS]}
    with pytest.raises(NotFittedError) as caught:
        getattr(DualDiff(), method)(*arguments.get(method, []))
    assert isinstance(caught.value, UnfittedError)
    assert "fit" in caught.value.remedy
    assert caught.value.exit_code == 2


def test_the_same_seed_gives_the_same_model_whatever_the_parameter_is_called() -> None:
    samples = [
        gaussian(**parameters).fit(ROWS).sample(5)
        for parameters in ({"seed": 7}, {"random_state": 7}, {"random_state": np.int64(7)}, {"seed": 8})
    ]
    assert_array_equal(samples[0], samples[1])
    assert_array_equal(samples[0], samples[2])
    assert (samples[0] != samples[3]).any()
    drawn = [gaussian(random_state=np.random.RandomState(1)).fit(ROWS).sample(5) for _ in range(2)]
    assert_array_equal(drawn[0], drawn[1])


def test_seed_and_random_state_are_one_thing() -> None:
    with pytest.raises(InputError, match="random_state") as caught:
        gaussian(seed=1, random_state=2).fit(ROWS)
    assert "one of them" in caught.value.remedy


def test_settings_may_be_nested_or_have_dotted_names_and_stay_as_the_caller_has_them() -> None:
    nested: dict[str, Any] = {"training": {"batch": 64}, "training.warmup": 3}
    options = DualDiff(steps=9, settings=nested)._options()
    assert options["training"] == {"steps": 9, "batch": 64, "warmup": 3}
    assert nested == {"training": {"batch": 64}, "training.warmup": 3}


def test_settings_that_contradict_each_other_are_refused() -> None:
    for settings in ({"model": "x", "model.width": 8}, {"model.width": 8, "model": "x"}):
        with pytest.raises(InputError, match="model = 'x' is not allowed"):
            DualDiff(settings=settings).fit(ROWS)


def test_model_selection_of_scikit_learn_takes_it() -> None:
    scores = cross_val_score(gaussian(), ROWS, cv=2)
    assert scores.shape == (2,)
    assert np.isfinite(scores).all()


def test_a_fitted_estimator_is_saved_and_not_pickled(fitted: DualDiff) -> None:
    assert pickle.loads(pickle.dumps(gaussian())).get_params() == gaussian().get_params()
    with pytest.raises(InputError) as caught:
        pickle.dumps(fitted)
    assert "save" in caught.value.remedy


# The types of rows


@pytest.mark.parametrize(
    ("rows", "kind"),
    [
        (ROWS, np.ndarray),
        (ROWS.astype(np.float32), np.ndarray),
        (ROWS[:, 0], np.ndarray),
        (ROWS.tolist(), np.ndarray),
        (FRAME, pl.DataFrame),
        (FRAME.lazy(), pl.DataFrame),
        (FRAME.to_pandas(), pd.DataFrame),
        (pd.DataFrame(ROWS), pd.DataFrame),
        (FRAME.to_arrow(), pa.Table),
    ],
    ids=["array", "float32", "vector", "list", "polars", "lazy", "pandas", "pandas without names", "arrow"],
)
def test_samples_come_back_in_the_type_of_the_rows(rows: Any, kind: type, tmp_path: Path) -> None:
    estimator = gaussian().fit(rows)
    drawn = estimator.sample(4)
    assert type(drawn) is kind
    assert drawn.shape == (4, estimator.n_features_in_)
    assert estimator.score_samples(drawn).shape == (4,)
    again = DualDiff.load(estimator.save(tmp_path / "kept")).sample(4)
    assert type(again) is kind


def test_columns_of_one_name_are_refused() -> None:
    twice = pd.concat([FRAME.to_pandas(), FRAME.to_pandas()], axis=1)
    for rows in (twice, pa.Table.from_arrays([pa.array([1, 2])] * 2, names=["x", "x"])):
        with pytest.raises(InputError, match=r"[Ss]everal columns"):
            gaussian().fit(rows)


def test_whole_numbers_stay_whole() -> None:
    assert gaussian().fit(FRAME).sample(3)["hits"].dtype == pl.Int64
    assert gaussian().fit(FRAME.to_pandas()).sample(3)["hits"].dtype == np.int64


def test_pandas_is_not_needed_for_rows_of_others() -> None:
    code = """
import sys
import numpy as np

class WithoutPandas:
    def find_spec(self, name, *_):
        if name.partition(".")[0] == "pandas":
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, WithoutPandas())
from dualdiff_cli import DualDiff
rows = np.random.default_rng(0).normal(size=(60, 1))
print(DualDiff(model="mixture", settings={"model.components": 1}).fit(rows).sample(2).shape)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "(2, 1)\n"


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        (np.array([["a"], ["b"]]), "<U1"),
        (np.zeros((30, 2, 2)), r"\(30, 2, 2\)"),
        ([[1.0], [1.0, 2.0]], "no array"),
        (np.full((30, 1), np.inf), "infinite"),
        (ROWS[:5], "5 rows"),
    ],
)
def test_rows_that_cannot_be_learnt_are_refused(rows: Any, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        gaussian().fit(rows)


def test_rows_with_other_columns_are_not_scored(fitted: DualDiff) -> None:
    with pytest.raises(InputError, match="3 columns") as caught:
        fitted.score_samples(np.zeros((4, 3)))
    assert "x, y" in caught.value.remedy


@pytest.mark.parametrize("gap", [[None, 1.0], [None, None]], ids=["a cell", "a whole row"])
def test_rows_with_gaps_are_not_scored_as_other_rows(fitted: DualDiff, gap: list[float | None]) -> None:
    rows = pl.DataFrame([[0.0, 5.0], gap], schema=["x", "y"], orient="row")
    with pytest.raises(InputError, match="'x' of the table has 1 missing cell, the first one in row 2"):
        fitted.score_samples(rows)


# What it computes


def test_score_samples_is_the_log_density_in_the_units_of_the_columns(fitted: DualDiff) -> None:
    training = fitted._data.train.to_numpy()
    mean, covariance = training.mean(0), np.cov(training.T, bias=True)
    centred = ROWS[:20] - mean
    expected = -0.5 * np.einsum("ni,ij,nj->n", centred, np.linalg.inv(covariance), centred)
    expected -= 0.5 * np.linalg.slogdet(2 * np.pi * covariance)[1]
    np.testing.assert_allclose(fitted.score_samples(ROWS[:20]), expected, rtol=1e-3)
    assert fitted.score(ROWS[:20]) == pytest.approx(expected.mean(), rel=1e-3)


def test_evaluate_scores_against_rows_that_were_not_learnt(fitted: DualDiff) -> None:
    record = fitted.evaluate(n=200, metrics=["sliced_wasserstein"])
    assert (record["n_real"], record["n_generated"]) == (20, 200)
    near, far = (
        fitted.evaluate(ROWS[:50] + shift, n=200, metrics=["sliced_wasserstein"])["metrics"]["sliced_wasserstein"]
        for shift in (0.0, 5.0)
    )
    assert near["value"] < 1 < far["value"]


def test_filled_rows_of_pandas_keep_their_index(fitted: DualDiff) -> None:
    rows = pd.DataFrame({"x": [1.0, None, 0.5], "y": [None, 2.0, 3.0]}, index=["a", "c", "b"])
    filled = fitted.impute(rows)
    assert list(filled.index) == ["a", "c", "b"]
    assert filled.loc["c", "y"] == 2.0
    assert not filled.isna().any(axis=None)


def test_the_columns_of_a_filled_array_are_those_of_the_model_in_their_order() -> None:
    estimator = gaussian().fit(pl.DataFrame({"y": ROWS[:, 0], "x": ROWS[:, 1] + 100}))
    filled = estimator.impute(np.array([[np.nan, 105.0], [0.5, np.nan]]))
    assert abs(filled[0, 0]) < 10 < 80 < filled[1, 1]
    assert (filled[0, 1], filled[1, 0]) == (105.0, 0.5)
    with pytest.raises(InputError, match="1 columns, and the model has 2") as caught:
        estimator.impute(np.array([[np.nan]]))
    assert "y, x" in caught.value.remedy


def test_a_diffusion_model_is_trained_sampled_and_exported(tmp_path: Path) -> None:
    estimator = DualDiff("Baseline", "PAPER", steps=9, settings=TINY_SETTINGS | {"training.steps": 9}).fit(FRAME)
    assert estimator.record_["steps"] == 9
    assert estimator.sample(3, sampler="DDIM", steps=2).columns == ["mass", "hits"]
    record = estimator.export(tmp_path / "model.ts", sampler="ddim")
    assert (record["format"], record["inputs"]) == ("torchscript", ["noise"])
    assert np.isfinite(estimator.score_samples(FRAME[:3])).all()


def test_the_name_of_a_density_and_the_path_of_a_file_can_be_fitted(tmp_path: Path) -> None:
    FRAME.write_csv(tmp_path / "rows.csv")
    assert gaussian().fit(tmp_path / "rows.csv").sample(2).columns == ["mass", "hits"]
    small = DualDiff(model="mixture", settings=GAUSSIAN | {"data.points": 100, "data.held_out_points": 100})
    assert small.fit("moons").sample(2).columns == ["x", "y"]


# The run


def test_the_run_goes_with_the_estimator_unless_it_is_saved(tmp_path: Path) -> None:
    estimator = gaussian().fit(ROWS)
    first = estimator.run_
    second = estimator.fit(ROWS).run_
    kept = estimator.save(tmp_path / "kept")
    assert second.exists()
    del estimator
    gc.collect()
    assert not first.exists()
    assert not second.exists()
    assert Run.open(kept).is_trained


def test_no_file_of_a_run_holds_a_training_row(fitted: DualDiff) -> None:
    value = fitted._data.train["x"][0]
    written = [path for path in fitted.run_.rglob("*") if path.is_file()]
    assert written
    assert all(np.float64(value).tobytes() not in path.read_bytes() for path in written)
    assert all(repr(value).encode() not in path.read_bytes() for path in written)


def test_a_run_directory_that_is_named_stays(tmp_path: Path) -> None:
    gaussian(run_dir=str(tmp_path / "run")).fit(ROWS)
    gc.collect()
    assert DualDiff.load(tmp_path / "run").sample(2).shape == (2, 2)


def test_what_is_saved_is_a_run_for_every_function_and_draws_the_same_rows(fitted: DualDiff, tmp_path: Path) -> None:
    kept = str(fitted.save(tmp_path / "kept"))
    record = sample(kept, n=5, output=tmp_path / "rows.npy", seed=3)
    assert record["n"] == 5
    assert_array_equal(np.load(tmp_path / "rows.npy"), fitted.sample(5, seed=3))
    assert_array_equal(DualDiff.load(kept).sample(5, seed=3), fitted.sample(5, seed=3))
    with pytest.raises(InputError, match="not empty"):
        fitted.save(kept)


@pytest.mark.parametrize(
    ("model", "settings"),
    [
        ("dual-expert", TINY_SETTINGS | {"recipe": "precise", "objective.references": 32, "training.warmup": 3}),
        ("mixture", GAUSSIAN),
    ],
)
def test_a_loaded_estimator_trains_as_the_run_was_trained(model: str, settings: dict[str, Any], tmp_path: Path) -> None:
    saved = DualDiff(model, seed=3, settings=settings).fit(ROWS)
    loaded = DualDiff.load(saved.save(tmp_path / "kept"))
    again = clone(loaded).fit(ROWS)
    assert Run.open(again.run_).config == Run.open(saved.run_).config
    assert loaded.steps == settings.get("training.steps")
    assert_array_equal(again.sample(5), saved.sample(5))


def test_the_rows_of_a_saved_run_are_in_no_file_and_evaluate_says_so(fitted: DualDiff, tmp_path: Path) -> None:
    kept = fitted.save(tmp_path / "kept")
    loaded = DualDiff.load(kept)
    for attempt in (loaded.evaluate, lambda: evaluate(kept), lambda: report(kept), lambda: plot(kept)):
        with pytest.raises(InputError) as caught:
            attempt()
        assert "from Python" in caught.value.problem
        assert "--samples" in caught.value.remedy
        assert "evaluate, report, plot, explore and animate need these rows" in caught.value.remedy
    assert list((kept / "figures").iterdir())
    scores = loaded.evaluate(ROWS, n=100)["metrics"]
    assert "sliced_wasserstein" in scores
    assert "memorisation" not in scores  # the training rows are gone
    with pytest.raises(InputError, match=r"'sliced'.*sliced_wasserstein"):
        loaded.evaluate(ROWS, n=100, metrics=["sliced"])
    with pytest.raises(InputError, match="score copies needs the training rows"):
        loaded.evaluate(ROWS, n=100, metrics=["sliced_wasserstein", "copies"])


def test_the_floor_of_rows_in_order_is_not_the_distance_of_their_two_ends(fitted: DualDiff, tmp_path: Path) -> None:
    loaded = DualDiff.load(fitted.save(tmp_path / "kept"))
    in_order = ROWS[ROWS[:, 0].argsort()]
    floors = [
        loaded.evaluate(rows, n=100, metrics=["sliced_wasserstein"])["metrics"]["sliced_wasserstein"]["floor"]
        for rows in (ROWS, in_order)
    ]
    assert floors[1] < 2 * floors[0]


# Strings as paths


def test_functions_take_a_run_as_str_or_path(tmp_path: Path) -> None:
    estimator = DualDiff("baseline", "paper", settings=TINY_SETTINGS, run_dir=tmp_path / "run").fit("line")
    run = str(estimator.run_)
    assert Run.open(run).path == Run.open(Path(run)).path == Path(run)
    assert export(run, output=str(tmp_path / "x.ts"))["output"] == str(tmp_path / "x.ts")
    assert sample(run, n=3, output=str(tmp_path / "x.csv"))["n"] == 3


# Notebooks


def test_a_notebook_shows_parameters_then_facts_and_the_picture(fitted: DualDiff) -> None:
    before, after = clone(fitted)._repr_html_(), fitted._repr_html_()
    assert "mixture" in before
    assert "data:image/png;base64," not in before
    assert "data:image/png;base64," in after
    assert "bits a row" in after
    assert "data:image/png;base64," in fitted._repr_mimebundle_()["text/html"]


def test_fit_says_nothing_unless_it_is_asked_to(capfd: pytest.CaptureFixture[str]) -> None:
    DualDiff("baseline", "paper", settings=TINY_SETTINGS).fit("line")
    assert capfd.readouterr() == ("", "")
