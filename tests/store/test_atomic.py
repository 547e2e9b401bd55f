from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from dualdiff_cli.errors import InputError
from dualdiff_cli.store.atomic import replaced, require_writable, write_json, write_text


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


def test_a_link_stays_and_the_file_that_it_leads_to_is_replaced(tmp_path: Path) -> None:
    target, link = tmp_path / "far" / "a.json", tmp_path / "link.json"
    target.parent.mkdir()
    link.symlink_to(target)
    write_text(link, "new")
    assert link.is_symlink()
    assert target.read_text() == "new"
    assert list(target.parent.iterdir()) == [target]


def test_what_is_no_regular_file_stays_and_is_refused(tmp_path: Path) -> None:
    pipe, folder, link = tmp_path / "pipe", tmp_path / "folder", tmp_path / "link"
    os.mkfifo(pipe)
    folder.mkdir()
    link.symlink_to(pipe)
    for path in (pipe, folder, link):
        for ask in (require_writable, lambda place: write_text(place, "x")):
            with pytest.raises(InputError, match=f"{path.name} is no regular file"):
                ask(path)
    assert pipe.is_fifo()


def test_an_error_names_the_file_of_the_user_and_not_the_temporary_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "page.html"

    def fill(*, name_of: Path | None) -> None:
        with replaced(path):
            raise OSError(errno.ENOSPC, "No space left", None if name_of is None else str(name_of))

    for names, said in ((None, path), (tmp_path / "another", tmp_path / "another")):
        with pytest.raises(OSError, match="No space left") as full:
            fill(name_of=names)
        assert full.value.filename == str(said)

    def refuse(source: Path, target: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", source, None, target)

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(PermissionError) as caught:
        write_text(path, "x")
    assert (caught.value.filename, caught.value.filename2) == (str(path), None)
    assert list(tmp_path.iterdir()) == []


def test_a_place_without_a_folder_is_refused_beforehand_and_nothing_is_made(tmp_path: Path) -> None:
    require_writable(tmp_path / "new" / "folder" / "a.json")
    (tmp_path / "file").write_text("x")
    with pytest.raises(NotADirectoryError) as caught:
        require_writable(tmp_path / "file" / "a.json")
    assert caught.value.filename == str(tmp_path / "file" / "a.json")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
