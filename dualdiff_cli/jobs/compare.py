"""Train several models on the same rows and score them alike."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ..compute.device import choose_device
from ..compute.memory import require_memory
from ..config.layers import COMPARED, MODELS
from ..config.recipes import has_setting, resolve
from ..config.registry import PEERS, known_name
from ..config.schema import RunConfig
from ..data import Data
from ..errors import InputError, Interrupted
from ..metrics import SCORED_FROM
from ..store.atomic import read_json, write_json
from ..store.lock import LOCK, sole_use
from .comparison import Comparison
from .evaluate import GENERATED, require_scorable
from .inputs import load_run_data
from .ranking import as_good, best_by_metric, best_overall, in_one_unit
from .truth import Announce

__all__ = ["compare"]

SIMPLE = "mixture"
"""The model that is simpler than a diffusion model, and says so where it is as good."""


def compare(
    dataset: str,
    *,
    models: Sequence[str] | None = None,
    n: int = GENERATED,
    seed: int = 0,
    device: str = "auto",
    settings: Sequence[str] = (),
    path: str | Path | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    announce: Announce = lambda what: None,
    on_note: Callable[[str], None] = lambda note: None,
) -> dict[str, Any]:
    """Train several models on the same rows and score rows of each against the same held-out rows.

    Args:
        dataset: a name or a file.
        models: names of models and peers; None takes `COMPARED`.
        n: the number of rows that each model draws.
        seed: of the split, of every training, of the drawn rows and of the scores.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:i``; peers stay on the CPU.
        settings: ``key=value`` strings, each of which applies to the models that have such a setting.
        path: a folder that keeps the runs and the scores, so that a comparison that was stopped goes on; None keeps
            neither.
        should_stop: asked between two steps, and between two models.
        announce: told what is being computed.
        on_note: told each sentence about the data that the user should know.

    Returns:
        The record of the ``compare`` command's contract. A model that cannot be trained, drawn from or scored has the
        entry {"error": sentence}. "best" is the model with the least excess, "as_good" names those that are as
        good, and "best_by_metric" names for each metric the best model and those that are as good; see `ranking`.
        "simpler" says whether a Gaussian mixture is as good as the diffusion model.

    Raises:
        Interrupted: stopped by ``should_stop``; with a ``path``, all models that are finished are kept.
        InputError: the data set, a model or a setting is unknown, there are too few rows to score, or the folder holds
            another comparison.
        DeviceError: the device is not there.

    """
    require_scorable(n)
    names = tuple(dict.fromkeys(known_name("model", name, [*MODELS, *PEERS]) for name in models or COMPARED))
    place = str(choose_device(device))
    shared = next(iter(_configure(dataset, names, seed, settings).values()))
    data, seed = load_run_data(shared), shared.seed
    for note in (*data.notes, *_without_effect(names, settings)):
        on_note(note)
    _require_rows(data)
    require_memory(n, data.train.width)
    configs = _configure(dataset, names, seed, settings, rows=data.train.height)
    request = {"data": data.provenance, "n": n, "seed": seed, "settings": list(settings)}
    with _folder(path, request) as folder:
        comparison = Comparison(data, n, seed, place, folder, should_stop, announce)
        rows: dict[str, Any] = {}
        for name in names:
            try:
                rows[name] = comparison.row(name, configs.get(name))
            except Interrupted as stop:
                remedy = (
                    "Nothing is kept; name a folder with --run-dir to be able to go on."
                    if path is None
                    else f"What is finished is kept in {path}: the same command goes on."
                )
                raise Interrupted(f"Stopped after {len(rows)} of {len(names)} models.", remedy) from stop
        rows = in_one_unit(rows)
        best = best_overall(rows)
        record = {
            "dataset": dataset if data.density else str(Path(dataset).resolve()),
            "rows": data.train.height,
            "held_out": data.held_out.height,
            "columns": data.train.width,
            "n_generated": n,
            "seed": seed,
            "device": place,
            "run_dir": None if path is None else str(path),
            "models": rows,
            "best": best,
            "as_good": [name for name in rows if best not in (None, name) and as_good(rows[name], rows[best])],
            "best_by_metric": best_by_metric(rows),
            "simpler": _simpler(rows, configs),
        }
        write_json(folder / "comparison.json", record)
    return record


def _require_rows(data: Data) -> None:
    """See that the models can be scored, before any of them is trained.

    Raises:
        InputError: there are too few held-out or training rows.

    """
    held_out, train = data.held_out.height, data.train.height
    if min(held_out, train) < SCORED_FROM:
        few = f"{held_out} held-out" if held_out < SCORED_FROM else f"{train} training"
        share = math.ceil(100 * SCORED_FROM / (held_out + train)) / 100
        raise InputError(
            f"{few} rows are too few to compare models: at least {SCORED_FROM} are needed.",
            f"Give more rows, or choose the held-out share with --set data.held_out_fraction={share:g}.",
        )


def _configure(
    dataset: str, names: Sequence[str], seed: int, settings: Sequence[str], *, rows: int | None = None
) -> dict[str, RunConfig]:
    """Give the configurations of the models among the names, and that of a mixture where all names are peers."""
    of_house = [name for name in names if name in MODELS] or [SIMPLE]
    # A setting of a model that is not compared this time may have been meant for an earlier call; one that no model has
    # is handed on, to be refused.
    unknown = [setting for setting in settings if not any(has_setting(name, setting) for name in MODELS)]
    configs = {}
    for name in of_house:
        own = [setting for setting in settings if has_setting(name, setting)]
        configs[name] = resolve(
            dataset=dataset, model=name, options={"seed": seed}, settings=[*own, *unknown], rows=rows
        )
        if (configs[name].dataset, configs[name].model.name) != (dataset, name):
            raise InputError("--set names another data set or another model.", "Use --dataset and --model.")
    return configs


def _without_effect(names: Sequence[str], settings: Sequence[str]) -> list[str]:
    """Say for each setting that only models beyond the names have that it changes nothing."""
    return [
        f"The setting {setting} changes nothing: none of the models that are compared has it."
        for setting in settings
        if not setting.startswith(("data.", "seed"))  # all models have the same rows
        and not any(name in MODELS and has_setting(name, setting) for name in names)
    ]


@contextmanager
def _folder(path: str | Path | None, request: Mapping[str, Any]) -> Iterator[Path]:
    """Give the folder of a comparison: a new one, that of the same request, or a temporary one.

    Raises:
        InputError: the folder holds something else, or another process compares models there.

    """
    if path is None:
        with TemporaryDirectory(prefix="dualdiff-") as temporary:
            yield Path(temporary)
        return
    folder = Path(path)
    other = InputError(
        f"The folder {path} is not empty, and does not hold a comparison with these rows and settings.",
        "Name another folder with --run-dir, or repeat the command that the folder was made with.",
    )
    if folder.exists() and not folder.is_dir():
        raise other
    folder.mkdir(parents=True, exist_ok=True)
    is_new = all(each.name == LOCK for each in folder.iterdir())
    with sole_use(folder):
        kept = read_json(folder / "request.json")
        if kept is None and is_new:
            write_json(folder / "request.json", request)
        elif kept != request:
            raise other
        yield folder


def _simpler(rows: Mapping[str, Any], configs: Mapping[str, RunConfig]) -> dict[str, Any] | None:
    """Say which simpler model is as good as the first diffusion model; None where there is none."""
    diffusion = next((name for name, config in configs.items() if config.model.kind == "diffusion"), None)
    if diffusion is None or not as_good(rows.get(SIMPLE, {}), rows[diffusion]):
        return None
    return {"model": SIMPLE, "components": rows[SIMPLE]["components"], "instead_of": diffusion}
