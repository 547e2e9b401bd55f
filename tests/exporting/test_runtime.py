from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import polars as pl
import pytest
import torch

from dualdiff_cli.config.sections import SamplingConfig
from dualdiff_cli.diffusion.samplers import BLOCK, draw_noise
from dualdiff_cli.errors import DeviceError, InputError
from dualdiff_cli.exporting import loading as runtimes
from dualdiff_cli.exporting.formats import FORMATS
from dualdiff_cli.exporting.runtime import ExportedModel
from dualdiff_cli.jobs.export import WHATS
from dualdiff_cli.models import DrawingOptions
from dualdiff_cli.models.diffusion import DiffusionModel
from dualdiff_cli.store.run import Run

FileOf = Callable[[str, str], Path]


@pytest.fixture
def file_of(record_of: Callable[[str, str], dict[str, Any]]) -> FileOf:
    """The file of a sampler or a denoiser in a format."""
    return lambda what, format: Path(record_of(what, format)["output"])


@pytest.fixture(scope="module")
def model(run: Run) -> DiffusionModel:
    return DiffusionModel.load(run, device=torch.device("cpu"))


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("what", ["sampler", "denoiser"])
def test_a_file_draws_the_rows_of_its_run(what: str, format: str, file_of: FileOf, model: DiffusionModel) -> None:
    exported = ExportedModel.open(file_of(what, format), device="cpu", trust=True)
    assert (exported.what, exported.encoding, exported.config) == (what, model.encoding, model.config)
    assert exported.provider == ("CPUExecutionProvider" if format == "onnx" else "torch cpu")
    own, expected = (m.sample(BLOCK + 5, seed=3) for m in (exported, model))
    assert own.schema == expected.schema
    np.testing.assert_allclose(own, expected, rtol=0, atol=exported.metadata["measured"]["tolerance"] * 12)
    assert not own[:5].equals(own[BLOCK:])


@pytest.mark.parametrize("format", FORMATS)
def test_a_denoiser_can_be_drawn_from_with_any_sampler(format: str, file_of: FileOf, model: DiffusionModel) -> None:
    exported = ExportedModel.open(file_of("denoiser", format), device="cpu", trust=True)
    options = DrawingOptions(sampler="dpm-solver-2", steps=4)
    drawing = exported.draw(30, seed=0, options=options)
    np.testing.assert_allclose(pl.concat(drawing.chunks), model.sample(30, seed=0, options=options), atol=1e-2)
    assert (drawing.facts["sampler"], drawing.facts["network_evaluations"]) == ("dpm-solver-2", 7)
    assert exported.evaluations(SamplingConfig(sampler="adaptive")) is None


def test_a_sampler_draws_in_its_own_way_only(file_of: FileOf) -> None:
    exported = ExportedModel.open(file_of("sampler", "onnx"), trust=True)
    assert exported.evaluations(exported.sampling) == 5
    own = exported.sample(10, seed=0, options=DrawingOptions(sampler="dpmpp-2m-sde", steps=5))
    assert own.equals(exported.sample(10, seed=0))
    for options in (DrawingOptions(sampler="heun"), DrawingOptions(steps=6)):
        with pytest.raises(InputError, match=r"holds the sampler 'dpmpp-2m-sde' with 5 steps.*--what denoiser"):
            exported.sample(10, seed=0, options=options)


@pytest.mark.parametrize("what", ["sampler", "denoiser"])
def test_a_file_has_its_own_precision_and_is_not_compiled(what: str, file_of: FileOf) -> None:
    exported = ExportedModel.open(file_of(what, "torchscript"), device="cpu", trust=True)
    for option, options in (
        ("--precision", DrawingOptions(precision="bfloat16")),
        ("--compile", DrawingOptions(compile="on")),
    ):
        with pytest.raises(InputError, match=rf"{option} does not apply to the exported file .*Leave {option} out"):
            exported.sample(10, seed=0, options=options)


def test_all_outputs_of_a_file_come_from_one_call(file_of: FileOf, model: DiffusionModel) -> None:
    noise = draw_noise(0, 0, dim=2, draws=5)[:, :20]
    for format in FORMATS:
        exported = ExportedModel.open(file_of("sampler", format), device="cpu", trust=True)
        outputs = exported.outputs(noise[0], noise[1:])
        assert list(outputs) == exported.metadata["outputs"] == ["samples", "features"]
        assert torch.equal(outputs["samples"], exported.walk(noise[0], noise[1:]))
        np.testing.assert_allclose(outputs["samples"], model.encoding.decode(outputs["features"].numpy()), rtol=1e-12)


def test_a_file_says_where_it_comes_from(file_of: FileOf, run: Run) -> None:
    for path in (file_of(what, format) for what in WHATS for format in FORMATS):
        metadata = ExportedModel.open(path, trust=True).metadata
        assert {"format_version", "dataset", "encoding", "recipe", "sampling", "schedule", "config"} <= set(metadata)
        assert (metadata["dataset"], metadata["recipe"], metadata["model"]) == ("moons", "precise", "dual-expert")
        assert metadata["measured"]["max_abs_error"] <= metadata["measured"]["tolerance"]
        assert len(metadata["checkpoint_sha256"]) == 64


@pytest.mark.parametrize("content", [b"", b"nothing of the sort", b"PK\x03\x04 no archive", b"\x08\x07"])
def test_a_file_of_another_kind_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"model\.onnx"):
        ExportedModel.open(path, trust=True)


@pytest.mark.parametrize("format", ["torchscript", "pt2"])
def test_a_damaged_archive_is_refused(format: str, file_of: FileOf, tmp_path: Path) -> None:
    content = bytearray(file_of("sampler", format).read_bytes())
    content[100 : len(content) // 2] = bytes(len(content) // 2 - 100)
    path = tmp_path / "damaged"
    path.write_bytes(content)
    with pytest.raises(InputError, match="cannot be read as an exported file"):
        ExportedModel.open(path, device="cpu", trust=True)


@pytest.mark.parametrize("outputs", [3, 0.5, None, []])
@pytest.mark.parametrize("format", ["torchscript", "pt2"])
def test_an_archive_whose_metadata_name_no_outputs_is_refused(
    format: str, outputs: object, file_of: FileOf, tmp_path: Path
) -> None:
    path = tmp_path / "changed"
    with zipfile.ZipFile(file_of("sampler", format)) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name.endswith("dualdiff.json"):
                content = json.dumps(json.loads(content) | {"outputs": outputs}).encode()
            new.writestr(name, content)
    with pytest.raises(InputError, match="does not say what it holds"):
        ExportedModel.open(path, device="cpu", trust=True)


def test_a_file_that_is_not_there_and_a_foreign_model_are_refused(file_of: FileOf, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="There is no file"):
        ExportedModel.open(tmp_path / "nothing.onnx", trust=True)
    foreign = onnx.load(file_of("denoiser", "onnx"))
    onnx.helper.set_model_props(foreign, {"author": "someone"})
    onnx.save(foreign, tmp_path / "foreign.onnx")
    with pytest.raises(InputError, match=r"foreign\.onnx does not say what"):
        ExportedModel.open(tmp_path / "foreign.onnx", trust=True)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
@pytest.mark.parametrize("format", FORMATS)
def test_a_device_that_is_asked_for_by_name_is_what_runs_or_an_error(format: str, file_of: FileOf) -> None:
    with pytest.raises(DeviceError, match="CUDA"):
        ExportedModel.open(file_of("sampler", format), device="cuda", trust=True)
    with pytest.raises(InputError, match="There is no device 'tpu'"):
        ExportedModel.open(file_of("sampler", format), device="tpu", trust=True)


def test_a_session_that_lists_cuda_and_leaves_the_walk_to_the_cpu_is_not_cudas(
    file_of: FileOf,
) -> None:
    """The nodes are assigned as they really are here; only the list of providers is made up."""
    session, _ = runtimes._session(file_of("sampler", "onnx"), "cpu")
    told = session.get_provider_graph_assignment_info
    lists_cuda = SimpleNamespace(get_providers=lambda: [runtimes.CUDA], get_provider_graph_assignment_info=told)
    assert runtimes._not_on_cuda(lists_cuda) == "it leaves Gemm and MatMul and Scan of this file to the CPU"
    assert runtimes._not_on_cuda(session) == "its libraries do not load"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_provider_that_does_not_load_is_a_warning_where_none_was_named(
    file_of: FileOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtimes, "choose_device", lambda request: torch.device("cuda", 0))
    with pytest.warns(UserWarning, match="has no CUDA provider here"):
        exported = ExportedModel.open(file_of("sampler", "onnx"), device="auto", trust=True)
    assert exported.provider == "CPUExecutionProvider"


@pytest.mark.gpu
@pytest.mark.parametrize("format", FORMATS)
def test_a_gpu_draws_the_rows_of_the_run(format: str, file_of: FileOf, model: DiffusionModel) -> None:
    exported = ExportedModel.open(file_of("sampler", format), device="cuda", trust=True)
    assert "CPU" not in exported.provider
    np.testing.assert_allclose(exported.sample(BLOCK, seed=3), model.sample(BLOCK, seed=3), rtol=0, atol=1e-2)


@pytest.mark.parametrize("format", ["torchscript", "pt2"])
def test_a_file_that_can_hold_any_program_is_loaded_only_if_it_is_trusted(
    format: str, file_of: FileOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    def loaded(*_: object, **__: object) -> None:
        pytest.fail("was loaded")

    monkeypatch.setattr(torch.jit, "load", loaded)
    monkeypatch.setattr(torch.export, "load", loaded)
    with pytest.raises(InputError) as caught:
        ExportedModel.open(file_of("sampler", format), device="cpu")
    assert str(file_of("sampler", format)) in caught.value.problem
    assert "--trust" in caught.value.remedy
    assert ExportedModel.open(file_of("sampler", "onnx"), device="cpu").what == "sampler"
