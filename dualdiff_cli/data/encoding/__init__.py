"""Columns ↔ features: the only part that knows what kind of values a column holds."""

from __future__ import annotations

from .base import ColumnEncoding
from .given import Given, given_cells, with_known_columns
from .layout import DiscreteSpan, FeatureLayout
from .table import TableEncoding

__all__ = [
    "ColumnEncoding",
    "DiscreteSpan",
    "FeatureLayout",
    "Given",
    "TableEncoding",
    "given_cells",
    "with_known_columns",
]
