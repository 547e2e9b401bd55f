"""The optimiser: AdamW with gradient clipping, the learning rate, and the average of the weights.

All parameters that are updated with the same settings lie in one vector w, so that an update is one or two passes over
memory however many layers there are. The n-th update with the gradient g is

    g ← g·min(1, c/‖g‖),    m ← β₁m + (1 − β₁)g,    v ← β₂v + (1 − β₂)g²,
    w ← (1 − ηλ)w − η_n·m/(√v + ε_n),    η_n = η·√(1 − β₂ⁿ)/(1 − β₁ⁿ),    ε_n = ε·√(1 − β₂ⁿ)

(Loshchilov & Hutter 2019, "Decoupled Weight Decay Regularization", Alg. 2, with the bias corrections in the order of
Kingma & Ba 2015, "Adam", §2). `adamw` writes the equations as torch operations, which a compiler fuses into one loop.
Without a compiler every operation is a pass over memory of its own, and torch's own kernel, `fused_adamw`, is faster.
Numbers that change from update to update are tensors (`Rates`), because a compiler or a CUDA graph would treat a plain
number as a constant.
"""

from __future__ import annotations

import math
from typing import NamedTuple, Self

import torch
from torch import Tensor, nn

from ..config.sections import TrainingConfig

__all__ = ["FlatParameters", "Moments", "Rates", "adamw", "ema_decay", "follow", "fused_adamw", "learning_rate"]

BETA_1 = 0.9
EPSILON = 1e-8
SMALLEST_NORM = 1e-6
"""Added to ‖g‖ before the division by ‖g‖, as in torch's own gradient clipping."""


def learning_rate(step: int, config: TrainingConfig) -> float:
    """Give the learning rate η_s at step s of S: a linear warm-up to η, then a fall to zero at S.

    The fall is linear, or a cosine: η/2·(1 + cos(π s/S)) (Loshchilov & Hutter 2017, "SGDR", eq. 5). Where nobody knows
    beforehand at which step the training ends, the learning rate stays at η.
    """
    left = 1 - step / config.steps
    shares = {"linear": left, "cosine": 0.5 * (1 - math.cos(math.pi * left)), "constant": 1.0}
    share = shares[config.annealing]
    return config.learning_rate * share * min(1.0, (step + 1) / (config.warmup + 1))


def ema_decay(step: int, config: TrainingConfig) -> float:
    """Give the EMA decay after ``step`` steps: min(1 − (1 + s)^(−2/3), β), where s counts the steps after the warm-up.

    During the warm-up the decay is 0, so the average is a copy of the weights (paper, "Training, sampling, scoring").
    """
    s = step - config.ema_warmup - 1
    return min(1 - (1 + s) ** (-2 / 3), config.ema_decay) if s > 0 else 0.0


def follow(average: Tensor, w: Tensor, step: int, config: TrainingConfig) -> None:
    """Let the exponential moving average w̄ of the weights follow them, w̄ ← d w̄ + (1 − d) w with the EMA decay d.

    Args:
        average: w̄, (P,), updated in place every ``ema_every`` steps and after the last step.
        w: the weights, (P,), after ``step`` steps.
        step: the number of steps done.
        config: gives the interval between updates, the last step and the EMA decay.

    """
    if step % config.ema_every == 0 or step == config.steps:
        average.lerp_(w, 1 - ema_decay(step, config))


class FlatParameters:
    """All parameters of a module in one vector; the parameters become views of the vector.

    Args:
        module: the module. From now on its parameters may be written to in place, but must not be replaced.
        prefix: prefix of the parameters' names.

    Attributes:
        vector: the values of all P parameters, (P,); the vector itself requires no gradient.

    """

    def __init__(self, module: nn.Module, *, prefix: str = "") -> None:
        parameters = dict(module.named_parameters(prefix=prefix))
        self._shapes = {name: parameter.shape for name, parameter in parameters.items()}
        self.vector = torch.cat([parameter.detach().flatten() for parameter in parameters.values()])
        for name, view in self.unpack(self.vector).items():
            parameters[name].data = view

    def unpack(self, vector: Tensor) -> dict[str, Tensor]:
        """Split a vector (P,) into views with the parameters' shapes, by the parameters' names."""
        parts = torch.split(vector, [shape.numel() for shape in self._shapes.values()])
        return {name: part.view(shape) for (name, shape), part in zip(self._shapes.items(), parts, strict=True)}


class Moments(NamedTuple):
    """The moving averages m of the gradient and v of the squared gradient, each (P,)."""

    m: Tensor
    v: Tensor

    @classmethod
    def of(cls, vector: Tensor) -> Self:
        """Make moments of zero for the parameters in a vector (P,)."""
        return cls(torch.zeros_like(vector), torch.zeros_like(vector))


class Rates(NamedTuple):
    """The numbers that change from update to update: η, η_n, ε_n, and n − 1, the number of earlier updates; each ()."""

    eta: Tensor
    eta_n: Tensor
    epsilon_n: Tensor
    before: Tensor

    @classmethod
    def on(cls, device: torch.device) -> Self:
        """Allocate the four numbers on a device."""
        return cls(*torch.zeros(4, device=device).unbind())

    def fill(self, eta: float, n: int, *, beta_2: float) -> None:
        """Set the numbers for the n-th update, n ≥ 1, at the learning rate η."""
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
    """Update w (P,) in place with the gradient g (P,).

    Args:
        w, g, moments, rates: as in the module's equations; w and the moments are updated in place.
        beta_2, weight_decay: β₂ and λ.
        clip_norm: c; None switches gradient clipping off.

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
    """Do the same as `adamw` by a single kernel of torch. A compiler cannot fuse the kernel, which overwrites g."""
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
        grad_scale=scale,  # the kernel divides the gradient by this number
    )
