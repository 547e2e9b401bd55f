"""What is exported: a whole sampler from noise to data units, or one evaluation of the denoiser.

Both are plain modules. The sampler is its `Program` with the denoiser's time-dependent part computed beforehand, a row
of a table for each evaluation, so that one small loop body is all there is to a walk of any length. As in the package,
the state is float64 and the network float32: torch then repeats the run's points to the last digits, and other runtimes
are off by no more than their matrix products round otherwise, which a float32 state would add to several times over.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch._higher_order_ops.scan import scan

from ..data import Column, Scaler
from ..diffusion.denoisers import Denoiser
from .folding import part_by_time, round_linear_layers, trace
from .program import Program

__all__ = ["PRECISIONS", "ExportedDenoiser", "ExportedSampler", "Precision", "Walk"]

Precision = Literal["float32", "float16", "bfloat16"]
PRECISIONS: dict[str, torch.dtype] = {
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
}


class ExportedDenoiser(nn.Module):
    """D(x_t, t) in standard units: x_t (n, d) float32, t () float64 → (n, d) float32.

    Args:
        denoiser: on the CPU.
        dim: number of columns d.
        precision: of the matrix products.

    """

    input_names = ("x_t", "t")
    output_names = ("denoised",)

    def __init__(self, denoiser: Denoiser, dim: int, *, precision: Precision = "float32") -> None:
        super().__init__()
        self.evaluate = trace(denoiser, dim, torch.float32)
        if precision != "float32":
            round_linear_layers(self.evaluate, PRECISIONS[precision])
        self.dim, self.t_max = dim, denoiser.schedule.t_max

    def example(self, n: int) -> tuple[Tensor, ...]:
        """Inputs for n points."""
        return torch.zeros(n, self.dim), torch.tensor(self.t_max, dtype=torch.float64)

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        """E[x | x_t]."""
        denoised: Tensor = self.evaluate(x_t, t)
        return denoised


class _Start(nn.Module):
    """Noise (n, d) → the state (R, n, d) before the first evaluation."""

    def __init__(self, program: Program) -> None:
        super().__init__()
        scale = torch.zeros(program.mixing.shape[1], 1, 1, dtype=torch.float64)
        scale[:2] = program.prior_std
        self.scale = nn.Buffer(scale)

    def forward(self, noise: Tensor) -> Tensor:
        return self.scale * noise.double()


class Step(nn.Module):
    """One evaluation: S ← A·[S, x̂, z] with x̂ = D(S_0, t).

    Args:
        points: (x_t, *what it needs of time) → x̂.
        of_time: what it needs of time, at any time.
        stochastic: whether there is a z.

    """

    def __init__(self, points: nn.Module, of_time: Sequence[Tensor], *, stochastic: bool) -> None:
        super().__init__()
        self.points, self.stochastic = points, stochastic
        self.shapes = [(part.shape, part.dtype) for part in of_time]

    def pack(self, of_time: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Give the parts as two vectors: the coefficients, in float64, and features and choices, in float32."""
        wide = [part.flatten() for part in of_time if part.dtype == torch.float64]
        narrow = [part.flatten() for part in of_time if part.dtype != torch.float64]
        return torch.cat([torch.zeros(0).double(), *wide]), torch.cat([torch.zeros(0), *narrow])

    def _unpack(self, coefficients: Tensor, features: Tensor) -> Iterator[Tensor]:
        used = {True: 0, False: 0}
        for shape, dtype in self.shapes:
            wide = dtype == torch.float64
            part = (coefficients if wide else features)[used[wide] : used[wide] + shape.numel()]
            yield part.reshape(shape).to(dtype)
            used[wide] += shape.numel()

    def forward(
        self, state: Tensor, coefficients: Tensor, features: Tensor, mixing: Tensor, step_noise: Tensor, draws: Tensor
    ) -> Tensor:
        """(R, n, d), (C,), (W,), (R, R + 1 + q), (K, n, d), (q,) → (R, n, d)."""
        sources = [state, self.points(state[0], *self._unpack(coefficients, features)).unsqueeze(0)]
        if self.stochastic:
            sources.append(step_noise.index_select(0, draws).double())
        return (mixing @ torch.cat(sources).flatten(1)).reshape(state.shape)


class Walk(nn.Module):
    """All steps, as torch's loop in a graph: S_0 → S_M.

    Args:
        step: the body of the loop.
        coefficients, features: what it needs of time, (M, C) and (M, W).
        program: the rest of what it needs.

    """

    def __init__(self, step: Step, coefficients: Tensor, features: Tensor, program: Program) -> None:
        super().__init__()
        self.step = step
        self.coefficients, self.features = nn.Buffer(coefficients), nn.Buffer(features)
        self.mixing, self.draws = nn.Buffer(program.mixing), nn.Buffer(program.draws)

    def forward(self, state: Tensor, step_noise: Tensor) -> Tensor:
        """(R, n, d), (K, n, d) → (R, n, d)."""

        def body(carry: Tensor, row: tuple[Tensor, ...]) -> tuple[Tensor, list[Tensor]]:
            coefficients, features, mixing, draws = row
            return self.step(carry, coefficients, features, mixing, step_noise, draws), []

        end: Tensor = scan(body, state, (self.coefficients, self.features, self.mixing, self.draws))[0]
        return end


class _End(nn.Module):
    """Standard units (n, d) → ``samples`` (n, d) in data units, and the columns that are named in their own types."""

    def __init__(self, scaler: Scaler, columns: Sequence[Column]) -> None:
        super().__init__()
        self.shift, self.scale = nn.Buffer(torch.tensor(scaler.shift)), nn.Buffer(torch.tensor(scaler.scale))
        self.whole = [column.kind == "integer" for column in columns]

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        samples = x * self.scale + self.shift
        columns = [samples[:, i].round().long() if whole else samples[:, i] for i, whole in enumerate(self.whole)]
        return (samples, *columns)


class ExportedSampler(nn.Module):
    """Noise (n, d) [, step_noise (K, n, d)] → samples (n, d) in data units [, one vector (n,) a column].

    Args:
        program: of the sampler, under the denoiser's schedule.
        denoiser: on the CPU.
        scaler: from the denoiser's units to data units.
        columns: of a table, to give as outputs of their own; none for a density.
        precision: of the matrix products.

    """

    def __init__(
        self,
        program: Program,
        denoiser: Denoiser,
        scaler: Scaler,
        columns: Sequence[Column] = (),
        *,
        precision: Precision = "float32",
    ) -> None:
        super().__init__()
        self.dim, self.step_draws = len(scaler.shift), program.step_draws
        of_time, points = part_by_time(trace(denoiser, self.dim, torch.float64))
        if precision != "float32":
            round_linear_layers(points, PRECISIONS[precision])
        with torch.no_grad():
            rows = [of_time(t) for t in program.times]
        step = Step(points, rows[0], stochastic=self.step_draws > 0)
        coefficients, features = (torch.stack(table) for table in zip(*map(step.pack, rows), strict=True))
        self.start = _Start(program)
        self.walk: nn.Module = Walk(step, coefficients, features, program)
        self.end = _End(scaler, columns)
        self.input_names = ("noise", "step_noise") if self.step_draws else ("noise",)
        reserved = {"", "samples", *self.input_names}
        names = (f"{c.name}_column" if c.name in reserved else c.name for c in columns)
        self.output_names = ("samples", *names)

    def example(self, n: int) -> tuple[Tensor, ...]:
        """Inputs for n points."""
        noise = torch.zeros(1 + self.step_draws, n, self.dim)
        return (noise[0], noise[1:]) if self.step_draws else (noise[0],)

    def forward(self, noise: Tensor, step_noise: Tensor | None = None) -> tuple[Tensor, ...]:
        """Walk from noise to data."""
        fresh = noise.unsqueeze(0) if step_noise is None else step_noise  # not used where there is none
        samples: tuple[Tensor, ...] = self.end(self.walk(self.start(noise), fresh)[1])
        return samples
