"""Turn a run into a file that others run, and leave it behind only if it does what the run does."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from ..config.recipes import with_sampling
from ..config.registry import known_name
from ..config.sections import SamplingConfig
from ..data import DENSITIES
from ..diffusion.samplers import Sampler, build_sampler
from ..errors import InputError, ToleranceError, unknown_name
from ..exporting.formats import FORMATS, convert
from ..exporting.given import require_few_features
from ..exporting.metadata import describe_export
from ..exporting.modules import (
    PRECISIONS,
    ExportedDenoiser,
    ExportedGivenSampler,
    ExportedSampler,
    ExportPrecision,
)
from ..exporting.program import Program, compile_sampler
from ..exporting.runtime import ExportedModel
from ..exporting.verification import compare_denoisers, compare_samplers
from ..models import load_model
from ..models.diffusion import DiffusionModel, check_sampler
from ..store.atomic import replaced
from ..store.run import Run
from .inputs import diffusion_model

__all__ = ["WHATS", "export", "format_of"]

WHATS = ("sampler", "denoiser")


def export(
    run: Run | str | Path,
    *,
    format: str | None = None,
    what: str = "sampler",
    output: str | Path | None = None,
    precision: str = "float32",
    sampler: str | None = None,
    sample_steps: int | None = None,
    opset: int | None = None,
    given: bool = False,
    device: str = "cpu",
    announce: Callable[[str], None] = lambda what: None,
) -> dict[str, Any]:
    """Write a run's sampler or denoiser as one file, load it back, and compare it with the run.

    Args:
        run: a finished run, or its directory.
        format: ``onnx``, ``torchscript`` or ``pt2``; None takes it from the suffix of ``output``; see `format_of`.
        what: ``sampler``, from noise to data units, or ``denoiser``, one evaluation in standard units.
        output: the file; None names one in the run's folder.
        precision: of the matrix products.
        sampler, sample_steps: the method and its number of steps; None takes the run's own.
        opset: of the ONNX operators; None takes torch's choice.
        given: whether the sampler takes given cells as two more inputs: their features, and which features are given.
        device: where the file is compared with the run.
        announce: told what is being done.

    Returns:
        The record of the ``export`` command's contract.

    Raises:
        InputError: an unknown name, a sampler, a format or a column that cannot be exported, or a runtime that cannot
            run the file.
        DeviceError: the device is not there.
        ToleranceError: the file does not do what the run does; it is not left behind.

    Examples:
        >>> import dualdiff_cli as dualdiff
        >>> small = ["training.steps=20", "model.width=8", "data.points=500"]
        >>> config = dualdiff.resolve(dataset="line", model="baseline", recipe="paper", settings=small)
        >>> run = dualdiff.train(config, device="cpu")["run"]
        >>> record = dualdiff.export(run, output="line.onnx", sampler="ddim", sample_steps=4)
        >>> record["inputs"], record["outputs"]
        (['noise'], ['samples', 'features'])

    """
    format = format_of(output, format)
    for kind, name, known in (("export", what, WHATS), ("precision", precision, PRECISIONS)):
        if name not in known:
            raise unknown_name(kind, name, known)
    exact: ExportPrecision = precision  # type: ignore[assignment]  # has just been looked up
    run = Run.open(run)
    model = diffusion_model(
        load_model(run, device=torch.device("cpu")),
        f"of the run {run} has no denoiser to export",
        "Export the run of another model, such as dual-expert.",
    )
    if given:
        _check_given(model, what)
    if what == "sampler":
        _check_columns(model)
    sampling = with_sampling(model.config.sampling, sampler=sampler, steps=sample_steps)
    method = build_sampler(sampling)
    check_sampler(model.config, method)

    announce(f"{what} to {format}")
    started = time.perf_counter()
    program = compile_sampler(method, model.denoiser.schedule) if what == "sampler" else None
    module = _module(model, program, given=given, precision=exact)
    artifact = convert(module, to=format, opset=opset)
    seconds = time.perf_counter() - started

    data = run.load_data() or {}
    if data.get("path"):
        data["path"] = Path(data["path"]).name  # nobody reads the file of this path, and strangers see it
    metadata = describe_export(
        module,
        program,
        config=model.config,
        encoding=model.encoding,
        sampling=sampling,
        precision=exact,
        reach=model.reach,
        origin={"checkpoint_sha256": run.model_sha256, "data": data},
    )
    path = Path(output or run.output_path("exports", _name(what, sampling, precision, given=given) + FORMATS[format]))
    path.parent.mkdir(parents=True, exist_ok=True)
    with replaced(path) as temporary:
        artifact.save(temporary, metadata)
        announce("comparison with the run")
        measured, provider = _verified(temporary, module, model, method, precision=exact, device=device)
        artifact.save(temporary, metadata | {"measured": measured})
    return {
        "run": str(run),
        "format": format,
        "what": what,
        "precision": precision,
        "output": str(path),
        "bytes": path.stat().st_size,
        "seconds": seconds,
        **({} if program is None else {"sampler": sampling.sampler, "sample_steps": sampling.steps}),
        **{name: metadata[name] for name in ("step_draws", "network_evaluations") if name in metadata},
        **measured,
        "opset": artifact.opset,
        "provider": provider,
        "features": model.encoding.width,
        "inputs": list(module.input_names),
        "outputs": list(module.output_names),
    }


def _module(
    model: DiffusionModel, program: Program | None, *, given: bool, precision: ExportPrecision
) -> ExportedSampler | ExportedDenoiser:
    """Make the module that becomes the file: the sampler with a program, or the denoiser without one."""
    if program is None:
        return ExportedDenoiser(model.denoiser, model.encoding.width, precision=precision)
    named = model.config.dataset not in DENSITIES
    sampler_type = ExportedGivenSampler if given else ExportedSampler
    return sampler_type(program, model.denoiser, model.encoding, named=named, precision=precision)


def _verified(
    path: Path,
    module: ExportedSampler | ExportedDenoiser,
    model: DiffusionModel,
    method: Sampler,
    *,
    precision: ExportPrecision,
    device: str,
) -> tuple[dict[str, Any], str]:
    """Load a file as a stranger would and compare it with the run; give the errors and the execution provider.

    Raises:
        InputError: no runtime can run the file.
        ToleranceError: the file does not do what the run does.

    """
    what = "sampler" if isinstance(module, ExportedSampler) else "denoiser"
    try:
        exported = ExportedModel.open(path, device=device, trust=True)
    except InputError as error:
        problem = error.problem.replace(str(path), f"the {precision} {what}")
        raise InputError(problem, "Use another --precision or another --format.") from error
    if what == "sampler":
        agreement = compare_samplers(model, method, exported, precision=precision)
    else:
        agreement = compare_denoisers(model, exported, precision=precision)
    if agreement.objection:
        raise ToleranceError(
            f"The exported file {agreement.objection}; it is not left behind.",
            "Export with --precision float32, or in another format.",
        )
    measured = {
        "max_abs_error": agreement.max_abs_error,
        "max_rel_error": agreement.max_rel_error,
        "median_abs_error": agreement.median_abs_error,
        "tolerance": agreement.tolerance,
        "decoding_error": agreement.decoding_error,
        **agreement.divergences,
    }
    return measured, exported.provider


def format_of(output: str | Path | None, asked: str | None) -> str:
    """Give the format of a file: the one that was asked for, or the one that the suffix of the file says.

    Raises:
        InputError: there is no such format, or the suffix says another or none.

    """
    if asked is not None:
        asked = known_name("format", asked, FORMATS)
    suffix = "" if output is None else Path(output).suffix.lower()
    suffixes = {own: name for name, own in FORMATS.items()} | {".pt": "torchscript"}  # torch's own habit
    said = suffixes.get(suffix)
    if asked is not None and said not in (None, asked):
        raise InputError(
            f"The suffix of {output} is that of the format {said}, and {asked} was asked for.",
            f"Name the file *{FORMATS[asked]}, or leave --format out.",
        )
    if asked is None and output is not None and said is None:
        known = ", ".join(f"{own} for {name}" for own, name in suffixes.items())
        raise InputError(f"The suffix of {output} says no format.", f"Use one of these, or add --format: {known}.")
    return asked or said or "onnx"


def _check_given(model: DiffusionModel, what: str) -> None:
    """Refuse a file with given cells that the model cannot have.

    Raises:
        InputError: a denoiser is to be exported, the model has not learnt conditions, or it has too many features.

    """
    if what != "sampler":
        raise InputError("--given is about samplers, and a denoiser was asked for.", "Leave --given or --what out.")
    if not model.takes_given:
        raise InputError(
            "This model has not learnt to draw some columns when others are given.",
            "Leave --given out, or train with `train --set objective.conditional=0.25`.",
        )
    require_few_features(model.encoding.width)


def _check_columns(model: DiffusionModel) -> None:
    """See that each column has a type that an output of a graph can have.

    Raises:
        InputError: a column needs whole numbers of 64 bits without a sign.

    """
    types = model.encoding.decode(np.zeros((1, model.encoding.width))).schema
    unsigned = [name for name, kind in types.items() if kind == pl.UInt64]
    if unsigned:
        raise InputError(
            f"The column '{unsigned[0]}' has whole numbers of 2^63 or more, which no exported sampler can give.",
            "Train without this column (`train --columns`), or export with --what denoiser.",
        )


def _name(what: str, sampling: SamplingConfig, precision: str, *, given: bool) -> str:
    stem = f"{what}-{sampling.sampler}-{sampling.steps}" if what == "sampler" else what
    stem += "-given" if given else ""
    return stem if precision == "float32" else f"{stem}-{precision}"
