"""A sampler as a table of coefficients, for those who run it without this package.

Whatever the method, its steps only add up: a point is a linear combination of the start, the denoiser's answers and
fresh noise, with coefficients that the levels decide. Steps taken on unit vectors in place of points therefore show
their own coefficients. They make of every sampler one linear system that changes with time and has the denoiser as its
only nonlinearity,

    x̂_j = D(u_j, t_j),    S_{j+1} = A_j·[S_j, x̂_j, z_j],    j = 0 … M−1,

with the state S = (u, x, x̂_{j−1}, x̂_{j−2}, …): the question u that the denoiser is asked next, the point x at which the
step began, and as many of the last answers as a later step still wants. The points are the last x.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from ..diffusion.denoisers import Denoiser
from ..diffusion.samplers.base import History, Sampler
from ..diffusion.schedules import Schedule
from ..errors import InputError

__all__ = ["Program", "compile_sampler", "count_evaluations"]

MOST_BYTES = 4e9
"""The memory that reading the coefficients of a sampler may take; 1,000 steps of any sampler take less."""


@dataclass(frozen=True)
class Program:
    """M evaluations of a denoiser and what is done with each; R entries of state, at most q fresh draws at a time.

    Attributes:
        prior_std: S_0 = (prior_std·noise, prior_std·noise, 0, …).
        times: t_j, (M,), float64.
        mixing: A_j, (M, R, R + 1 + q), float64; columns for the state, the answer and the draws.
        draws: which vectors of the step noise z_j is, (M, q), int64; where fewer enter, their coefficients are zero.
        step_draws: vectors of step noise that one point takes, 0 for a deterministic method.

    """

    prior_std: float
    times: Tensor
    mixing: Tensor
    draws: Tensor
    step_draws: int


class _Interview(Denoiser):
    """A denoiser that notes each question and answers it with the next unit vector, those of ``answers`` (M, width)."""

    def __init__(self, schedule: Schedule, answers: Tensor) -> None:
        super().__init__()
        self.schedule = schedule
        self.answers = answers
        self.questions: list[Tensor] = []
        self.times: list[Tensor] = []

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        """Answer."""
        self.questions.append(x_t[0])
        self.times.append(t)
        return self.answers[len(self.times) - 1].unsqueeze(0)


@torch.no_grad()
def compile_sampler(sampler: Sampler, schedule: Schedule) -> Program:
    """Read the coefficients off a sampler under a schedule.

    Raises:
        InputError: the sampler chooses its steps while it runs, so that there are no coefficients to read, or its steps
            are so many that reading them takes more than `MOST_BYTES` of memory.

    """
    evaluations = count_evaluations(sampler, schedule)
    k, step_draws, device = sampler.draws_per_step, sampler.draws - 1, schedule.device
    levels, width = sampler.levels(schedule), 1 + evaluations + step_draws
    # float64: the unit vectors, and five vectors for each answer, which are its question, copies, and what follows.
    needed = 8 * width * (width + 5 * evaluations)
    if needed > MOST_BYTES:
        raise InputError(
            f"The coefficients of {sampler.steps:,} steps of {sampler.name} take {needed / 1e9:,.0f} GB of memory.",
            "Take fewer steps with --sample-steps, or export the denoiser alone with --what denoiser.",
        )

    # Coordinates: where a step began, then all answers, then all fresh noise.
    unit = torch.eye(width, dtype=torch.float64, device=device)
    start, answers, noise = unit[0], unit[1 : 1 + evaluations], unit[1 + evaluations :]
    denoiser, history = _Interview(schedule, answers), History()
    begins, ends = [], []
    for i, (now, after) in enumerate(pairwise(levels)):
        z = noise[i * k : (i + 1) * k] if after.t is not None else torch.zeros(k, unit.shape[1]).to(noise)
        begins.append(len(denoiser.questions))
        ends.append(sampler.step(denoiser, start.unsqueeze(0), now, after, z.unsqueeze(1), history)[0])
    questions = torch.stack(denoiser.questions)
    assert torch.allclose(questions[0], start, atol=1e-6), "the first question is about the noise itself"

    # What follows each answer: the next question and the start of the step it belongs to, from the present start.
    following = torch.stack([questions.roll(-1, 0), start.expand_as(questions)], dim=1)  # (M, 2, width)
    for end, next_one in zip(ends, [*begins[1:], evaluations], strict=True):
        question = questions[next_one] if next_one < evaluations else start
        following[next_one - 1, 0] = question + question[0] * (end - start)
        following[next_one - 1, 1] = end
    mixing, draws = _compress(following.cpu(), evaluations)
    return Program(schedule.prior_std, torch.stack(denoiser.times).cpu(), mixing, draws, step_draws)


@torch.no_grad()
def count_evaluations(sampler: Sampler, schedule: Schedule) -> int:
    """Give M, from a walk of a point without coordinates.

    Raises:
        InputError: the sampler chooses its steps while it runs, so that there is no such number.

    """
    if not sampler.fixed_steps:
        raise InputError(
            f"The sampler {sampler.name!r} cannot be exported: it chooses its steps while it runs, by the points.",
            "Name one with a fixed number of steps, for instance --sampler dpmpp-3m.",
        )
    evaluations = 0

    class _Counter(_Interview):
        def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
            nonlocal evaluations
            evaluations += 1
            return x_t

    nowhere = torch.zeros(sampler.draws, 1, 0, device=schedule.device)
    sampler(_Counter(schedule, nowhere), nowhere[0], nowhere[1:])
    return evaluations


def _compress(following: Tensor, evaluations: int) -> tuple[Tensor, Tensor]:
    """Coefficients on all answers and noise, (M, 2, 1 + M + K) → those on what is at hand: A (M, R, …) and z's rows.

    The state keeps no more answers than the longest memory asks for.
    """
    of_answers, of_noise = following[:, :, 1 : 1 + evaluations], following[:, :, 1 + evaluations :]
    used = [torch.nonzero(rows.any(0)).flatten() for rows in of_noise]
    memory = max(j - int(i) for j, rows in enumerate(of_answers) for i in [*torch.nonzero(rows.any(0)), j])
    size, width = 2 + memory, max(len(rows) for rows in used)
    mixing = torch.zeros(evaluations, size, size + 1 + width, dtype=torch.float64)
    draws = torch.zeros(evaluations, width, dtype=torch.int64)
    mixing[:, :2, 1] = following[:, :, 0]
    for j in range(evaluations):
        for lag in range(min(memory, j) + 1):
            mixing[j, :2, 1 + lag if lag else size] = of_answers[j, :, j - lag]
        mixing[j, :2, size + 1 : size + 1 + len(used[j])] = of_noise[j, :, used[j]]
        draws[j, : len(used[j])] = used[j]
    if memory:
        mixing[:, 2, size] = 1  # the answer becomes the latest of those kept, and each of these moves on by one
        mixing[:, 3:, 2 : size - 1] = torch.eye(memory - 1, dtype=torch.float64)
    return mixing, draws
