"""Exact denoisers of the named densities: what a perfectly trained network would answer.

The posterior of x given x_t = α x + σ ε is p(x) N(x_t; α x, σ² I) up to a factor. Every density here is a mixture of
parts for which it is known in closed form: Gaussians; boxes, which are products of intervals; and discs with uniform
radius, which are fans of rods, one a direction, each an interval along its length. With the probability ℓ_k that part k
gives x_t, and the mean m_k of the posterior within it,

    E[x | x_t] = Σ_k ℓ_k m_k / Σ_k ℓ_k.

On an interval [p, q] the posterior is a normal cut off at both ends: u = (α x − x_t)/σ is standard normal on [a, b],
a = (α p − x_t)/σ, b = (α q − x_t)/σ (Johnson, Kotz & Balakrishnan 1994, "Continuous Univariate Distributions", §13.10).
"""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy.special import roots_legendre
from torch import Tensor

from ..data import Boxes, Density, Discs, FloatArray, GaussianMixture, NoisyCurves
from .denoisers import Denoiser, MixtureDenoiser
from .schedules import Schedule

__all__ = ["BoxesDenoiser", "DiscsDenoiser", "exact_denoiser"]

CHUNK = 2**17
"""Entries of the largest temporaries (points × parts): 1 MiB each, whatever the number of points."""
NARROW = 4.0
"""Width times (1 + distance) below which an interval is integrated by quadrature rather than by its tails."""
NEGLIGIBLE = 40.0
"""Nats below the likeliest disc from which on another one is left out: e⁻⁴⁰ is less than rounding."""

_NODES, _WEIGHTS = (torch.from_numpy(values) / 2 for values in roots_legendre(12))


def exact_denoiser(
    density: Density, schedule: Schedule, *, shift: FloatArray | float = 0.0, scale: FloatArray | float = 1.0
) -> Denoiser:
    """E[x | x_t] of a density, computed in float64 and in memory that the number of points does not change.

    Args:
        density: of one of the catalogue's four families.
        shift, scale: x_t is α·(x − shift)/scale + σ ε for a point x of the density.
        schedule: gives α_t, σ_t.

    """
    if isinstance(density, NoisyCurves):
        density = density.as_mixture()
    if isinstance(density, GaussianMixture):
        weights = torch.from_numpy(density.weights)
        means = torch.from_numpy((density.means - shift) / scale)
        stds = torch.from_numpy(density.stds / scale)
        mixture = MixtureDenoiser(weights, means, stds, schedule)
        return _InChunks(mixture, rows=max(1, CHUNK // density.means.size))
    if isinstance(density, Boxes):
        boxes = BoxesDenoiser((density.centres - shift) / scale, density.half_widths / scale, schedule)
        return _InChunks(boxes, rows=max(1, CHUNK // (density.centres.size * len(_NODES))))
    assert isinstance(density, Discs), "every family has its exact denoiser"
    centres, radii = (density.centres - shift) / scale, density.radius / scale * np.ones(2)
    discs = DiscsDenoiser(density.weights, centres, radii, schedule)
    return _InChunks(discs, rows=max(1, CHUNK // centres.size))


class _InChunks(Denoiser):
    """A denoiser that is asked about a bounded number of points at once."""

    def __init__(self, denoiser: Denoiser, *, rows: int) -> None:
        super().__init__()
        self.denoiser, self.schedule, self.rows = denoiser, denoiser.schedule, rows

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        """E[x | x_t]."""
        points = torch.split(x_t, self.rows)
        times = torch.split(t, self.rows) if t.dim() else (t,) * len(points)
        return torch.cat([self.denoiser(*chunk) for chunk in zip(points, times, strict=True)])


class BoxesDenoiser(Denoiser):
    """Exact posterior mean when x is uniform on k equal boxes.

    Args:
        centres: (k, d).
        half_widths: (d,).
        schedule: gives α_t, σ_t.

    """

    def __init__(self, centres: FloatArray, half_widths: FloatArray, schedule: Schedule) -> None:
        super().__init__()
        self.schedule = schedule
        self.lower: Tensor
        self.widths: Tensor
        self.register_buffer("lower", torch.from_numpy(centres - half_widths))
        self.register_buffer("widths", torch.from_numpy(2 * half_widths))

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        """E[x | x_t]; axes are independent within a box."""
        alpha, sigma = (c.reshape(-1, 1, 1) for c in self.schedule(t))
        a = (alpha * self.lower - x_t.double().unsqueeze(1)) / sigma
        log_mass, fraction = _cut_off_normal(a, alpha * self.widths / sigma)
        share = torch.softmax(log_mass.sum(-1), dim=1).unsqueeze(-1)
        mean: Tensor = (share * (self.lower + self.widths * fraction)).sum(1)
        return mean.to(x_t.dtype)


class DiscsDenoiser(Denoiser):
    """Exact posterior mean when x = c_k + ρ·v(θ), with ρ ~ U(0, 1), θ uniform and v(θ) = (R_1 cos θ, R_2 sin θ).

    Along the direction θ this is a rod from the centre, with δ = x_t − α c_k and the unit vector v̂ of v,

        ∫_0^1 N(δ; αρv, σ²I) dρ ∝ exp(−(δ × v̂)²/2σ²) · mean of φ over [−δ·v̂/σ, (α|v| − δ·v̂)/σ].

    The mean over θ is taken by the rectangle rule, which converges exponentially for periodic functions (Trefethen &
    Weideman 2014, "The exponentially convergent trapezoidal rule", §3): for exp(κ cos θ), the sharpest that appears
    here, with κ = αR(|δ| + αR)/σ², N nodes leave an error of about exp(−N²/2κ), so that 7√κ of them reach rounding. A
    level of σ = R/500 takes some 5,000; there is no noise level that is too low, only one that is slow.

    Args:
        weights: (k,), summing to one.
        centres: (k, 2).
        radii: R_1 and R_2, (2,).
        schedule: gives α_t, σ_t.

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
        """E[x | x_t]; of the discs, those that are likely enough to matter."""
        alpha, sigma = (c.reshape(-1, 1).expand(len(x_t), 1) for c in self.schedule(t))
        delta = x_t.double().unsqueeze(1) - alpha.unsqueeze(-1) * self.centres
        distance, reach = torch.linalg.vector_norm(delta, dim=-1), alpha * self.radii.max()
        at_most = self.log_weights - 0.5 * ((distance - reach).clamp(min=0) / sigma) ** 2
        at_least = self.log_weights - 0.5 * ((distance + reach) / sigma) ** 2
        point, disc = torch.nonzero(at_most >= at_least.amax(1, keepdim=True) - NEGLIGIBLE, as_tuple=True)

        kappa = (reach * (distance + reach) / sigma**2)[point, disc].max()
        directions = self._directions(8 + math.ceil(7 * math.sqrt(float(kappa.detach()))))
        rows = max(1, CHUNK // (len(directions) * len(_NODES)))
        pairs = (torch.split(v, rows) for v in (delta[point, disc], alpha[point], sigma[point]))
        fans = [_fan(near, a, s, directions) for near, a, s in zip(*pairs, strict=True)]
        log_mass, offset = (torch.cat(values) for values in zip(*fans, strict=True))

        logits = torch.full_like(distance, -math.inf).index_put((point, disc), self.log_weights[disc] + log_mass)
        share = torch.softmax(logits, dim=1)[point, disc].unsqueeze(-1)
        mean = torch.zeros_like(delta[:, 0]).index_add(0, point, share * (self.centres[disc] + offset))
        return mean.to(x_t.dtype)

    def _directions(self, n: int) -> Tensor:
        """v(θ) at n angles, (n, 2)."""
        theta = torch.arange(n, dtype=torch.float64, device=self.radii.device) * (2 * math.pi / n)
        return self.radii * torch.stack([theta.cos(), theta.sin()], dim=1)


def _fan(delta: Tensor, alpha: Tensor, sigma: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """For δ (m, 2) and rods v (n, 2): log of the mean likelihood up to a constant, (m,), and the mean of ρv, (m, 2)."""
    length = torch.linalg.vector_norm(v, dim=1)
    unit = v / length.unsqueeze(1)
    across = delta[:, :1] * unit[:, 1] - delta[:, 1:] * unit[:, 0]
    log_mass, fraction = _cut_off_normal(-(delta @ unit.T) / sigma, alpha * length / sigma)
    log_mass = log_mass - 0.5 * (across / sigma) ** 2
    share = torch.softmax(log_mass, dim=1)
    return torch.logsumexp(log_mass, dim=1) - math.log(len(v)), (share * fraction) @ v


def _cut_off_normal(a: Tensor, width: Tensor) -> tuple[Tensor, Tensor]:
    """Standard normal u on [a, a + w], elementwise; w may lack some of a's axes.

    Returns:
        The log of φ's mean over the interval, up to a constant; and E[(u − a)/w], between 0 and 1.

    """
    width = width.expand_as(a)
    narrow = width * (1 + (a + width / 2).abs()) < NARROW
    if bool(narrow.all()):
        return _by_quadrature(a, width)
    wide_log, wide_fraction = _by_tails(a, width.where(~narrow, NARROW))
    if not bool(narrow.any()):
        return wide_log, wide_fraction
    narrow_log, narrow_fraction = _by_quadrature(a, width.where(narrow, 0.0))
    return narrow_log.where(narrow, wide_log), narrow_fraction.where(narrow, wide_fraction)


def _by_quadrature(a: Tensor, width: Tensor) -> tuple[Tensor, Tensor]:
    """By Gauss–Legendre nodes, which are exact to rounding where φ varies little, down to w = 0."""
    nodes, weights = _NODES.to(a.device), _WEIGHTS.to(a.device)
    middle = a + width / 2
    relative = width.unsqueeze(-1) * nodes
    mass = weights * torch.exp(-relative * (middle.unsqueeze(-1) + relative / 2))
    total = mass.sum(-1)
    return total.log() - 0.5 * middle**2, 0.5 + (mass @ nodes) / total


def _by_tails(a: Tensor, width: Tensor) -> tuple[Tensor, Tensor]:
    """As differences of Φ, taken in the lower tail, where logarithms keep all digits however far out it is.

    E[u] = (φ(a) − φ(b))/(Φ(b) − Φ(a)).
    """
    mirrored = a + width / 2 > 0
    low = torch.where(mirrored, -a - width, a)
    high = low + width
    log_low, log_high = torch.special.log_ndtr(low), torch.special.log_ndtr(high)
    log_mass = log_high + torch.log1p(-torch.exp(log_low - log_high)) + 0.5 * math.log(2 * math.pi)
    mean = torch.exp(-0.5 * low**2 - log_mass) - torch.exp(-0.5 * high**2 - log_mass)
    fraction = ((mean - low) / width).clamp(0, 1)
    return log_mass - width.log(), torch.where(mirrored, 1 - fraction, fraction)
