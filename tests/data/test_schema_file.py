from __future__ import annotations

from itertools import cycle
from pathlib import Path

import pytest

from dualdiff_cli.config.registry import ASKED_KINDS, COLUMN_KINDS
from dualdiff_cli.data.schema_file import read_schema, write_schema
from dualdiff_cli.errors import InputError

NAMES = [
    "x",
    "",
    " ",
    "a.b",
    'with "quotes"',
    "back\\slash",
    "line\nbreak",
    "tab\t",
    "α/β",
    "列",
    "😀",
    "[x]",
    "#",
    "\x7f",
    "\x01",
]


def test_what_is_written_is_read_whatever_the_columns_are_called(tmp_path: Path) -> None:
    kinds = dict(zip(NAMES, cycle(ASKED_KINDS), strict=False)) | {"y": '= 2*"😀 """""'}
    path = tmp_path / "schema.toml"
    path.write_text(write_schema(kinds), encoding="utf-8")
    assert read_schema(path) == kinds
    path.write_text(write_schema({}), encoding="utf-8")
    assert read_schema(path) == {}


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[columns]\nage = 'nummer'", "nummer"),
        ("age = 'number'", "[columns]"),
        ("[columns]\nage = 3", "'age' the kind 3,"),
        ("[columns]\nage = ['number']", "'age' the kind ['number'],"),
        ("[columns]\nage = 'derived'", "'derived'"),
        ("[columns\n", "schema.toml"),
    ],
)
def test_a_file_that_is_no_schema_is_refused(tmp_path: Path, text: str, named: str) -> None:
    path = tmp_path / "schema.toml"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        read_schema(path)
    assert named in caught.value.problem


def test_a_schema_that_is_not_there_is_refused_by_its_name(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        read_schema(tmp_path / "none.toml")
    assert "none.toml" in caught.value.problem
    assert "dualdiff columns" in caught.value.remedy


@pytest.mark.parametrize(
    ("written", "kind"),
    [("Number", "number"), (" number", "number"), ("IDENTIFIER ", "identifier"), ("Constant", "constant")],
)
def test_the_case_of_a_kind_and_blanks_around_it_do_not_matter(tmp_path: Path, written: str, kind: str) -> None:
    (tmp_path / "schema.toml").write_text(f'[columns]\na = "{written}"\n', encoding="utf-8")
    assert read_schema(tmp_path / "schema.toml") == {"a": kind}


def test_an_unknown_kind_is_answered_with_those_that_can_be_asked_for(tmp_path: Path) -> None:
    (tmp_path / "schema.toml").write_text('[columns]\na = "nummer"\n', encoding="utf-8")
    with pytest.raises(InputError) as caught:
        read_schema(tmp_path / "schema.toml")
    listed = set(caught.value.remedy.split("Choose from ")[1].rstrip(".").split(", "))
    assert listed == {*COLUMN_KINDS, "identifier"} - {"constant", "missing", "derived"}
