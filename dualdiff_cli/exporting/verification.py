"""Whether an exported file does what its run does: point by point, and as a distribution.

Rounding decides how far two right answers may be apart. An error grows along a chain of steps, at some points by orders
of magnitude: where a path passes between two parts of the data, a last digit says to which it goes. So the tolerance
is measured: the run is repeated with its network in float64, and with the questions to it rounded to float32; or with
matrix products in a lower precision, if the file has them. What that changes is rounding, and a file may be off by ten
times as much.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..data import TableEncoding
from ..diffusion.denoisers import Denoiser, LearntDenoiser
from ..diffusion.networks.layers import GroupedLinear
from ..diffusion.samplers import BLOCK, Sampler, draw_noise
from ..metrics import kl_divergence
from ..models.diffusion import DiffusionModel
from .modules import PRECISIONS, ExportPrecision
from .runtime import ExportedModel

__all__ = ["Agreement", "compare_denoisers", "compare_samplers"]

BATCHES = (1, 2, 7, BLOCK)
MARGIN, LEAST_TOLERANCE = 10.0, 1e-3
ASKED = 64
"""The number of rows with given cells that a file is compared on."""
DECODING_TOLERANCE = 1e-9
"""Decoding is one multiplication and one addition in float64, whose rounding is far smaller."""
FAR = 6.0
"""A standard normal draw that hardly anyone will see."""


@dataclass(frozen=True)
class Agreement:
    """How far a file is from its run, in standard units.

    Attributes:
        max_abs_error, median_abs_error: of a coordinate, over all batches and extremes of the noise.
        max_rel_error: the largest error as a share of the largest coordinate.
        tolerance: what the largest may be.
        decoding_error: the largest difference between a value that the file decoded from its features and the value
            that the run decodes from the same features, relative to values larger than one; 0 for a denoiser.
        divergences: by name, the divergence of the file's points from fresh points of the run, beside the floor, which
            the run's own points get; none for a denoiser, and none that says nothing, as of many columns.

    """

    max_abs_error: float
    median_abs_error: float
    max_rel_error: float
    tolerance: float
    decoding_error: float
    divergences: dict[str, dict[str, Any]]

    @property
    def objection(self) -> str | None:
        """What is wrong, as the end of a sentence."""
        if not self.max_abs_error <= self.tolerance < math.inf:  # an infinite tolerance would let any file pass
            return f"differs from the run by {self.max_abs_error:.3g}, where {self.tolerance:.3g} is rounding"
        if not self.decoding_error <= DECODING_TOLERANCE:
            return f"decodes its features into values that are off by {self.decoding_error:.3g}"
        for name, kl in self.divergences.items():
            if not kl["value"] <= kl["limit"]:
                return (
                    f"draws another distribution than the run: {name} is {kl['value']:.3g} bits, not {kl['floor']:.3g}"
                )
        return None


@torch.no_grad()
def compare_samplers(
    model: DiffusionModel, sampler: Sampler, exported: ExportedModel, *, precision: ExportPrecision
) -> Agreement:
    """Draw with the file and with the run from the same noise: in batches of 1, 2, 7 and many, and far outside.

    Features are compared with the run's features. The columns, where rounding can make a difference of one or of
    another category, are compared with what the run's encoding makes of the file's own features. A file that takes
    given cells is also compared on rows around the cells of other rows.

    Args:
        model: on the CPU.
        sampler: which the file holds.
        exported: the file.
        precision: of its matrix products.

    """
    dim = model.encoding.width
    common, fresh = (draw_noise(0, block, dim=dim, draws=sampler.draws) for block in (0, 1))
    outside = _outside(common)

    def run(noise: Tensor, denoiser: Denoiser = model.denoiser) -> Tensor:
        return sampler(denoiser, noise[0], noise[1:])

    def file(noise: Tensor, *given: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        return exported.outputs(noise[0], noise[1:] if sampler.draws > 1 else None, *given)

    batches = [common[:, :n] for n in BATCHES] + [outside]
    by_run, by_run_outside = run(common), run(outside)
    expected = [by_run[:n] for n in BATCHES] + [by_run_outside]
    outputs = [file(noise) for noise in batches]
    results = [output["features"] for output in outputs]
    own = max(
        _largest([run(common, twin), run(outside, twin)], [by_run, by_run_outside])
        for twin in _twins(model.denoiser, precision)
    )
    divergences = _divergences(run(fresh), by_run, by_file=results[len(BATCHES) - 1])
    for given in _questions(model.encoding, by_run[:ASKED]) if exported.takes_given else ():
        noise = common[:, :ASKED]
        expected.append(run(noise, model.denoiser.conditioned(*given)))
        outputs.append(file(noise, given))
        results.append(outputs[-1]["features"])
        twins = _twins(model.denoiser, precision, given)
        own = max(own, *(_largest([run(noise, twin)], expected[-1:]) for twin in twins))
    decoding_errors = torch.stack([_decoding_error(model.encoding, output) for output in outputs])
    return _agreement(results, expected, own, divergences, float(decoding_errors.max()))


@torch.no_grad()
def compare_denoisers(model: DiffusionModel, exported: ExportedModel, *, precision: ExportPrecision) -> Agreement:
    """Ask the file and the run for x̂ at noisy points of five levels from end to end, in the same batches."""
    schedule = model.denoiser.schedule
    common = draw_noise(0, 0, dim=model.encoding.width, draws=1)
    in_file, twins = exported.denoiser(), _twins(model.denoiser, precision)
    results, expected, own = [], [], 0.0
    for t in torch.lerp(schedule.ends[0], schedule.ends[1], torch.linspace(0, 1, 5, dtype=torch.float64)):
        t = t.round() if schedule.discrete else t
        alpha, sigma = schedule(t)
        for noise in [*(common[0, :n] for n in BATCHES), _outside(common)[0]]:
            x_t = ((alpha**2 + sigma**2).sqrt() * noise).float().double()
            results.append(in_file(x_t, t))
            expected.append(model.denoiser(x_t, t))
            own = max(own, *(_largest([twin(x_t, t)], expected[-1:]) for twin in twins))
    return _agreement(results, expected, own, {})


def _questions(encoding: TableEncoding, rows: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Give the cells of rows as given cells: of every second column, and of all columns but the last one.

    Args:
        encoding: of the columns.
        rows: features (n, width).

    Returns:
        Pairs of features (n, width) and which of them are given, (width,) bool.

    """
    cells = torch.from_numpy(encoding.encode(encoding.decode(rows.numpy()), None))
    learnt = [span for span in encoding.spans if span.stop > span.start]
    questions = []
    for spans in (learnt[::2], learnt[:-1]):
        given = torch.zeros(encoding.width, dtype=torch.bool)
        for span in spans:
            given[span] = True
        questions.append((cells, given))
    return questions


def _decoding_error(encoding: TableEncoding, outputs: dict[str, Tensor]) -> Tensor:
    """Give the largest relative difference of a file's samples, and of its columns, from its decoded features."""
    offsets = torch.tensor([float(column.offset) for column in encoding.columns], dtype=torch.float64)
    expected = torch.stack(encoding.values(outputs["features"]), dim=1) + offsets
    columns = [values.double() for name, values in outputs.items() if name not in ("samples", "features")]
    decoded = torch.stack([outputs["samples"], *([torch.stack(columns, dim=1)] if columns else [])])
    error = (decoded - expected).abs() / expected.abs().clamp(min=1)
    equal = (decoded == expected) | (decoded.isnan() & expected.isnan())  # a gap is NaN
    return error.nan_to_num(torch.inf).masked_fill(equal, 0.0).max()


def _divergences(fresh: Tensor, by_run: Tensor, *, by_file: Tensor) -> dict[str, dict[str, Any]]:
    """Both divergences between the file's points and fresh ones of the run; the floor is what the run's own points get.

    The file's points and the run's come from the same noise, so that value and floor differ by no more than the points.
    Where the points are too few for so many columns (see `metrics.divergence`), a divergence says nothing and is left
    out; the points themselves are always compared.
    """
    divergences = {}
    for name, reverse in (("kl_run_file", False), ("kl_file_run", True)):
        value, floor = (kl_divergence(fresh.numpy(), x.numpy(), reverse=reverse) for x in (by_file, by_run))
        limit = floor.ci95[1] if floor.ci95 else floor.value
        if not all(map(math.isfinite, (value.value, floor.value, limit))):
            continue
        divergences[name] = {"value": value.value, "unit": value.unit, "floor": floor.value, "limit": limit}
    return divergences


def _agreement(
    results: list[Tensor],
    expected: list[Tensor],
    own: float,
    divergences: dict[str, dict[str, Any]],
    decoding_error: float = 0.0,
) -> Agreement:
    errors = torch.cat([(a - b).abs().flatten() for a, b in zip(results, expected, strict=True)])
    largest = float(errors.max())
    scale = max(float(values.abs().max()) for values in expected)
    return Agreement(
        max_abs_error=largest,
        median_abs_error=float(errors.median()),
        max_rel_error=largest / scale,
        tolerance=max(MARGIN * own, LEAST_TOLERANCE),
        decoding_error=decoding_error,
        divergences=divergences,
    )


def _largest(results: list[Tensor], expected: list[Tensor]) -> float:
    return max(float((a - b).abs().max()) for a, b in zip(results, expected, strict=True))


def _outside(noise: Tensor) -> Tensor:
    """Noise (draws, e, d) at the edge of its range: starts in the middle and far out, step noise none, far, usual."""
    draws, _, dim = noise.shape
    corner = FAR * (-1.0) ** torch.arange(dim)
    starts = torch.stack([torch.zeros(dim), torch.full((dim,), FAR), torch.full((dim,), -FAR), corner])
    outside = noise[:, : 3 * len(starts)].clone()
    outside[0] = starts.repeat(3, 1)
    outside[1:, : len(starts)] = 0
    outside[1:, len(starts) : 2 * len(starts)] = FAR * (-1.0) ** torch.arange(draws - 1).reshape(-1, 1, 1)
    return outside


def _twins(
    denoiser: LearntDenoiser, precision: ExportPrecision, given: tuple[Tensor, Tensor] | None = None
) -> list[Denoiser]:
    """Give the denoisers that say the same as the run's but for rounding, which is a file's of this precision.

    Args:
        denoiser: the run's.
        precision: of the file's matrix products.
        given: what the denoisers are conditioned on; None for nothing.

    """

    def asked(denoiser: Denoiser) -> Denoiser:
        return denoiser if given is None else denoiser.conditioned(*given)

    twin = copy.deepcopy(denoiser)
    if precision == "float32":
        twin.network.double()
        return [asked(twin), _Float32State(asked(denoiser))]
    for layer in twin.modules():
        if isinstance(layer, GroupedLinear):
            layer.weight.copy_(_rounded(layer.weight, precision))
            layer.register_forward_pre_hook(lambda _, inputs: _rounded_inputs(inputs, precision))
            layer.register_forward_hook(lambda _, inputs, output: _rounded(output, precision))
    return [asked(twin)]


def _rounded(x: Tensor, precision: ExportPrecision) -> Tensor:
    return x.to(PRECISIONS[precision]).to(x.dtype)


def _rounded_inputs(inputs: tuple[Tensor | None, ...], precision: ExportPrecision) -> tuple[Tensor | None, ...]:
    """Round a layer's inputs, of which one may say which of its groups is wanted."""
    return tuple(_rounded(x, precision) if x is not None and x.is_floating_point() else x for x in inputs)


class _Float32State(Denoiser):
    """A denoiser that is asked, and answers, in float32."""

    def __init__(self, denoiser: Denoiser) -> None:
        super().__init__()
        self.denoiser = denoiser
        self.schedule, self.off_centre = denoiser.schedule, denoiser.off_centre

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        """E[x | x_t]."""
        denoised: Tensor = self.denoiser(x_t.float(), t)
        return denoised.to(x_t.dtype)
