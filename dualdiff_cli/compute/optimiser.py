"""The optimiser: AdamW on clipped gradients, its learning rate, and the moving average of the weights.

Parameters that are moved alike lie end to end in one vector w, so that an update is a pass or two over memory however
many layers there are. Its n-th update along the gradient g is

    g ← g·min(1, c/‖g‖),    m ← β₁m + (1 − β₁)g,    v ← β₂v + (1 − β₂)g²,
    w ← (1 − ηλ)w − η_n·m/(√v + ε_n),    η_n = η·√(1 − β₂ⁿ)/(1 − β₁ⁿ),    ε_n = ε·√(1 − β₂ⁿ)

(Loshchilov & Hutter 2019, "Decoupled Weight Decay Regularization", Alg. 2, with the corrections of the moments' bias in
the order of Kingma & Ba 2015, "Adam", §2). `adamw` is that, for a compiler to put into one loop; uncompiled each of its
operations is a pass, and torch's own kernel, `fused_adamw`, is faster. What changes from update to update is a tensor,
`Rates`: a compiler and a graph that is replayed would take a plain number for a constant.
"""

from __future__ import annotations

import math
from typing import NamedTuple, Self

import torch
from torch import Tensor, nn

from ..config.schema import TrainingConfig

__all__ = ["FlatParameters", "Moments", "Rates", "adamw", "ema_decay", "fused_adamw", "learning_rate"]

BETA_1 = 0.9
EPSILON = 1e-8
SMALLEST_NORM = 1e-6
"""Added to the norm that a gradient is clipped by, as torch's own clipping does."""


def learning_rate(step: int, config: TrainingConfig) -> float:
    """η_s of S steps, from η after a linear warm-up to zero at S: by a cosine or along a line.

    The cosine is η/2·(1 + cos(π s/S)) (Loshchilov & Hutter 2017, "SGDR", eq. 5).
    """
    left = 1 - step / config.steps
    share = left if config.annealing == "linear" else 0.5 * (1 - math.cos(math.pi * left))
    return config.learning_rate * share * min(1.0, (step + 1) / (config.warmup + 1))


def ema_decay(step: int, config: TrainingConfig) -> float:
    """Decay of the weight average after ``step`` steps: 1 − (1 + s)^(−2/3), at most β, s steps past the warm-up.

    During the warm-up the average is a copy (decay 0). The form is the paper's.
    """
    s = step - config.ema_warmup - 1
    return min(1 - (1 + s) ** (-2 / 3), config.ema_decay) if s > 0 else 0.0


class FlatParameters:
    """A module's parameters, end to end in one vector that they become views of.

    Args:
        module: whose parameters; from here on they must not be replaced, only written to.
        prefix: of their names.

    Attributes:
        vector: (P,), without a gradient of its own.

    """

    def __init__(self, module: nn.Module, *, prefix: str = "") -> None:
        parameters = dict(module.named_parameters(prefix=prefix))
        self._shapes = {name: parameter.shape for name, parameter in parameters.items()}
        self.vector = torch.cat([parameter.detach().flatten() for parameter in parameters.values()])
        for name, view in self.unpack(self.vector).items():
            parameters[name].data = view

    def unpack(self, vector: Tensor) -> dict[str, Tensor]:
        """Give a vector (P,) as the parameters that it stands for, by name."""
        parts = torch.split(vector, [shape.numel() for shape in self._shapes.values()])
        return {name: part.view(shape) for (name, shape), part in zip(self._shapes.items(), parts, strict=True)}


class Moments(NamedTuple):
    """Moving averages of a gradient, m, and of its square, v, each (P,)."""

    m: Tensor
    v: Tensor

    @classmethod
    def of(cls, vector: Tensor) -> Self:
        """Begin at zero."""
        return cls(torch.zeros_like(vector), torch.zeros_like(vector))


class Rates(NamedTuple):
    """What an update takes of its number: η, η_n and ε_n, and how many there were before, n − 1; each of shape ()."""

    eta: Tensor
    eta_n: Tensor
    epsilon_n: Tensor
    before: Tensor

    @classmethod
    def on(cls, device: torch.device) -> Self:
        """Make a place for them."""
        return cls(*torch.zeros(4, device=device).unbind())

    def fill(self, eta: float, n: int, *, beta_2: float) -> None:
        """Set them for the n-th update, n ≥ 1."""
        correction = math.sqrt(1 - beta_2**n)
        self.eta.fill_(eta)
        self.eta_n.fill_(eta * correction / (1 - BETA_1**n))
        self.epsilon_n.fill_(EPSILON * correction)
        self.before.fill_(n - 1)


@torch.no_grad()
def adamw(
    w: Tensor,
    g: Tensor,
    moments: Moments,
    rates: Rates,
    *,
    beta_2: float,
    weight_decay: float,
    clip_norm: float | None,
) -> None:
    """One update of w (P,) along its gradient g (P,), in place.

    Args:
        w, g, moments, rates: as in the equations; w and the moments are written to.
        beta_2, weight_decay: β₂ and λ.
        clip_norm: c; None does not clip.

    """
    m, v = moments
    if clip_norm is not None:
        g = g * (clip_norm / (g.norm() + SMALLEST_NORM)).clamp(max=1.0)
    m.lerp_(g, 1 - BETA_1)
    v.mul_(beta_2).addcmul_(g, g, value=1 - beta_2)
    w.mul_(1 - weight_decay * rates.eta).sub_(rates.eta_n * m / (v.sqrt() + rates.epsilon_n))


@torch.no_grad()
def fused_adamw(
    w: Tensor,
    g: Tensor,
    moments: Moments,
    rates: Rates,
    *,
    beta_2: float,
    weight_decay: float,
    clip_norm: float | None,
) -> None:
    """As `adamw`, by one kernel of torch, which no compiler sees through; the gradient is used up."""
    m, v = moments
    scale = None if clip_norm is None else ((g.norm() + SMALLEST_NORM) / clip_norm).clamp(min=1.0)
    torch._fused_adamw_(
        [w],
        [g],
        [m],
        [v],
        [],
        [rates.before + 1],
        lr=rates.eta,
        beta1=BETA_1,
        beta2=beta_2,
        weight_decay=weight_decay,
        eps=EPSILON,
        amsgrad=False,
        maximize=False,
        grad_scale=scale,  # what the gradient is divided by
    )
