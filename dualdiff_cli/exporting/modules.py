"""What is exported: a whole sampler from noise to rows, or one evaluation of the denoiser.

Both are plain modules. The sampler is a `Program` whose time-dependent part is computed beforehand, one row of a table
for each evaluation of the denoiser, so that one small loop body serves a walk of any length. As in the package, the
state is float64 and the network float32: torch then repeats the run's rows to the last digits, and other runtimes
differ only by the rounding of their matrix products. A float32 state would multiply that difference several times.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from functools import partial
from typing import ClassVar, Literal

import torch
from torch import Tensor, fx, nn
from torch._higher_order_ops.scan import scan

from ..data import TableEncoding
from ..diffusion.denoisers import Denoiser
from .folding import part_by_time, round_linear_layers, trace
from .given import GIVEN_INPUTS, GivenDenoiser, nothing_given
from .program import Program

__all__ = ["PRECISIONS", "ExportPrecision", "ExportedDenoiser", "ExportedGivenSampler", "ExportedSampler", "Walk"]

ExportPrecision = Literal["float32", "float16", "bfloat16"]
PRECISIONS: dict[str, torch.dtype] = {
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
}


class ExportedDenoiser(nn.Module):
    """D(x_t, t) of features: x_t (n, width) float32, t () float64 → (n, width) float32.

    Args:
        denoiser: on the CPU.
        width: number of features.
        precision: of the matrix products.

    """

    input_names = ("x_t", "t")
    output_names = ("denoised",)

    def __init__(self, denoiser: Denoiser, width: int, *, precision: ExportPrecision = "float32") -> None:
        super().__init__()
        self.evaluate = trace(denoiser, width, torch.float32)
        if precision != "float32":
            round_linear_layers(self.evaluate, PRECISIONS[precision])
        self.width, self.t_max = width, denoiser.schedule.t_max

    def example(self, n: int) -> tuple[Tensor, ...]:
        """Inputs for n points."""
        return torch.zeros(n, self.width), torch.tensor(self.t_max, dtype=torch.float64)

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
        points: (x_t, *given values and features, *what it needs of time) → x̂.
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

    def denoised(self, x_t: Tensor, coefficients: Tensor, features: Tensor, *given: Tensor) -> Tensor:
        """(n, d), (C,), (W,), and what is given, if the denoiser takes it → (n, d)."""
        x: Tensor = self.points(x_t, *given, *self._unpack(coefficients, features))
        return x

    def forward(
        self,
        state: Tensor,
        coefficients: Tensor,
        features: Tensor,
        mixing: Tensor,
        step_noise: Tensor,
        draws: Tensor,
        *given: Tensor,
    ) -> Tensor:
        """(R, n, d), (C,), (W,), (R, R + 1 + q), (K, n, d), (q,), and what is given → (R, n, d)."""
        sources = [state, self.denoised(state[0], coefficients, features, *given).unsqueeze(0)]
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

    def forward(self, state: Tensor, step_noise: Tensor, *given: Tensor) -> Tensor:
        """(R, n, d), (K, n, d), and what is given → (R, n, d)."""

        def body(carry: Tensor, row: tuple[Tensor, ...]) -> tuple[Tensor, list[Tensor]]:
            coefficients, features, mixing, draws = row
            return self.step(carry, coefficients, features, mixing, step_noise, draws, *given), []

        end: Tensor = scan(body, state, (self.coefficients, self.features, self.mixing, self.draws))[0]
        return end


class _End(nn.Module):
    """Features (n, width) → ``samples`` (n, columns), the named columns in their own types, and the features."""

    def __init__(self, encoding: TableEncoding, *, named: bool) -> None:
        super().__init__()
        # torch's ONNX exporter rounds Python numbers to float32.
        wide = partial(torch.tensor, dtype=torch.float64)
        self.encoding = encoding.model_copy(update={"columns": tuple(c.with_numbers(wide) for c in encoding.columns)})
        self.named, self.whole = named, encoding.whole
        # An offset of 19 digits must not be rounded to float32, as torch's ONNX exporter does with Python numbers.
        self.offsets: Tensor
        offsets = torch.tensor([float(column.offset) for column in encoding.columns], dtype=torch.float64)
        self.register_buffer("offsets", offsets, persistent=False)

    def forward(self, features: Tensor) -> tuple[Tensor, ...]:
        values, columns = self.encoding.values(features), self.encoding.columns
        samples = torch.stack(list(values), dim=1) + self.offsets
        named = [
            x.long() + column.offset if whole else x + offset
            for x, column, whole, offset in zip(values, columns, self.whole, self.offsets.unbind(), strict=True)
        ]
        return (samples, *(named if self.named else ()), features)


RESERVED = ("", "samples", "features", "noise", "step_noise")
"""Names that no column's output may have: inputs and other outputs have them, and ONNX takes "" for no value."""


def _output_names(columns: Sequence[str], reserved: Collection[str]) -> list[str]:
    """Name an output after each column; a reserved name has ``_column`` appended until no other column has it."""
    taken, names = {*reserved, *columns}, []
    for column in columns:
        name = column
        if column in reserved:
            while name in taken:
                name += "_column"
            taken.add(name)
        names.append(name)
    return names


class ExportedSampler(nn.Module):
    """Noise (n, width) [, step_noise (K, n, width)] → samples (n, columns) [, one vector (n,) a column], features.

    The outputs are named ``samples``, then after the columns where these are outputs of their own, then ``features``:
    what the denoiser sees, from which the columns were decoded.

    Args:
        program: of the sampler, under the denoiser's schedule.
        denoiser: on the CPU.
        encoding: of the columns.
        named: whether every column is an output of its own, in its own type.
        precision: of the matrix products.

    """

    reserved: ClassVar[tuple[str, ...]] = RESERVED

    def __init__(
        self,
        program: Program,
        denoiser: Denoiser,
        encoding: TableEncoding,
        *,
        named: bool = False,
        precision: ExportPrecision = "float32",
    ) -> None:
        super().__init__()
        self.width, self.step_draws = encoding.width, program.step_draws
        of_time, points = part_by_time(self._trace(denoiser))
        if precision != "float32":
            round_linear_layers(points, PRECISIONS[precision])
        with torch.no_grad():
            rows = [of_time(t) for t in program.times]
        step = Step(points, rows[0], stochastic=self.step_draws > 0)
        coefficients, features = (torch.stack(table) for table in zip(*map(step.pack, rows), strict=True))
        self.start = _Start(program)
        self.walk: nn.Module = Walk(step, coefficients, features, program)
        self.end = _End(encoding, named=named)
        self.input_names = ("noise", "step_noise") if self.step_draws else ("noise",)
        self.output_names = ("samples", *(_output_names(encoding.names, self.reserved) if named else ()), "features")

    def _trace(self, denoiser: Denoiser) -> fx.GraphModule:
        return trace(denoiser, self.width, torch.float64)

    def example(self, n: int) -> tuple[Tensor, ...]:
        """Inputs for n rows."""
        noise = torch.zeros(1 + self.step_draws, n, self.width)
        return (noise[0], noise[1:]) if self.step_draws else (noise[0],)

    def forward(self, noise: Tensor, step_noise: Tensor | None = None) -> tuple[Tensor, ...]:
        """Walk from noise to rows."""
        fresh = noise.unsqueeze(0) if step_noise is None else step_noise  # not used where there is none
        outputs: tuple[Tensor, ...] = self.end(self.walk(self.start(noise), fresh)[1])
        return outputs


class ExportedGivenSampler(ExportedSampler):
    """An `ExportedSampler` of rows with given cells: two more inputs, values (n, width) and given (width,).

    The values of the given features may differ from row to row; which features are given is the same for all rows. Rows
    start around α E[x | x_t = 0, x_G], as `Denoiser.start_mean` says; if nothing is given, at the noise.

    Args:
        program, denoiser, encoding, named, precision: see `ExportedSampler`; the denoiser takes given features.

    """

    reserved = (*RESERVED, *GIVEN_INPUTS)

    def __init__(
        self,
        program: Program,
        denoiser: Denoiser,
        encoding: TableEncoding,
        *,
        named: bool = False,
        precision: ExportPrecision = "float32",
    ) -> None:
        super().__init__(program, denoiser, encoding, named=named, precision=precision)
        self.input_names = ("noise", *GIVEN_INPUTS, *self.input_names[1:])
        self.alpha = nn.Buffer(denoiser.schedule(program.times[0])[0].double().cpu())

    def _trace(self, denoiser: Denoiser) -> fx.GraphModule:
        return trace(GivenDenoiser(denoiser), self.width, torch.float64, further=nothing_given(2, self.width))

    def example(self, n: int) -> tuple[Tensor, ...]:
        """Inputs for n rows."""
        noise, *step_noise = super().example(n)
        return (noise, *nothing_given(n, self.width).values(), *step_noise)

    def forward(  # type: ignore[override]
        self, noise: Tensor, values: Tensor, given: Tensor, step_noise: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """Walk from noise to rows."""
        fresh = noise.unsqueeze(0) if step_noise is None else step_noise
        start, walk = self.start(noise), self.walk
        assert isinstance(walk, Walk)
        nowhere = torch.zeros_like(start[0])
        centre = walk.step.denoised(nowhere, walk.coefficients[0], walk.features[0], values, given)
        centre = torch.where(given.any(), self.alpha * centre, nowhere)
        held = torch.zeros(len(start), 1, 1, dtype=start.dtype)
        held[:2] = 1  # the question and the point; the other entries of the state are answers
        outputs: tuple[Tensor, ...] = self.end(walk(start + held * centre, fresh, values, given)[1])
        return outputs
