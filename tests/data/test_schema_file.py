from __future__ import annotations

from itertools import cycle
from pathlib import Path

import pytest

from dualdiff_cli.config.registry import COLUMN_KINDS, IDENTIFIER
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
    kinds = dict(zip(NAMES, cycle([*COLUMN_KINDS, IDENTIFIER]), strict=False))
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
        ("[columns]\nage = 3", "[columns]"),
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
