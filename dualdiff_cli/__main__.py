"""``python -m dualdiff_cli`` and the ``dualdiff`` script."""

from __future__ import annotations

import os
import sys

from .cli import signals
from .cli.streams import prepare_streams

__all__ = ["SPINS", "main"]

SPINS = "2000"
"""The turns of the loop in which a thread of GNU's OpenMP waits for others before the thread gives its core away.

With OpenMP's own 300,000 turns a training takes half as long again beside a busy program; see `benchmarks/busy.py`.
"""


def main() -> None:
    """Run the command line."""
    os.environ.setdefault("GOMP_SPINCOUNT", SPINS)  # OpenMP reads it when torch is loaded, which is later
    signals.listen()
    prepare_streams()
    try:
        from .cli.app import app

        app()
    except OSError as error:  # what the commands themselves do not print, such as help, cannot be written
        from .cli.options import unwritable
        from .present.terminal import Console

        Console().error(unwritable(error))
        sys.exit(unwritable(error).exit_code)
    finally:
        signals.wind_up()


if __name__ == "__main__":
    main()
