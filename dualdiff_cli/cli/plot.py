"""``dualdiff plot``."""

from __future__ import annotations

from ..present.tables import facts_table
from ..present.terminal import Console
from .help import examples
from .options import DebugOption, DeviceOption, JsonOption, QuietOption, RunArgument, SeedOption, handled

__all__ = ["plot"]


@handled
@examples("dualdiff plot", "dualdiff plot runs/moons-dual-expert-1 --seed 1")
def plot(
    run: RunArgument = None,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Draw the figures of a finished run again: samples beside data, the loss, and the weights of the gate."""
    from ..jobs.plot import plot as job
    from ..store.run import Run

    console = Console(as_json=as_json, quiet=quiet)
    opened = Run.open(run)
    with console.activity() as announce:
        announce("figures")
        paths = job(opened, seed=seed, device=device)
    record = {"run": str(opened), "figures": paths}
    console.result(record, lambda: [facts_table({**record, "figures": "\n".join(paths)})])
