"""The face of every model that can be trained: it is fitted to rows, and kept in a run."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, NamedTuple, Self, TypeVar, cast

import torch
from torch import Tensor

from ..checked import refusing
from ..config.schema import RunConfig
from ..data import Data, FloatArray, TableEncoding
from ..store.run import Run
from ..training.gaps import completed_features
from ..training.session import Callbacks
from .base import Model

__all__ = ["ConfigT", "Kept", "Plan", "TrainableModel"]

ConfigT = TypeVar("ConfigT", bound=RunConfig)
"""The configuration of a kind of model."""


@dataclass(frozen=True)
class Plan(Generic[ConfigT]):
    """A training that is about to begin, checked as far as it can be before a directory is made.

    Attributes:
        config: settled; nothing is left open.
        data: the rows.
        encoding: fitted to the training rows.
        completions: the training rows as features, (M, n, width): M times, each time with other values drawn for what
            gaps hide, or once if nothing is hidden.
        held_out: the held-out rows as features, (m, width).

    """

    config: ConfigT
    data: Data
    encoding: TableEncoding
    completions: FloatArray
    held_out: FloatArray

    @property
    def features(self) -> FloatArray:
        """The first completion, (n, width)."""
        first: FloatArray = self.completions[0]
        return first


class Kept(NamedTuple):
    """What a run keeps of a model.

    Attributes:
        tensors: by name, on the CPU.
        facts: plain values, among them the ``encoding``.

    """

    tensors: dict[str, Tensor]
    facts: dict[str, Any]


class TrainableModel(Model, Generic[ConfigT]):
    """A model that is fitted to rows and kept in a run."""

    kind: ClassVar[str]

    @classmethod
    def plan(cls, config: ConfigT, data: Data, *, device: torch.device, run: Run | None = None) -> Plan[ConfigT]:
        """Prepare a training.

        Args:
            config: what was asked for.
            data: the rows.
            device: where the training will run.
            run: the run that is resumed; None for a new one.

        Raises:
            InputError: the configuration does not suit the data.

        """
        del device, run
        # The features of a file always have unit variance, and those of a density where the recipe says so.
        standardised = config.data.standardise == "always" or data.density is None
        encoding = data.encoding if standardised else TableEncoding.fit(data.train, standardise=False)
        return Plan(config, data, encoding, *completed_features(encoding, data, seed=config.seed))

    @classmethod
    @abstractmethod
    def fit(
        cls, plan: Plan[ConfigT], run: Run, *, device: torch.device, callbacks: Callbacks = Callbacks()
    ) -> tuple[Self, dict[str, Any]]:
        """Train the model, or finish the training that ``run`` was stopped in.

        Returns:
            The model, and facts for the record of the ``train`` command: ``steps``, ``parameters``,
            ``held_out_loss`` and ``held_out_loss_unit``, and whatever else the kind of model has to say.

        Raises:
            Interrupted: stopped by ``should_stop``; everything is saved.

        """

    def save(self, run: Run) -> None:
        """Write the model's files in its run."""
        kept = self._kept()
        run.save_model(kept.tensors, {"kind": self.kind, **kept.facts})

    @abstractmethod
    def _kept(self) -> Kept:
        """Give what `_restored` makes the model of."""

    @classmethod
    def load(cls, run: Run, *, device: torch.device) -> Self:
        """Read a finished run.

        Raises:
            InputError: the run is not finished, or its files are damaged or do not belong together.

        """
        kept, config = Kept(*run.load_model()), run.config
        problem = f"The model of the run {run} is damaged or does not match its configuration."
        with refusing(problem, "Train the run again."):
            if {kept.facts["kind"], config.model.kind} != {cls.kind}:
                raise ValueError("the model is of another kind")
            model = cls._restored(cast(ConfigT, config), TableEncoding.read(kept.facts["encoding"]), kept)
        return model._moved_to(device)

    @classmethod
    @abstractmethod
    def _restored(cls, config: ConfigT, encoding: TableEncoding, kept: Kept) -> Self:
        """Make the model, on the CPU, from what `_kept` gave.

        Raises:
            Exception: of any kind, if the parts do not belong together.

        """

    def _moved_to(self, device: torch.device) -> Self:
        """Give the model on a device; a model that computes on the CPU alone stays there."""
        del device
        return self
