"""An exported file, loaded back and used: everything that is needed is in the file.

`loading` turns the file into a function, and `metadata` checks what the file says about itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import torch
from torch import Tensor

from ..checked import check_version, refusing
from ..config.recipes import with_sampling
from ..config.schema import DiffusionConfig, parse_config
from ..config.sections import SamplingConfig
from ..data import Given, TableEncoding, given_cells
from ..diffusion.denoisers import Denoiser
from ..diffusion.samplers import BLOCK, Reach, Redrawing, build_sampler, generate
from ..diffusion.schedules import Schedule, build_schedule
from ..errors import InputError
from ..models import Drawing, DrawingOptions, FromNoise, Model
from ..models.conditioning import decoding
from .given import GIVEN_INPUTS, nothing_given
from .loading import CPU, Runtime, cannot_run, open_file
from .metadata import FORMAT_VERSION, check_metadata, not_ours
from .program import count_evaluations

__all__ = ["ExportedModel"]


@dataclass(frozen=True)
class ExportedModel(Model):
    """A sampler or a denoiser in a file: a model that needs nothing but the file.

    Attributes:
        path: the file.
        metadata: what the file says about itself.
        provider: what runs the file: an ONNX Runtime execution provider, or torch and its device.
        run: the runtime.
        config: of the run that the file came from.
        encoding: between columns and features.
        sampling: how rows are drawn with the file; a denoiser can be sampled in other ways too.
        reach: how far a row may lie from the training rows; None where it is not known.

    """

    path: Path
    metadata: dict[str, Any] = field(repr=False)
    provider: str
    run: Runtime = field(repr=False)
    config: DiffusionConfig = field(repr=False)
    encoding: TableEncoding = field(repr=False)
    sampling: SamplingConfig
    reach: Reach | None = field(repr=False)

    @classmethod
    def open(cls, path: str | Path, *, device: str = "auto", trust: bool = False) -> ExportedModel:
        """Load a file.

        Args:
            path: the file.
            device: ``auto``, ``cpu``, ``cuda`` or ``cuda:i``.
            trust: whether a TorchScript or a pt2 file may be loaded: such a file can hold any program.

        Raises:
            InputError: the file was not exported by this program, the runtime cannot run it, or the file would have to
                be trusted.
            DeviceError: the device that was asked for by name is not there, or has no execution provider.

        """
        path = Path(path)
        metadata, provider, run = open_file(path, device=device, trust=trust)
        if "format_version" in metadata:
            check_version(metadata["format_version"], FORMAT_VERSION, str(path), "Export the run again.")
        with refusing(*not_ours(path)):
            check_metadata(metadata)
            config = parse_config(metadata["config"])
            encoding = TableEncoding.read(metadata["encoding"])
            assert isinstance(config, DiffusionConfig)
            sampling = SamplingConfig.model_validate(metadata["sampling"])
            reach = Reach.read(metadata.get("reach"), width=encoding.width)
        return cls(path, metadata, provider, run, config, encoding, sampling, reach)

    @property
    def what(self) -> str:
        """``sampler`` or ``denoiser``."""
        return str(self.metadata["what"])

    def evaluations(self, sampling: SamplingConfig) -> int | None:
        """Give the number of evaluations that a row takes; None where the sampler chooses it while it runs."""
        if self.what == "sampler":
            return int(self.metadata["network_evaluations"])
        try:
            return count_evaluations(build_sampler(sampling), self.schedule())
        except InputError:
            return None

    @property
    def takes_given(self) -> bool:
        """Whether the file has inputs for given cells."""
        return set(GIVEN_INPUTS) <= set(self.metadata.get("inputs", ()))

    def walk(
        self,
        noise: Tensor,
        step_noise: Tensor | None = None,
        *,
        output: str = "samples",
        given: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """Turn a sampler's noise (n, width) and step noise (K, n, width) into one output; see `outputs`."""
        (values,) = self._checked(self.run(self._inputs(noise, step_noise, given), [output]), len(noise))
        return values

    def outputs(
        self, noise: Tensor, step_noise: Tensor | None = None, given: tuple[Tensor, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """Give all outputs of a sampler, by name.

        Args:
            noise, step_noise: see `walk`.
            given: for a file that takes given cells their features, (1, width) or (n, width), and which features are
                given, (width,) bool; None gives no cell.

        Returns:
            ``samples`` (n, columns) float64, the columns of a file (n,) each in its own type, and ``features``
            (n, width) float64, from which the file decoded all of these.

        """
        names = list(self.metadata["outputs"])
        found = self._checked(self.run(self._inputs(noise, step_noise, given), names), len(noise))
        return dict(zip(names, found, strict=True))

    def _inputs(
        self, noise: Tensor, step_noise: Tensor | None, given: tuple[Tensor, Tensor] | None
    ) -> dict[str, Tensor]:
        """Name the inputs, in the order of the file."""
        inputs = {"noise": noise}
        if self.takes_given:
            inputs |= nothing_given(*noise.shape)
        if given is not None:
            values, features = given
            inputs |= dict(zip(GIVEN_INPUTS, (values.expand(len(noise), -1).contiguous(), features), strict=True))
        return inputs if step_noise is None else inputs | {"step_noise": step_noise}

    def _checked(self, outputs: list[Tensor], n: int) -> list[Tensor]:
        """See that every output has n rows.

        Raises:
            InputError: the file computes something else than it says.

        """
        if any(not output.ndim or len(output) != n for output in outputs):
            raise cannot_run(self.path)
        return outputs

    def schedule(self) -> Schedule:
        """Give the schedule that an exported denoiser was trained with, which is its configuration's.

        Raises:
            InputError: the schedule is learned, so that training has changed it; only the graph in the file knows how.

        """
        schedule = build_schedule(self.config.schedule)
        if schedule.state_dict():
            raise InputError(
                "An exported denoiser does not say what its learned schedule has learnt; its rows would be wrong.",
                "Export the sampler, without `--what denoiser`.",
            )
        return schedule

    def denoiser(self) -> Denoiser:
        """Give an exported denoiser the face of any other.

        Raises:
            InputError: see `schedule`.

        """
        return _FileDenoiser(self.run, self.schedule())

    def draw(self, n: int, *, seed: int, options: DrawingOptions = DrawingOptions()) -> Drawing:
        """Draw n rows: those that the run gives for the seed, within the file's tolerance; see `Model.draw`."""
        given = self._given(options)
        own = self.sampling
        sampling = with_sampling(own, sampler=options.sampler, steps=options.steps)
        facts = {
            "from": str(self.path),
            "sampler": sampling.sampler,
            "sample_steps": sampling.steps,
            "provider": self.provider,
            "network_evaluations": self.evaluations(sampling),
        }
        redrawing = Redrawing.of(self.reach, given) if options.redraw else None
        if self.what == "denoiser":
            sampler, cpu = build_sampler(sampling), torch.device("cpu")
            features = generate(
                sampler, self.denoiser(), n, dim=self.encoding.width, seed=seed, device=cpu, redrawing=redrawing
            )
            return Drawing(_counted(map(self.encoding.decode, features), redrawing, facts), facts)
        if sampling != own:
            raise InputError(
                f"{self.path} holds the sampler {own.sampler!r} with {own.steps} steps and no other.",
                "Use `dualdiff export --sampler NAME --sample-steps N` for another file, or "
                "`dualdiff export --what denoiser` for a file that any sampler can use.",
            )
        per_call = BLOCK if self.provider in (CPU, "torch cpu") else 32 * BLOCK
        cells = None if given is None else (torch.from_numpy(given.values)[None], torch.from_numpy(given.given))
        from_noise = FromNoise(
            partial(self.walk, output="features", given=cells),
            1 + self.metadata["step_draws"],
            self.encoding.width,
            decoding(self.encoding, given),
            redrawing,
        )
        rows = from_noise.chunks(n, seed=seed, per_call=per_call)
        return Drawing(_counted(rows, redrawing, facts), facts, from_noise)

    def _given(self, options: DrawingOptions) -> Given | None:
        """Read the given cells of a request.

        Raises:
            InputError: the file has no inputs for them or cannot have the values, or another option does not apply.

        """
        options.refuse(f"the exported file {self.path}", sampler=False, given=False)
        if options.given and not self.takes_given:
            raise InputError(
                f"The exported file {self.path} has no inputs for given cells.",
                "Export a file that has them, with `dualdiff export --given`, or draw from the run.",
            )
        return given_cells(self.encoding, options.given) if options.given else None


def _counted(
    chunks: Iterator[pl.DataFrame], redrawing: Redrawing | None, facts: dict[str, Any]
) -> Iterator[pl.DataFrame]:
    """Pass the rows on, and note how many were drawn again until now: who selects rows may take only the first."""
    for rows in chunks:
        if redrawing is not None:
            facts["redrawn"] = redrawing.count
        yield rows


class _FileDenoiser(Denoiser):
    """The denoiser in a file, which computes in float32."""

    def __init__(self, run: Runtime, schedule: Schedule) -> None:
        super().__init__()
        self.run = run
        self.schedule = schedule

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        """E[x | x_t] at one time for all points, shape ()."""
        (denoised,) = self.run({"x_t": x_t.float(), "t": t.double()}, ["denoised"])
        return denoised.to(x_t.dtype)
