"""Refused settings in two sentences: which setting it is, and what to write in its place."""

from __future__ import annotations

import reprlib
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from ..errors import InputError, unknown_name
from .schema import CONFIGS
from .sections import SamplingConfig

__all__ = ["refusal"]


def refusal(error: ValidationError) -> InputError:
    """Say which setting is refused and why, of the first one that pydantic has found."""
    first = error.errors(include_url=False)[0]
    place = [str(part) for part in first["loc"]]
    whole: Any = CONFIGS.get(place[0]) if place else None  # the first part of the place is the kind of model
    place = place[1:] if whole else place
    key = ".".join(place)
    if first["type"] == "extra_forbidden":
        section: Any = whole or SamplingConfig
        for part in place[:-1]:
            section = section.model_fields[part].annotation
        return _unknown_setting(key, whole, section)
    if first["type"] == "value_error" and isinstance(cause := first.get("ctx", {}).get("error"), InputError):
        return cause
    value = "" if isinstance(first["input"], Mapping) else f" = {reprlib.repr(first['input'])}"
    refused = f"The setting {key}{value} is not allowed." if key else "These settings do not go together."
    return InputError(refused, f"{first['msg'].removeprefix('Value error, ')}.")


def _unknown_setting(key: str, config: Any, section: Any) -> InputError:
    """Say that there is no such setting, and where in the configuration settings with the same last part are."""
    last = key.rsplit(".", 1)[-1]
    places = [] if config is None else _places_of_settings(config)
    same = [place for place in places if place.rsplit(".", 1)[-1] == last.lower()]
    if same:
        return InputError(f"There is no setting {key!r}.", f"Did you mean {' or '.join(same)}?")
    return unknown_name("setting", last, section.model_fields)


def _places_of_settings(section: Any, prefix: str = "") -> Iterator[str]:
    """Give the dotted names of all settings of a configuration's class."""
    for name, field in section.model_fields.items():
        inner = getattr(field.annotation, "model_fields", None)
        if inner:
            yield from _places_of_settings(field.annotation, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"
