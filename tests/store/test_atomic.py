from __future__ import annotations

import json
from pathlib import Path

import pytest

from dualdiff_cli.store.atomic import replaced, write_json, write_text


def test_a_new_file_is_all_that_is_left(tmp_path: Path) -> None:
    path = tmp_path / "made" / "on the way" / "ü.json"
    write_json(path, {"größe": [1, 2.5, None]})
    assert json.loads(path.read_text(encoding="utf-8")) == {"größe": [1, 2.5, None]}
    assert list(path.parent.iterdir()) == [path]


def test_the_old_file_stays_whole_until_the_new_one_is(tmp_path: Path) -> None:
    path = tmp_path / "state.pt"
    path.write_text("old")
    with replaced(path) as temporary:
        temporary.write_text("new, first half")
        assert path.read_text() == "old"
        assert temporary.parent == path.parent  # a rename within one directory is atomic, across file systems it is not
        assert temporary.suffix == path.suffix
    assert path.read_text() == "new, first half"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_after_a_failure_the_old_file_is_there_and_nothing_else(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "config.toml"
    write_text(path, "old")

    def write_half() -> None:
        with replaced(path) as temporary:
            temporary.write_text("ne")
            raise error

    with pytest.raises(type(error)):
        write_half()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_cannot_be_json_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "data.json"
    write_json(path, 1)
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert path.read_text() == "1\n"


def test_two_writers_of_one_file_in_one_process_have_files_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    with replaced(path) as first, replaced(path) as second:
        first.write_text("first")
        second.write_text("second")
        assert first.read_text() == "first"
    assert path.read_text() == "first"  # the inner block ends first, and the outer one replaces its file
    assert list(tmp_path.iterdir()) == [path]


def test_a_name_that_the_file_system_just_allows_can_be_written(tmp_path: Path) -> None:
    path = tmp_path / f"{'n' * 250}.json"
    write_json(path, 1)
    assert list(tmp_path.iterdir()) == [path]
