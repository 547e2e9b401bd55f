"""``dualdiff datasets``."""

from __future__ import annotations

import math

from ..present.tables import facts_table
from ..present.terminal import Console
from .help import examples
from .options import DebugOption, JsonOption, QuietOption, handled

__all__ = ["datasets"]


@handled
@examples("dualdiff datasets")
def datasets(as_json: JsonOption = False, quiet: QuietOption = False, debug: DebugOption = False) -> None:
    """List what --dataset takes: the named densities, and the kinds of files."""
    from ..data import DENSITIES, READABLE

    densities = [
        {
            "name": density.name,
            "columns": list(density.columns),
            "entropy_bits": density.entropy() / math.log(2),
            "description": density.description,
        }
        for density in DENSITIES.values()
    ]
    record = {"densities": densities, "files": list(READABLE)}
    facts = {density.name: density.description for density in DENSITIES.values()}
    facts["FILE"] = f"the columns of a {', '.join(READABLE)} file"
    Console(as_json=as_json, quiet=quiet).result(record, lambda: [facts_table(facts)])
