"""The export job and its gate."""

from __future__ import annotations

import hashlib
import shutil
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import polars as pl
import pytest
import torch
from full_disks import files_of_at_most
from people import write_people
from tiny import XY, tiny
from torch import Tensor

from dualdiff_cli import seeding
from dualdiff_cli.config.recipes import resolve
from dualdiff_cli.data import TableEncoding
from dualdiff_cli.errors import InputError, ToleranceError
from dualdiff_cli.exporting import verification
from dualdiff_cli.exporting.formats import FORMATS
from dualdiff_cli.exporting.metadata import FORMAT_VERSION
from dualdiff_cli.exporting.modules import ExportedSampler
from dualdiff_cli.exporting.runtime import ExportedModel
from dualdiff_cli.exporting.verification import Agreement
from dualdiff_cli.jobs.evaluate import evaluate
from dualdiff_cli.jobs.export import export, format_of
from dualdiff_cli.jobs.sample import sample
from dualdiff_cli.jobs.train import train
from dualdiff_cli.models import load_model
from dualdiff_cli.present.exported import export_table, usage_of_onnx
from dualdiff_cli.store.run import Run

RecordOf = Callable[[str, str], dict[str, Any]]


def test_the_default_is_the_whole_sampler_as_onnx_in_the_run(run: Run, record_of: RecordOf) -> None:
    record = record_of("sampler", "onnx")
    path = run.path / "exports" / "sampler-dpmpp-2m-sde-5.onnx"
    assert (record["run"], record["format"], record["what"]) == (str(run), "onnx", "sampler")
    assert (record["output"], record["bytes"]) == (str(path), path.stat().st_size)
    assert (record["sampler"], record["sample_steps"], record["network_evaluations"]) == ("dpmpp-2m-sde", 5, 5)
    assert (record["inputs"], record["outputs"]) == (["noise", "step_noise"], ["samples", "features"])
    assert 18 <= record["opset"] <= 23
    assert 0 < record["median_abs_error"] <= record["max_abs_error"] <= record["tolerance"] < 0.1
    assert 0 <= record["decoding_error"] < 1e-12
    for name in ("kl_run_file", "kl_file_run"):
        assert record[name]["value"] == pytest.approx(record[name]["floor"], abs=0.01)
    metadata = ExportedModel.open(path, trust=True).metadata
    assert metadata["measured"]["max_abs_error"] == record["max_abs_error"]
    assert metadata["checkpoint_sha256"] == hashlib.sha256((run.path / "model.safetensors").read_bytes()).hexdigest()


@pytest.mark.parametrize(("format", "precision"), [("torchscript", "float16"), ("pt2", "bfloat16")])
def test_a_lower_precision_has_a_tolerance_of_its_own(
    format: str, precision: str, run: Run, record_of: RecordOf, tmp_path: Path
) -> None:
    exact = record_of("sampler", format)
    record = export(run, format=format, precision=precision, output=tmp_path / "rounded")
    assert record["bytes"] < exact["bytes"]
    assert exact["max_abs_error"] < record["max_abs_error"] < record["tolerance"]


def test_a_runtime_that_lacks_the_precision_says_so(run: Run, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"bfloat16 denoiser: Could not find an implementation.*--precision"):
        export(run, what="denoiser", precision="bfloat16", output=tmp_path / "file.onnx")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("format", ["torchscript", "pt2"])
def test_a_full_disk_is_an_error_and_leaves_nothing(run: Run, format: str, tmp_path: Path) -> None:
    with files_of_at_most(1000), pytest.raises(OSError, match="too large"):
        export(run, what="denoiser", output=tmp_path / f"denoiser{FORMATS[format]}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("model", ["mixture", "kernel-density"])
def test_a_model_without_a_denoiser_is_not_exported(model: str, tmp_path: Path) -> None:
    config = resolve(dataset="moons", model=model, settings=["data.points=100", "data.held_out_points=20"])
    train(config, path=tmp_path / "run", device="cpu")
    with pytest.raises(InputError, match=f"model {model} of the run .* no denoiser.*dual-expert"):
        export(tmp_path / "run")
    assert not (tmp_path / "run" / "exports").exists()


def shifted(call: Callable[..., Any]) -> Callable[..., Any]:
    def off_by_a_little(self: ExportedModel, *noise: Tensor) -> dict[str, Tensor]:
        return {name: values + 0.5 for name, values in call(self, *noise).items()}

    return off_by_a_little


def test_a_file_that_does_something_else_is_not_left_behind(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ExportedModel, "outputs", shifted(ExportedModel.outputs))
    with pytest.raises(ToleranceError, match=r"differs from the run by 0?\.?\d+.* not left behind.*--precision"):
        export(run, format="torchscript", output=tmp_path / "file.ts")
    assert list(tmp_path.iterdir()) == []


class Misdecoding(ExportedSampler):
    """A sampler that decodes with the columns' encodings of another table."""

    def __init__(self, program: Any, denoiser: Any, encoding: TableEncoding, **options: Any) -> None:
        x, y = encoding.columns
        super().__init__(program, denoiser, TableEncoding(columns=(y, x)), **options)


def test_a_file_that_decodes_wrongly_is_not_left_behind(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dualdiff_cli.jobs.export.ExportedSampler", Misdecoding)
    with pytest.raises(ToleranceError, match=r"decodes its features .* not left behind"):
        export(run, format="torchscript", output=tmp_path / "file")
    assert list(tmp_path.iterdir()) == []


def agreement(**changes: Any) -> Agreement:
    kl = {"kl_run_file": {"value": 0.01, "unit": "bits", "floor": 0.0, "limit": 0.02}}
    values: dict[str, Any] = {
        "max_abs_error": 1e-5,
        "median_abs_error": 0.0,
        "max_rel_error": 1e-5,
        "tolerance": 1e-3,
        "decoding_error": 1e-15,
    }
    return Agreement(**{**values, "divergences": kl, **changes})


def test_features_columns_and_distribution_have_to_agree() -> None:
    assert agreement().objection is None
    assert "differs from the run by 0.01" in str(agreement(max_abs_error=0.01).objection)
    assert "decodes" in str(agreement(decoding_error=1e-6).objection)
    another = {"kl_file_run": {"value": 0.3, "unit": "bits", "floor": 0.0, "limit": 0.02}}
    assert "kl_file_run is 0.3 bits" in str(agreement(divergences=another).objection)
    for name in ("max_abs_error", "decoding_error"):
        assert agreement(**{name: float("nan")}).objection is not None
    assert agreement(tolerance=float("inf"), divergences={}).objection is not None


def test_a_divergence_of_too_many_columns_says_nothing_and_the_points_judge() -> None:
    rng = seeding.stream(0, "wide")
    for points, said in ((rng.standard_t(1, (2, 200, 30)), 0), (rng.normal(size=(2, 200, 2)), 2)):
        fresh, by_run = torch.from_numpy(points)
        divergences = verification._divergences(fresh, by_run, by_file=by_run)
        assert len(divergences) == said
        assert agreement(divergences=divergences).objection is None
        assert agreement(max_abs_error=0.01, divergences=divergences).objection is not None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"format": "onx"}, "There is no format 'onx'"),
        ({"what": "network"}, "There is no export 'network'"),
        ({"precision": "float8"}, "There is no precision 'float8'"),
        ({"sampler": "adaptive"}, "'adaptive' cannot be exported"),
    ],
)
def test_what_cannot_be_exported_is_said(words: dict[str, str], message: str, run: Run) -> None:
    with pytest.raises(InputError, match=message):
        export(run, **words)  # type: ignore[arg-type]


@contextmanager
def hidden(folder: Path) -> Iterator[None]:
    """Take a folder away for a while."""
    elsewhere = folder.rename(folder.with_name("hidden"))
    try:
        yield
    finally:
        elsewhere.rename(folder)


@pytest.mark.parametrize("format", FORMATS)
def test_samples_and_scores_come_from_the_file_alone(
    format: str, run: Run, record_of: RecordOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    metrics = ["kl_real_generated", "kl_generated_real", "sliced_wasserstein"]
    shutil.copy(record_of("sampler", format)["output"], "model.bin")
    drawn = sample(run, n=300, output="run.npy", device="cpu", seed=2)
    scores = evaluate(run, n=300, device="cpu", seed=2, metrics=metrics)["metrics"]
    with hidden(run.path):
        exported = ExportedModel.open("model.bin", device="cpu", trust=True)
        record = sample(exported, n=300, output="file.npy", seed=2)
        scored = evaluate(exported, n=300, seed=2, metrics=metrics)
    assert (record["run"], record["from"], record["columns"]) == (None, "model.bin", ["x", "y"])
    assert record["network_evaluations"] == drawn["network_evaluations"]
    np.testing.assert_allclose(np.load("file.npy"), np.load("run.npy"), rtol=0, atol=1e-3 * XY.columns[0].scale)
    assert (scored["run"], scored["from"], scored["dataset"]) == (None, "model.bin", "moons")
    for name in metrics:
        assert scored["metrics"][name]["value"] == pytest.approx(scores[name]["value"], rel=0.01, abs=0.01)


@pytest.fixture(scope="module")
def of_people(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The record of an export in the folder of the data, with two skewed columns."""
    rng = seeding.stream(0, "skewed")
    skewed = {"price": np.exp(rng.normal(size=400)), "change": rng.standard_t(2, 400)}
    folder = tmp_path_factory.mktemp("people")
    people = write_people(folder / "people.csv", n=400, **skewed)
    train(tiny("precise", dataset=str(people), model="baseline"), path=folder / "run", device="cpu")
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(folder)
        record = export("run", output="people.onnx", device="cpu")
    return record | {"output": folder / "people.onnx", "run": folder / "run"}


def test_a_file_that_is_exported_beside_the_data_names_no_folder_and_is_scored_there(
    of_people: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    file: Path = of_people["output"]
    assert str(file.parent).encode() not in file.read_bytes()
    exported = ExportedModel.open(file, device="cpu")
    monkeypatch.chdir(file.parent)
    assert evaluate(exported, n=50, metrics=["sliced_wasserstein"])["dataset"] == "people.csv"
    monkeypatch.chdir(of_people["run"])
    with pytest.raises(InputError, match=r"people\.csv.*is not here.*folder"):
        evaluate(exported)


def test_the_columns_of_a_file_come_by_name_in_their_own_types_and_decoded_as_the_run_does(
    of_people: dict[str, Any],
) -> None:
    assert of_people["outputs"] == ["samples", "age (years)", "income", "price", "change", "features"]
    assert of_people["max_abs_error"] <= of_people["tolerance"]
    exported = ExportedModel.open(of_people["output"], device="cpu")
    assert [column.kind for column in exported.encoding.columns] == ["integer", "number", "skewed", "skewed"]
    model = load_model(Run.open(of_people["run"]), device=torch.device("cpu"))
    file, own = (each.sample(50, seed=1) for each in (exported, model))
    assert file.schema == own.schema
    np.testing.assert_allclose(file["age (years)"], own["age (years)"], rtol=0, atol=1)
    rest = pl.exclude("age (years)")
    np.testing.assert_allclose(file.select(rest), own.select(rest), rtol=1e-3, atol=1e-3)


def test_the_comparison_reaches_the_edge_of_the_noise(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[Tensor, Tensor]] = []
    outputs = ExportedModel.outputs

    def watched(self: ExportedModel, noise: Tensor, step_noise: Tensor | None = None) -> dict[str, Tensor]:
        assert step_noise is not None
        seen.append((noise, step_noise))
        return outputs(self, noise, step_noise)

    monkeypatch.setattr(ExportedModel, "outputs", watched)
    export(run, format="torchscript", output=tmp_path / "file.ts")
    assert {len(noise) for noise, _ in seen} >= {1, 2, 7, 2048}
    everything = torch.cat([noise.flatten() for noise, _ in seen])
    assert (everything.min(), everything.max()) == (-6, 6)
    assert max(float(step_noise.abs().max()) for _, step_noise in seen) == 6


def test_the_format_is_what_the_suffix_says_unless_one_is_asked_for() -> None:
    assert [format_of(name, None) for name in ("a.onnx", Path("a.pt2"), "a.PT", None)] == [
        "onnx",
        "pt2",
        "torchscript",
        "onnx",
    ]
    assert format_of("a.bin", "PT2") == "pt2"
    with pytest.raises(InputError, match=r"a\.bin") as caught:
        format_of("a.bin", None)
    assert all(suffix in caught.value.remedy for suffix in FORMATS.values())
    with pytest.raises(InputError, match=r"onnx, and pt2") as caught:
        format_of("a.onnx", "pt2")
    assert ".pt2" in caught.value.remedy


@pytest.mark.parametrize(("sampler", "steps"), [("heun", 4), ("dpmpp-2m-sde", 5)])
def test_an_onnx_file_describes_itself_and_the_lines_that_are_shown_draw_rows_from_it(
    sampler: str, steps: int, run: Run, record_of: RecordOf, tmp_path: Path
) -> None:
    record = record_of("sampler", "onnx")
    if sampler != record["sampler"]:
        record = export(run, output=tmp_path / "moons.onnx", sampler=sampler, sample_steps=steps)
    deterministic = sampler == "heun"
    assert record["inputs"] == (["noise"] if deterministic else ["noise", "step_noise"])
    model = onnx.load(record["output"])
    assert (model.model_version, model.producer_name) == (FORMAT_VERSION, "dualdiff")
    for said in (model.doc_string, model.graph.doc_string):
        assert all(word in said for word in ("noise", "x, y", sampler, f"{steps} steps", "moons", "dual-expert"))
    shown = "\n".join(export_table(record).notes)
    assert ("step_noise" not in shown) == deterministic
    assert ("--sampler" not in shown) == deterministic
    names: dict[str, Any] = {}
    exec(textwrap.dedent(usage_of_onnx(record)), names)
    assert names["rows"].shape == (1000, 2)
    assert np.isfinite(names["rows"]).all()
