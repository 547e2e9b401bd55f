"""The former home of the helpers in `tiny`; import them from there."""

from tiny import COLUMNS, NARROW, finished, narrow, untrained

__all__ = ["COLUMNS", "NARROW", "finished", "narrow", "untrained"]
