"""The sole use of a directory, asked for by real processes."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from dualdiff_cli.errors import InputError
from dualdiff_cli.store.atomic import abandon
from dualdiff_cli.store.lock import LOCK, in_use, sole_use

HOLD = """
import sys, time
from pathlib import Path
from dualdiff_cli.store.lock import sole_use
with sole_use(Path(sys.argv[1])):
    print("mine", flush=True)
    time.sleep(1000)
"""
RACE = """
import os, sys, time
from pathlib import Path
from dualdiff_cli.errors import InputError
from dualdiff_cli.store.lock import sole_use
start = time.monotonic() + 0.2
for number in range(8):
    if os.fork() == 0:
        while time.monotonic() < start:
            pass
        try:
            with sole_use(Path(sys.argv[1])):
                print(number, flush=True)
                time.sleep(0.5)
        except InputError:
            pass
        os._exit(0)
for number in range(8):
    os.wait()
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that uses the directory of the test."""
    command = [sys.executable, "-c", HOLD, tmp_path]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, encoding="utf-8") as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "mine\n"
        yield program
        program.kill()


def refusal(directory: Path) -> InputError:
    with pytest.raises(InputError) as caught, sole_use(directory):
        pass
    assert caught.value.exit_code == 2
    return caught.value


@pytest.fixture
def own(tmp_path: Path) -> dict[str, Any]:
    """What the file says while this process uses the directory."""
    with sole_use(tmp_path):
        found: dict[str, Any] = json.loads((tmp_path / LOCK).read_text(encoding="utf-8"))
    return found


def test_the_file_names_this_process_while_the_block_runs(own: dict[str, Any], tmp_path: Path) -> None:
    assert (own["process"], own["host"]) == (os.getpid(), socket.gethostname())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_the_file_is_removed_when_the_block_raises(tmp_path: Path, error: type[BaseException]) -> None:
    with pytest.raises(error), sole_use(tmp_path):
        raise error
    assert list(tmp_path.iterdir()) == []


def test_the_file_is_removed_when_the_process_ends_at_once(tmp_path: Path) -> None:
    with sole_use(tmp_path):
        abandon()
        assert list(tmp_path.iterdir()) == []


def test_a_second_process_is_refused_and_told_which_one_works_there(
    holder: subprocess.Popen[str], tmp_path: Path
) -> None:
    error = refusal(tmp_path)
    assert str(tmp_path) in error.problem
    assert f"process {holder.pid} " in error.problem
    assert "Wait" in error.remedy
    assert in_use(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [LOCK]


def test_a_second_use_within_one_process_is_refused(tmp_path: Path) -> None:
    with sole_use(tmp_path):
        assert f"process {os.getpid()} " in refusal(tmp_path).problem
        assert (tmp_path / LOCK).exists()


def test_who_is_refused_at_the_very_moment_of_the_holders_start_leaves_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now)
    with sole_use(tmp_path):
        refusal(tmp_path)
        assert (tmp_path / LOCK).exists()


TURNS = 300
"""How often each of three threads asks for the directory."""


def test_of_three_threads_that_ask_again_and_again_never_two_are_inside(tmp_path: Path) -> None:
    inside: list[int] = []
    most: list[int] = []

    def ask(number: int) -> None:
        for _ in range(TURNS):
            with suppress(InputError), sole_use(tmp_path):
                inside.append(number)
                time.sleep(0.0005)  # lets the others ask meanwhile
                most.append(len(inside))
                inside.remove(number)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(most) == {1}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("is_awaited", [True, False])
def test_the_directory_of_a_killed_process_is_taken_over(
    holder: subprocess.Popen[str], tmp_path: Path, *, is_awaited: bool
) -> None:
    holder.kill()
    if is_awaited:
        holder.wait()
    else:
        os.waitid(os.P_PID, holder.pid, os.WEXITED | os.WNOWAIT)  # the process stays a zombie
    assert (tmp_path / LOCK).exists()
    assert not in_use(tmp_path)
    with sole_use(tmp_path):
        assert json.loads((tmp_path / LOCK).read_text(encoding="utf-8"))["process"] == os.getpid()
    assert list(tmp_path.iterdir()) == []


def test_a_process_that_got_the_number_of_a_gone_one_does_not_keep_the_directory(
    own: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / LOCK).write_text(json.dumps(own | {"birth": own["birth"] - 100.0}), encoding="utf-8")
    with sole_use(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_process_of_another_host_is_respected_and_the_remedy_names_the_file(
    own: dict[str, Any], tmp_path: Path
) -> None:
    text = json.dumps(own | {"host": "node17", "process": 2**31 - 1})
    (tmp_path / LOCK).write_text(text, encoding="utf-8")
    error = refusal(tmp_path)
    assert "node17" in error.problem
    assert f"remove {tmp_path / LOCK}" in error.remedy
    assert (tmp_path / LOCK).read_text(encoding="utf-8") == text


@pytest.mark.parametrize(
    "change", [{"process": -1}, {"process": 2**70}, {"host": "a\nb"}, {"since": 1e300}, {"birth": None}]
)
def test_a_damaged_file_is_refused(own: dict[str, Any], tmp_path: Path, change: dict[str, Any]) -> None:
    (tmp_path / LOCK).write_text(json.dumps(own | change), encoding="utf-8")
    error = refusal(tmp_path)
    assert f"{tmp_path / LOCK} is damaged" in error.problem
    assert "remove this file" in error.remedy


@pytest.mark.parametrize("content", [b"", b"\x86", b"[" * 100_000, b"null"])
def test_a_file_with_anything_in_it_is_refused_and_stays(tmp_path: Path, content: bytes) -> None:
    (tmp_path / LOCK).write_bytes(content)
    assert "damaged" in refusal(tmp_path).problem
    assert (tmp_path / LOCK).read_bytes() == content


@pytest.mark.parametrize("links", [True, False])
@pytest.mark.skipif(not hasattr(os, "fork"), reason="starts its processes by fork")
def test_of_eight_processes_that_find_the_file_of_a_gone_one_exactly_one_gets_the_directory(
    own: dict[str, Any], tmp_path: Path, *, links: bool
) -> None:
    (tmp_path / LOCK).write_text(json.dumps(own | {"birth": own["birth"] - 100.0}), encoding="utf-8")
    without = "import os\ndef link(*_): raise PermissionError\nos.link = link\n"
    code = RACE if links else without + RACE
    done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, timeout=120)
    assert len(done.stdout.splitlines()) == 1, done.stdout
    assert list(tmp_path.iterdir()) == []


def test_a_process_that_is_asked_to_stop_leaves_no_file(holder: subprocess.Popen[str], tmp_path: Path) -> None:
    holder.send_signal(signal.SIGINT)
    holder.wait()
    assert list(tmp_path.iterdir()) == []
