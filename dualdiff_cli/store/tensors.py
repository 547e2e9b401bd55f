"""Files of tensors: the weights of a model and the pairs of a reflow (safetensors), and a training state (torch).

What is read is checked before it is used: sizes, checksums, shapes, and that every number is finite.
"""

from __future__ import annotations

import hashlib
import io
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..checked import MIB, parse_json, read_bytes, refusing
from ..errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["packed_tensors", "pickled", "read_pairs", "read_pickled", "read_weights"]

LARGEST_WEIGHTS = 16 * 1024 * MIB
"""The largest size of the weights of a model, in bytes: twice what the bounds of the configuration allow."""


def packed_tensors(tensors: Mapping[str, Tensor], **metadata: str) -> bytes:
    """Give the content of a safetensors file."""
    from safetensors.torch import save

    return save({name: tensor.contiguous() for name, tensor in tensors.items()}, metadata=metadata or None)


def read_weights(path: Path, *, sha256: str) -> dict[str, Tensor]:
    """Read the weights of a model.

    Args:
        path: the file.
        sha256: the checksum that the file must have.

    Raises:
        InputError: the file is damaged, or is not the one with this checksum.

    """
    from safetensors.torch import load

    remedy = "Train the run again."
    with refusing(f"The model {path} cannot be read.", remedy):
        content = read_bytes(path, limit=LARGEST_WEIGHTS)
    if hashlib.sha256(content).hexdigest() != sha256:
        raise InputError(f"The model {path} is not the one that model.json describes.", remedy)
    with refusing(f"The model {path} cannot be read.", remedy):
        tensors = load(content)
    _check_finite(tensors, path, remedy)
    return tensors


def read_pairs(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what a reflow trains on: points, the noise of each, and held-out pairs; and the encoding of the columns.

    Raises:
        InputError: the file is damaged.

    """
    from safetensors import safe_open

    remedy = "Remove it to have the pairs drawn again."
    with refusing(f"The pairs {path} cannot be read.", remedy):
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in ("points", "noise", "held_out")}
            encoding: dict[str, Any] = parse_json(file.metadata()["encoding"])
        points, noise, held_out = tensors.values()
        if points.shape != noise.shape or held_out.shape != (2, len(held_out[0]), points.shape[1]):
            raise ValueError("the shapes do not belong together")
        if any(not tensor.is_floating_point() for tensor in tensors.values()):
            raise ValueError("the numbers are no floating-point numbers")
    _check_finite(tensors, path, remedy)
    return tensors, encoding


def pickled(state: Mapping[str, Any]) -> bytes:
    """Give the content of a file of torch with tensors and plain values."""
    import torch

    content = io.BytesIO()  # written to a file by torch itself, a full disk would appear as a RuntimeError
    torch.save(dict(state), content)
    return content.getvalue()


def read_pickled(path: Path, problem: str, remedy: str) -> dict[str, Any]:
    """Read a file of torch; nothing in the file is executed.

    Raises:
        InputError: the file is damaged, or holds more than a mapping of tensors and plain values.

    """
    import torch

    with refusing(problem, remedy), warnings.catch_warnings(action="ignore"):  # torch warns of what it seems to be
        state = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(state, dict):
            raise TypeError("no mapping")
    return state


def _check_finite(tensors: Mapping[str, Tensor], path: Path, remedy: str) -> None:
    """Refuse tensors that hold NaN or infinity."""
    import torch

    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise InputError(f"{path} holds numbers that are not finite, in {name!r}.", remedy)
