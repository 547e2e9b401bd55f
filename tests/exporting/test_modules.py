from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import onnx
import onnxruntime
import polars as pl
import pytest
import torch
from tiny import COLUMNS, integers, narrow, untrained
from torch import Tensor

from dualdiff_cli import seeding
from dualdiff_cli.config.recipes import MODELS
from dualdiff_cli.config.sections import SamplingConfig
from dualdiff_cli.data import TableEncoding
from dualdiff_cli.data.encoding.base import ColumnEncoding
from dualdiff_cli.data.encoding.number import NumberColumn
from dualdiff_cli.diffusion.samplers import Sampler, build_sampler
from dualdiff_cli.errors import InputError
from dualdiff_cli.exporting.formats import FORMATS, convert
from dualdiff_cli.exporting.modules import ExportedDenoiser, ExportedSampler
from dualdiff_cli.exporting.program import compile_sampler
from dualdiff_cli.models.diffusion import DiffusionModel

DIFFUSION_MODELS = [name for name, layer in MODELS.items() if "kind" not in layer["model"]]
PAIRS = {
    "linear-beta": "noise",
    "linear-beta-continuous": "score",
    "cosine": "edm",
    "variance-exploding": "data",
    "straight-line": "flow",
    "log-snr-uniform": "velocity",
}


def sampler_of(model: DiffusionModel, **changes: Any) -> Sampler:
    return build_sampler(SamplingConfig.model_validate({**model.config.sampling.model_dump(), **changes}))


def export_of(model: DiffusionModel, sampler: Sampler | None = None, **options: Any) -> ExportedSampler:
    sampler = sampler or sampler_of(model)
    program = compile_sampler(sampler, model.denoiser.schedule)
    return ExportedSampler(program, model.denoiser, model.encoding, **options)


def noise_for(sampler: Sampler, n: int, dim: int = 2) -> tuple[Tensor, ...]:
    noise = torch.randn(sampler.draws, n, dim, generator=seeding.torch_stream(1, "noise"))
    return (noise[0], noise[1:]) if sampler.draws > 1 else (noise[0],)


def drawn(model: DiffusionModel, sampler: Sampler, noise: tuple[Tensor, ...]) -> np.ndarray:
    return model.encoding.decode(sampler(model.denoiser, *noise).numpy()).to_numpy()


def of_columns(*columns: ColumnEncoding) -> DiffusionModel:
    return untrained(narrow(), TableEncoding(columns=columns))


def numbers(*names: str, shift: float = 0.0, scale: float = 1.0) -> list[NumberColumn]:
    return [NumberColumn(name=name, shift=shift, scale=scale) for name in names]


@dataclass(frozen=True)
class OnnxSampler:
    """A sampler that was converted to ONNX, which takes seconds, with what it was made of."""

    model: DiffusionModel
    sampler: Sampler
    artifact: Any
    path: Path
    session: onnxruntime.InferenceSession

    @classmethod
    def of(cls, model: DiffusionModel, sampler: Sampler, path: Path, *, named: bool, opset: int | None) -> Self:
        artifact = convert(export_of(model, sampler, named=named), to="onnx", opset=opset)
        artifact.save(path, {})
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        return cls(model, sampler, artifact, path, session)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> OnnxSampler:
    """A file of two columns of numbers that float32 cannot hold, whose only outputs are samples and features."""
    model = of_columns(*numbers("a", "b", shift=0.1, scale=1 / 3))
    path = tmp_path_factory.mktemp("plain") / "sampler.onnx"
    return OnnxSampler.of(model, sampler_of(model), path, named=False, opset=None)


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory) -> OnnxSampler:
    """A file in opset 18 with an output for each column: one of whole numbers, and others with names of the graph.

    A step of its sampler draws fresh noise twice.
    """
    age = integers("age (years)", 40.0, 12.0)
    others = numbers("samples", "samples_column", "features", "noise", "step_noise", "", "val_0")
    model, path = of_columns(age, *others), tmp_path_factory.mktemp("named") / "sampler.onnx"
    return OnnxSampler.of(model, sampler_of(model, sampler="predictor-corrector"), path, named=True, opset=18)


# What is exported


@pytest.mark.parametrize("recipe", ["paper", "precise"])
@pytest.mark.parametrize("name", DIFFUSION_MODELS)
def test_the_exported_sampler_draws_the_points_of_the_model_to_the_last_digits(name: str, recipe: str) -> None:
    model = untrained(narrow(recipe, name))
    sampler = sampler_of(model)
    noise = noise_for(sampler, 9)
    samples = export_of(model, sampler)(*noise)[0].numpy()
    assert samples.dtype == np.float64
    np.testing.assert_allclose(samples, drawn(model, sampler, noise), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("schedule", "prediction"), PAIRS.items())
def test_no_schedule_or_prediction_is_special(schedule: str, prediction: str) -> None:
    sections = {"schedule": {"name": schedule, "sigma_min": 0.01}, "objective": {"prediction": prediction}}
    model = untrained(narrow(**sections))
    sampler = sampler_of(model, grid="uniform")
    noise = noise_for(sampler, 5)
    x_t, t = (
        torch.randn(5, 2, generator=seeding.torch_stream(0, "points")),
        torch.tensor(model.denoiser.schedule.t_max, dtype=torch.float64),
    )
    samples = export_of(model, sampler)(*noise)[0].numpy()
    np.testing.assert_allclose(samples, drawn(model, sampler, noise), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(ExportedDenoiser(model.denoiser, 2)(x_t, t), model.denoiser(x_t, t))


def test_weights_that_only_time_meets_are_left_behind() -> None:
    model = untrained(narrow())
    sizes = {name: p.numel() for name, p in model.denoiser.network.named_parameters()}
    of_time = sum(size for name, size in sizes.items() if ".time." in name or "gate" in name)
    kept = sum(buffer.numel() for buffer in export_of(model).walk.step.buffers())
    assert kept < sum(sizes.values()) - of_time


def test_each_column_of_a_table_comes_in_its_own_type() -> None:
    model = untrained(narrow(), COLUMNS)
    sampler = sampler_of(model)
    module = export_of(model, sampler, named=True)
    assert module.output_names == ("samples", "age (years)", "samples_column", "val_0", "features")
    samples, age, *others, features = module(*noise_for(sampler, 40, 3))
    assert age.dtype == torch.int64
    np.testing.assert_array_equal(age, samples[:, 0].numpy())
    decoded = COLUMNS.decode(features.numpy())
    assert decoded.dtypes == [pl.Int64, pl.Float64, pl.Float64]
    np.testing.assert_allclose(samples, decoded, rtol=1e-15)
    for i, column in enumerate(others, start=1):
        torch.testing.assert_close(column, samples[:, i], rtol=0, atol=0)


@pytest.mark.parametrize(("precision", "unit"), [("float16", 2**-11), ("bfloat16", 2**-8)])
def test_a_lower_precision_rounds_the_matrix_products_and_nothing_else(precision: Any, unit: float) -> None:
    model = untrained(narrow())
    x_t, t = torch.randn(200, 2, generator=seeding.torch_stream(0, "points")), torch.tensor(0.5, dtype=torch.float64)
    rounded = ExportedDenoiser(model.denoiser, 2, precision=precision)
    error = float((rounded(x_t, t) - model.denoiser(x_t, t)).abs().max())
    assert unit / 20 < error < 20 * unit
    kinds = {str(b.dtype) for name, b in rounded.named_buffers() if "frequencies" not in name}
    assert f"torch.{precision}" in kinds
    assert all(b.dtype == torch.float32 for name, b in rounded.named_buffers() if "frequencies" in name)


# ONNX


def test_one_onnx_file_serves_batches_of_any_size(plain: OnnxSampler) -> None:
    assert [(i.name, i.shape, i.type) for i in plain.session.get_inputs()] == [
        ("noise", ["batch", 2], "tensor(float)"),
        ("step_noise", [4, "batch", 2], "tensor(float)"),
    ]
    assert [(o.name, o.shape, o.type) for o in plain.session.get_outputs()] == [
        ("samples", ["batch", 2], "tensor(double)"),
        ("features", ["batch", 2], "tensor(double)"),
    ]
    assert [path.name for path in plain.path.parent.iterdir()] == ["sampler.onnx"]
    noise, step_noise = noise_for(plain.sampler, 100_000)
    expected = drawn(plain.model, plain.sampler, (noise, step_noise))
    for n in (1, 2, 7, 100_000):
        inputs = {"noise": noise[:n].numpy(), "step_noise": step_noise[:, :n].contiguous().numpy()}
        np.testing.assert_allclose(plain.session.run(None, inputs)[0], expected[:n], rtol=0, atol=3e-5)


def test_numbers_that_float32_cannot_hold_are_decoded_in_float64(plain: OnnxSampler) -> None:
    noise, step_noise = noise_for(plain.sampler, 50)
    inputs = {"noise": noise.numpy(), "step_noise": step_noise.numpy()}
    samples, features = plain.session.run(["samples", "features"], inputs)
    np.testing.assert_allclose(samples, features / 3 + 0.1, rtol=0, atol=1e-15 * np.abs(features).max())


@pytest.mark.parametrize(
    ("columns", "outputs"),
    [
        (["x", "y"], ["x", "y"]),
        (["samples", "features"], ["samples_column", "features_column"]),
        (["noise", "step_noise", ""], ["noise_column", "step_noise_column", "_column"]),
        (["samples", "samples_column"], ["samples_column_column", "samples_column"]),
        (["samples_column", "samples"], ["samples_column", "samples_column_column"]),
        (["", "_column", "_column_column"], ["_column_column_column", "_column", "_column_column"]),
    ],
)
def test_outputs_have_the_names_of_the_columns_but_for_names_that_are_taken(
    columns: list[str], outputs: list[str]
) -> None:
    assert export_of(of_columns(*numbers(*columns)), named=True).output_names == ("samples", *outputs, "features")


def test_columns_that_are_called_like_values_of_the_graph_can_be_told_apart_in_an_onnx_file(named: OnnxSampler) -> None:
    columns = ["samples_column_column", "samples_column", "features_column", "noise_column", "step_noise_column"]
    assert [(value.name, value.type) for value in named.session.get_outputs()] == [
        ("samples", "tensor(double)"),
        ("age (years)", "tensor(int64)"),
        *((name, "tensor(double)") for name in (*columns, "_column", "val_0", "features")),
    ]
    noise, step_noise = noise_for(named.sampler, 7, 8)
    samples, *values, features = named.session.run(None, {"noise": noise.numpy(), "step_noise": step_noise.numpy()})
    np.testing.assert_array_equal(samples, np.stack(values, axis=1))
    np.testing.assert_array_equal(samples[:, 1:], features[:, 1:])
    expected = drawn(named.model, named.sampler, (noise, step_noise))
    np.testing.assert_allclose(samples[:, 1:], expected[:, 1:], rtol=0, atol=1e-4)


def test_the_denoiser_takes_a_time_for_all_points(tmp_path: Path) -> None:
    model = untrained(narrow("paper"))
    path = tmp_path / "denoiser.onnx"
    convert(ExportedDenoiser(model.denoiser, 2), to="onnx").save(path, {})
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert [(i.name, i.shape, i.type) for i in session.get_inputs()] == [
        ("x_t", ["batch", 2], "tensor(float)"),
        ("t", [], "tensor(double)"),
    ]
    x_t = torch.randn(7, 2, generator=seeding.torch_stream(0, "points"))
    for t in (0.0, 31.0, 99.0):
        (denoised,) = session.run(None, {"x_t": x_t.numpy(), "t": np.array(t)})
        expected = model.denoiser(x_t, torch.tensor(t, dtype=torch.float64))
        np.testing.assert_allclose(denoised, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("to", ["torchscript", "pt2"])
@pytest.mark.parametrize("recipe", ["paper", "precise"])
def test_the_denoiser_of_torchs_own_formats_depends_on_time_too(recipe: str, to: str) -> None:
    model = untrained(narrow(recipe))
    artifact: Any = convert(ExportedDenoiser(model.denoiser, 2), to=to)
    denoise = artifact.module if to == "torchscript" else artifact.program.module()
    x_t = torch.randn(7, 2, generator=seeding.torch_stream(0, "points"))
    for t in model.denoiser.schedule.times(4):
        torch.testing.assert_close(denoise(x_t, t), model.denoiser(x_t, t))


@pytest.mark.parametrize("opset", [18, 23])
def test_the_opset_is_the_one_that_was_asked_for(
    opset: int, plain: OnnxSampler, named: OnnxSampler, tmp_path: Path
) -> None:
    path = tmp_path / "sampler.onnx"
    artifact = named.artifact if opset == 18 else convert(export_of(plain.model), to="onnx", opset=opset)
    artifact.save(path, {"columns": ["x"], "steps": 5})
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    assert artifact.opset == opset == model.opset_import[0].version
    assert {entry.key: json.loads(entry.value) for entry in model.metadata_props} == {"columns": ["x"], "steps": 5}


def test_a_file_tells_nothing_of_the_machine_that_wrote_it(plain: OnnxSampler, tmp_path: Path) -> None:
    pt2 = tmp_path / "sampler.pt2"
    convert(export_of(plain.model), to="pt2").save(pt2, {})
    for path in (plain.path, pt2):
        content = path.read_bytes()
        for place in (Path(torch.__file__).parents[1], Path(__file__).parents[2]):
            assert str(place).encode() not in content


def test_a_long_walk_makes_no_larger_graph(plain: OnnxSampler) -> None:
    long: Any = convert(export_of(plain.model, sampler_of(plain.model, steps=60)), to="onnx")
    assert len(long.model.graph.node) == len(plain.artifact.model.graph.node)


# All formats


def test_what_a_format_has_not_is_refused() -> None:
    module = export_of(untrained(narrow()))
    with pytest.raises(InputError, match="A pt2 file has no opset"):
        convert(module, to="pt2", opset=20)
    for opset in (17, 99):
        with pytest.raises(InputError, match=f"Opset {opset} cannot be written"):
            convert(module, to="onnx", opset=opset)


def test_torchscript_is_refused_where_it_does_not_work(monkeypatch: pytest.MonkeyPatch) -> None:
    module = export_of(untrained(narrow()))
    monkeypatch.setattr(sys, "version_info", (3, 14, 0))
    with pytest.raises(InputError, match=r"TorchScript does not work on Python 3\.14"):
        convert(module, to="torchscript")


def test_every_format_has_its_suffix() -> None:
    assert set(FORMATS) == {"onnx", "torchscript", "pt2"}
    assert len(set(FORMATS.values())) == len(FORMATS)
