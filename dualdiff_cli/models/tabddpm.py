"""TabDDPM (Kotelnikov et al. 2023, "TabDDPM: Modelling Tabular Data with Diffusion Models"), for comparison.

The model is that of the paper and of the authors' code: numbers become normal by a quantile transform, and get Gaussian
noise; categories get multinomial noise; one MLP learns to undo both; rows are drawn by the T steps of the reverse
chain. `diffusion.mixed` has the mathematics. Settings that the authors searched for each table anew have one value
here; see `config.schema.TabDDPMSettings`. Three things differ from the published experiments:

- The model sees the features of this project's encoding, as every model of a comparison does. So gaps, point masses
  and whole numbers are learnt as they are by the other models, and a category of very many values by its binary digits.
- No column is the target: all columns of a row are drawn together, and none is given to the network.
- Rows are drawn as they are. The authors round a number of few whole values to the nearest value; here the encoding
  does so.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from scipy.special import ndtr, ndtri
from torch import Tensor

from .. import seeding
from ..config.schema import TabDDPMConfig, TabDDPMSettings
from ..data import FloatArray, TableEncoding
from ..diffusion.mixed import MixedDiffusion
from ..diffusion.networks.timed import TimedMLP
from ..diffusion.samplers.generation import BLOCK
from ..diffusion.schedules.tables import Cosine
from ..store.run import Run
from ..training.batches import passes
from ..training.session import Callbacks, train_at_once
from .base import Drawing, DrawingOptions
from .trainable import Kept, Plan, TrainableModel

__all__ = ["TabDDPM"]

ROUND_STEPS = 50
"""Training looks up after so many steps: whether it is to stop, and whether the loss is still a number."""
LEAST_LEVEL = 1e-7
"""The probability below which, and above 1 minus which, a number counts as the least, or the largest, that there is."""
LOSS_ROWS = 20_000
"""So many pairs of a held-out row and a step are the estimate of the loss."""


class _Margins:
    """Features ↔ numbers with normal margins and places of categories' values.

    Args:
        encoding: says which features take few values; the others are numbers.
        quantiles: of each number at evenly spaced probabilities, (q, d).

    """

    def __init__(self, encoding: TableEncoding, quantiles: FloatArray) -> None:
        self.spans = encoding.layout.discrete
        self.sizes = [max(span.width, 2) for span in self.spans]
        self.quantiles = quantiles
        self._width = encoding.width
        self._numbers = encoding.layout.numbers
        self._levels = np.linspace(0, 1, len(quantiles))

    @classmethod
    def fit(cls, encoding: TableEncoding, features: FloatArray) -> Self:
        """Take the quantiles of training rows (n, width); their number is the published one."""
        number = max(min(len(features) // 30, 1000), 10)
        return cls(encoding, np.quantile(features[:, encoding.layout.numbers], np.linspace(0, 1, number), axis=0))

    def split(self, features: FloatArray) -> tuple[FloatArray, npt.NDArray[np.int64]]:
        """Turn features (n, width) into numbers (n, d) and places (n, C)."""
        z = np.empty((len(features), len(self._numbers)))
        for k, (feature, knots) in enumerate(zip(self._numbers, self.quantiles.T, strict=True)):
            x = features[:, feature]
            # Knots that are equal, at a value that repeats, give the lowest and the highest of their levels.
            low = -np.interp(-x, -knots[::-1], -self._levels[::-1])
            z[:, k] = ndtri(np.clip((low + np.interp(x, knots, self._levels)) / 2, LEAST_LEVEL, 1 - LEAST_LEVEL))
        places = [span.places(features) for span in self.spans]
        return z, np.stack(places, axis=1) if places else np.empty((len(z), 0), dtype=np.int64)

    def join(self, z: FloatArray, places: npt.NDArray[np.int64]) -> FloatArray:
        """Turn numbers (n, d) and places (n, C) into features (n, width)."""
        features = np.empty((len(z), self._width))
        for feature, knots, normal in zip(self._numbers, self.quantiles.T, z.T, strict=True):
            features[:, feature] = np.interp(ndtr(normal), self._levels, knots)
        for span, place in zip(self.spans, places.T, strict=True):
            features[:, span.features] = span.at(place)
        return features


@dataclass(frozen=True)
class TabDDPM(TrainableModel[TabDDPMConfig]):
    """Gaussian and multinomial diffusion over the features.

    Attributes:
        config: of the run.
        encoding: between columns and features.
        margins: between features and what the diffusion works with.
        diffusion: with the trained network.
        device: where the network is.

    """

    kind = "tabddpm"

    config: TabDDPMConfig
    encoding: TableEncoding
    margins: _Margins = field(repr=False)
    diffusion: MixedDiffusion = field(repr=False)
    device: torch.device

    @classmethod
    def fit(
        cls, plan: Plan[TabDDPMConfig], run: Run, *, device: torch.device, callbacks: Callbacks = Callbacks()
    ) -> tuple[Self, dict[str, Any]]:
        """Train the network; a training that was stopped starts over. See `TrainableModel.fit`.

        Raises:
            InputError: the loss is no longer a number.

        """
        config = plan.config
        margins = _Margins.fit(plan.encoding, plan.features)
        diffusion = _build(margins, config.model, seed=config.seed).to(device)
        x = diffusion.clean(*map(torch.from_numpy, margins.split(plan.features))).float().to(device)
        rounds = _rounds(diffusion, x, config.model, seed=config.seed)
        train_at_once(run, rounds, config.model, callbacks, device=device, name="TabDDPM")
        model = cls(config, plan.encoding, margins, diffusion.requires_grad_(False), device)
        return model, {
            "steps": config.model.steps,
            "parameters": sum(p.numel() for p in diffusion.parameters()),
            "held_out_loss": model._loss(plan.held_out),
            "held_out_loss_unit": "loss of numbers and categories, as published",
        }

    def draw(self, n: int, *, seed: int, options: DrawingOptions = DrawingOptions()) -> Drawing:
        """Draw n rows; see `Model.draw`."""
        options.refuse(f"the model {self.config.model.name}, which has a sampler of its own")
        return Drawing(self._chunks(n, seed=seed))

    @torch.no_grad()
    def _chunks(self, n: int, *, seed: int) -> Iterator[pl.DataFrame]:
        """Draw rows block by block; the noise of a block does not depend on how many of its rows are wanted."""
        d, width = self.diffusion.numbers, self.diffusion.multinomial.width
        for block in range(-(-n // BLOCK)):
            rows = min(BLOCK, n - block * BLOCK)
            stream = seeding.torch_stream(seed, f"block {block}")

            def noise(rows: int = rows, stream: torch.Generator = stream) -> tuple[Tensor, Tensor]:
                eps = torch.randn(BLOCK, d, generator=stream, dtype=torch.float64)[:rows]
                u = torch.rand(BLOCK, width, generator=stream, dtype=torch.float64)[:rows]
                return eps.to(self.device), u.to(self.device)

            x = self.diffusion.noise(*noise())
            for t in reversed(range(self.diffusion.steps)):
                x = self.diffusion.step(x, t, *noise())
            yield self.encoding.decode(self._features(x))

    def _features(self, x: Tensor) -> FloatArray:
        """Turn rows x_0 of the diffusion into features."""
        z, log_c = x[:, : self.diffusion.numbers], x[:, self.diffusion.numbers :]
        places = self.diffusion.multinomial.places(log_c).cpu().numpy()
        return self.margins.join(z.double().cpu().numpy(), places)

    @torch.no_grad()
    def _loss(self, features: FloatArray) -> float:
        """Estimate the loss of rows of features (m, width), each of which counts as often as the others."""
        x = self.diffusion.clean(*map(torch.from_numpy, self.margins.split(features))).float().to(self.device)
        x = seeding.subsample(x, LOSS_ROWS, seed=self.config.seed, role="rows of the held-out loss")
        x = x.repeat(max(1, LOSS_ROWS // len(x)), 1)
        stream = seeding.torch_stream(self.config.seed, "noise of the held-out loss")
        return float(torch.cat([_losses(self.diffusion, part, stream) for part in torch.split(x, BLOCK)]).mean())

    def _kept(self) -> Kept:
        """Give the weights and the quantiles; see `TrainableModel._kept`."""
        tensors = {name: parameter.detach().cpu() for name, parameter in self.diffusion.named_parameters()}
        quantiles = torch.from_numpy(self.margins.quantiles.copy())
        return Kept({**tensors, "quantiles": quantiles}, {"encoding": self.encoding.model_dump(mode="json")})

    @classmethod
    def _restored(cls, config: TabDDPMConfig, encoding: TableEncoding, kept: Kept) -> Self:
        """Build the diffusion with the kept weights; see `TrainableModel._restored`."""
        quantiles = kept.tensors.pop("quantiles").double().numpy()
        if quantiles.shape[1:] != (len(encoding.layout.numbers),) or (np.diff(quantiles, axis=0) < 0).any():
            raise ValueError("the quantiles do not suit the encoding")
        margins = _Margins(encoding, quantiles)
        diffusion = _build(margins, config.model, seed=config.seed)
        diffusion.load_state_dict(kept.tensors)
        return cls(config, encoding, margins, diffusion.requires_grad_(False), torch.device("cpu"))

    def _moved_to(self, device: torch.device) -> Self:
        return replace(self, diffusion=self.diffusion.to(device), device=device)


def _build(margins: _Margins, settings: TabDDPMSettings, *, seed: int) -> MixedDiffusion:
    """Make an untrained model on the CPU, whose weights depend on the seed alone."""
    numbers = margins.quantiles.shape[1]
    width = numbers + sum(margins.sizes)
    network = TimedMLP(width, settings.hidden, generator=seeding.torch_stream(seed, "weights"))
    alpha_bar = Cosine(length=settings.timesteps).log_snr_table.sigmoid()
    return MixedDiffusion(network, alpha_bar, numbers=numbers, sizes=margins.sizes)


def _rounds(
    diffusion: MixedDiffusion, x: Tensor, settings: TabDDPMSettings, *, seed: int
) -> Iterator[tuple[int, float]]:
    """Train with AdamW on rows x_0, and give the number of steps done and the last loss after every few steps."""
    optimiser = torch.optim.AdamW(diffusion.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
    batches = passes(x, settings.batch, seeding.torch_stream(seed, "batches"))
    stream = seeding.torch_stream(seed, "steps and noise", x.device)
    for step in range(settings.steps):
        optimiser.param_groups[0]["lr"] = settings.learning_rate * (1 - step / settings.steps)
        optimiser.zero_grad(set_to_none=True)
        loss = _losses(diffusion, next(batches), stream).mean()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        if (step + 1) % ROUND_STEPS == 0 or step + 1 == settings.steps:
            yield step + 1, float(loss.detach())


def _losses(diffusion: MixedDiffusion, x: Tensor, stream: torch.Generator) -> Tensor:
    """Give the loss of each row at a random step, with random noise, (n,)."""
    n, device = len(x), stream.device
    t = torch.randint(diffusion.steps, (n,), generator=stream, device=device)
    eps = torch.randn(n, diffusion.numbers, generator=stream, device=device)
    u = torch.rand(n, diffusion.multinomial.width, generator=stream, device=device, dtype=torch.float64)
    return diffusion.loss(x, *(drawn.to(x.device) for drawn in (t, eps, u)))
