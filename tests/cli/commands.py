"""How the tests run commands, and the words of trainings that take a fraction of a second."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from click.testing import Result
from typer.main import get_command
from typer.testing import CliRunner

from dualdiff_cli.cli.app import app

__all__ = ["COMMANDS", "SENTENCES", "SMALL", "TINY_WORDS", "answer", "dualdiff", "refused", "settings", "start"]

COMMANDS = [str(command.callback.__name__) for command in app.registered_commands if command.callback]
COMMANDS += [str(group.name) for group in app.registered_groups]
SENTENCES = re.compile(r"Error: [^\n]+[.!?]\n[^\n]+[.?]\n")
"""How an error looks: a sentence with the problem, and a sentence with the remedy."""


def settings(*given: str) -> list[str]:
    """The words that give settings to `train`."""
    return [word for setting in given for word in ("--set", setting)]


SMALL = [
    *("--device", "cpu", "--steps", "30"),
    *settings(
        "model.width=8",
        "model.blocks=1",
        "model.gate_hidden=[8]",
        "schedule.length=8",
        "schedule.beta_max=0.9",
        "objective.references=0",
        "sampling.steps=8",
        "data.points=400",
        "data.held_out_points=400",
        "training.batch=16",
    ),
]
"""A training of any recipe of a diffusion model."""
TINY_WORDS = ["--recipe", "paper", *SMALL]


def dualdiff(*words: str | Path) -> Result:
    """Run a command in this process."""
    result = CliRunner(env={"COLUMNS": "200"}).invoke(app, [str(word) for word in words], prog_name="dualdiff")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def answer(*words: str | Path) -> dict[str, Any]:
    """Run a command with --json; give its one object."""
    result = dualdiff(*words, "--json")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.count("\n") == 1
    return json.loads(result.stdout)  # type: ignore[no-any-return]


def refused(*words: str | Path, code: int = 2) -> str:
    """Run a command that has to fail with two sentences and nothing else; give them."""
    result = dualdiff(*words)
    assert result.exit_code == code, result.output
    assert result.stdout == ""
    assert SENTENCES.fullmatch(result.stderr), result.stderr
    assert_options_exist(result.stderr.splitlines()[1], str(words[0]))
    return result.stderr


def assert_options_exist(message: str, command: str) -> None:
    """Check that a remedy recommends no option that the command lacks, unless it names the command that has it."""
    root: Any = get_command(app)
    for of, option in re.findall(r"(?:`(?:dualdiff )?(\w+)[^`]*?)?(--[a-z][a-z-]+)", message):
        known = {name for parameter in root.commands[of or command].params for name in parameter.opts}
        assert option in known, f"{of or command} has no option {option}: {message}"


Start = Callable[..., subprocess.Popen[str]]
"""The fixture ``started``: words of a command, and what to wait for."""


def start(*words: str | Path, cwd: Path) -> subprocess.Popen[str]:
    """Start the program as a user does, with as many threads as the commands in this process."""
    command = [sys.executable, "-m", "dualdiff_cli", *(str(word) for word in words)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command,
        cwd=cwd,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        preexec_fn=hear_hangups,
    )


def hear_hangups() -> None:
    """Let a new process hear SIGHUP, which a program that runs the tests under ``nohup`` ignores."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
