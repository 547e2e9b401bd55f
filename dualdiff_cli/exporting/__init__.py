"""A trained model as one file for other programs: the only part that knows ONNX, TorchScript and pt2."""

from __future__ import annotations

from .formats import FORMATS, METADATA_FILE, Artifact, convert
from .modules import PRECISIONS, ExportedDenoiser, ExportedGivenSampler, ExportedSampler, ExportPrecision

__all__ = [
    "FORMATS",
    "METADATA_FILE",
    "PRECISIONS",
    "Artifact",
    "ExportPrecision",
    "ExportedDenoiser",
    "ExportedGivenSampler",
    "ExportedSampler",
    "convert",
]
