"""Keep files of the current formats, which later versions must read, or refuse with a sentence.

    PYTHONPATH=tests python tests/formats/keep.py

There is one folder for each version of the formats of runs and of exported files. Run this once for a new version and
never again: `tests/test_formats.py` then says whether the files can still be read.
"""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

from kept import answers_of_file, answers_of_model
from tiny import narrow, tiny, tiny_of, untrained

from dualdiff_cli.compute.device import choose_device
from dualdiff_cli.config.schema import RunConfig
from dualdiff_cli.errors import Interrupted
from dualdiff_cli.exporting.metadata import FORMAT_VERSION
from dualdiff_cli.exporting.runtime import ExportedModel
from dualdiff_cli.jobs.evaluate import evaluate
from dualdiff_cli.jobs.export import export
from dualdiff_cli.jobs.train import Callbacks, train
from dualdiff_cli.models import load_model
from dualdiff_cli.store.atomic import write_json
from dualdiff_cli.store.run import FORMAT, Run

FOLDS = ["folds.number=2", "folds.levels=4", "folds.bands=2", "training.steps=20"]


def keep_runs(folder: Path) -> None:
    """Keep a finished run of every kind of model with its answers, and a training that was stopped."""
    configs: dict[str, RunConfig] = {name: tiny(name) for name in ("paper", "precise")}
    configs["few-rows"] = tiny("few-rows", settings=FOLDS)
    configs |= {kind: tiny_of(kind, dataset="line") for kind in ("mixture", "kernel-density", "spline-flow", "tabddpm")}
    answers = {}
    for name, config in configs.items():
        run = Run(train(config, path=folder / name, device="cpu")["run"])
        answers[name] = answers_of_model(load_model(run, device=choose_device("cpu")))
        shutil.rmtree(run.path / "figures")
        for file in ("state.pt", "environment.json"):
            (run.path / file).unlink(missing_ok=True)
    evaluate(folder / "mixture", n=100, device="cpu")
    with suppress(Interrupted):
        train(configs["paper"], path=folder / "stopped", device="cpu", callbacks=Callbacks(should_stop=lambda: True))
    (folder / "stopped" / "environment.json").unlink()
    write_json(folder / "answers.json", answers)


def keep_export(folder: Path) -> None:
    """Keep a sampler as an ONNX file, with its answers."""
    run = Run.create(narrow(), folder / "run")
    untrained(narrow()).save(run)
    path = export(run, output=folder / "sampler.onnx", device="cpu")["output"]
    shutil.rmtree(run.path)
    write_json(folder / "answers.json", answers_of_file(ExportedModel.open(path, device="cpu")))


if __name__ == "__main__":
    os.chdir(Path(__file__).parent)  # paths in the files are relative to this folder
    for keep, name in ((keep_runs, f"run-{FORMAT}"), (keep_export, f"export-{FORMAT_VERSION}")):
        if not Path(name).exists():  # one of the two versions may be as it was
            Path(name).mkdir()
            keep(Path(name))
