"""``python -m dualdiff_cli`` and the ``dualdiff`` script."""

from __future__ import annotations

import sys

from .cli import signals
from .cli.streams import prepare_streams

__all__ = ["main"]


def main() -> None:
    """Run the command line."""
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
