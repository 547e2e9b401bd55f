"""The limits of files that are read."""

from __future__ import annotations

import os
import tracemalloc
from pathlib import Path

import pytest
from pydantic import BaseModel

from dualdiff_cli.checked import DEEPEST, parse_json, read_bytes, read_object, read_toml, refusing
from dualdiff_cli.errors import InputError


class Point(BaseModel):
    x: int


def test_a_value_of_another_type_is_named_and_not_converted(tmp_path: Path) -> None:
    path = tmp_path / "point.json"
    path.write_text('{"x": 3}')
    assert read_object(path, Point, "Mend it.") == {"x": 3}
    path.write_text('{"x": "3"}')
    with pytest.raises(InputError, match=r"point\.json is damaged at x\. Mend it\."):
        read_object(path, Point, "Mend it.")
    assert read_object(tmp_path / "none.json", Point, "Mend it.") is None


@pytest.mark.parametrize("depth", [DEEPEST + 1, 100_000])
def test_json_and_toml_that_are_nested_too_deeply_are_refused(depth: int, tmp_path: Path) -> None:
    nested = "[" * depth + "]" * depth
    with pytest.raises(ValueError, match="nested"):
        parse_json(nested)
    path = tmp_path / "deep.toml"
    path.write_text(f"a = {nested}")
    with pytest.raises(ValueError, match="nested"):
        read_toml(path)


def test_what_the_program_writes_is_not_nested_too_deeply() -> None:
    assert parse_json("[" * DEEPEST + "]" * DEEPEST)


def test_reading_a_file_needs_no_more_memory_than_the_file_has_bytes(tmp_path: Path) -> None:
    path = tmp_path / "small"
    path.write_bytes(bytes(11))
    tracemalloc.start()
    try:
        read_bytes(path, limit=2**34)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_a_file_that_is_too_large_and_a_pipe_are_refused_without_waiting(tmp_path: Path) -> None:
    path = tmp_path / "large"
    path.write_bytes(bytes(11))
    assert read_bytes(path, limit=11) == bytes(11)
    with pytest.raises(ValueError, match="larger than 10 bytes"):
        read_bytes(path, limit=10)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="no regular file"):
        read_bytes(tmp_path / "pipe", limit=10)


def test_a_failure_becomes_the_two_sentences_and_an_error_of_ours_stays() -> None:
    with pytest.raises(InputError, match=r"Bad\. Mend\.") as caught, refusing("Bad.", "Mend."):
        raise ZeroDivisionError
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    with pytest.raises(InputError, match="Ours"), refusing("Bad.", "Mend."):
        raise InputError("Ours.", "Do.")
