"""``dualdiff info``."""

from __future__ import annotations

from ..present.terminal import Console, facts_table
from .options import DebugOption, JsonOption, QuietOption, handled

__all__ = ["info"]


@handled
def info(as_json: JsonOption = False, quiet: QuietOption = False, debug: DebugOption = False) -> None:
    """Say which versions, devices and execution providers are there, and which would be used and why."""
    from .. import __version__
    from ..compute.machine import describe_choice, describe_machine

    record = {"dualdiff": __version__, **describe_machine(), **describe_choice()}
    flat = {**record, "versions": ", ".join(f"{name} {version}" for name, version in record["versions"].items())}
    flat |= {"gpus": ", ".join(record["gpus"]) or "none", "providers": ", ".join(record["providers"])}
    Console(as_json=as_json, quiet=quiet).result(record, lambda: facts_table(flat))
