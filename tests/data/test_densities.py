from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import integrate, stats
from sklearn.datasets import make_moons

from dualdiff_cli.data import DENSITIES, Boxes, Discs, GaussianMixture, NoisyCurves, get_density
from dualdiff_cli.errors import InputError

SMOOTH = [name for name, density in DENSITIES.items() if isinstance(density, GaussianMixture | NoisyCurves)]
SMALL = GaussianMixture(
    np.array([0.2, 0.3, 0.5]),
    np.array([[0.0, 0.0], [1.0, -1.0], [0.5, 2.0]]),
    np.array([[0.5, 1.0], [0.2, 0.4], [1.5, 0.3]]),
)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def grid(low: np.ndarray, high: np.ndarray, step: np.ndarray) -> tuple[np.ndarray, float]:
    """Midpoints of cells that fill a rectangle, and the area of one."""
    counts = np.ceil((high - low) / step).astype(int)
    width = (high - low) / counts
    axes = [low[i] + width[i] * (np.arange(counts[i]) + 0.5) for i in range(2)]
    return np.stack(np.meshgrid(*axes), axis=-1).reshape(-1, 2), float(width.prod())


def as_mixture(name: str) -> GaussianMixture:
    density = DENSITIES[name]
    return density.as_mixture() if isinstance(density, NoisyCurves) else density


@pytest.mark.parametrize("name", SMOOTH)
def test_smooth_densities_integrate_to_one(name: str) -> None:
    # The midpoint rule is exact to 1e-8 for Gaussians wider than a cell.
    mixture = as_mixture(name)
    margin = 6 * mixture.stds.max(axis=0)
    points, area = grid(
        mixture.means.min(axis=0) - margin, mixture.means.max(axis=0) + margin, mixture.stds.min(axis=0)
    )
    assert_allclose(np.exp(DENSITIES[name].log_prob(points)).sum() * area, 1, atol=1e-6)


@pytest.mark.parametrize("name", ["line", "checkerboard"])
def test_uniform_densities_integrate_to_one(name: str) -> None:
    points, area = grid(np.array([-5.0, -5.0]), np.array([5.0, 5.0]), np.array([0.1, 0.1]))
    assert_allclose(np.exp(DENSITIES[name].log_prob(points)).sum() * area, 1, atol=1e-9)


def test_each_blob_of_the_circle_integrates_to_its_weight() -> None:
    circle = DENSITIES["circle"]
    assert isinstance(circle, Discs)
    angle = np.linspace(0, 2 * np.pi, 8, endpoint=False)
    r = circle.radius * (np.arange(50) + 0.5) / 50
    ring = (r[:, None, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)).reshape(-1, 2)
    area = np.repeat(r, 8) * (circle.radius / 50) * (2 * np.pi / 8)
    for centre, weight in zip(circle.centres, circle.weights, strict=True):
        assert_allclose(np.exp(circle.log_prob(centre + ring)) @ area, weight, rtol=1e-9)


@pytest.mark.parametrize("name", DENSITIES)
def test_entropy_is_the_mean_of_minus_log_prob(name: str) -> None:
    density = DENSITIES[name]
    surprise = -density.log_prob(density.sample(20_000, rng(1)))
    assert np.isfinite(surprise).all()
    assert abs(density.entropy() - surprise.mean()) <= 4 * surprise.std() / np.sqrt(len(surprise)) + 1e-12


def test_entropy_of_one_gaussian_is_the_closed_form() -> None:
    gaussian = GaussianMixture(np.ones(1), np.zeros((1, 3)), np.array([[0.5, 1.0, 2.0]]))
    assert_allclose(gaussian.entropy(), 1.5 * np.log(2 * np.pi * np.e), rtol=1e-12)


@pytest.mark.parametrize("name", ["eight-gaussians", "moons"])
def test_quadrature_entropy_is_the_grid_entropy(name: str) -> None:
    mixture = as_mixture(name)
    margin = 8 * mixture.stds.max(axis=0)
    step = mixture.stds.min(axis=0) / 2
    points, area = grid(mixture.means.min(axis=0) - margin, mixture.means.max(axis=0) + margin, step)
    log_p = mixture.log_prob(points)
    assert_allclose(DENSITIES[name].entropy(), -(np.exp(log_p) @ log_p) * area, atol=1e-6)


def test_mixture_log_prob_is_scipys() -> None:
    x = rng().normal(size=(50, 2), scale=3)
    parts = [
        w * stats.multivariate_normal(mean, np.diag(std**2)).pdf(x)
        for w, mean, std in zip(SMALL.weights, SMALL.means, SMALL.stds, strict=True)
    ]
    assert_allclose(SMALL.log_prob(x), np.log(sum(parts)), rtol=1e-10)


def test_log_prob_does_not_depend_on_its_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    x = rng().normal(size=(101, 2))
    whole = {name: density.log_prob(x) for name, density in DENSITIES.items()}
    monkeypatch.setattr("dualdiff_cli.data.densities.base._CHUNK", 1500)
    for name, density in DENSITIES.items():
        assert_allclose(density.log_prob(x), whole[name], rtol=1e-12, err_msg=name)


def test_mixture_samples_have_the_closed_form_moments() -> None:
    x = SMALL.sample(200_000, rng())
    mean = SMALL.weights @ SMALL.means
    offset = SMALL.means - mean
    covariance = np.diag(SMALL.weights @ SMALL.stds**2) + (SMALL.weights * offset.T) @ offset
    assert_allclose(x.mean(axis=0), mean, atol=0.02)
    assert_allclose(np.cov(x.T), covariance, atol=0.03)


def test_dino_is_the_datasaurus_with_the_papers_noise() -> None:
    dino = DENSITIES["dino"]
    assert isinstance(dino, GaussianMixture)
    raw = (dino.means / 4 + 1) * [54, 48]
    assert len(raw) == 142
    assert_allclose(raw.mean(axis=0), [54.2633, 47.8323], atol=1e-4)  # the Datasaurus dozen's common statistics
    assert_allclose(raw.std(axis=0, ddof=1), [16.7651, 26.9354], atol=1e-4)
    assert_allclose(dino.stds, np.tile([0.6 / 54, 0.6 / 48], (142, 1)))
    x = dino.sample(100_000, rng())
    assert_allclose(x.mean(axis=0), dino.means.mean(axis=0), atol=4 * 2.3 / np.sqrt(1e5))
    assert_allclose(np.cov(x.T), np.cov(dino.means.T, ddof=0) + np.diag(dino.stds[0] ** 2), atol=0.06)


def test_line_fills_its_rectangle() -> None:
    x = DENSITIES["line"].sample(20_000, rng())
    assert stats.kstest(x[:, 0], stats.uniform(-2, 4).cdf).pvalue > 1e-3
    assert stats.kstest(x[:, 1], stats.uniform(-4, 8).cdf).pvalue > 1e-3
    assert DENSITIES["line"].log_prob(np.array([[2.01, 0.0], [0.0, -4.01]])).tolist() == [-np.inf, -np.inf]


def test_circle_has_16_directions_and_the_origin() -> None:
    circle = DENSITIES["circle"]
    assert isinstance(circle, Discs)
    norms = np.linalg.norm(circle.centres, axis=1)
    assert_allclose(np.sort(norms), [0.0] + [3.0] * 16, atol=1e-7)
    assert sorted(np.round(25 * circle.weights).astype(int)) == [1] * 9 + [2] * 8
    distance = np.linalg.norm(circle.centres[:, None] - circle.centres, axis=2) + 9 * np.eye(17)
    assert distance.min() > 2 * circle.radius


def test_circle_samples_fall_into_the_blobs_with_their_weights_and_uniform_radius() -> None:
    circle = DENSITIES["circle"]
    assert isinstance(circle, Discs)
    x = circle.sample(50_000, rng())
    distance = np.linalg.norm(x[:, None] - circle.centres, axis=2)
    counts = np.bincount(distance.argmin(axis=1), minlength=17)
    assert stats.chisquare(counts, circle.weights * len(x)).pvalue > 1e-3
    assert stats.kstest(distance.min(axis=1), stats.uniform(0, 0.09).cdf).pvalue > 1e-3


def test_the_papers_circle_and_its_closed_form_have_one_distribution() -> None:
    circle = DENSITIES["circle"]
    assert isinstance(circle, Discs)
    papers, closed = circle.sample(20_000, rng(1)), Discs.sample(circle, 20_000, rng(2))
    for i in range(2):
        assert stats.ks_2samp(papers[:, i], closed[:, i]).pvalue > 1e-3


def test_circle_is_singular_at_its_centres_and_zero_between_them() -> None:
    log_p = DENSITIES["circle"].log_prob(np.array([[0.0, 0.0], [1.0, 1.0]]))
    assert log_p.tolist() == [np.inf, -np.inf]


def test_moons_are_scikit_learns_scaled() -> None:
    seed = int(rng(7).integers(2**32))
    raw, _ = make_moons(1000, noise=0.03, random_state=seed)
    expected = np.stack([2 * (raw[:, 0] + 0.3) - 1, 3 * (raw[:, 1] + 0.3) - 1], axis=1)
    assert_allclose(DENSITIES["moons"].sample(1000, rng(7)), expected, rtol=1e-12)


def test_moons_sampled_evenly_and_at_random_have_one_distribution() -> None:
    moons = DENSITIES["moons"]
    assert isinstance(moons, NoisyCurves)
    even, random = moons.sample(20_000, rng(1)), NoisyCurves.sample(moons, 20_000, rng(2))
    for i in range(2):
        assert stats.ks_2samp(even[:, i], random[:, i]).pvalue > 1e-3


@pytest.mark.parametrize("name", ["moons", "two-spirals"])
def test_curve_log_prob_is_adaptive_quadrature_along_the_curve(name: str) -> None:
    density = DENSITIES[name]
    assert isinstance(density, NoisyCurves)
    x = density.sample(6, rng(3))

    def integrand(s: float, point: np.ndarray, k: int) -> float:
        residual = (point - density.shift) / density.scale - density.curves[k](np.array([s]))[0]
        normaliser = 2 * np.pi * density.noise**2 * density.scale.prod()
        return (
            density.beta * s ** (density.beta - 1) * np.exp(-0.5 * (residual**2).sum() / density.noise**2) / normaliser
        )

    for point, log_p in zip(x, density.log_prob(x), strict=True):
        total = sum(
            integrate.quad(integrand, a / 20, (a + 1) / 20, (point, k), epsrel=1e-11)[0]
            for k in range(2)
            for a in range(20)
        )
        assert_allclose(log_p, np.log(total / 2), atol=1e-8)


@pytest.mark.parametrize("name", ["moons", "two-spirals"])
def test_twice_the_nodes_change_nothing(name: str) -> None:
    density = DENSITIES[name]
    assert isinstance(density, NoisyCurves)
    x = density.sample(200, rng(4))
    assert_allclose(density.log_prob(x), density.as_mixture(nodes=2 * density.nodes).log_prob(x), atol=1e-8)


@pytest.mark.parametrize("name", DENSITIES)
def test_samples_have_the_shape_and_depend_on_the_generator_alone(name: str) -> None:
    density = DENSITIES[name]
    x = density.sample(100, rng(5))
    assert x.shape == (100, density.dim)
    assert x.dtype == np.float64
    assert density.columns == ("x", "y")
    assert np.array_equal(x, density.sample(100, rng(5)))
    assert not np.array_equal(x, density.sample(100, rng(6)))


@pytest.mark.parametrize("name", ["circle", "dino", "eight-gaussians", "checkerboard"])
def test_samples_are_inside_the_modes_with_their_weights(name: str) -> None:
    density = DENSITIES[name]
    modes = density.modes
    assert modes is not None
    assert_allclose(modes.weights.sum(), 1)
    x = density.sample(5000, rng(8))
    inside = (np.abs(x[:, None] - modes.centres) <= modes.radii + 1e-8).all(axis=2)
    assert inside.any(axis=1).mean() > 0.999
    if isinstance(density, Boxes | Discs):
        assert_allclose(inside.mean(axis=0), modes.weights, atol=4 * np.sqrt(0.125 / 5000))


def test_curves_have_no_modes() -> None:
    assert DENSITIES["moons"].modes is None


def test_checkerboard_has_no_two_squares_side_by_side() -> None:
    board = DENSITIES["checkerboard"]
    assert isinstance(board, Boxes)
    gaps = np.abs(board.centres[:, None] - board.centres).sum(axis=2)[~np.eye(8, dtype=bool)]
    assert gaps.min() == 4  # neighbours would be 2 apart


def test_an_unknown_name_gets_the_close_ones() -> None:
    with pytest.raises(InputError, match=r"no density 'Cirle'.*Did you mean 'circle'\?"):
        get_density("Cirle")
    with pytest.raises(InputError, match="Choose from checkerboard, circle, dino"):
        get_density("zzz")


def test_every_density_says_in_one_line_what_it_looks_like_and_how_many_modes_it_has() -> None:
    assert all(density.description and "\n" not in density.description for density in DENSITIES.values())
    assert len(DENSITIES["circle"].modes.weights) == 17
    assert DENSITIES["moons"].modes is None


def test_unnamed_densities_of_other_dimensions_have_numbered_columns() -> None:
    assert GaussianMixture(np.ones(1), np.zeros((1, 3)), np.ones((1, 3))).columns == ("x1", "x2", "x3")
    assert GaussianMixture(np.ones(1), np.zeros((1, 1)), np.ones((1, 1))).columns == ("x1",)
