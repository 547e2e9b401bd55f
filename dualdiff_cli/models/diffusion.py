"""Diffusion models: the denoiser that a configuration describes, its training in a run, and the rows drawn with it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any, Self

import polars as pl
import torch

from .. import seeding
from ..checked import refusing
from ..compute.device import set_tf32
from ..compute.execution import PLAIN, AnyPrecision, Execution, LayerShape, Switch, decide_sampling
from ..config.recipes import with_sampling
from ..config.schema import DiffusionConfig, RunConfig
from ..config.settle import settle
from ..data import Data, FloatArray, Given, TableEncoding, given_cells
from ..diffusion.denoisers import Denoiser, LearntDenoiser
from ..diffusion.likelihood import LARGEST_STEP, log_density
from ..diffusion.samplers import BLOCK, Reach, Redrawing, Sampler, build_sampler, noise_walk, prepare
from ..errors import InputError
from ..metrics import Score
from ..store.run import Run
from ..training.gaps import features_of_both
from ..training.loss import expert_usage
from ..training.reflow import Pairs, check_teacher, held_out_loss
from ..training.session import Callbacks
from .base import Drawing, DrawingOptions, Plan
from .conditioning import conditioned_on, decoding, draw_by_denoiser, fill_gaps
from .density import DensityModel
from .fitting import build_denoiser, fit_folds, fit_network
from .losses import loss_unit, losses_of_run
from .noise import FromNoise
from .walking import walk_counted

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
class DiffusionModel(DensityModel):
    """A trained diffusion model.

    Attributes:
        config: of the run.
        encoding: between columns and the denoiser's features.
        denoiser: with the averaged weights, in evaluation mode.
        device: where the denoiser is.
        reach: how far a row may lie from the training rows; None where it is not known.
        redraws: whether absurd rows are drawn again.
        execution: how rows are drawn.
        prepared: the denoiser as the execution computes it; None where that is the denoiser itself.

    """

    kind = "diffusion"

    config: DiffusionConfig
    encoding: TableEncoding
    denoiser: LearntDenoiser = field(repr=False)
    device: torch.device
    reach: Reach | None = None
    redraws: bool = True
    execution: Execution = PLAIN
    prepared: Denoiser | None = field(default=None, repr=False)

    # Drawing

    def draw(self, n: int, *, seed: int, options: DrawingOptions = DrawingOptions()) -> Drawing:
        """Draw n rows; see `Model.draw`."""
        sampling = with_sampling(self.config.sampling, sampler=options.sampler, steps=options.steps)
        given = self._given(options)
        compile = options.compile if given is None else "off"
        execution = self.choose_execution(n, sampling.steps, compile=compile, precision=options.precision)
        execution.apply()
        facts = {
            "sampler": sampling.sampler,
            "sample_steps": sampling.steps,
            "precision": execution.precision,
            "compiled": execution.compiled,
        }
        model = replace(self.carried_out(execution), redraws=options.redraw)
        if given is not None:
            reach = None if self.reach is None else self.reach.including(given.values, given.given)
            denoiser = conditioned_on(self.denoiser, given, guidance=options.guidance)
            model = replace(model, prepared=denoiser, reach=reach)
        sampler = build_sampler(sampling)
        chunks = model.walk(n, seed=seed, sampler=sampler, given=given, frame=options.frame, facts=facts)
        return Drawing(chunks, facts, model._from_noise(sampler, given))

    def _from_noise(self, sampler: Sampler, given: Given | None) -> FromNoise:
        """Give the function from noise to rows with the given cells, for any number of rows."""
        denoiser, execution = self.prepared or self.denoiser, replace(self.execution, compiled=False)
        return FromNoise(
            noise_walk(sampler, denoiser, BLOCK, device=self.device, execution=execution),
            sampler.draws,
            self.encoding.width,
            decoding(self.encoding, given),
            self._redrawing(given),
        )

    def _redrawing(self, given: Given | None) -> Redrawing | None:
        """Give what draws the absurd rows of a request again, if anything does."""
        return Redrawing(self.reach, "" if given is None else given.words) if self.redraws else None

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

    def carried_out(self, execution: Execution) -> Self:
        """Give the model as one that draws its rows in this way; the caller applies the execution to the process."""
        return replace(self, execution=execution, prepared=prepare(self.denoiser, execution))

    def walk(
        self,
        n: int,
        *,
        seed: int,
        sampler: Sampler | None = None,
        given: Given | None = None,
        frame: int | None = None,
        facts: dict[str, Any] | None = None,
    ) -> Iterator[pl.DataFrame]:
        """Draw n rows with the model's execution.

        Args:
            n, seed: see `draw`.
            sampler: None takes the configuration's own.
            given: cells that the rows are to have exactly.
            frame: see `DrawingOptions`.
            facts: told the number of evaluations of the network that a row takes, and how many rows were drawn again.

        Raises:
            InputError: the sampler does not suit the training; see `check_sampler`. Or a row is not finite or far
                outside the range of the training rows at every attempt.

        """
        sampler = sampler or build_sampler(self.config.sampling)
        check_sampler(self.config, sampler)
        features = walk_counted(
            self.prepared or self.denoiser,
            sampler,
            n,
            dim=self.encoding.width,
            seed=seed,
            device=self.device,
            execution=self.execution,
            redrawing=self._redrawing(given),
            frame=frame,
            facts=facts,
        )
        return map(decoding(self.encoding, given), features)

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
    def plan(cls, config: RunConfig, data: Data, *, device: torch.device, run: Run | None = None) -> Plan:
        """Prepare a training: encode, settle what the data decide, and check the sampler; see `TrainableModel.plan`."""
        assert isinstance(config, DiffusionConfig)
        pairs = None if run is None else Pairs.load(run)
        teacher = None
        if pairs is None and config.objective.teacher is not None:
            teacher = cls.load(taught := Run.open(config.objective.teacher), device=device)
            check_teacher(taught, teacher.encoding, config, data)
        basis = pairs or teacher
        if basis is None:
            plan = super().plan(config, data, device=device)
            encoding, features, held_out = plan.encoding, plan.features, plan.held_out
        else:
            encoding = basis.encoding
            features, held_out = features_of_both(encoding, data, seed=config.seed)
        config = settle(config, features, table=data.density is None) if run is None else config
        sampler = build_sampler(config.sampling)
        check_sampler(config, sampler)
        sampler.levels(build_denoiser(config, encoding.width, encoding.layout.discrete).schedule)
        return Plan(config, data, encoding, features, held_out, {"pairs": pairs, "teacher": teacher})

    @classmethod
    def fit(
        cls, plan: Plan, run: Run, *, device: torch.device, callbacks: Callbacks = Callbacks()
    ) -> tuple[Self, dict[str, Any]]:
        """Begin a training, or go on from the run's checkpoint, and train to the end; see `TrainableModel.fit`."""
        config = plan.config
        assert isinstance(config, DiffusionConfig)
        fit = fit_folds if config.folds.number else fit_network
        denoiser, facts = fit(plan, run, device=device, callbacks=callbacks)
        set_tf32(False)  # everything that is drawn and judged from here on is computed in float32
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

    def save(self, run: Run) -> None:
        """Write the run's model."""
        reach = None if self.reach is None else asdict(self.reach)
        description = {"kind": self.kind, "encoding": self.encoding.model_dump(mode="json"), "reach": reach}
        run.save_model(self.denoiser.weights(), description)

    @classmethod
    def load(cls, run: Run, *, device: torch.device) -> Self:
        """Read a finished run; see `TrainableModel.load`."""
        tensors, description = run.load_model()
        config = run.config
        problem = f"The model of the run {run} does not match its configuration."
        with refusing(problem, "Train the run again."):
            encoding = TableEncoding.read(description["encoding"])
            assert isinstance(config, DiffusionConfig)
            denoiser = build_denoiser(config, encoding.width, encoding.layout.discrete)
            denoiser.load_weights(tensors)
            _try_out(denoiser, encoding.width)
            reach = Reach.read(description["reach"])
            if reach is not None and {len(reach.low), len(reach.high)} != {encoding.width}:
                raise ValueError("the range of the training rows has another number of features")
        return cls(config, encoding, denoiser.requires_grad_(False).eval().to(device), device, reach)


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
