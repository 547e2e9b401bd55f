"""Values nested as a configuration is: sections are mappings, and a dotted key names a value in a section."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import InputError

__all__ = ["difference", "merge", "nested"]


def nested(values: Mapping[str, Any]) -> dict[str, Any]:
    """Nest values as the configuration is nested: {"training.steps": 9} becomes {"training": {"steps": 9}}.

    Args:
        values: by dotted keys; a later value takes the place of an earlier one with the same key.

    Raises:
        InputError: a key is a value of its own and a section of another key, such as "model" and "model.width".

    """
    layers = []
    for key, value in values.items():
        for part in reversed(key.split(".")):
            value = {part: value}
        layers.append(value)
    return merge(*layers)


def merge(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Put nested layers together; of two values with the same key the later one counts.

    Raises:
        InputError: a key is a value of its own in one layer and a section in another one.

    """
    merged: dict[str, Any] = {}
    for layer in layers:
        for key, value in layer.items():
            if key in merged and isinstance(value, Mapping) != isinstance(merged[key], Mapping):
                plain = merged[key] if isinstance(value, Mapping) else value
                remedy = "A model's name goes into model.name." if key == "model" else "It has settings of its own."
                raise InputError(f"The setting {key} = {plain!r} is not allowed.", remedy)
            merged[key] = merge(merged.get(key, {}), value) if isinstance(value, Mapping) else value
    return merged


def difference(values: Mapping[str, Any], others: Mapping[str, Any]) -> dict[str, Any]:
    """Give the entries of nested values that differ from the others."""
    differing: dict[str, Any] = {}
    for key, value in values.items():
        other = others.get(key)
        if value != other:
            if isinstance(value, Mapping) and isinstance(other, Mapping):
                value = difference(value, other)
            differing[key] = value
    return differing
