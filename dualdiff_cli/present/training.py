"""What `dualdiff train` shows: how far it is, and at its end the facts, the pictures and the next command."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .progress import Bar
from .tables import Table, facts_table, number
from .verdicts import spoken

if TYPE_CHECKING:
    from ..training.loop import Progress

__all__ = ["report_progress", "training_table"]

OTHER_LOSS = (
    "held_out_loss is the plain error of the denoiser at held-out rows. The training loss shown before has the targets "
    "and the weights of the recipe: it is another quantity, and the two need not be close."
)
QUICK = "These are the quick scores; `dualdiff report` shows all of them, each with its floor and its meaning."
DETAILS = frozenset({"seed", "compile_seconds", "components", "simpler"})
"""Entries of the record that only ``--json`` shows; `simpler` is a sentence that follows the table."""


def report_progress(bar: Bar, progress: Progress) -> None:
    """Show the number of steps done, and the last loss that has arrived."""
    words = f"training loss {progress.records[-1].loss:.4f}" if progress.records else ""
    bar.report(progress.step, words)


def training_table(record: Mapping[str, Any]) -> Table:
    """Lay out the record of a training.

    Args:
        record: what the job ``train`` returns.

    """
    facts = {key: value for key, value in record.items() if key not in DETAILS and value is not None}
    unit, judged = facts.pop("held_out_loss_unit"), facts.pop("verdict")
    facts["held_out_loss"] = f"{number(record['held_out_loss'], 4)} ({unit})"
    if gain := record.get("gain_over_mixture"):
        facts["gain_over_mixture"] = (
            f"{number(gain['value'], 4)} ± {number(1.96 * gain['standard_error'], 4)} {gain['unit']}"
        )
    near = record["memorisation"]
    facts["memorisation"] = {
        "share_nearer_training": f"{number(near['share_nearer_training'], 4)} (floor {number(near['floor'], 4)})",
        "copies": f"{number(near['copies'], 4)} (floor {number(near['copies_floor'], 4)})",
    }
    facts["pictures"] = str(Path(record["run"], "figures"))
    facts["next"] = f"dualdiff report {shlex.quote(record['run'])}"
    other_loss = ("", OTHER_LOSS) if unit.startswith("mean squared error") else ()
    return replace(facts_table(facts), notes=(f"{spoken(**judged)} {QUICK}", *other_loss))
