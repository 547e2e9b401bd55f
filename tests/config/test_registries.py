"""The registries: a name is known without an import, and every line leads to a class of the right kind."""

from __future__ import annotations

import inspect
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import dualdiff_cli
from dualdiff_cli.config import registry
from dualdiff_cli.config.layers import MODELS
from dualdiff_cli.config.recipes import resolve_diffusion
from dualdiff_cli.config.registry import (
    ALIASES,
    COLUMN_KINDS,
    MODEL_KINDS,
    PEERS,
    SAMPLERS,
    SCHEDULES,
    Registry,
    known_name,
)
from dualdiff_cli.data import ColumnEncoding
from dualdiff_cli.diffusion.samplers.base import Sampler
from dualdiff_cli.diffusion.schedules.base import Schedule
from dualdiff_cli.errors import InputError
from dualdiff_cli.models import TrainableModel
from dualdiff_cli.models.peers import Peer

BASES = [
    (SAMPLERS, Sampler),
    (SCHEDULES, Schedule),
    (MODEL_KINDS, TrainableModel),
    (COLUMN_KINDS, ColumnEncoding),
    (PEERS, Peer),
]
LINES = [(known, name, base) for known, base in BASES for name in known]


def test_every_registry_is_tested_here() -> None:
    there = [value for value in vars(registry).values() if isinstance(value, Registry)]
    assert {id(value) for value in there} == {id(known) for known, _ in BASES}


@pytest.mark.parametrize(("known", "name", "base"), LINES, ids=[name for _, name, _ in LINES])
def test_every_line_leads_to_a_class_of_the_right_kind(known: Registry, name: str, base: type) -> None:
    found = known[name]
    assert issubclass(found, base)
    assert not inspect.isabstract(found)
    assert found.__doc__


@pytest.mark.parametrize(("known", "base"), BASES, ids=[known.kind for known, _ in BASES])
def test_every_class_has_one_line(known: Registry, base: type) -> None:
    for path in Path(dualdiff_cli.__file__).parent.rglob("*.py"):
        place = path.relative_to(Path(dualdiff_cli.__file__).parents[1]).with_suffix("")
        if place.name not in ("__main__", "__init__"):
            import_module(".".join(place.parts))

    def below(cls: type) -> set[type]:
        return {cls}.union(*map(below, cls.__subclasses__()))

    classes = {
        cls
        for cls in below(base)
        if cls.__module__.startswith("dualdiff_cli.") and not inspect.isabstract(cls) and cls.__name__[0] != "_"
    }
    registered = list(known.values())
    assert len(registered) == len(set(registered))
    assert set(registered) <= classes
    assert {cls for cls in classes if not cls.__subclasses__()} <= set(registered)


def test_names_are_known_without_an_import() -> None:
    code = (
        "import sys; from dualdiff_cli.config.registry import SAMPLERS, MODEL_KINDS; "
        "SAMPLERS.check('ddim'); assert 'mixture' in MODEL_KINDS and 'mixtre' not in MODEL_KINDS; "
        "list(SAMPLERS), len(SAMPLERS); print(sorted({'torch', 'numpy', 'sklearn'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_an_unknown_name_is_answered_with_the_close_match() -> None:
    with pytest.raises(InputError) as caught:
        SAMPLERS.check("ancestrl")
    assert "sampler 'ancestrl'" in caught.value.problem
    assert "'ancestral'" in caught.value.remedy
    assert caught.value.exit_code == 2
    with pytest.raises(KeyError):
        _ = SAMPLERS["ancestrl"]


KNOWN = {"sampler": [*SAMPLERS], "schedule": [*SCHEDULES], "model": [*MODELS, *PEERS]}


@pytest.mark.parametrize(
    ("kind", "alias"), [(kind, alias) for kind, aliases in ALIASES.items() for alias in aliases], ids=str
)
def test_every_alias_stands_for_a_name_and_is_none_itself(kind: str, alias: str) -> None:
    assert known_name(kind, alias, KNOWN[kind]) in KNOWN[kind]
    assert alias not in KNOWN[kind]
    assert alias == alias.lower()


@pytest.mark.parametrize("written", ["ddpm", "DDPM", "Ancestral", "ancestral"])
def test_the_fields_name_is_understood_and_a_configuration_keeps_ours(written: str) -> None:
    assert SAMPLERS.check(written) == "ancestral"
    config = resolve_diffusion(dataset="moons", settings=[f"sampling.sampler={written}"])
    assert config.sampling.sampler == "ancestral"


def test_case_underscores_and_blanks_do_not_matter() -> None:
    assert SAMPLERS.check("DPM++ 2M") == SAMPLERS.check("dpmpp_2m") == "dpmpp-2m"
    config = resolve_diffusion(
        dataset="moons", model="Dual_Expert", recipe="PRECISE", settings=["schedule.name=VE", "objective.references=0"]
    )
    assert (config.model.name, config.recipe, config.schedule.name) == ("dual-expert", "precise", "variance-exploding")
