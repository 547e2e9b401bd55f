"""The three file formats: ONNX, TorchScript and pt2 (`torch.export`).

Every file describes itself: metadata, JSON values under plain keys, are ONNX metadata properties or an extra file of
the archive. The number of points is dynamic, and there is no second file beside the first.
"""

from __future__ import annotations

import copy
import io
import json
import logging
import sys
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from .. import __version__
from ..errors import InputError
from .metadata import METADATA_FILE
from .modules import ExportedDenoiser, ExportedGivenSampler, ExportedSampler, Walk

__all__ = ["FORMATS", "Artifact", "convert"]

FORMATS = {"onnx": ".onnx", "torchscript": ".ts", "pt2": ".pt2"}
"""Formats and the suffixes of their files."""
OPSETS = range(18, 24)
"""Versions of the ONNX operators that torch writes or converts to."""


class Artifact(ABC):
    """A model in the terms of one format, ready to be written.

    Attributes:
        opset: version of the ONNX operators, None elsewhere.

    """

    opset: int | None = None

    @abstractmethod
    def save(self, path: Path, metadata: Mapping[str, Any]) -> None:
        """Write the file."""


def convert(module: ExportedSampler | ExportedDenoiser, *, to: str, opset: int | None = None) -> Artifact:
    """Bring a module into a format.

    Args:
        module: what is exported.
        to: one of `FORMATS`.
        opset: of the ONNX operators; None takes torch's choice.

    Raises:
        InputError: the format cannot be had here, or not with this opset.

    """
    if opset is not None and to != "onnx":
        raise InputError(f"A {to} file has no opset.", "Leave --opset out, or use --format onnx.")
    module = module.eval()
    if to == "torchscript":
        if isinstance(module, ExportedGivenSampler):
            raise InputError(
                "A torchscript file takes no given cells.", "Use --format onnx or pt2, or leave --given out."
            )
        return _TorchScript(module)
    return _Onnx(module, opset) if to == "onnx" else _Pt2(module)


def _export(module: ExportedSampler | ExportedDenoiser) -> ExportedProgram:
    """Trace with three points, and any number to come: of the inputs' axes, the last but one is theirs."""
    example, n = module.example(3), torch.export.Dim("n", min=1)
    axes = tuple({value.ndim - 2: n} if value.ndim > 1 else None for value in example)
    with torch.no_grad():
        return torch.export.export(module, example, dynamic_shapes=axes, strict=False)


class _Pt2(Artifact):
    def __init__(self, module: ExportedSampler | ExportedDenoiser) -> None:
        self.program = _export(module)
        for graph_module in self.program.graph_module.modules():
            if isinstance(graph_module, torch.fx.GraphModule):
                for node in graph_module.graph.nodes:  # a fifth of the file, with this machine's paths
                    for note in ("stack_trace", "nn_module_stack", "source_fn_stack", "from_node"):
                        node.meta.pop(note, None)

    def save(self, path: Path, metadata: Mapping[str, Any]) -> None:
        content = io.BytesIO()
        torch.export.save(self.program, content, extra_files={METADATA_FILE: json.dumps(metadata)})
        path.write_bytes(content.getbuffer())


class _TorchScript(Artifact):
    def __init__(self, module: ExportedSampler | ExportedDenoiser) -> None:
        if sys.version_info >= (3, 14):
            raise InputError(
                "TorchScript does not work on Python 3.14 and later.", "Use --format pt2 or onnx, or an older Python."
            )
        example = module.example(3)
        with _without_deprecations(), torch.no_grad():
            if isinstance(module, ExportedSampler):
                module = copy.deepcopy(module)
                module.walk = torch.jit.script(_ScriptedWalk(module, example))
            self.module = torch.jit.trace(module, example)  # type: ignore[no-untyped-call]

    def save(self, path: Path, metadata: Mapping[str, Any]) -> None:
        # Written to a file by torch itself, a full disk would end the process.
        content = io.BytesIO()
        with _without_deprecations():
            torch.jit.save(self.module, content, _extra_files={METADATA_FILE: json.dumps(metadata)})
        path.write_bytes(content.getbuffer())


class _ScriptedWalk(nn.Module):
    """The `Walk` in the subset of Python that TorchScript compiles, about a traced step."""

    def __init__(self, sampler: ExportedSampler, example: tuple[Tensor, ...]) -> None:
        super().__init__()
        walk, (noise, *step_noise) = sampler.walk, example
        assert isinstance(walk, Walk)
        self.coefficients, self.features = nn.Buffer(walk.coefficients), nn.Buffer(walk.features)
        self.mixing, self.draws = nn.Buffer(walk.mixing), nn.Buffer(walk.draws)
        fresh = step_noise[0] if step_noise else noise.unsqueeze(0)
        row = (self.coefficients[0], self.features[0], self.mixing[0], fresh, self.draws[0])
        self.step = torch.jit.trace(walk.step, (sampler.start(noise), *row))  # type: ignore[no-untyped-call]

    def forward(self, state: Tensor, step_noise: Tensor) -> Tensor:
        """(R, n, d), (K, n, d) → (R, n, d)."""
        for j in range(self.mixing.shape[0]):
            state = self.step(state, self.coefficients[j], self.features[j], self.mixing[j], step_noise, self.draws[j])
        return state


class _Onnx(Artifact):
    def __init__(self, module: ExportedSampler | ExportedDenoiser, opset: int | None) -> None:
        if opset is not None and opset not in OPSETS:
            raise InputError(f"Opset {opset} cannot be written.", f"Use one from {OPSETS.start} to {OPSETS.stop - 1}.")
        with _without_chatter():
            program = torch.onnx.export(
                _export(module),
                dynamo=True,
                input_names=module.input_names,
                output_names=[f"output/{i}" for i in range(len(module.output_names))],
                opset_version=opset,
                verbose=False,
            )
        assert program is not None
        self.model = program.model_proto
        _tidy(self.model, module.output_names)
        self.opset = next(entry.version for entry in self.model.opset_import if entry.domain == "")

    def save(self, path: Path, metadata: Mapping[str, Any]) -> None:
        del self.model.metadata_props[:]
        onnx.helper.set_model_props(self.model, {key: json.dumps(value) for key, value in metadata.items()})
        self.model.doc_string = self.model.graph.doc_string = metadata.get("description", "")
        self.model.model_version = metadata.get("format_version", 0)
        self.model.producer_name, self.model.producer_version = "dualdiff", __version__
        onnx.checker.check_model(self.model, full_check=True)
        path.write_bytes(self.model.SerializeToString(deterministic=True))


def _tidy(model: onnx.ModelProto, output_names: Sequence[str]) -> None:
    """Name the outputs and the batch axis, and drop what the exporter notes of its own work, stack traces included.

    The outputs' names may be a table's columns, and so any words: a value inside with such a name gets another one.
    """
    final = dict(zip((value.name for value in model.graph.output), output_names, strict=True))
    names = {name: f"inner/{name}" for name in output_names} | final
    symbol = model.graph.input[0].type.tensor_type.shape.dim[0].dim_param
    for graph in _graphs(model.graph):
        for item in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
            item.name = names.get(item.name, item.name)
        for value in (*graph.input, *graph.output, *graph.value_info):
            del value.metadata_props[:]
            for dimension in value.type.tensor_type.shape.dim:
                if dimension.dim_param:
                    dimension.dim_param = dimension.dim_param.replace(symbol, "batch")
        for node in graph.node:
            node.input[:] = [names.get(name, name) for name in node.input]
            node.output[:] = [names.get(name, name) for name in node.output]
            del node.metadata_props[:]
            node.doc_string = ""
        del graph.metadata_props[:]


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """The graph and those inside its nodes, a loop's body for one."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from _graphs(attribute.g)


@contextmanager
def _without_deprecations() -> Iterator[None]:
    """Keep quiet that TorchScript is deprecated, as whoever asks for it has been told, and that it keeps constants."""
    with warnings.catch_warnings():
        for name in ("script", "trace", "trace_method", "save", "load"):
            warnings.filterwarnings("ignore", rf"`torch\.jit\.{name}` is deprecated", DeprecationWarning)
        # The numbers of an encoding are meant to be constants.
        warnings.filterwarnings("ignore", r"torch\.tensor results are registered as constants", Warning)
        yield


@contextmanager
def _without_chatter() -> Iterator[None]:
    """Leave out what the exporter says of packages that are not there, and of its own inner life."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx._internal.exporter._registration", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", r"`isinstance\(treespec, LeafSpec\)` is deprecated", FutureWarning)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
