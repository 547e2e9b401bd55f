"""``python -m dualdiff_cli`` and the ``dualdiff`` script."""

from __future__ import annotations

from .cli.app import app

__all__ = ["main"]


def main() -> None:
    """Run the command line."""
    app()


if __name__ == "__main__":
    main()
