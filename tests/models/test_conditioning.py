"""Rows around given cells and filled gaps, drawn with a denoiser that knows every conditional distribution exactly."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
import torch
from tiny import tiny
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook

from dualdiff_cli.data import FeatureLayout, FloatArray, TableEncoding
from dualdiff_cli.data.encoding.number import NumberColumn
from dualdiff_cli.diffusion.mixtures import FullMixtureDenoiser
from dualdiff_cli.diffusion.networks.layers import GroupedLinear
from dualdiff_cli.diffusion.samplers.flow import Heun
from dualdiff_cli.diffusion.schedules.continuous import LogSNRUniform
from dualdiff_cli.errors import InputError
from dualdiff_cli.models import DrawingOptions, conditioning
from dualdiff_cli.models.diffusion import DiffusionModel
from dualdiff_cli.models.fitting import build_denoiser
from dualdiff_cli.training import gaps as gaps_of_rows
from dualdiff_cli.training.gaps import Mask

N = 4000
NAMES = ["a", "b", "c", "d"]
MEAN, SCALE = np.array([10.0, -3.0, 0.0, 100.0]), np.array([2.0, 0.5, 1.0, 30.0])
CORRELATION = np.array([[1, 0.8, 0.3, 0], [0.8, 1, 0.5, 0.2], [0.3, 0.5, 1, -0.6], [0, 0.2, -0.6, 1]])
COVARIANCE = CORRELATION * SCALE * SCALE[:, None]


@pytest.fixture(scope="module")
def model() -> DiffusionModel:
    """A model of normal columns whose gate asks only the closed-form expert, which is exact."""
    settings = ["folds.number=2", "objective.conditional=0.25", "sampling.steps=40", "sampling.sampler=dpmpp-2m"]
    config = tiny("few-rows", settings=[*settings, "schedule.sigma_min=0.01", "model.finest_frequency=50.0"])
    columns = (NumberColumn(name=n, shift=m, scale=s) for n, m, s in zip(NAMES, MEAN, SCALE, strict=True))
    encoding = TableEncoding(columns=tuple(columns))
    denoiser = build_denoiser(config, FeatureLayout.plain(4))
    one, correlation = torch.ones(1, dtype=torch.float64), torch.from_numpy(CORRELATION)[None]
    exact = FullMixtureDenoiser(one, torch.zeros(1, 4, dtype=torch.float64), correlation, denoiser.schedule)
    closed = {f"closed.{name}": tensor for name, tensor in exact.named_buffers() if "." not in name}
    gate = torch.zeros(config.folds.levels, dtype=torch.float64)
    denoiser.load_weights({**denoiser.learnt.weights(), **closed, "gate_weights": gate})  # type: ignore[operator, union-attr]
    return DiffusionModel(config, encoding, denoiser.requires_grad_(False).eval(), torch.device("cpu"))


def conditional(given: dict[str, float]) -> tuple[np.ndarray, np.ndarray]:
    """Compute mean and covariance of the other columns by the formula for normal distributions."""
    G = [NAMES.index(name) for name in given]
    F = [k for k in range(4) if k not in G]
    regression = COVARIANCE[np.ix_(F, G)] @ np.linalg.inv(COVARIANCE[np.ix_(G, G)])
    mean = MEAN[F] + regression @ (np.array([*given.values()]) - MEAN[G])
    return mean, COVARIANCE[np.ix_(F, F)] - regression @ COVARIANCE[np.ix_(G, F)]


def assert_conditional(rows: pl.DataFrame, given: dict[str, float]) -> None:
    x, (mean, covariance) = rows.drop(list(given)).to_numpy(), conditional(given)
    spread = np.sqrt(covariance.diagonal())
    assert np.abs((x.mean(0) - mean) / spread).max() < 4 / np.sqrt(len(x)) + 0.01
    own = np.atleast_2d(np.cov(x.T)) / (spread * spread[:, None])
    np.testing.assert_allclose(own, covariance / (spread * spread[:, None]), atol=5 * np.sqrt(2 / len(x)))


CONDITIONS = [{"a": 14.0}, {"c": -2.5, "b": -2.0}, {"a": 7.0, "b": -3.5, "d": 160.0}]


@pytest.mark.parametrize("given", CONDITIONS)
def test_rows_around_given_cells_have_the_conditional_distribution(
    model: DiffusionModel, given: dict[str, float]
) -> None:
    rows = model.sample(N, seed=1, options=DrawingOptions(given=given))
    assert_conditional(rows, given)
    for name, value in given.items():
        assert set(rows[name]) == {value}


@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_in_bfloat16_the_weights_are_rounded_once_and_not_in_every_call(model: DiffusionModel, guidance: float) -> None:
    asked = set()

    def note(layer: nn.Module, _: object) -> None:
        if isinstance(layer, GroupedLinear):
            asked.add(layer.weight.dtype)

    options = DrawingOptions(given={"a": 14.0}, guidance=guidance, precision="bfloat16")
    with register_module_forward_pre_hook(note):
        model.sample(5, seed=0, options=options)
    assert asked == {torch.bfloat16}


@pytest.mark.parametrize("given", CONDITIONS)
def test_filled_gaps_have_the_conditional_distribution(model: DiffusionModel, given: dict[str, float]) -> None:
    table = pl.DataFrame({name: pl.Series([given.get(name)] * N, dtype=pl.Float64) for name in NAMES})
    assert_conditional(model.fill(table, seed=2), given)


def test_rows_with_gaps_in_different_columns_are_each_filled_given_their_own_cells(
    model: DiffusionModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gaps_of_rows, "LEAST_COMMON", N)  # every pattern counts as rare
    tables = [
        pl.DataFrame({name: pl.Series([given.get(name)] * 700, dtype=pl.Float64) for name in NAMES})
        for given in CONDITIONS
    ]
    order = np.random.default_rng(0).permutation(2100)
    filled = model.fill(pl.concat(tables)[order], seed=3)[np.argsort(order)]
    for k, given in enumerate(CONDITIONS):
        assert_conditional(filled[700 * k : 700 * (k + 1)], given)


def test_of_a_column_that_the_table_lacks_it_is_not_given_that_its_cells_are_there() -> None:
    x = np.random.default_rng(0).normal(size=(2, 200))
    rows = pl.DataFrame({"a": x[0], "b": x[1]}).with_columns(pl.when(pl.int_range(200) % 5 > 0).then(n) for n in "ab")
    encoding, masks = TableEncoding.fit(rows), []

    def draw(features: FloatArray, given: Mask) -> FloatArray:
        masks.append(given)
        return features

    conditioning.fill_gaps(encoding, rows.select("b"), draw)
    flag, other = (encoding.presence[name][0] for name in "ba")
    assert masks[0][:, flag].all()
    assert not masks[0][:, other].any()


def test_nothing_is_drawn_for_a_row_without_gaps_at_a_mass_beyond_the_continuous_part() -> None:
    rng = np.random.default_rng(0)
    rain = np.where(rng.random(200) < 0.5, 0, rng.exponential(size=200))
    rows, masks = pl.DataFrame({"rain": rain, "t": rng.normal(size=200)}), []
    encoding = TableEncoding.fit(rows)
    assert encoding.columns[0].kind == "masses"

    def draw(features: FloatArray, given: Mask) -> FloatArray:
        masks.append(given)
        return features

    gap = pl.int_range(200) % 4 == 0
    filled = conditioning.fill_gaps(encoding, rows.with_columns(pl.when(~gap).then("t")), draw)
    assert filled.filter(~gap).equals(rows.filter(~gap))
    assert np.array_equal(masks[0].all(axis=1), np.arange(200) % 4 > 0)


def test_a_value_given_which_nothing_can_be_drawn_is_refused_by_name(model: DiffusionModel) -> None:
    rows = pl.DataFrame({"a": [1.0, 1.0], "b": [None, None], "c": [0.5, 0.5], "d": [7.0, 1e300]})
    with pytest.raises(InputError, match=r"'d' has the value 1e\+300.*cannot be filled"):
        model.fill(rows.cast({"b": pl.Float64}), seed=0)


class Watched(FullMixtureDenoiser):
    """Notes how many numbers the matrices have that are made for given features."""

    made: list[int]

    def conditioned(self, values: Tensor, given: Tensor) -> FullMixtureDenoiser:
        conditioned = super().conditioned(values, given)
        self.made.append(conditioned.axes.numel())
        return conditioned


@pytest.mark.parametrize("most", [1, 200])
def test_matrices_of_rows_with_gaps_of_their_own_are_made_for_few_rows_at_a_time(
    most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    K, d = 3, 4
    covariances, means = torch.from_numpy(CORRELATION).expand(K, d, d), torch.zeros(K, d).double()
    schedule = LogSNRUniform(sigma_min=0.01, sigma_max=20.0)
    denoiser = Watched(torch.full((K,), 1 / K), means, covariances, schedule)
    rng = np.random.default_rng(0)
    features, given = rng.normal(size=(60, d)), rng.random((60, d)) < 0.5

    def drawn() -> np.ndarray:
        denoiser.made = []
        return conditioning.draw_by_denoiser(denoiser, Heun(steps=5), features, given, seed=0)

    whole = drawn()
    assert denoiser.made == [(~given).any(1).sum() * K * d * d]
    monkeypatch.setattr("dualdiff_cli.training.gaps.MOST_NUMBERS", most)
    np.testing.assert_allclose(drawn(), whole, rtol=1e-9, atol=1e-9)
    assert max(denoiser.made) <= max(most, K * d * d)


def test_guidance_of_one_changes_nothing_and_more_moves_the_mean_beyond_the_conditional_one(
    model: DiffusionModel,
) -> None:
    plain, one, two = (
        model.sample(N, seed=1, options=DrawingOptions(given=given, guidance=w))["b"].to_numpy()
        for given, w in [({}, 1.0), ({"a": 12.0}, 1.0), ({"a": 12.0}, 2.0)]
    )
    zero = model.sample(N, seed=1, options=DrawingOptions(given={"a": 12.0}, guidance=0.0))["b"].to_numpy()
    np.testing.assert_allclose(zero, plain, atol=1e-6)
    assert plain.mean() + 0.3 < one.mean() < two.mean() - 0.05
