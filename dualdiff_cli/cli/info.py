"""``dualdiff info``."""

from __future__ import annotations

from ..present.tables import facts_table
from ..present.terminal import Console
from .help import examples
from .options import DebugOption, JsonOption, QuietOption, handled

__all__ = ["info"]


@handled
@examples("dualdiff info", "dualdiff info --json")
def info(as_json: JsonOption = False, quiet: QuietOption = False, debug: DebugOption = False) -> None:
    """Show the versions, the devices and the execution providers, and which of them a command would use and why."""
    from .. import __version__
    from ..compute.machine import describe_choice, describe_machine

    record = {"dualdiff": __version__, **describe_machine(), **describe_choice()}
    Console(as_json=as_json, quiet=quiet).result(record, lambda: [facts_table(record)])
