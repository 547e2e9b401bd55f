"""Train a run, or finish one that was stopped."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import polars as pl

from ..compute.device import choose_device
from ..config.recipes import Request
from ..config.registry import MODEL_KINDS
from ..config.schema import RunConfig
from ..data import Data
from ..data.relations import free_relations
from ..metrics import overall_verdict
from ..models import AS_DRAWN, Plan, TrainableModel, kind_of
from ..store.lock import sole_use
from ..store.run import Run
from ..training.session import Callbacks
from .inputs import data_of_run, load_run_data
from .offers import angle_offers
from .plot import PICTURED, draw_pictures
from .truth import Truth

__all__ = ["Callbacks", "resume", "train"]

QUICK_SCORES = (
    "kl_generated_real",
    "sliced_wasserstein",
    "column_distance",
    "worst_column",
    "association",
    "memorisation",
    "copies",
    "mode_coverage",
    "off_mode_share",
    "mode_share_tv",
)
"""The scores at the end of a training: those that take about a second together."""


def train(
    config: RunConfig | Request,
    *,
    path: str | Path | None = None,
    device: str = "auto",
    callbacks: Callbacks = Callbacks(),
    data: Data | None = None,
) -> dict[str, Any]:
    """Train a new run.

    Args:
        config: what is asked for; of a request the number of training rows may decide the recipe.
        path: the run's directory, by default the next free ``runs/<dataset>-<model>-<k>``.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:i``.
        callbacks: how the training reports, and how it is asked to stop.
        data: the rows that the configuration names, where the caller has them already; None reads or draws them.

    Returns:
        The record of the ``train`` command's contract.

    Raises:
        Interrupted: stopped by ``should_stop``; the state is saved.
        InputError: the data or the configuration is wrong, or the loss is no longer a number.
        DeviceError: the device is not there.

    Examples:
        >>> import dualdiff_cli as dualdiff
        >>> small = ["model.components=4", "data.points=500", "data.held_out_points=500"]
        >>> config = dualdiff.resolve(dataset="moons", model="mixture", settings=small)
        >>> record = dualdiff.train(config)
        >>> record["run"], record["held_out_loss_unit"]
        ('runs/moons-mixture-1', 'bits a row')

    """
    place = choose_device(device)
    asked = config.config() if isinstance(config, Request) else config
    if data is None:
        data = load_run_data(asked)
        for note in [*data.notes, *_notes_on_relations(data), *_notes_on_angles(data)]:
            callbacks.on_note(note)
    config = config.config(data.train.height) if isinstance(config, Request) else config
    if data.provenance.get("source") == "file":  # so that the file is found again from wherever the run is used
        config = config.model_copy(update={"dataset": str(Path(config.dataset).resolve())})
    kind: type[TrainableModel[Any]] = MODEL_KINDS[config.model.kind]
    # Everything that can be refused is refused here, before a directory is made.
    plan = kind.plan(config, data, device=place)
    run = Run.create(plan.config, path)
    with sole_use(run.path):
        return _train(kind, plan, run, str(place), callbacks)


def _notes_on_relations(data: Data) -> Iterator[str]:
    """Say how drawn rows can keep the equations that hold in every row of a table."""
    if data.density is None:
        for equation in free_relations(pl.concat([data.train, data.held_out]), data.encoding.columns):
            yield f"In every row {equation}. Drawn rows keep it exactly with --constraint {shlex.quote(equation)}."


def _notes_on_angles(data: Data) -> Iterable[str]:
    """Say which columns of a table may be angles."""
    return () if data.density else angle_offers(data.train, data.encoding.columns, asked=data.kinds)


def resume(run: Run | str | Path, *, device: str = "auto", callbacks: Callbacks = Callbacks()) -> dict[str, Any]:
    """Finish a training from wherever it was stopped.

    Args:
        run: the run, or its directory.
        device, callbacks: see `train`.

    Returns:
        The record of the ``train`` command's contract.

    Raises:
        Interrupted, InputError, DeviceError: see `train`.
        InputError: there is no run, another process trains it, or its data file has changed since the run was begun.

    Examples:
        >>> import dualdiff_cli as dualdiff
        >>> small = ["model.components=4", "data.points=500", "data.held_out_points=500"]
        >>> config = dualdiff.resolve(dataset="moons", model="mixture", settings=small)
        >>> run = dualdiff.train(config)["run"]
        >>> dualdiff.resume(run)["run"] == run  # a finished run stays as it is
        True

    """
    place, run = choose_device(device), Run.open(run)
    with sole_use(run.path):
        kind = kind_of(run)
        plan = kind.plan(run.config, data_of_run(run), device=place, run=run)
        return _train(kind, plan, run, str(place), callbacks)


def _train(
    kind: type[TrainableModel[Any]], plan: Plan[Any], run: Run, device: str, callbacks: Callbacks
) -> dict[str, Any]:
    config, data = plan.config, plan.data
    run.save_data(data.provenance, data.held_out_rows)
    started = time.monotonic()
    model, facts = kind.fit(plan, run, device=choose_device(device), callbacks=callbacks)
    seconds = time.monotonic() - started
    model.save(run)
    generated = model.sample(PICTURED, seed=0, options=AS_DRAWN)
    scores = _quick_scores(data, generated, seed=config.seed)
    record = {
        "run": str(run),
        "dataset": config.dataset,
        "model": config.model.name,
        "recipe": config.recipe,
        "seed": config.seed,
        "train_seconds": seconds,
        **facts,
        "memorisation": _memorisation(scores),
        "verdict": asdict(overall_verdict(scores)),
        "device": device,
    }
    run.save_training(record)
    draw_pictures(run, model, data, generated)  # last, so that a picture that fails takes nothing else with it
    return record


def _quick_scores(data: Data, generated: pl.DataFrame, *, seed: int) -> dict[str, dict[str, Any]]:
    """Give `QUICK_SCORES` of generated rows, as `evaluate` writes scores in its record."""
    scores = Truth(data, data.held_out, generated.height, seed=seed).score(generated, metrics=QUICK_SCORES)
    return {name: score.to_dict() for name, score in scores.items()}


def _memorisation(scores: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Say how close generated rows are to the training rows: values with their floors, None where rows are too few."""
    nearer, copies = scores["memorisation"], scores["copies"]
    return {
        "share_nearer_training": nearer["value"],
        "ci95": nearer["ci95"],
        "floor": nearer["floor"],
        "copies": copies["value"],
        "copies_floor": copies["floor"],
    }
