"""What gaps hide: training rows are completed by draws that keep what the columns have to do with each other."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import polars as pl
import pytest
from searching import full_search

from dualdiff_cli import seeding
from dualdiff_cli.data import Data, TableEncoding
from dualdiff_cli.training import gaps as gaps_of_rows
from dualdiff_cli.training.gaps import completed_features, held_out_features, rows_by_pattern, training_features

N = 1500
CORRELATION = np.array([[1.0, 0.9, -0.5], [0.9, 1.0, -0.4], [-0.5, -0.4, 1.0]])


def rows_with_gaps(share: float) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Give normal columns and a category that follows from their sign, complete and with gaps at random."""
    rng = seeding.stream(0, "test")
    z = rng.multivariate_normal(np.zeros(3), CORRELATION, N)
    whole = pl.DataFrame(z, schema=["a", "b", "c"]).with_columns(
        side=pl.when(pl.col("a") > 0).then(pl.lit("R")).otherwise(pl.lit("L"))
    )
    hidden = rng.random((N, 4)) < share
    return whole, whole.with_columns(
        pl.when(pl.Series(~hidden[:, k])).then(name) for k, name in enumerate(whole.columns)
    )


@pytest.fixture(scope="module", autouse=True)
def _full_search() -> Iterator[None]:
    with full_search():
        yield


@pytest.fixture(scope="module")
def completed() -> tuple[pl.DataFrame, pl.DataFrame, TableEncoding, np.ndarray]:
    whole, gaps = rows_with_gaps(0.3)
    encoding = TableEncoding.fit(gaps)
    return whole, gaps, encoding, training_features(encoding, gaps, seed=0)


def values_behind(encoding: TableEncoding, features: np.ndarray) -> pl.DataFrame:
    """Decode all cells as if none were missing."""
    features = features.copy()
    assert list(encoding.presence) == encoding.names
    for feature, value in encoding.presence.values():
        features[:, feature] = value
    return encoding.decode(features)


def test_completed_rows_keep_the_correlations_that_drawing_from_each_column_loses(
    completed: tuple[pl.DataFrame, pl.DataFrame, TableEncoding, np.ndarray],
) -> None:
    _, gaps, encoding, features = completed
    numbers = ["a", "b", "c"]
    drawn = np.corrcoef(values_behind(encoding, features).select(numbers).to_numpy().T)
    np.testing.assert_allclose(drawn, CORRELATION, atol=0.06)
    plain = encoding.encode(gaps, seeding.stream(0, "test"))
    assert np.corrcoef(values_behind(encoding, plain).select(numbers).to_numpy().T)[0, 1] < 0.6


def test_a_category_behind_a_gap_is_one_of_the_values_and_mostly_the_right_one(
    completed: tuple[pl.DataFrame, pl.DataFrame, TableEncoding, np.ndarray],
) -> None:
    whole, gaps, encoding, features = completed
    behind = values_behind(encoding, features)["side"].filter(gaps["side"].is_null())
    assert set(behind) == {"L", "R"}
    assert (behind == whole["side"].filter(gaps["side"].is_null())).mean() > 0.75
    span = encoding.layout.discrete[-2]
    part = (features[:, span.features] - np.array(span.shift)) / span.scale
    np.testing.assert_allclose(part, part.round(), atol=1e-9)


def test_observed_cells_and_gaps_stay_as_they_are_and_the_seed_decides_the_rest(
    completed: tuple[pl.DataFrame, pl.DataFrame, TableEncoding, np.ndarray],
) -> None:
    _, gaps, encoding, features = completed
    back = encoding.decode(features)
    assert back.null_count().equals(gaps.null_count())
    for name in gaps.columns:
        assert (back[name].is_null() == gaps[name].is_null()).all()
    np.testing.assert_allclose(back["b"].drop_nulls().to_numpy(), gaps["b"].drop_nulls().to_numpy(), atol=1e-9)
    some = gaps.head(200)
    first, again, other = (training_features(encoding, some, seed=seed) for seed in (1, 1, 2))
    assert (first == again).all()
    assert not np.allclose(first, other)


def test_gaps_of_held_out_rows_are_filled_by_what_the_training_rows_show(
    completed: tuple[pl.DataFrame, pl.DataFrame, TableEncoding, np.ndarray],
) -> None:
    whole, gaps, encoding, features = completed
    held_out = whole.head(1000).with_columns(a=pl.lit(None, dtype=pl.Float64))  # no held-out row shows what a is
    training, found = completed_features(encoding, Data("test", gaps, held_out, None, {}), seed=0)
    assert np.array_equal(training[0], features)
    numbers = ["a", "b", "c"]
    drawn = np.corrcoef(values_behind(encoding, found).select(numbers).to_numpy().T)
    np.testing.assert_allclose(drawn, CORRELATION, atol=0.08)
    unused = encoding.unused(found)
    assert unused.any(axis=0).sum() == 1
    np.testing.assert_array_equal(found[~unused], encoding.encode(held_out, None)[~unused])


def test_few_rows_are_completed_several_times_with_the_same_observed_cells(
    completed: tuple[pl.DataFrame, pl.DataFrame, TableEncoding, np.ndarray],
) -> None:
    _, gaps, encoding, _ = completed
    for n, number in ((100, 5), (1500, 3)):
        data = Data("test", gaps.head(n), gaps.tail(10), None, {})
        completions, _ = completed_features(encoding, data, seed=0)
        assert completions.shape == (number, n, encoding.width)
        unused = encoding.unused(completions[0])
        assert np.ptp(completions, axis=0)[~unused].max() == 0
        assert np.median(np.ptp(completions[:, unused], axis=0)) > 0


def test_held_out_rows_are_the_same_features_with_the_training_rows_or_alone(
    completed: tuple[pl.DataFrame, pl.DataFrame, TableEncoding, np.ndarray],
) -> None:
    whole, gaps = (rows.select("a", "b") for rows in completed[:2])
    for held_out in (gaps.tail(60), whole.tail(60)):
        data = Data("test", gaps.head(100), held_out, None, {})
        _, found = completed_features(data.encoding, data, seed=3)
        assert np.array_equal(held_out_features(data.encoding, data, seed=3), found)


def test_a_table_without_gaps_or_masses_is_encoded_as_it_is() -> None:
    whole, _ = rows_with_gaps(0.3)
    encoding = TableEncoding.fit(whole)
    assert (training_features(encoding, whole, seed=3) == encoding.encode(whole, seeding.stream(3, "dequantise"))).all()


def test_the_continuous_part_behind_a_point_mass_is_not_used() -> None:
    rng = seeding.stream(0, "test")
    x = np.where(rng.random(N) < 0.4, 0.0, rng.gamma(3.0, size=N))
    rows = pl.DataFrame({"x": x, "y": rng.normal(size=N)})
    encoding = TableEncoding.fit(rows)
    unused = encoding.unused(training_features(encoding, rows, seed=0))
    assert (unused[:, 0] == (x == 0)).all()
    assert not unused[:, 1:].any()


def test_rows_with_gaps_are_divided_by_what_is_missing_and_others_are_left_out() -> None:
    hidden = np.zeros((3000, 3), dtype=bool)
    hidden[:2500, 1] = True
    hidden[2990:2995] = [True, False, True]
    parts = list(rows_by_pattern(hidden))
    assert sorted(np.concatenate(parts)) == [*range(2500), *range(2990, 2995)]
    assert max(map(len, parts)) == 2048
    assert all((hidden[part] == hidden[part[0]]).all() for part in parts)


def test_rows_are_divided_into_parts_that_share_their_gaps_and_a_mixed_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gaps_of_rows, "MOST_MIXED", 10)
    gaps = np.zeros((200, 6), dtype=bool)
    gaps[:50, 0], gaps[50:90, 1:3] = True, True
    rng = np.random.default_rng(1)
    gaps[90:120] = rng.random((30, 6)) < 0.5
    parts = list(gaps_of_rows.rows_by_pattern(gaps))
    assert np.array_equal(np.sort(np.concatenate(parts)), np.flatnonzero(gaps.any(1)))
    for part in parts:
        assert len(part) <= 10 or (gaps[part] == gaps[part[0]]).all()


def test_matrices_of_rows_are_made_for_few_rows_at_a_time_and_for_few_features(monkeypatch: pytest.MonkeyPatch) -> None:
    _, gaps = rows_with_gaps(0.3)
    some = gaps.head(300)
    encoding = TableEncoding.fit(some)
    whole = training_features(encoding, some, seed=1)
    monkeypatch.setattr(gaps_of_rows, "MOST_NUMBERS", 500)
    parts = training_features(encoding, some, seed=1)
    assert np.isfinite(parts).all()
    unused = encoding.unused(whole)
    assert np.array_equal(parts[~unused], whole[~unused])
    of_values = encoding.width - len(encoding.presence)
    monkeypatch.setattr(gaps_of_rows, "MOST_FEATURES", of_values)
    assert np.array_equal(training_features(encoding, some, seed=1), parts)
    monkeypatch.setattr(gaps_of_rows, "MOST_FEATURES", of_values - 1)
    plain = encoding.encode(some, seeding.stream(1, "dequantise"))
    with pytest.warns(UserWarning, match=f"drawn from each column alone .* {of_values} features hold values"):
        assert np.array_equal(training_features(encoding, some, seed=1), plain)
