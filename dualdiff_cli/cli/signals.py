"""How a long command stops on Ctrl-C or on a termination signal."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ..present.terminal import Console

__all__ = ["stop_on_signals"]


@contextmanager
def stop_on_signals(console: Console, *, after: str = "this step") -> Iterator[Callable[[], bool]]:
    """Give a function that says whether to stop: true after the first Ctrl-C or termination signal in this block.

    A second signal raises KeyboardInterrupt at once.

    Args:
        console: where the note about the stop is printed.
        after: the piece of work that the command finishes before it stops.

    """
    stopping = False

    def stop(number: int, frame: object) -> None:
        nonlocal stopping
        if stopping:
            raise KeyboardInterrupt
        stopping = True
        console.note(f"Stopping after {after}. Press Ctrl-C again to stop at once.")

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: stopping
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
