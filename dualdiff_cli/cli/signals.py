"""Signals that ask a long command to stop."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ..present.terminal import Console

__all__ = ["stop_on_signals"]


@contextmanager
def stop_on_signals(console: Console, *, after: str = "this step") -> Iterator[Callable[[], bool]]:
    """Let the first Ctrl-C or termination signal ask for a stop, and a second one end it at once.

    Args:
        console: told what is going on.
        after: what is finished before the stop.

    """
    stopping = False

    def stop(number: int, frame: object) -> None:
        nonlocal stopping
        if stopping:
            raise KeyboardInterrupt
        stopping = True
        console.note(f"Stopping after {after}; once more to stop at once.")

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: stopping
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
