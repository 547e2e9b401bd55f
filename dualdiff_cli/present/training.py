"""What `dualdiff train` shows at its end: the facts of the training, where the pictures are, and the next command."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from .tables import Column, Table, facts_table
from .verdicts import spoken

__all__ = ["training_table"]

OTHER_LOSS = (
    "held_out_loss is the plain error of the denoiser at held-out rows. The training loss shown before has the targets "
    "and the weights of the recipe: it is another quantity, and the two need not be close."
)
QUICK = "These are the quick scores; `dualdiff evaluate` gives all of them, each with its floor."


def training_table(record: Mapping[str, Any]) -> Table:
    """Lay out the record of a training.

    Args:
        record: what the job ``train`` returns.

    """
    facts = dict(record)
    unit, judged = facts.pop("held_out_loss_unit"), facts.pop("verdict")
    facts["held_out_loss"] = f"{Column('', '.4g').text(record['held_out_loss'])} ({unit})"
    facts["pictures"] = str(Path(record["run"], "figures"))
    facts["next"] = f"dualdiff evaluate {shlex.quote(record['run'])}"
    table = facts_table(facts)
    other_loss = () if record["steps"] is None else (OTHER_LOSS,)
    return replace(table, notes=(*other_loss, f"{spoken(**judged)} {QUICK}"))
