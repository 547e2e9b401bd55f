"""What a command does when it is asked to stop: by Ctrl-C, by a termination signal, or because its terminal goes away.

SIGINT, SIGTERM and SIGHUP are the same request. The first one stops the command: a training finishes its step and saves
its state, and any other work is given up, so that no file is left half-written. The second one changes nothing, because
the state may be being saved. The third one ends the process at once. The exit code is 130 in all three cases.

This module imports nothing heavy, so that `listen` can be the first thing that the program does.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, NoReturn

from .streams import LenientStream

if TYPE_CHECKING:
    from ..present.terminal import Console

__all__ = ["INTERRUPTED", "StopRequests", "begin", "listen", "shielded", "stop_on_signals", "unwound", "wind_up"]

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
"""The signals that ask a command to stop; Windows has no SIGHUP."""
INTERRUPTED = ("Interrupted.", "Everything that was finished before is kept.")
"""The problem and the remedy of a command that was given up."""
LAST = 3
"""The request that ends the process at once."""


class StopRequests:
    """The requests to stop that have arrived, and what is to be done about the next one.

    Args:
        owns_process: whether the process is the program's own, so that it may be ended at once; in a process of someone
            else, such as a test, KeyboardInterrupt is raised in place of that.

    """

    def __init__(self, *, owns_process: bool) -> None:
        self.owns_process = owns_process
        self.count = 0
        self._is_starting = owns_process
        self._shields = 0
        self._unwinds = False
        self._say: Callable[[str], None] = lambda text: None
        self._after = ""

    def __call__(self) -> bool:
        """Say whether a request has arrived."""
        return self.count > 0

    def begin(self) -> None:
        """Note that a command is running: from now on a request raises KeyboardInterrupt where it arrives."""
        self._is_starting = False

    @contextmanager
    def shield(self, say: Callable[[str], None], after: str) -> Iterator[None]:
        """Let the work in this block ask whether to stop: the first two requests are noted, and raise nothing.

        A request that the work did not need to heed raises KeyboardInterrupt at the end of the block.

        Args:
            say: prints the note about the stop.
            after: the piece of work that the command finishes before it stops.

        """
        self._say, self._after = say, after
        self._shields += 1
        try:
            yield
        finally:
            self._shields -= 1
        if self.count:
            raise KeyboardInterrupt

    @contextmanager
    def unwound(self) -> Iterator[None]:
        """Let a request in this block raise KeyboardInterrupt also while a module is imported."""
        before, self._unwinds = self._unwinds, True
        try:
            yield
        finally:
            self._unwinds = before

    def handle(self, number: int, frame: Any) -> None:
        """Take a request; a handler of the module `signal`."""
        self.count += 1
        if getattr(signal, "SIGHUP", None) == number:
            _survive_the_terminal()
        if self.count >= LAST or self._is_starting:
            self._leave()
        if self._shields:
            # Printing may import a module, and a handler that does so in the middle of an import breaks the import.
            if not _is_importing(frame):
                self._note()
        elif self.count == 1:
            # An exception in the middle of an import can be swallowed, and nothing is under way there.
            if not self._unwinds and _is_importing(frame):
                self._leave()
            raise KeyboardInterrupt
        # Otherwise the first request is being obeyed.

    def _note(self) -> None:
        """Tell the user what happens now, and what the next request does."""
        text = (
            f"Stopping after {self._after}. Press Ctrl-C twice more to stop at once."
            if self.count == 1
            else "The state is being saved. Press Ctrl-C once more to stop without it."
        )
        with suppress(Exception):  # a terminal that is gone, or a message that is being printed just now
            self._say(text)

    def _leave(self) -> NoReturn:
        """End the process at once; files that were being written disappear."""
        if not self.owns_process:
            raise KeyboardInterrupt
        # Nothing is imported here, because the signal may have arrived in the middle of an import. Where this module is
        # not loaded yet, no file is being written.
        atomic = sys.modules.get("dualdiff_cli.store.atomic")
        getattr(atomic, "abandon", lambda: None)()
        text = f"Error: {INTERRUPTED[0]}\n{INTERRUPTED[1]}\n"
        with suppress(OSError):
            shown_cursor = "\x1b[?25h" if os.isatty(2) else ""
            os.write(2, (shown_cursor + text).encode())
        os._exit(130)


_requests: StopRequests | None = None


def listen() -> None:
    """Take the signals from now on to the end of the process; the first thing that the program does."""
    global _requests
    _requests = StopRequests(owns_process=True)
    _install(_requests)


def begin() -> None:
    """Note that a command is running, if `listen` was called; see `StopRequests.begin`."""
    if _requests is not None:
        _requests.begin()


def wind_up() -> None:
    """Ignore the signals from now on: the work is done, and the exit code is decided."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def stop_on_signals() -> Iterator[StopRequests]:
    """Give the requests to stop; in a process that does not listen to them, listen to them in this block."""
    if _requests is not None:
        yield _requests
        return
    requests = StopRequests(owns_process=False)
    before = _install(requests)
    try:
        yield requests
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def shielded(console: Console, *, after: str) -> Iterator[Callable[[], bool]]:
    """Give a function that says whether to stop, to work that asks it; see `StopRequests.shield`."""
    with stop_on_signals() as requests, requests.shield(console.note, after):
        yield requests


@contextmanager
def unwound() -> Iterator[None]:
    """Let a request raise KeyboardInterrupt wherever it arrives, for work that keeps what it has then."""
    with stop_on_signals() as requests, requests.unwound():
        yield


def _install(requests: StopRequests) -> dict[int, Any]:
    """Let the requests take the signals; give the handlers before."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    hang_up = getattr(signal, "SIGHUP", None)
    for number, handler in before.items():
        # `nohup` asks for a command that outlives its terminal.
        if number != hang_up or handler != signal.SIG_IGN:
            signal.signal(number, requests.handle)
    return before


def _is_importing(frame: Any) -> bool:
    """Say whether a frame is inside the import of a module."""
    while frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            return True
        frame = frame.f_back
    return False


def _survive_the_terminal() -> None:
    """Let what is still printed to the terminal, which goes away, raise no error."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        with suppress(AttributeError, OSError, ValueError):
            if os.isatty(stream.fileno()) or not _is_open(stream.fileno()):
                setattr(sys, name, LenientStream(stream))


def _is_open(descriptor: int) -> bool:
    """Say whether a stream still takes what is written; a terminal that is gone does not."""
    try:
        os.write(descriptor, b"")
    except OSError:
        return False
    return True
