"""The files of the explorer: the page, and the data as a script that assigns a constant.

A script can be loaded from a folder, where a browser refuses to read any other kind of file.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ...store.atomic import write_text
from ..figures.panels import Array

__all__ = ["FULL", "packed", "packed_bytes", "write_explorer"]

STATIC = Path(__file__).with_name("static")
FULL = 32767
"""The 16-bit number that stands for the limit of a position."""


def packed(positions: Array, *, limit: float) -> str:
    """Write positions of any shape as base64 of little-endian 16-bit numbers; beyond ±limit they are cut off."""
    scaled = np.clip(np.round(np.asarray(positions) / limit * FULL), -FULL, FULL)
    return base64.b64encode(scaled.astype("<i2").tobytes()).decode("ascii")


def packed_bytes(shares: Array) -> str:
    """Write shares in [0, 1] of any shape as base64 of bytes."""
    return base64.b64encode(np.round(255 * np.clip(shares, 0, 1)).astype(np.uint8).tobytes()).decode("ascii")


def write_explorer(folder: Path, data: Mapping[str, Any]) -> list[Path]:
    """Write the page and its data in a folder, which is made if need be; give the paths."""
    texts = {path.name: path.read_text(encoding="utf-8") for path in sorted(STATIC.iterdir()) if path.is_file()}
    texts["data.js"] = f"const DUALDIFF = {json.dumps(data, allow_nan=False)};\n"
    for name, text in texts.items():
        write_text(folder / name, text)
    return [folder / name for name in texts]
