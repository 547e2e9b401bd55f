"""What a notebook shows of a fitted estimator, below its parameters."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

__all__ = ["facts_and_picture"]

SHOWN_FACTS = ("steps", "parameters", "train_seconds", "held_out_loss", "held_out_loss_unit", "device")
"""What of a training's record a notebook shows."""


def facts_and_picture(run: Path, record: Mapping[str, Any]) -> str:
    """Give HTML with the main facts of a training and the picture of the samples.

    Args:
        run: the directory of the run.
        record: what the job ``train`` returns; empty where nobody has kept it.

    """
    facts = {name: record[name] for name in SHOWN_FACTS if name in record} | {"run": str(run)}
    rows = "".join(f"<tr><td>{escape(name)}</td><td>{escape(str(fact))}</td></tr>" for name, fact in facts.items())
    picture, image = run / "figures" / "samples.png", ""
    if picture.exists():
        data = b64encode(picture.read_bytes()).decode()
        image = f'<img alt="data beside samples" style="max-width:100%" src="data:image/png;base64,{data}">'
    return f"<table>{rows}</table>{image}"
