"""Where rows come from and go to: densities, files, the held-out split, and the encoding of columns as features."""

from __future__ import annotations

from .arrays import FloatArray
from .densities.base import Density, Modes
from .densities.catalogue import DENSITIES, get_density
from .densities.families import Boxes, Discs, GaussianMixture, NoisyCurves
from .encoding import (
    ColumnEncoding,
    DiscreteSpan,
    FeatureLayout,
    Given,
    TableEncoding,
    given_cells,
    with_known_columns,
)
from .reading import READABLE, SourceTable, check_table, read_cells, read_table
from .split import Data, check_source, draw, load_data, split_table
from .writing import WRITABLE, require_space, write_chunks

__all__ = [
    "DENSITIES",
    "READABLE",
    "WRITABLE",
    "Boxes",
    "ColumnEncoding",
    "Data",
    "Density",
    "DiscreteSpan",
    "Discs",
    "FeatureLayout",
    "FloatArray",
    "GaussianMixture",
    "Given",
    "Modes",
    "NoisyCurves",
    "SourceTable",
    "TableEncoding",
    "check_source",
    "check_table",
    "draw",
    "get_density",
    "given_cells",
    "load_data",
    "read_cells",
    "read_table",
    "require_space",
    "split_table",
    "with_known_columns",
    "write_chunks",
]
