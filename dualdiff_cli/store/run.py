"""A run: one directory that holds everything about one training. This module owns every file in it.

    config.toml          what was asked for, resolved
    data.json            where the rows came from and how they were split
    held_out_rows.npy    for a file, the numbers of the rows that training never sees
    environment.json     versions, device, threads, commit
    model.safetensors    the weights that samples come from
    model.json           kind of model, encoding of the columns, format version, checksum of model.safetensors
    pairs.safetensors    for a reflow, the points that it trains on and the noise of each
    state.pt             what training resumes from
    metrics.jsonl        one object a logged step
    training.json        what `train` answered when the training had finished
    evaluation.json      the last scores
    lock.json            while a process trains, which one it is
    samples/ figures/ exports/

Every file is written beside its name and renamed into place, so that a run that is killed at any moment is whole.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..checked import (
    LARGEST_TEXT,
    check_object,
    check_schema,
    check_version,
    parse_json,
    read_bytes,
    read_object,
    refusing,
)
from ..config.layers import CONFIG_FILE
from ..config.recipes import resolve
from ..config.schema import RunConfig
from ..errors import InputError
from .atomic import create_text, naming, read_json, replaced, write_json, write_text
from .schemas import (
    EvaluationFile,
    LoggedStep,
    MachineFile,
    ModelFile,
    ProvenanceFile,
    StateFile,
    TrainingFile,
)
from .tensors import packed_tensors, pickled, read_pairs, read_pickled, read_weights

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from torch import Tensor

__all__ = ["FORMAT", "OLDEST", "RUNS", "Run"]

RUNS = Path("runs")
FORMAT = 4
"""The version of the run directory's format; a newer one is refused. Whoever raises this number keeps the runs in
tests/formats/, whose tests then show what becomes of them."""
OLDEST = 2
"""The oldest version that is read; in version 2 a model of few rows has two experts."""


class Run:
    """A run directory.

    Args:
        path: the directory; it need not exist yet.

    Examples:
        >>> import dualdiff_cli as dualdiff
        >>> small = ["model.components=4", "data.points=500", "data.held_out_points=500"]
        >>> dualdiff.train(dualdiff.resolve(dataset="moons", model="mixture", settings=small))["run"]
        'runs/moons-mixture-1'
        >>> run = dualdiff.Run.open("runs/moons-mixture-1")  # without an argument: the newest run
        >>> run.is_trained, run.config.model.name
        (True, 'mixture')

    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    @classmethod
    def create(cls, config: RunConfig, path: str | Path | None = None) -> Run:
        """Make the directory, by default the next free ``runs/<dataset>-<model>-<k>``, and write the configuration.

        Raises:
            InputError: the path given holds something already.

        """
        if path is None:
            run = cls._next_free(f"{re.sub(r'[^A-Za-z0-9_.-]+', '-', Path(config.dataset).stem)}-{config.model.name}")
        else:
            run = cls(path)
            if run.path.exists() and (not run.path.is_dir() or any(run.path.iterdir())):
                go_on = f", or go on with `{run.resuming}`" if run.exists else ""
                raise InputError(f"The run directory {path} is not empty.", f"Use another one{go_on}.")
        if not create_text(run.config_path, config.to_toml()):  # another process was a moment earlier
            raise InputError(f"The run directory {run} has just been taken by another process.", "Use another one.")
        return run

    @classmethod
    def _next_free(cls, stem: str) -> Run:
        taken = (re.fullmatch(re.escape(stem) + r"-(\d+)", path.name) for path in RUNS.glob(f"{stem}-*"))
        k = max((int(match[1]) for match in taken if match), default=0) + 1
        while True:
            try:
                (RUNS / f"{stem}-{k}").mkdir(parents=True)
                return cls(RUNS / f"{stem}-{k}")
            except FileExistsError:  # another process has just made this directory
                k += 1

    @classmethod
    def open(cls, path: Run | str | Path | None = None) -> Run:
        """Find an existing run.

        Args:
            path: the run's directory; None finds the newest run under ``runs/``. A `Run` is given back as it is, so
                that whoever takes a run can take its path, too.

        Raises:
            InputError: there is no run there.

        """
        if isinstance(path, Run):
            return path
        if path is None:
            runs = cls.newest_first(RUNS)
            if not runs:
                raise InputError(f"There is no run under {RUNS}/.", "Train one first, or name the run's directory.")
            return runs[0]
        run = cls(path)
        if not run.exists:
            raise InputError(f"{path} is not a run: it has no {CONFIG_FILE}.", "Name a directory that `train` made.")
        return run

    @classmethod
    def newest_first(cls, *folders: Path) -> list[Run]:
        """Give the runs in folders by the time at which they were begun."""
        configs = [config for folder in set(folders) for config in folder.glob(f"*/{CONFIG_FILE}")]
        configs.sort(key=lambda config: config.stat().st_mtime, reverse=True)
        return [cls(config.parent) for config in configs]

    def __str__(self) -> str:
        return str(self.path)

    @property
    def config_path(self) -> Path:
        """The file with what was asked for."""
        return self.path / CONFIG_FILE

    @property
    def resuming(self) -> str:
        """The command that goes on with the training."""
        return f"dualdiff train --resume {shlex.quote(str(self))}"

    @property
    def exists(self) -> bool:
        """Whether the run has begun."""
        return self.config_path.is_file()

    @property
    def is_trained(self) -> bool:
        """Whether the training has finished."""
        return (self.path / "model.safetensors").is_file()

    @property
    def config(self) -> RunConfig:
        """What was asked for.

        Raises:
            InputError: the file is damaged, or a newer version of the program wrote the run.

        """
        try:
            return resolve(file=self.config_path)
        except InputError as error:
            remedy, described = "Restore it, or start a new run.", read_json(self.path / "model.json")
            if isinstance(described, dict):  # a newer version may have settings that this one does not know
                check_version(described.get("format_version"), FORMAT, f"The run {self}", remedy, oldest=OLDEST)
            path = str(self.config_path)
            problem = error.problem if path in error.problem else f"{path} is damaged: {error.problem}"
            raise InputError(problem, remedy) from error

    def save_environment(self, environment: Mapping[str, Any]) -> None:
        """Note the machine that trains; a resumed run notes the last one."""
        write_json(self.path / "environment.json", environment)

    def load_environment(self) -> dict[str, Any] | None:
        """Give the machine that trained the run; None where training was stopped before that was noted.

        Raises:
            InputError: the file is damaged.

        """
        return read_object(self.path / "environment.json", MachineFile, "Remove it, or start a new run.")

    # The rows

    def save_data(self, provenance: Mapping[str, Any], held_out_rows: npt.NDArray[np.int64] | None) -> None:
        """Note where the rows came from, and which rows of a file training never sees."""
        import numpy as np

        write_json(self.path / "data.json", provenance)
        if held_out_rows is not None:
            with replaced(self.path / "held_out_rows.npy") as temporary:
                np.save(temporary, held_out_rows)

    def load_data(self) -> dict[str, Any] | None:
        """Give where the rows came from; None where training was stopped before that was noted.

        Raises:
            InputError: the file is damaged.

        """
        return read_object(self.path / "data.json", ProvenanceFile, "Restore it, or start a new run.")

    # The model

    def save_model(self, tensors: Mapping[str, Tensor], description: Mapping[str, Any]) -> None:
        """Keep the weights that samples come from, and a description; a run with both is finished."""
        weights = packed_tensors(tensors)
        checksum = hashlib.sha256(weights).hexdigest()
        # The weights come last: a run that is killed between the two files is not finished, and can be resumed.
        write_json(self.path / "model.json", {"format_version": FORMAT, "sha256": checksum, **description})
        with replaced(self.path / "model.safetensors") as temporary:
            temporary.write_bytes(weights)

    def load_model(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Give the weights and the description.

        Raises:
            InputError: training has not finished, or a file is damaged, of another version, or of another training.

        """
        path, described, remedy = self.path / "model.safetensors", self.path / "model.json", "Train the run again."
        if not path.exists():
            raise InputError(f"The run {self} has no trained model yet.", f"Finish it with `{self.resuming}`.")
        description = read_object(described, dict[str, Any], remedy) or {}
        check_version(description.get("format_version"), FORMAT, f"The run {self}", remedy, oldest=OLDEST)
        check_object(described, description, ModelFile, remedy)
        return read_weights(path, sha256=description["sha256"]), description

    @property
    def model_sha256(self) -> str | None:
        """The checksum of the finished model, which tells whether scores are of this model; None without a model."""
        found = read_json(self.path / "model.json")
        checksum = found.get("sha256") if isinstance(found, dict) else None
        return checksum if isinstance(checksum, str) and self.is_trained else None

    # What training resumes from

    def save_state(self, state: Mapping[str, Any]) -> None:
        """Keep what training resumes from."""
        with replaced(self.path / "state.pt") as temporary:
            temporary.write_bytes(pickled({"format_version": FORMAT, **state}))

    def load_state(self) -> dict[str, Any] | None:
        """Give the state that was saved last; None where training was stopped before the first.

        Raises:
            InputError: the file is damaged, of another version, or holds more than tensors and plain values.

        """
        path = self.path / "state.pt"
        if not path.exists():
            return None
        state = read_pickled(path, f"The training state {path} cannot be read.", "Remove it to start over.")
        check_version(
            state.get("format_version"), FORMAT, f"The training state {path}", "Remove it to start over.", oldest=OLDEST
        )
        with refusing(f"The training state {path} is damaged.", "Remove it to start over."):
            check_schema(state, StateFile)
        return state

    def save_pairs(self, tensors: Mapping[str, Tensor], encoding: Mapping[str, Any]) -> None:
        """Keep what a reflow trains on, and the encoding of the columns, which is the teacher's."""
        with replaced(self.path / "pairs.safetensors") as temporary:
            temporary.write_bytes(packed_tensors(tensors, encoding=json.dumps(encoding)))

    def load_pairs(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Give what a reflow trains on; None where there is nothing.

        Raises:
            InputError: the file is damaged.

        """
        path = self.path / "pairs.safetensors"
        return read_pairs(path) if path.exists() else None

    # What was measured

    def append_metrics(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Add logged steps."""
        path = self.path / "metrics.jsonl"
        with naming(path, path), open(path, "a", encoding="utf-8") as file:
            file.writelines(json.dumps(record) + "\n" for record in records)

    def load_metrics(self) -> list[dict[str, Any]]:
        """Give the logged steps; a last line that a kill has cut short is left out.

        Raises:
            InputError: the file is damaged.

        """
        path = self.path / "metrics.jsonl"
        if not path.exists():
            return []
        records: list[dict[str, Any]] = []
        remedy = "Remove it: the training goes on, with a new log."
        with refusing(f"{path} cannot be read.", remedy):
            *whole, _ = read_bytes(path, limit=LARGEST_TEXT).split(b"\n")
        for number, line in enumerate(whole, start=1):
            with refusing(f"{path} is damaged in line {number}.", remedy):
                record = parse_json(line)
                check_schema(record, LoggedStep)
                records.append(record)
        return records

    def rewind_metrics(self, step: int) -> None:
        """Drop what was logged after the step that training resumes from."""
        kept = [record for record in self.load_metrics() if record["step"] <= step]
        write_text(self.path / "metrics.jsonl", "".join(json.dumps(record) + "\n" for record in kept))

    def save_training(self, record: Mapping[str, Any]) -> None:
        """Keep what `train` answers when the training has finished."""
        write_json(self.path / "training.json", record)

    def load_training(self) -> dict[str, Any] | None:
        """Give what `train` answered; None where the training has not finished.

        Raises:
            InputError: the file is damaged.

        """
        return read_object(self.path / "training.json", TrainingFile, "Remove it.")

    def load_evaluation(self) -> dict[str, Any] | None:
        """Give the last scores of the run's own samples; None where there are none, or where another model got them.

        Raises:
            InputError: the file is damaged.

        """
        path = self.path / "evaluation.json"
        record = read_object(path, EvaluationFile, "Remove it, and score the run again.")
        is_own = record is not None and record["model_sha256"] == self.model_sha256
        return record if is_own else None

    def save_evaluation(self, record: Mapping[str, Any]) -> None:
        """Keep the last scores of the run's own samples."""
        write_json(self.path / "evaluation.json", record)

    def output_path(self, folder: str, name: str) -> Path:
        """Give a path in one of the run's folders, which is made if need be."""
        directory = self.path / folder
        os.makedirs(directory, exist_ok=True)
        return directory / name
