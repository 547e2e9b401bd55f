from __future__ import annotations

import json

import numpy as np
from numpy.testing import assert_allclose

from dualdiff_cli.data import Column, Scaler, dequantise

X = np.random.default_rng(0).normal(size=(500, 3)) * [1e-3, 1.0, 1e6] + [5.0, 0.0, -1e7]
COLUMNS = (Column("a"), Column("k", "integer"))


def test_fitted_points_have_mean_zero_and_variance_one() -> None:
    z = Scaler.fit(X).transform(X)
    assert_allclose(z.mean(axis=0), 0, atol=1e-10)
    assert_allclose(z.std(axis=0), 1)


def test_inverse_undoes_transform() -> None:
    scaler = Scaler.fit(X)
    assert_allclose(scaler.inverse(scaler.transform(X)), X, rtol=1e-12)


def test_float32_points_come_back_in_float64() -> None:
    z = np.ones((2, 3), dtype=np.float32)
    assert Scaler.fit(X).inverse(z).dtype == np.float64


def test_identity_changes_nothing() -> None:
    assert np.array_equal(Scaler.identity(3).transform(X), X)


def test_a_column_that_is_constant_in_the_training_part_keeps_its_unit() -> None:
    # The standard deviation of many 0.1s is not zero but rounding, which must not become the scale.
    x = np.stack([np.full(1000, 0.1), np.arange(1000.0)], axis=1)
    assert x.std(axis=0)[0] > 0
    assert Scaler.fit(x).scale[0] == 1


def test_a_scaler_survives_json_exactly() -> None:
    scaler = Scaler.fit(X)
    again = Scaler.from_dict(json.loads(json.dumps(scaler.to_dict())))
    assert np.array_equal(again.shift, scaler.shift)
    assert np.array_equal(again.scale, scaler.scale)


def test_rounding_undoes_dequantisation_and_floats_are_left_alone() -> None:
    rng = np.random.default_rng(1)
    x = np.stack([rng.normal(size=10_000), rng.integers(-5, 5, 10_000)], axis=1)
    spread = dequantise(x, COLUMNS, rng)
    assert np.array_equal(spread[:, 0], x[:, 0])
    assert np.array_equal(np.rint(spread[:, 1]), x[:, 1])


def test_dequantisation_is_uniform_on_the_unit_interval_about_the_integer() -> None:
    noise = dequantise(np.zeros((100_000, 2)), COLUMNS, np.random.default_rng(2))[:, 1]
    assert -0.5 <= noise.min() < -0.499
    assert 0.499 < noise.max() <= 0.5
    assert_allclose(noise.var(), 1 / 12, rtol=0.02)
