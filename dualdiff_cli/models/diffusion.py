"""Diffusion models: the denoiser that a configuration describes, its training in a run, and the rows drawn with it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any, Self

import polars as pl
import torch

from .. import seeding
from ..compute.execution import AnyPrecision, Execution, LayerShape, Switch, decide_sampling
from ..compute.processor import keep_freed_memory
from ..config.recipes import with_sampling
from ..config.schema import DiffusionConfig
from ..config.settle import settle
from ..data import Data, FloatArray, Given, TableEncoding, given_cells
from ..diffusion.denoisers import Denoiser, LearntDenoiser
from ..diffusion.likelihood import LARGEST_STEP, log_density
from ..diffusion.samplers import BLOCK, Reach, Sampler, build_sampler, prepare
from ..errors import InputError
from ..metrics import Score
from ..store.run import Run
from ..training.gaps import completed_features
from ..training.loss import expert_usage
from ..training.reflow import Pairs, check_teacher, held_out_loss, try_teacher
from ..training.session import Callbacks
from .base import Drawing, DrawingOptions
from .conditioning import conditioned_on, draw_by_denoiser, fill_gaps
from .density import DensityModel
from .fitting import DiffusionPlan, build_denoiser, fit_folds, fit_network
from .losses import loss_unit, losses_of_run
from .trainable import Kept, Plan
from .walking import ReverseProcess

__all__ = ["DiffusionModel", "check_sampler"]


def check_sampler(config: DiffusionConfig, sampler: Sampler) -> None:
    """Refuse a sampler that draws fresh noise on the way where training coupled noise and points.

    Raises:
        InputError: the sampler is such a one.

    """
    objective = config.objective
    if sampler.stochastic and (objective.teacher is not None or objective.coupling != "independent"):
        raise InputError(
            f"The sampler {sampler.name} draws fresh noise, but this model has learnt one point for every noise.",
            "Use a deterministic one, such as euler, heun or dpmpp-2m.",
        )


@dataclass(frozen=True)
class DiffusionModel(DensityModel[DiffusionConfig]):
    """A trained diffusion model.

    Attributes:
        config: of the run.
        encoding: between columns and the denoiser's features.
        denoiser: with the averaged weights, in evaluation mode.
        device: where the denoiser is.
        reach: how far a row may lie from the training rows; None where it is not known.

    """

    kind = "diffusion"

    config: DiffusionConfig
    encoding: TableEncoding
    denoiser: LearntDenoiser = field(repr=False)
    device: torch.device
    reach: Reach | None = None

    # Drawing

    def draw(self, n: int, *, seed: int, options: DrawingOptions = DrawingOptions()) -> Drawing:
        """Draw n rows; see `Model.draw`."""
        sampling = with_sampling(self.config.sampling, sampler=options.sampler, steps=options.steps)
        given = self._given(options)
        compile = options.compile if given is None else "off"
        rows = options.least or n
        execution = self.choose_execution(rows, sampling.steps, compile=compile, precision=options.precision)
        keep_freed_memory()
        denoiser = self.denoiser if given is None else conditioned_on(self.denoiser, given, guidance=options.guidance)
        process = self.reverse_process(
            build_sampler(sampling), denoiser, execution=execution, given=given, redraws=options.redraw
        )
        return process.draw(n, seed=seed, frame=options.frame)

    def reverse_process(
        self,
        sampler: Sampler | None = None,
        denoiser: Denoiser | None = None,
        *,
        execution: Execution | None = None,
        given: Given | None = None,
        redraws: bool = True,
    ) -> ReverseProcess:
        """Give the way from noise to the model's rows.

        Args:
            sampler: None takes the configuration's own.
            denoiser: None takes the model's own; another one may be conditioned on the given cells, or guided.
            execution: see `ReverseProcess`; None computes in float32 on the threads that torch is set to.
            given, redraws: see `ReverseProcess`.

        Raises:
            InputError: the sampler does not suit the training; see `check_sampler`.

        """
        sampler = sampler or build_sampler(self.config.sampling)
        check_sampler(self.config, sampler)
        execution = execution or Execution(torch.get_num_threads())
        prepared = prepare(denoiser or self.denoiser, execution)
        return ReverseProcess(sampler, prepared, self.encoding, self.device, execution, given, self.reach, redraws)

    @property
    def takes_given(self) -> bool:
        """Whether the training showed the network given cells."""
        return bool(self.config.objective.conditional)

    def fill(self, rows: pl.DataFrame, *, seed: int) -> pl.DataFrame:
        """Draw the missing cells of rows; see `Model.fill`."""
        self._check_takes_given()
        sampler = build_sampler(self.config.sampling)
        return fill_gaps(self.encoding, rows, partial(draw_by_denoiser, self.denoiser, sampler, seed=seed))

    def _given(self, options: DrawingOptions) -> Given | None:
        """Read the given cells of a request.

        Raises:
            InputError: the model was not trained for given cells, or cannot have them, or there are none to follow.

        """
        if options.given:
            return self.read_given(options.given)
        if options.guidance != 1:
            raise InputError("There are no given cells for --guidance to follow.", "Name some with --given.")
        return None

    def read_given(self, cells: Mapping[str, Any]) -> Given:
        """Read given cells: for some columns a value, or its text.

        Raises:
            InputError: the model was not trained for given cells, or cannot have them.

        """
        self._check_takes_given()
        return given_cells(self.encoding, cells)

    def _check_takes_given(self) -> None:
        if not self.takes_given:
            raise InputError(
                "This model has not learnt to draw some columns when others are given.",
                "Train it with --set objective.conditional=0.25, or use --where, which selects among drawn rows.",
            )

    def choose_execution(
        self, n: int, evaluations: int, *, compile: Switch = "auto", precision: AnyPrecision = "float32"
    ) -> Execution:
        """Decide how n rows are best drawn in so many evaluations; see `execution.decide_sampling`."""
        c, folds = self.config.model, self.config.folds
        by_level = folds.bands if folds.number else c.experts if c.gate_on == "level" else 1
        asked = sum(p.numel() for p in self.denoiser.network.parameters()) / by_level
        groups = folds.number or (1 if c.gate_on == "level" else c.experts)
        layer = LayerShape(groups, BLOCK, c.width)
        return decide_sampling(compile, precision, self.device, work=n * evaluations * asked, layer=layer)

    # Density

    def log_density_of_features(self, z: FloatArray) -> FloatArray:
        """Give the log-density of the probability flow, which deterministic samplers follow.

        It is the density of the model's rows with Gaussian noise of standard deviation σ_min on their features.
        """
        return log_density(self.denoiser, z)

    def density_note(self, rows: pl.DataFrame, *, seed: int = 0) -> str:
        """Say what a log-density is of, and how much the integrator's step moves its mean over the rows."""
        z = self.encoding.encode(rows, seeding.stream(seed, "dequantise for the likelihood"))
        fine, coarse = (
            float(log_density(self.denoiser, z, step=step).mean()) for step in (LARGEST_STEP, 2 * LARGEST_STEP)
        )
        sigma_min = math.exp(-float(self.denoiser.schedule.lam_end))
        return (
            "This is the density of the probability flow, which deterministic samplers follow, with noise of "
            f"{sigma_min:.2g} standard deviations on the rows; an integrator's step of twice the size would change it "
            f"by {abs(coarse - fine) / math.log(2):.1g} bits."
        )

    # Training

    @classmethod
    def plan(
        cls, config: DiffusionConfig, data: Data, *, device: torch.device, run: Run | None = None
    ) -> DiffusionPlan:
        """Prepare a training: encode, settle what the data decide, and check the sampler; see `TrainableModel.plan`."""
        _check_folds(config, rows=data.train.height)
        pairs = None if run is None else Pairs.load(run)
        teacher = None
        if pairs is None and config.objective.teacher is not None:
            teacher = cls.load(taught := Run.open(config.objective.teacher), device=device)
            check_teacher(taught, teacher.encoding, config, data)
        basis = pairs or teacher
        if basis is None:
            plan = super().plan(config, data, device=device)
            encoding, completions, held_out = plan.encoding, plan.completions, plan.held_out
        else:
            encoding = basis.encoding
            completions, held_out = completed_features(encoding, data, seed=config.seed)
        config = settle(config, completions[0], table=data.density is None) if run is None else config
        sampler = build_sampler(config.sampling)
        check_sampler(config, sampler)
        sampler.levels(build_denoiser(config, encoding.layout).schedule)
        denoiser = None if teacher is None else teacher.denoiser
        if denoiser is not None:  # a teacher of many absurd points is refused before `fit` draws all pairs in a run
            try_teacher(denoiser, encoding, reach=Reach.of(completions[0]), seed=config.seed, device=device)
        return DiffusionPlan(config, data, encoding, completions, held_out, pairs, denoiser)

    @classmethod
    def fit(
        cls, plan: Plan[DiffusionConfig], run: Run, *, device: torch.device, callbacks: Callbacks = Callbacks()
    ) -> tuple[Self, dict[str, Any]]:
        """Begin a training, or go on from the run's checkpoint, and train to the end; see `TrainableModel.fit`."""
        assert isinstance(plan, DiffusionPlan)
        config = plan.config
        fit = fit_folds if config.folds.number else fit_network
        denoiser, facts = fit(plan, run, device=device, callbacks=callbacks)
        model = cls(config, plan.encoding, denoiser, device, Reach.of(plan.features))
        seed = config.seed
        held_out = torch.from_numpy(plan.held_out).float().to(device)
        facts["held_out_loss"] = held_out_loss(denoiser, held_out, Pairs.load(run), seed=seed).mean
        if config.model.experts > 1:
            facts["expert_usage"] = expert_usage(denoiser, held_out, seed=seed)
        return model, {**facts, "held_out_loss_unit": loss_unit(config)}

    def losses(self, run: Run, data: Data, *, seed: int) -> dict[str, Score]:
        """Score the weights by their loss; see `losses_of_run`."""
        return losses_of_run(
            self.denoiser, run, data, config=self.config, encoding=self.encoding, device=self.device, seed=seed
        )

    # The run

    def _kept(self) -> Kept:
        """Give the weights and the reach; see `TrainableModel._kept`."""
        reach = None if self.reach is None else asdict(self.reach)
        return Kept(self.denoiser.weights(), {"encoding": self.encoding.model_dump(mode="json"), "reach": reach})

    @classmethod
    def _restored(cls, config: DiffusionConfig, encoding: TableEncoding, kept: Kept) -> Self:
        """Build the denoiser with the kept weights; see `TrainableModel._restored`."""
        denoiser = build_denoiser(config, encoding.layout)
        denoiser.load_weights(kept.tensors)
        _try_out(denoiser, encoding.width)
        reach = Reach.read(kept.facts["reach"], width=encoding.width)
        return cls(config, encoding, denoiser.requires_grad_(False).eval(), torch.device("cpu"), reach)

    def _moved_to(self, device: torch.device) -> Self:
        return replace(self, denoiser=self.denoiser.to(device), device=device)


def _check_folds(config: DiffusionConfig, *, rows: int) -> None:
    """Refuse more folds than there are training rows: a fold without unseen rows cannot be judged.

    Raises:
        InputError: there are so many folds.

    """
    folds = config.folds.number
    if folds > rows:
        raise InputError(
            f"{folds} folds need at least {folds} training rows, and there are {rows:,}.",
            "Lower folds.number, or train without folds by --recipe precise.",
        )


def _try_out(denoiser: LearntDenoiser, width: int) -> None:
    """Denoise one row (1, width), to see that the tensors of the denoiser belong together.

    Raises:
        Exception: of any kind, if they do not.

    """
    with torch.no_grad():
        row = denoiser.eval()(
            torch.zeros(1, width, dtype=torch.float64), torch.tensor(denoiser.schedule.t_max).double()
        )
    if row.shape != (1, width):
        raise ValueError("the denoiser has another number of features")
