"""Help is quick, complete, and on standard output; bad usage is on standard error."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest
from commands import COMMANDS, dualdiff
from typer.main import get_command

from dualdiff_cli import __version__
from dualdiff_cli.cli.app import app
from dualdiff_cli.config.layers import MODELS, RECIPES
from dualdiff_cli.config.registry import PEERS, SAMPLERS

HEAVY = {"torch", "polars", "pydantic", "matplotlib", "scipy", "sklearn", "joblib", "numpy"}
HEAVY |= {"onnx", "onnxruntime", "onnxscript"}


def imported_by(*words: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "dualdiff_cli", *words], capture_output=True, text=True, check=True
    )
    return {line.rsplit("|", 1)[1].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}


@pytest.mark.parametrize("word", ["--help", "--version"])
def test_help_imports_nothing_heavy(word: str) -> None:
    imported = imported_by(word)
    assert {"typer", "rich", "dualdiff_cli.cli.train"} <= imported
    assert imported.isdisjoint(HEAVY)


ALL_HELPS = f"""
import json, sys
from dualdiff_cli.cli.app import app

looked_for = {sorted([*HEAVY - {"pydantic"}, "dualdiff_cli.config.schema", "dualdiff_cli.cli.train"])!r}
loaded = {{}}
for command in sys.argv[1:]:
    app([*command.split(), "--help"], prog_name="dualdiff", standalone_mode=False)
    loaded[command] = [name for name in looked_for if name in sys.modules]
print(json.dumps(loaded), file=sys.stderr)
"""
"""Shows the help of each command that is named, and says on standard error what was loaded by then."""


def test_the_help_of_no_command_imports_anything_heavy() -> None:
    """Except for pydantic: Typer itself looks for it when it parses an option."""
    names = [name.removeprefix("dualdiff ") for name in subcommands()]
    done = subprocess.run([sys.executable, "-c", ALL_HELPS, *names], capture_output=True, text=True, check=True)
    assert all(f"Usage: dualdiff {name} " in done.stdout for name in names)
    assert json.loads(done.stderr) == {name: ["dualdiff_cli.cli.train"] for name in names}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_and_takes_json_quiet_and_debug(command: str) -> None:
    result = dualdiff(command, "--help")
    assert result.exit_code == 0
    assert f"dualdiff {command}" in result.stdout
    for option in ("--json", "--quiet", "--debug"):
        assert option in result.stdout


def test_the_commands_of_the_contract_are_there_and_help_lists_them() -> None:
    assert {"train", "sample", "evaluate", "compare", "export", "plot", "bench", "info", "datasets"} <= set(COMMANDS)
    assert len(set(COMMANDS)) == len(COMMANDS)
    shown = dualdiff("--help").stdout
    assert all(re.search(rf"^\W*{command} ", shown, re.MULTILINE) for command in COMMANDS)


def test_the_help_of_train_lists_the_models_and_the_recipes() -> None:
    shown = re.findall(r"[\w-]+", dualdiff("train", "--help").stdout)
    assert {*MODELS, *RECIPES} <= set(shown)


def test_the_lines_of_a_paragraph_of_help_are_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert "the same weights, bit for bit, as a training that was not stopped." in dualdiff("train", "--help").stdout


def test_the_version_is_the_packages() -> None:
    assert dualdiff("--version").stdout == f"dualdiff {__version__}\n"


@pytest.mark.parametrize(
    "words",
    [
        ("frobnicate",),
        ("train", "--datset", "moons"),
        ("train", "--steps", "0"),
        ("train", "--steps", "many"),
        ("train", "--seed", "-1"),
        ("sample", "-n", "0"),
        ("sample", "--seed", str(2**63)),
        ("evaluate", "-n", "99"),
        ("datasets", "extra"),
    ],
)
def test_bad_usage_exits_with_2_and_shows_the_usage_on_stderr(words: tuple[str, ...]) -> None:
    result = dualdiff(*words)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "Usage: dualdiff" in result.stderr


def subcommands() -> dict[str, Any]:
    """Give every command, by the words that call it, as Click sees it."""
    root: Any = get_command(app)
    found = {f"dualdiff {name}": command for name, command in root.commands.items()}
    found |= {f"dualdiff bench {name}": command for name, command in root.commands["bench"].commands.items()}
    return found


def examples_of(command: Any) -> list[str]:
    return [line for line in (command.epilog or "").split("\n\n") if line.startswith("dualdiff ")]


@pytest.mark.parametrize("name", subcommands())
def test_every_command_has_examples_that_it_understands_and_that_fit_80_columns(name: str) -> None:
    commands = subcommands()
    lines = examples_of(commands[name])
    assert lines
    for line in lines:
        called = max((other for other in commands if f"{line} ".startswith(f"{other} ")), key=len)
        assert called.startswith(name)
        assert len(line) <= 78
        words = shlex.split(line.removeprefix(called))
        # Parsing raises a usage error for an unknown option or a value that is not allowed; nothing runs.
        commands[called].make_context(called, words, resilient_parsing=False).close()


@pytest.mark.parametrize("words", [(), *((command,) for command in COMMANDS), ("bench", "show"), ("bench", "compare")])
def test_h_is_help_everywhere(words: tuple[str, ...]) -> None:
    short, long = dualdiff(*words, "-h"), dualdiff(*words, "--help")
    assert short.exit_code == 0
    assert short.stdout == long.stdout


@pytest.mark.parametrize("command", ["sample", "evaluate", "export"])
def test_the_help_of_what_draws_rows_lists_the_samplers(command: str) -> None:
    assert set(SAMPLERS) <= set(re.findall(r"[\w-]+", dualdiff(command, "--help").stdout))


@pytest.mark.parametrize(
    ("command", "names"), [("compare", {*MODELS, *PEERS}), ("reproduce", {*RECIPES} - {"few-rows"})]
)
def test_help_lists_the_values_of_models_and_recipes(command: str, names: Collection[str]) -> None:
    assert set(names) <= set(re.findall(r"[\w-]+", dualdiff(command, "--help").stdout))


def test_help_groups_the_options() -> None:
    ungrouped = {
        (name, parameter.name)
        for name, command in subcommands().items()
        for parameter in command.params
        if parameter.param_type_name == "option" and not parameter.rich_help_panel and parameter.name != "help"
    }
    assert ungrouped == set()


ROOT = Path(__file__).parents[2]
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("examples/*.md"), *ROOT.glob("benchmarks/*.md")]


def commands_of(page: Path) -> list[str]:
    """Give the commands of a page: lines of its code blocks, also those behind ``$``, and code in its sentences.

    A sentence may end a command in the option that it speaks of, without a value.
    """
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    fenced = "\n".join(re.findall(r"^```\w*\n(.*?)^```$", text, re.MULTILINE | re.DOTALL))
    lines = re.findall(r"^(?:\$ )?(dualdiff .+)$", fenced, re.MULTILINE) + re.findall(
        r"^    (dualdiff .+)$", text, re.M
    )
    spoken = [" ".join(code.split()) for code in re.findall(r"(?<!`)`(dualdiff [^`]+)`", text)]
    found = [*lines, *(re.sub(r" --[a-z-]+$", "", line) for line in spoken)]
    return [line for line in found if not re.search(r"COMMAND|\\\||\[RUN|^dualdiff( -|$)| -h$", line)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_in_the_pages_is_one_that_the_program_understands(page: Path) -> None:
    commands = subcommands()
    for line in commands_of(page):
        words = shlex.split(re.sub(r"(?<=[ =])[NKW](?= |$)", "100", line), comments=True)
        called = " ".join(words[:3] if " ".join(words[:3]) in commands else words[:2])
        assert called in commands, f"{page.name}: {line}"
        given = words[called.count(" ") + 1 :]
        context = commands[called].make_context(called, given, resilient_parsing=not given)
        context.close()
