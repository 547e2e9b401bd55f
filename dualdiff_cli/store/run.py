"""A run: one directory that holds everything about one training.

    config.toml          what was asked for, resolved
    environment.json     versions, device, threads, commit
    data.json            where the points came from and how they were split; for a file also held_out_rows.npy
    model.safetensors    the averaged weights, with the columns and the scaler in its metadata
    pairs.safetensors    of a reflow, the points that it trains on and the noise of each
    state.pt             what training resumes from
    metrics.jsonl        one object a logged step
    samples/ figures/ exports/

Every file is written beside its name and renamed into place, so that a run that is killed at any moment is whole.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ..config.recipes import resolve
from ..config.schema import RunConfig
from ..errors import InputError
from .atomic import replaced, write_json, write_text

__all__ = ["RUNS", "Run"]

RUNS = Path("runs")
FORMAT = "1"


class Run:
    """A run directory.

    Args:
        path: the directory; it need not exist yet.

    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(cls, config: RunConfig, path: Path | None = None) -> Run:
        """Make the directory, by default the next free ``runs/<dataset>-<model>-<k>``, and write the configuration.

        Raises:
            InputError: the path given holds something already.

        """
        if path is None:
            run = cls._next_free(f"{re.sub(r'[^A-Za-z0-9_.-]+', '-', Path(config.dataset).stem)}-{config.model.name}")
        else:
            run = cls(path)
            if path.exists() and (not path.is_dir() or any(path.iterdir())):
                raise InputError(
                    f"The run directory {path} is not empty.", f"Use another one, or go on with --resume {path}."
                )
            path.mkdir(parents=True, exist_ok=True)
        write_text(run.path / "config.toml", config.to_toml())
        return run

    @classmethod
    def _next_free(cls, stem: str) -> Run:
        taken = (re.fullmatch(re.escape(stem) + r"-(\d+)", path.name) for path in RUNS.glob(f"{stem}-*"))
        k = max((int(match[1]) for match in taken if match), default=0) + 1
        while True:
            try:
                (RUNS / f"{stem}-{k}").mkdir(parents=True)
                return cls(RUNS / f"{stem}-{k}")
            except FileExistsError:  # another process took it between the look and the leap
                k += 1

    @classmethod
    def open(cls, path: Path | None = None) -> Run:
        """Find an existing run; without a path, the newest under ``runs/``.

        Raises:
            InputError: there is no run there.

        """
        if path is None:
            configs = sorted(RUNS.glob("*/config.toml"), key=lambda config: config.stat().st_mtime)
            if not configs:
                raise InputError(f"There is no run under {RUNS}/.", "Train one first, or name the run's directory.")
            path = configs[-1].parent
        if not (path / "config.toml").is_file():
            raise InputError(f"{path} is not a run: it has no config.toml.", "Name a directory that `train` made.")
        return cls(path)

    def __str__(self) -> str:
        return str(self.path)

    @property
    def exists(self) -> bool:
        """Whether the run has begun."""
        return (self.path / "config.toml").is_file()

    @property
    def is_trained(self) -> bool:
        """Whether the training has finished."""
        return (self.path / "model.safetensors").is_file()

    @property
    def config(self) -> RunConfig:
        """What was asked for."""
        return resolve(file=self.path / "config.toml")

    def save_environment(self, environment: dict[str, Any]) -> None:
        """Note the machine that trains; a resumed run notes the last one."""
        write_json(self.path / "environment.json", environment)

    def save_state(self, state: dict[str, Any]) -> None:
        """Keep what training resumes from."""
        with replaced(self.path / "state.pt") as temporary:
            torch.save(state, temporary)

    def load_state(self) -> dict[str, Any] | None:
        """Give the state last saved, None where training was stopped before the first.

        Raises:
            InputError: the file is damaged or holds more than tensors and numbers.

        """
        path = self.path / "state.pt"
        if not path.exists():
            return None
        try:
            state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # whatever the damaged bytes happen to spell
            raise InputError(f"The training state {path} cannot be read.", "Remove it to start over.") from error
        return state

    def save_model(self, tensors: dict[str, Tensor], metadata: dict[str, Any]) -> None:
        """Keep the weights that samples come from; the metadata's values are stored as JSON."""
        text = {"format_version": FORMAT, **{key: json.dumps(value) for key, value in metadata.items()}}
        blob = save({name: tensor.contiguous() for name, tensor in tensors.items()}, metadata=text)
        with replaced(self.path / "model.safetensors") as temporary:
            temporary.write_bytes(_with_sorted_header(blob))

    def load_model(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Give the weights and the metadata.

        Raises:
            InputError: training has not finished, or the file is damaged.

        """
        path = self.path / "model.safetensors"
        if not path.exists():
            raise InputError(
                f"The run {self} has no trained model yet.", f"Finish it with `dualdiff train --resume {self}`."
            )
        try:
            with safe_open(path, framework="pt") as file:
                metadata = {k: json.loads(v) for k, v in (file.metadata() or {}).items() if k != "format_version"}
                return {name: file.get_tensor(name) for name in file.keys()}, metadata  # noqa: SIM118
        except (OSError, SafetensorError, json.JSONDecodeError) as error:
            raise InputError(f"The model {path} cannot be read: {error}.", "Train the run again.") from error

    def save_pairs(self, tensors: dict[str, Tensor], scaler: str) -> None:
        """Keep what a reflow trains on."""
        with replaced(self.path / "pairs.safetensors") as temporary:
            temporary.write_bytes(save(tensors, metadata={"scaler": scaler}))

    def load_pairs(self) -> tuple[dict[str, Tensor], str] | None:
        """Give what a reflow trains on, None where there is none.

        Raises:
            InputError: the file is damaged.

        """
        path = self.path / "pairs.safetensors"
        if not path.exists():
            return None
        try:
            with safe_open(path, framework="pt") as file:
                tensors = {name: file.get_tensor(name) for name in ("points", "noise", "held_out")}
                return tensors, file.metadata()["scaler"]
        except (OSError, SafetensorError, KeyError, TypeError) as error:
            raise InputError(f"The pairs {path} cannot be read.", "Remove them to have them drawn again.") from error

    def append_metrics(self, records: Iterable[dict[str, Any]]) -> None:
        """Add logged steps."""
        with open(self.path / "metrics.jsonl", "a", encoding="utf-8") as file:
            file.writelines(json.dumps(record) + "\n" for record in records)

    def load_metrics(self) -> list[dict[str, Any]]:
        """Give the logged steps; a line cut short by a kill is not one."""
        path = self.path / "metrics.jsonl"
        records = []
        for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
            try:
                records.append(json.loads(line))
            except json.JSONDecodeError:
                break
        return records

    def rewind_metrics(self, step: int) -> None:
        """Drop what was logged after the step that training resumes from."""
        kept = [record for record in self.load_metrics() if record["step"] <= step]
        write_text(self.path / "metrics.jsonl", "".join(json.dumps(record) + "\n" for record in kept))

    def output_path(self, folder: str, name: str) -> Path:
        """Give a path in one of the run's folders, made if need be."""
        directory = self.path / folder
        os.makedirs(directory, exist_ok=True)
        return directory / name


def _with_sorted_header(blob: bytes) -> bytes:
    """Give a safetensors file with its JSON header in order: the library writes the metadata in a random one."""
    start = 8 + int.from_bytes(blob[:8], "little")
    header = json.dumps(json.loads(blob[8:start]), sort_keys=True).encode()
    header += b" " * (-len(header) % 8)  # the tensors stay aligned
    return len(header).to_bytes(8, "little") + header + blob[start:]
