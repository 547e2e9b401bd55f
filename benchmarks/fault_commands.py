"""The commands that `faults.py` kills and interrupts: their words, and what has to be the same afterwards."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

SETTINGS = (
    *("model.width=8", "model.blocks=1", "model.gate_hidden=[8]", "schedule.length=8", "schedule.beta_max=0.9"),
    *("objective.references=0", "sampling.steps=8", "data.points=200", "data.held_out_points=200", "training.batch=16"),
    *("training.log_every=5", "training.checkpoint_every=10"),
)
SMALL = [word for setting in SETTINGS for word in ("--set", setting)]
TRAIN = ["train", "moons", "--recipe", "paper", "--device", "cpu", "--steps", "200", *SMALL]
OF_TABLE = ["model.width=16", "folds.levels=6", "training.log_every=5", "sampling.steps=8", "training.batch=32"]
TRAIN_TABLE = ["train", "gaps.csv", "--device", "cpu", "--steps", "40"]
TRAIN_TABLE += [word for setting in OF_TABLE for word in ("--set", setting)]

Content = dict[str, bytes | str]
"""The files that a command made, or what matters of them, by name."""


def bytes_of(*names: str) -> Callable[[Path], Content]:
    """Make the function that reads files of a directory; no names stand for the path itself."""
    return lambda path: {name: (path / name).read_bytes() for name in names or ("",)}


def scores_of_comparison(path: Path) -> Content:
    """Read the scores of a comparison, which no clock influences."""
    record = json.loads((path / "comparison.json").read_text(encoding="utf-8"))
    return {name: json.dumps(kept["metrics"]) for name, kept in record["models"].items()}


def scores_of_reproduction(path: Path) -> Content:
    """Read the weights and the scores of all runs of a reproduction."""
    found: Content = {}
    for result in sorted(path.glob("runs/*.json")):
        if result.with_suffix("").is_dir():
            record = json.loads(result.read_text(encoding="utf-8"))
            found[result.name] = json.dumps([evaluation["metrics"] for evaluation in record["evaluations"]])
            found[f"weights of {result.name}"] = (result.with_suffix("") / "model.safetensors").read_bytes()
    return found


@dataclass(frozen=True)
class Work:
    """A command under fire.

    Attributes:
        words: of the command, whose results go to the path that is put in for OUT.
        content: reads the results.
        again: the words after a kill that has left a run behind; none are the same words.
        always_cold: whether every try starts a new interpreter, because a fork cannot end a pool of processes.

    """

    words: tuple[str, ...]
    content: Callable[[Path], Content]
    again: tuple[str, ...] = ()
    always_cold: bool = False

    def start(self, out: Path) -> tuple[str, ...]:
        """Give the words for the results that are there so far."""
        words = self.again if self.again and (out / "config.toml").exists() else self.words
        return tuple(word.replace("OUT", "out") for word in words)

    @property
    def makes_file(self) -> bool:
        """Whether the results are one file, so that a file under this name has to be whole."""
        return any(word.startswith("OUT.") for word in self.words)

    @property
    def output(self) -> str:
        """The last part of the path of the results; a command without results has none there."""
        return next((word for word in self.words if word.startswith("OUT")), "OUT")


TABLE = ("reproduce", "table1", "--dataset", "line", "--seeds", "1", "--steps", "40", *SMALL, "--output", "OUT")
WORKS = {
    "train": Work(
        (*TRAIN, "--run-dir", "OUT"),
        bytes_of("model.safetensors", "metrics.jsonl", "config.toml"),
        ("train", "--resume", "OUT", "--device", "cpu"),
    ),
    "sample": Work(("sample", "whole", "-n", "30k", "-o", "OUT.csv"), bytes_of()),
    "export": Work(("export", "whole", "-o", "OUT.onnx"), bytes_of()),
    "impute": Work(("impute", "table", "gaps.csv", "--draws", "20", "-o", "OUT.csv"), bytes_of()),
    "compare": Work(
        ("compare", "--dataset", "moons", "--model", "mixture", "--model", "baseline", "-n", "200", "--steps", "60",
         *SMALL, "--run-dir", "OUT"),
        scores_of_comparison,
    ),
    "reproduce": Work((*TABLE, "--jobs", "1"), scores_of_reproduction),
    "reproduce with two processes": Work((*TABLE, "--jobs", "2"), scores_of_reproduction, always_cold=True),
}  # fmt: skip
STOPPED = {
    **WORKS,
    "evaluate": Work(("evaluate", "whole"), bytes_of()),
    "report": Work(("report", "whole", "-o", "OUT.html"), bytes_of()),
    "animate": Work(("animate", "whole", "-o", "OUT.gif"), bytes_of()),
    "explore": Work(("explore", "whole", "-o", "OUT"), bytes_of()),
}
"""The commands of the second part."""
