"""Exact denoisers of the named densities: the answers of a perfectly trained network.

The posterior of x given x_t = α x + σ ε is p(x) N(x_t; α x, σ² I) up to a factor. Every density here is a mixture of
parts whose posterior is known in closed form: Gaussians; boxes, which are products of intervals; and discs with
uniformly distributed radius, which are fans of rods, one rod per direction, each rod an interval. Let ℓ_k be the
probability that x is in part k and gives x_t, and m_k the posterior mean within part k. Then

    E[x | x_t] = Σ_k ℓ_k m_k / Σ_k ℓ_k.

On an interval [p, q] the posterior is a truncated normal distribution: u = (α x − x_t)/σ is standard normal on [a, b],
a = (α p − x_t)/σ, b = (α q − x_t)/σ (Johnson, Kotz & Balakrishnan 1994, "Continuous Univariate Distributions", §13.10).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from scipy.special import roots_legendre
from torch import Tensor

from ..data import Boxes, Density, Discs, FloatArray, GaussianMixture, NoisyCurves
from .denoisers import Denoiser
from .mixtures import MixtureDenoiser
from .schedules import Schedule

__all__ = ["BoxesDenoiser", "DiscsDenoiser", "exact_denoiser"]

LARGEST_TEMPORARY = 2**17
"""The number of entries (points × parts) of the largest temporaries: 1 MiB each."""
QUADRATURE_WIDTH = 4.0
"""Intervals whose width times (1 + distance) is less than this are integrated by quadrature, others by tails."""
NEGLIGIBLE_NATS = 40.0
"""A disc is left out if its log-likelihood is this much below that of the likeliest disc: e⁻⁴⁰ is below rounding."""

_NODES, _WEIGHTS = (torch.from_numpy(values) / 2 for values in roots_legendre(12))


def exact_denoiser(
    density: Density, schedule: Schedule, *, shift: FloatArray | float = 0.0, scale: FloatArray | float = 1.0
) -> Denoiser:
    """Make the denoiser E[z | z_t] of a density, which computes in float64 and in bounded memory.

    Args:
        density: a density of a family in ``BUILDERS``.
        schedule: gives α_t and σ_t.
        shift, scale: the denoiser works with z = (x − shift)/scale for points x of the density; each (d,) or one
            number.

    """
    ones = np.ones(density.dim)
    # A named density may be a subclass of its family that is drawn in its own way.
    build = next(BUILDERS[family] for family in type(density).__mro__ if family in BUILDERS)
    return build(density, schedule, shift * ones, scale * ones)


def _of_mixture(density: GaussianMixture, schedule: Schedule, shift: FloatArray, scale: FloatArray) -> Denoiser:
    weights = torch.from_numpy(density.weights)
    means = torch.from_numpy((density.means - shift) / scale)
    stds = torch.from_numpy(density.stds / scale)
    return _InChunks(MixtureDenoiser(weights, means, stds, schedule), entries=density.means.size)


def _of_curves(density: NoisyCurves, schedule: Schedule, shift: FloatArray, scale: FloatArray) -> Denoiser:
    return _of_mixture(density.as_mixture(), schedule, shift, scale)


def _of_boxes(density: Boxes, schedule: Schedule, shift: FloatArray, scale: FloatArray) -> Denoiser:
    boxes = BoxesDenoiser((density.centres - shift) / scale, density.half_widths / scale, schedule)
    return _InChunks(boxes, entries=density.centres.size * len(_NODES))


def _of_discs(density: Discs, schedule: Schedule, shift: FloatArray, scale: FloatArray) -> Denoiser:
    centres, radii = (density.centres - shift) / scale, density.radius / scale
    return _InChunks(DiscsDenoiser(density.weights, centres, radii, schedule), entries=centres.size)


BUILDERS: dict[type[Density], Callable[[Any, Schedule, FloatArray, FloatArray], Denoiser]] = {
    GaussianMixture: _of_mixture,
    NoisyCurves: _of_curves,
    Boxes: _of_boxes,
    Discs: _of_discs,
}
"""The function that makes the exact denoiser, for each family of densities."""


class _InChunks(Denoiser):
    """A denoiser that is evaluated on a bounded number of points at a time.

    Args:
        denoiser: the denoiser.
        entries: the number of entries that one point has in the largest temporary.

    """

    def __init__(self, denoiser: Denoiser, *, entries: int) -> None:
        super().__init__()
        self.denoiser, self.schedule, self.rows = denoiser, denoiser.schedule, max(1, LARGEST_TEMPORARY // entries)

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        """See `Denoiser.forward`."""
        points = torch.split(x_t, self.rows)
        times = torch.split(t, self.rows) if t.dim() else (t,) * len(points)
        return torch.cat([self.denoiser(*chunk) for chunk in zip(points, times, strict=True)])


class BoxesDenoiser(Denoiser):
    """The exact posterior mean for x uniform on k boxes of the same size.

    Args:
        centres: (k, d).
        half_widths: half the width of a box along each axis, (d,).
        schedule: gives α_t and σ_t.

    """

    def __init__(self, centres: FloatArray, half_widths: FloatArray, schedule: Schedule) -> None:
        super().__init__()
        self.schedule = schedule
        self.lower: Tensor
        self.widths: Tensor
        self.register_buffer("lower", torch.from_numpy(centres - half_widths))
        self.register_buffer("widths", torch.from_numpy(2 * half_widths))

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        """See `Denoiser.forward`; the axes are independent within a box."""
        noisy = x_t.double().unsqueeze(1)
        alpha, sigma = self.schedule.alpha_sigma(t, noisy)
        a = (alpha * self.lower - noisy) / sigma
        log_mass, fraction = _cut_off_normal(a, alpha * self.widths / sigma)
        share = torch.softmax(log_mass.sum(-1), dim=1).unsqueeze(-1)
        return (share * (self.lower + self.widths * fraction)).sum(1).to(x_t.dtype)


class DiscsDenoiser(Denoiser):
    """The exact posterior mean for x = c_k + ρ·v(θ), with ρ ~ U(0, 1), θ uniform and v(θ) = (R_1 cos θ, R_2 sin θ).

    For a fixed θ, x lies on a rod that starts at the centre. With δ = x_t − α c_k and the unit vector v̂ of v,

        ∫_0^1 N(δ; αρv, σ²I) dρ ∝ exp(−(δ × v̂)²/2σ²) · mean of φ over [−δ·v̂/σ, (α|v| − δ·v̂)/σ].

    The rectangle rule takes the mean over θ; for periodic functions this rule converges exponentially (Trefethen &
    Weideman 2014, "The exponentially convergent trapezoidal rule", §3). The sharpest function here is exp(κ cos θ) with
    κ = αR(|δ| + αR)/σ². With N nodes the error is about exp(−N²/2κ), so N = 7√κ nodes reach the rounding of float64.
    For σ = R/500 this is about 5,000 nodes. The method works at every noise level, but is slow at very low ones.

    Args:
        weights: the probabilities of the discs, (k,), with the sum one.
        centres: c, (k, 2).
        radii: R_1 and R_2, (2,).
        schedule: gives α_t and σ_t.

    """

    def __init__(self, weights: FloatArray, centres: FloatArray, radii: FloatArray, schedule: Schedule) -> None:
        super().__init__()
        self.schedule = schedule
        self.log_weights: Tensor
        self.centres: Tensor
        self.radii: Tensor
        self.register_buffer("log_weights", torch.from_numpy(weights).log())
        self.register_buffer("centres", torch.from_numpy(centres))
        self.register_buffer("radii", torch.from_numpy(radii))

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        """See `Denoiser.forward`; discs of negligible likelihood are left out."""
        noisy = x_t.double()
        alpha, sigma = (c.expand(len(noisy), 1) for c in self.schedule.alpha_sigma(t, noisy))
        delta = noisy.unsqueeze(1) - alpha.unsqueeze(-1) * self.centres
        distance, reach = torch.linalg.vector_norm(delta, dim=-1), alpha * self.radii.max()
        at_most = self.log_weights - 0.5 * ((distance - reach).clamp(min=0) / sigma) ** 2
        at_least = self.log_weights - 0.5 * ((distance + reach) / sigma) ** 2
        point, disc = torch.nonzero(at_most >= at_least.amax(1, keepdim=True) - NEGLIGIBLE_NATS, as_tuple=True)

        kappa = (reach * (distance + reach) / sigma**2)[point, disc].max()
        directions = self._directions(8 + math.ceil(7 * math.sqrt(float(kappa.detach()))))
        rows = max(1, LARGEST_TEMPORARY // (len(directions) * len(_NODES)))
        pairs = (torch.split(v, rows) for v in (delta[point, disc], alpha[point], sigma[point]))
        fans = [_fan(near, a, s, directions) for near, a, s in zip(*pairs, strict=True)]
        log_mass, offset = (torch.cat(values) for values in zip(*fans, strict=True))

        logits = torch.full_like(distance, -math.inf).index_put((point, disc), self.log_weights[disc] + log_mass)
        share = torch.softmax(logits, dim=1)[point, disc].unsqueeze(-1)
        mean = torch.zeros_like(delta[:, 0]).index_add(0, point, share * (self.centres[disc] + offset))
        return mean.to(x_t.dtype)

    def _directions(self, n: int) -> Tensor:
        """v(θ) at n equally spaced angles, (n, 2)."""
        theta = torch.arange(n, dtype=torch.float64, device=self.radii.device) * (2 * math.pi / n)
        return self.radii * torch.stack([theta.cos(), theta.sin()], dim=1)


def _fan(delta: Tensor, alpha: Tensor, sigma: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """The posterior on a fan of n rods with a common start.

    Args:
        delta: δ, (m, 2).
        alpha, sigma: (m, 1).
        v: the rods, (n, 2).

    Returns:
        The log of the mean likelihood up to a constant, (m,), and the posterior mean of ρv, (m, 2).

    """
    length = torch.linalg.vector_norm(v, dim=1)
    unit = v / length.unsqueeze(1)
    across = delta[:, :1] * unit[:, 1] - delta[:, 1:] * unit[:, 0]
    log_mass, fraction = _cut_off_normal(-(delta @ unit.T) / sigma, alpha * length / sigma)
    log_mass = log_mass - 0.5 * (across / sigma) ** 2
    share = torch.softmax(log_mass, dim=1)
    return torch.logsumexp(log_mass, dim=1) - math.log(len(v)), (share * fraction) @ v


def _cut_off_normal(a: Tensor, width: Tensor) -> tuple[Tensor, Tensor]:
    """The standard normal distribution truncated to [a, a + w], elementwise.

    Args:
        a: the lower ends, any shape.
        width: w, of a shape that broadcasts to that of a.

    Returns:
        The log of the mean of the normal density φ over the interval, up to a constant, and E[(u − a)/w], which is
        between 0 and 1; both of the shape of a.

    """
    width = width.expand_as(a)
    narrow = width * (1 + (a + width / 2).abs()) < QUADRATURE_WIDTH
    if bool(narrow.all()):
        return _by_quadrature(a, width)
    wide_log, wide_fraction = _by_tails(a, width.where(~narrow, QUADRATURE_WIDTH))
    if not bool(narrow.any()):
        return wide_log, wide_fraction
    narrow_log, narrow_fraction = _by_quadrature(a, width.where(narrow, 0.0))
    return narrow_log.where(narrow, wide_log), narrow_fraction.where(narrow, wide_fraction)


def _by_quadrature(a: Tensor, width: Tensor) -> tuple[Tensor, Tensor]:
    """Integrate by the Gauss–Legendre rule, which is exact to rounding where φ varies little, also for w = 0."""
    nodes, weights = _NODES.to(a.device), _WEIGHTS.to(a.device)
    middle = a + width / 2
    relative = width.unsqueeze(-1) * nodes
    mass = weights * torch.exp(-relative * (middle.unsqueeze(-1) + relative / 2))
    total = mass.sum(-1)
    return total.log() - 0.5 * middle**2, 0.5 + (mass @ nodes) / total


def _by_tails(a: Tensor, width: Tensor) -> tuple[Tensor, Tensor]:
    """Integrate by differences of Φ: E[u] = (φ(a) − φ(b))/(Φ(b) − Φ(a)).

    An interval in the upper tail is mirrored to the lower tail, where log Φ keeps all digits at any distance.
    """
    mirrored = a + width / 2 > 0
    low = torch.where(mirrored, -a - width, a)
    high = low + width
    log_low, log_high = torch.special.log_ndtr(low), torch.special.log_ndtr(high)
    log_mass = log_high + torch.log1p(-torch.exp(log_low - log_high)) + 0.5 * math.log(2 * math.pi)
    mean = torch.exp(-0.5 * low**2 - log_mass) - torch.exp(-0.5 * high**2 - log_mass)
    fraction = ((mean - low) / width).clamp(0, 1)
    return log_mass - width.log(), torch.where(mirrored, 1 - fraction, fraction)
