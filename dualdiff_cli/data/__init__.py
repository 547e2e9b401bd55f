"""Where points come from and go to: densities, tables, their scaling, and the held-out split."""

from __future__ import annotations

from .densities.catalogue import DENSITIES, describe, get_density
from .densities.families import Boxes, Density, Discs, FloatArray, GaussianMixture, Modes, NoisyCurves
from .reading import READABLE, Column, Points, Table, read_table
from .scaling import Scaler, dequantise
from .split import Data, check_source, draw, load_data
from .writing import to_frame, write_chunks

__all__ = [
    "DENSITIES",
    "READABLE",
    "Boxes",
    "Column",
    "Data",
    "Density",
    "Discs",
    "FloatArray",
    "GaussianMixture",
    "Modes",
    "NoisyCurves",
    "Points",
    "Scaler",
    "Table",
    "check_source",
    "dequantise",
    "describe",
    "draw",
    "get_density",
    "load_data",
    "read_table",
    "to_frame",
    "write_chunks",
]
