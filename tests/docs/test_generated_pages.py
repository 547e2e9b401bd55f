"""The parts of the documentation that are made from the code, and the site as a whole."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tiny import finished, narrow

import dualdiff_cli
from dualdiff_cli.config.registry import COLUMN_KINDS, SAMPLERS, SCHEDULES
from dualdiff_cli.jobs.evaluate import evaluate
from dualdiff_cli.metrics import METRICS
from dualdiff_cli.present.meanings import MEANINGS

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


@pytest.fixture(scope="module")
def generated() -> dict[str, Any]:
    return runpy.run_path(str(DOCS / "generated.py"))


def test_every_score_with_words_is_in_one_family(generated: dict[str, Any]) -> None:
    names = [name for family in generated["FAMILIES"] for name in family.names]
    assert sorted(names) == sorted(MEANINGS)
    assert set(METRICS) <= set(names)


def test_the_units_of_the_families_are_those_of_an_evaluation(generated: dict[str, Any], tmp_path: Path) -> None:
    run = finished(narrow(data={"points": 300, "held_out_points": 300}), tmp_path / "run")
    scores = evaluate(run, n=200, exact=True, diagnosis=True)["metrics"]
    units = {name: family.units for family in generated["FAMILIES"] for name in family.names}
    for name, score in scores.items():
        assert score["unit"].startswith(units[name]), name  # the unit of a loss also says what is predicted
    assert {"kl_real_generated", "sliced_wasserstein", "held_out_loss", "kl_real_model"} <= scores.keys()


def test_every_command_and_every_option_is_in_the_reference(generated: dict[str, Any]) -> None:
    page = generated["PARTS"]["commands"]()
    sections = dict(re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", page, re.M | re.S))
    commands = dict(generated["walk"]())
    assert sections.keys() == commands.keys()
    assert {"dualdiff train", "dualdiff impute", "dualdiff bench compare"} <= commands.keys()
    for words, command in commands.items():
        for parameter in command.params:
            for name in parameter.opts if parameter.param_type_name == "option" else ():
                assert name in sections[words], f"{words} {name}"


def test_every_name_of_the_registries_has_a_section(generated: dict[str, Any]) -> None:
    page = generated["insert"]((DOCS / "choosing.md").read_text(encoding="utf-8"))
    for registry in (SAMPLERS, SCHEDULES, COLUMN_KINDS):
        assert all(f"### `{name}`" in page for name in registry)


def test_a_page_asks_only_for_parts_that_there_are_and_each_part_is_asked_for(generated: dict[str, Any]) -> None:
    pages = "\n".join(path.read_text(encoding="utf-8") for path in DOCS.glob("*.md"))
    assert sorted(generated["PLACE"].findall(pages)) == sorted(generated["PARTS"])
    assert "made from the code:" not in generated["insert"](pages)


def test_every_public_name_is_in_the_reference_of_python() -> None:
    page = (DOCS / "api.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^::: dualdiff_cli\.(\w+)$", page, re.M)) == {*dualdiff_cli.__all__} - {"__version__"}


def test_links_of_the_readme_lead_to_files() -> None:
    for page in ("README.md", "CONTRIBUTING.md", "ARCHITECTURE.md"):
        for target in re.findall(r"\]\(([^)#:]+)", (ROOT / page).read_text(encoding="utf-8")):
            assert (ROOT / target).exists(), f"{page}: {target}"


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8")
    assert built.returncode == 0, built.stderr
    concepts = (tmp_path / "site" / "concepts.html").read_text(encoding="utf-8")
    assert concepts.count("<math") == (DOCS / "concepts.md").read_text(encoding="utf-8").count("```math")
    assert 'src="http' not in concepts
