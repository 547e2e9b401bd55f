"""The parts of the documentation that are made from the code: scores, choices by name, and commands.

A page has a line ``<!-- made from the code: NAME -->``, which the build (`hooks.py`) replaces by what the function of
this name in `PARTS` gives. A generated part is therefore never older than the code that it describes.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperArgument, TyperOption
from typer.main import get_command

from dualdiff_cli.cli.app import app
from dualdiff_cli.config.layers import MODELS, RECIPES, REFINEMENTS, Layer
from dualdiff_cli.config.registry import ALIASES, COLUMN_KINDS, SAMPLERS, SCHEDULES, Registry
from dualdiff_cli.metrics.verdict import MORE_IS_BETTER
from dualdiff_cli.present.meanings import MEANINGS

__all__ = ["FAMILIES", "PARTS", "Family", "insert", "walk"]

ROOT = Path(__file__).parents[1]
PLACE = re.compile(r"^<!-- made from the code: ([a-z-]+) -->$", re.M)


@dataclass(frozen=True)
class Family:
    """Scores that are read in the same way.

    Attributes:
        title: the heading of the family.
        units: the units that the scores can have.
        floor: what the floor of these scores is, in one sentence.
        names: the scores.

    """

    title: str
    units: tuple[str, ...]
    floor: str
    names: tuple[str, ...]


FRESH_ROWS = "The floor is the same score of fresh true rows of the same number in place of the samples."
FAMILIES = (
    Family(
        "Divergences",
        ("bits",),
        f"{FRESH_ROWS} It can be negative, because the estimator has a bias.",
        ("kl_real_generated", "kl_generated_real", "kl_published"),
    ),
    Family(
        "Transport distances",
        ("data units", "standard deviations"),
        f"{FRESH_ROWS} A density is scored in data units, and a file in standard deviations of its columns.",
        ("sliced_wasserstein", "wasserstein2"),
    ),
    Family(
        "Classifier tests",
        ("accuracy", "AUC"),
        f"{FRESH_ROWS} It counts as at least one half.",
        ("classifier_two_sample", "classifier_auc"),
    ),
    Family("Columns of a table", ("fraction",), FRESH_ROWS, ("column_distance", "worst_column")),
    Family("Relations between columns", ("correlation",), FRESH_ROWS, ("association",)),
    Family("Neighbourhoods", ("fraction", "balls"), FRESH_ROWS, ("precision", "recall", "density", "coverage")),
    Family(
        "What the rows teach",
        ("fraction", "R²"),
        "The floor is what trees get that have learnt from real rows. `evaluate --target COLUMN` asks for the score.",
        ("tstr",),
    ),
    Family(
        "Closeness to the training rows",
        ("fraction",),
        "The floor is what rows get that the model has not learnt.",
        ("memorisation", "copies"),
    ),
    Family(
        "Modes of a density",
        ("fraction",),
        f"{FRESH_ROWS} Only densities with separate modes have these scores.",
        ("mode_coverage", "off_mode_share", "mode_share_tv"),
    ),
    Family(
        "Losses of a diffusion model",
        ("mean squared error",),
        "There is no floor: compare the losses of two models of the same recipe.",
        ("held_out_loss", "training_loss_published"),
    ),
    Family(
        "Likelihood (`--exact`)",
        ("bits",),
        "The floor of the negative log-likelihood is the entropy of a density; a file has no floor. "
        "The floor of a divergence is 0.",
        ("nll_held_out", "nll_excess", "kl_real_model"),
    ),
    Family("Parts of the error (`--diagnose`)", ("bits",), "The floor is 0.", ("kl_path",)),
)
"""All scores of `MEANINGS`, each in one family."""


def scores() -> str:
    """Give a section for each family of scores, and in it each score with its unit, its meaning and its caution."""
    lines = []
    for family in FAMILIES:
        lines += [f"## {family.title}", "", f"Unit: {' or '.join(family.units)}. {family.floor}", ""]
        for name in family.names:
            meaning, better = MEANINGS[name], "More" if name in MORE_IS_BETTER else "Less"
            lines += [
                f"### {meaning.title} {{ #{name} }}",
                "",
                f"`{name}`, {better.lower()} is better. {meaning.what}",
                "",
                f"**When it misleads.** {meaning.caution}",
                "",
            ]
    return "\n".join(lines)


def registered(registry: Registry) -> str:
    """Give each name of a registry with its other names and the docstring of its class."""
    aliases: dict[str, list[str]] = {}
    for alias, name in ALIASES.get(registry.kind, {}).items():
        aliases.setdefault(name, []).append(alias)
    parts = []
    for name in registry:
        summary, _, rest = (inspect.getdoc(registry[name]) or "").partition("\n\n")
        others = f" Also called {_listed(aliases[name])}." if name in aliases else ""
        details = re.split(r"^(?:Args|Attributes):$", rest, flags=re.M)[0].strip()
        parts += [
            f"### `{name}` {{ #{registry.kind.replace(' ', '-')}-{name} }}",
            "",
            f"{' '.join(summary.split())}{others}",
            "",
        ]
        parts += [details, ""] if details else []
    return "\n".join(parts)


def recipes() -> str:
    """Give a table of what each recipe sets, and what it sets for some models only."""
    settings = {name: dict(_flat(layer)) for name, layer in RECIPES.items()}
    for (recipe, model), layer in REFINEMENTS.items():
        for key, value in _flat(layer):
            settings[recipe][f"{key} (of {model})"] = value
    keys = sorted({key for layer in settings.values() for key in layer})
    header = ["setting", *(f"`{name}`" for name in settings)]
    rows = [[f"`{key}`", *(_value(layer, key) for layer in settings.values())] for key in keys]
    return _table(header, rows)


def models() -> str:
    """Give a table of what each model of `--model` sets."""
    rows = [
        [f"`{name}`", ", ".join(f"`{key}={json.dumps(value)}`" for key, value in _flat(layer))]
        for name, layer in MODELS.items()
    ]
    return _table(["model", "settings"], rows)


def walk(command: Any = None, words: str = "dualdiff") -> Iterator[tuple[str, Any]]:
    """Give every command below a command, after the words that call it; None stands for the whole program."""
    command = get_command(app) if command is None else command
    yield words, command
    for name, child in getattr(command, "commands", {}).items():
        yield from walk(child, f"{words} {name}")


def commands() -> str:
    """Give the reference of all commands: help, arguments, options and examples."""
    parts = []
    root = get_command(app)
    parent = typer.Context(root, **root.context_settings)
    for words, command in walk(root):
        context = typer.Context(command, info_name=words, parent=parent)
        usage = " ".join([words, *command.collect_usage_pieces(context)])
        parts += [f"## {words}", "", _escaped(command.help or ""), "", "```text", usage, "```", ""]
        records = [(p, p.get_help_record(context)) for p in command.get_params(context)]
        for kind, wanted in (("argument", TyperArgument), ("option", TyperOption)):
            rows = [
                [f"`{_in_cell(r[0])}`", _in_cell(_escaped(r[1]))] for p, r in records if r and isinstance(p, wanted)
            ]
            parts += [_table([kind, "what it is"], rows), ""] if rows else []
        examples = [line for line in (command.epilog or "").split("\n\n") if line.startswith("dualdiff")]
        parts += ["Examples:", "", "```text", *examples, "```", ""] if examples else []
    return "\n".join(parts)


def how_to_add() -> str:
    """Give the section "How to add" of ARCHITECTURE.md without its heading."""
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    return text.split("## How to add …\n", 1)[1].split("\n## ", 1)[0].strip()


PARTS: Mapping[str, Callable[[], str]] = {
    "scores": scores,
    "samplers": lambda: registered(SAMPLERS),
    "schedules": lambda: registered(SCHEDULES),
    "kinds-of-columns": lambda: registered(COLUMN_KINDS),
    "models": models,
    "recipes": recipes,
    "commands": commands,
    "how-to-add": how_to_add,
}
"""The parts by the name that stands in the pages."""


def insert(page: str) -> str:
    """Replace the lines of a page that ask for a part by the part.

    Raises:
        KeyError: there is no such part.

    """
    return PLACE.sub(lambda found: PARTS[found[1]](), page)


def _flat(layer: Layer, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in layer.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _value(layer: Mapping[str, Any], key: str) -> str:
    return f"`{json.dumps(layer[key])}`" if key in layer else ""


def _in_cell(text: str) -> str:
    """Keep a bar within a cell of a table from ending the cell."""
    return text.replace("|", r"\|")


def _escaped(text: str) -> str:
    """Keep square brackets from being read as links, and the names of files from being read as HTML."""
    return re.sub(r"(`[^`]*`)|([\[\]<>])", lambda found: found[1] or f"\\{found[2]}", text)


def _listed(names: Iterable[str]) -> str:
    *most, last = (f"`{name}`" for name in names)
    return f"{', '.join(most)} and {last}" if most else last


def _table(header: list[str], rows: Iterable[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
