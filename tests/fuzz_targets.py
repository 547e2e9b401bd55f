"""The files of runs, each with a good example and with the code that reads and uses it; `fuzz_files.py` has others."""

from __future__ import annotations

import functools
import hashlib
import io
import json
import random
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import torch
from every_kind import KINDS, every_kind
from fuzz_files import data_files, exports, records
from fuzzing import STRANGE, Target, damaged_bytes, damaged_toml, damaged_tree, damaged_values
from safetensors.torch import load, save
from tiny import tiny, tiny_of

from dualdiff_cli.config.recipes import resolve
from dualdiff_cli.config.schema import RunConfig
from dualdiff_cli.data.schema_file import read_schema, write_schema
from dualdiff_cli.data.split import load_data
from dualdiff_cli.errors import Interrupted
from dualdiff_cli.estimator import DualDiff
from dualdiff_cli.jobs import report as reports
from dualdiff_cli.jobs.evaluate import evaluate
from dualdiff_cli.jobs.inputs import data_of_run
from dualdiff_cli.jobs.plot import picture_of_losses
from dualdiff_cli.jobs.train import train
from dualdiff_cli.models import kind_of, load_model
from dualdiff_cli.present.evaluation import evaluation_tables
from dualdiff_cli.store.atomic import write_json
from dualdiff_cli.store.lock import LOCK, in_use
from dualdiff_cli.store.run import Run
from dualdiff_cli.training.reflow import Pairs
from dualdiff_cli.training.session import Callbacks

__all__ = ["targets"]

CPU = torch.device("cpu")
MODELS = ("diffusion", "few-rows", "mixture", "kernel-density", "spline-flow", "tabddpm")
FOLDS = ["folds.number=2", "folds.levels=4", "folds.bands=2", "training.steps=20", "training.checkpoint_every=3"]
SMALL = [
    *("model.width=8", "model.blocks=1", "model.gate_hidden=[8]", "training.steps=5", "training.batch=16"),
    *("data.points=60", "data.held_out_points=60", "training.warmup=1"),
]
VALUES = (damaged_bytes, damaged_values)


def targets(folder: Path, *, all_of_them: bool = True) -> dict[str, Target]:
    """Make the good examples in a folder, and name the targets after them; see `exports`."""
    found: dict[str, Target] = {}
    for kind in MODELS:
        config = tiny("few-rows", settings=FOLDS) if kind == "few-rows" else tiny_of(kind, dataset="line")
        run = Run(train(config, path=folder / kind, device="cpu")["run"])
        draw, signed = functools.partial(_draw, run), functools.partial(_draw_signed, run)
        weights = Target(run.path / "model.safetensors", draw, (damaged_bytes, _weights), 0.5)
        settled = functools.partial(resolve, file=run.path / "config.toml")
        found |= {
            f"{kind} model.json": Target(run.path / "model.json", draw, VALUES, 0.5),
            f"{kind} model.safetensors": weights,
            f"{kind} weights with their checksum": Target(weights.path, signed, weights.damages, 0.2),
            f"{kind} config.toml": Target(run.path / "config.toml", settled, (damaged_bytes, damaged_toml)),
        }
    run = Run(folder / "diffusion")
    evaluate(run, n=100, device="cpu")
    found |= _of_a_run(run)
    found |= _of_unfinished(folder)
    found |= _of_a_table(folder)
    return found | data_files(folder) | exports(folder, all_of_them=all_of_them) | records(folder, run)


def _draw(run: Run) -> None:
    load_model(run, device=CPU).sample(3, seed=0)


def _draw_signed(run: Run) -> None:
    """Draw from a run whose description has the checksum of its weights, whatever they are."""
    path = run.path / "model.json"
    before = path.read_bytes()
    checksum = hashlib.sha256((run.path / "model.safetensors").read_bytes()).hexdigest()
    path.write_text(json.dumps(json.loads(before) | {"sha256": checksum}), encoding="utf-8")
    try:
        _draw(run)
    finally:
        path.write_bytes(before)


def _of_a_run(run: Run) -> dict[str, Target]:
    model, data, scores = load_model(run, device=CPU), data_of_run(run), run.load_evaluation()
    assert scores is not None

    def facts() -> None:
        reports._facts(run, model, data, scores)

    def judged() -> None:
        if (record := run.load_evaluation()) is not None:
            evaluation_tables(record, title="")

    def reflow() -> None:
        resolve(teacher=run.path)

    write_json(run.path / LOCK, {"process": 1234, "host": "elsewhere", "birth": 10.5, "since": 1.8e9})
    return {
        "lock.json": Target(run.path / LOCK, lambda: in_use(run.path), VALUES),
        "metrics.jsonl": Target(run.path / "metrics.jsonl", lambda: picture_of_losses(run, title=""), VALUES, 0.3),
        "data.json": Target(run.path / "data.json", lambda: data_of_run(run), VALUES),
        "data.json of an estimator": Target(run.path / "data.json", lambda: DualDiff.load(run.path), VALUES, 0.2),
        "training.json": Target(run.path / "training.json", facts, VALUES),
        "environment.json": Target(run.path / "environment.json", facts, VALUES),
        "evaluation.json": Target(run.path / "evaluation.json", judged, VALUES),
        "config.toml of a teacher": Target(run.path / "config.toml", reflow, (damaged_bytes, damaged_toml)),
    }


def _of_unfinished(folder: Path) -> dict[str, Target]:
    """Make trainings that a state or pairs of a reflow let go on."""
    state = Target(
        folder / "diffusion" / "state.pt", _goes_on(Run(folder / "diffusion")), (damaged_bytes, _state), 0.02
    )
    folds, steps = folder / "folds", iter([False] * 10 + [True] * 100)
    with suppress(Interrupted):
        config, stopped = tiny("few-rows", settings=FOLDS), Callbacks(should_stop=lambda: next(steps))
        train(config, path=folds, device="cpu", callbacks=stopped)
    reflow = Run(folder / "reflow")
    config = resolve(teacher=folder / "diffusion", settings=SMALL)
    train(config, path=reflow.path, device="cpu")
    pairs = reflow.path / "pairs.safetensors"
    return {
        "state.pt": state,
        "state.pt of folds": Target(folds / "state.pt", _goes_on(Run(folds)), (damaged_bytes, _state), 0.02),
        "pairs of a reflow": Target(pairs, lambda: Pairs.load(reflow), (damaged_bytes, _weights)),
    }


def _goes_on(run: Run) -> Callable[[], None]:
    """Make the function that resumes a training for one step, and leaves its files as they were."""
    plan = kind_of(run).plan(run.config, data_of_run(run), device=CPU, run=run)
    log = run.path / "metrics.jsonl"
    logged = log.read_bytes()

    def resume() -> None:
        state = (run.path / "state.pt").read_bytes()
        try:
            with suppress(Interrupted):
                kind_of(run).fit(plan, run, device=CPU, callbacks=Callbacks(should_stop=lambda: True))
        finally:
            (run.path / "state.pt").write_bytes(state)
            log.write_bytes(logged)

    return resume


def _of_a_table(folder: Path) -> dict[str, Target]:
    """Make a run of a table with a column of every kind, and the schema that says which kinds they are."""
    table, schema = folder / "every-kind.parquet", folder / "schema.toml"
    rows = every_kind().head(120)
    rows.write_parquet(table)
    schema.write_text(write_schema(KINDS), encoding="utf-8")
    config: RunConfig = tiny("precise", dataset=str(table), settings=[f"data.kinds.{k}={v}" for k, v in KINDS.items()])
    run = Run(train(config, path=folder / "table", device="cpu")["run"])

    def asked() -> None:
        load_data(table, seed=0, kinds=read_schema(schema))

    return {
        "model.json of a table": Target(run.path / "model.json", functools.partial(_draw, run), VALUES, 0.1),
        "data.json of a table": Target(run.path / "data.json", lambda: data_of_run(run), VALUES, 0.1),
        "schema file": Target(schema, asked, (damaged_bytes, damaged_toml), 0.5),
    }


def _state(content: bytes, draws: random.Random) -> bytes:
    tensors = (torch.zeros(0), torch.zeros(3), torch.full((2, 2), torch.nan), torch.zeros(10, dtype=torch.int8))
    tree = torch.load(io.BytesIO(content), weights_only=True)
    out = io.BytesIO()
    torch.save(damaged_tree(tree, draws, (*STRANGE, *tensors)), out)
    return out.getvalue()


def _weights(content: bytes, draws: random.Random) -> bytes:
    tensors = load(content)
    name = draws.choice(list(tensors))
    how = draws.randrange(6)
    if how == 0:
        del tensors[name]
    elif how == 1:
        tensors[name] = tensors[name].flatten()[:-1]
    elif how == 2:
        tensors[name] = torch.full_like(tensors[name], draws.choice((torch.nan, torch.inf, 1e30)))
    elif how == 3:
        tensors[name] = torch.zeros(2, 3, dtype=torch.int16)
    elif how == 4:
        tensors[name] = tensors[name].clone()
        tensors[name].view(-1)[draws.randrange(tensors[name].numel())] = draws.choice((0.0, -1.0, 1e-38, 1e38, -1e9))
    else:
        tensors["other"] = torch.zeros(1)
    return save(tensors, metadata=_metadata(content))


def _metadata(content: bytes) -> dict[str, str] | None:
    """Give the texts that stand in the head of a safetensors file beside the tensors."""
    head = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    found: dict[str, str] | None = head.get("__metadata__")
    return found
