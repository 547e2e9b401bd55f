"""``python -m dualdiff_cli`` and the ``dualdiff`` script."""

from __future__ import annotations

from .cli import signals

__all__ = ["main"]


def main() -> None:
    """Run the command line."""
    signals.listen()
    try:
        from .cli.app import app

        app()
    finally:
        signals.wind_up()


if __name__ == "__main__":
    main()
