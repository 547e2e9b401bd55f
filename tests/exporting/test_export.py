"""The export job and its gate."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import finished, narrow
from torch import Tensor

from dualdiff_cli import jobs
from dualdiff_cli.errors import InputError, ToleranceError
from dualdiff_cli.exporting import FORMATS
from dualdiff_cli.exporting.runtime import ExportedModel
from dualdiff_cli.exporting.verification import Agreement
from dualdiff_cli.store.run import Run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return finished(narrow(), tmp_path_factory.mktemp("export") / "run")


def test_the_default_is_the_whole_sampler_as_onnx_in_the_run(run: Run) -> None:
    record = jobs.export(run)
    path = run.path / "exports" / "sampler-dpmpp-2m-sde-5.onnx"
    assert (record["run"], record["format"], record["what"]) == (str(run), "onnx", "sampler")
    assert (record["output"], record["bytes"]) == (str(path), path.stat().st_size)
    assert (record["sampler"], record["sample_steps"], record["network_evaluations"]) == ("dpmpp-2m-sde", 5, 5)
    assert (record["inputs"], record["outputs"]) == (["noise", "step_noise"], ["samples"])
    assert 18 <= record["opset"] <= 23
    assert 0 < record["median_abs_error"] <= record["max_abs_error"] <= record["tolerance"] < 0.1
    for name in ("kl_run_file", "kl_file_run"):
        assert record[name]["value"] == pytest.approx(record[name]["floor"], abs=0.01)
    metadata = ExportedModel.open(path).metadata
    assert metadata["measured"]["max_abs_error"] == record["max_abs_error"]
    assert metadata["checkpoint_sha256"] == hashlib.sha256((run.path / "model.safetensors").read_bytes()).hexdigest()


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_a_lower_precision_has_a_tolerance_of_its_own(precision: str, run: Run, tmp_path: Path) -> None:
    exact = jobs.export(run, format="torchscript", output=tmp_path / "exact.ts")
    record = jobs.export(run, format="torchscript", precision=precision, output=tmp_path / "rounded.ts")
    assert record["bytes"] < exact["bytes"]
    assert exact["max_abs_error"] < record["max_abs_error"] < record["tolerance"]


def test_a_runtime_that_lacks_the_precision_says_so(run: Run, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot run the bfloat16 denoiser: Could not find an implementation"):
        jobs.export(run, what="denoiser", precision="bfloat16", output=tmp_path / "file.onnx")
    assert list(tmp_path.iterdir()) == []


def shifted(call: Callable[..., Any]) -> Callable[..., Any]:
    def off_by_a_little(self: ExportedModel, noise: Tensor, step_noise: Tensor | None = None) -> Tensor:
        return call(self, noise, step_noise) + 0.5  # type: ignore[no-any-return]

    return off_by_a_little


def test_a_file_that_does_something_else_is_not_left_behind(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ExportedModel, "walk", shifted(ExportedModel.walk))
    with pytest.raises(ToleranceError, match=r"differs from the run by 0?\.?\d+.* not left behind"):
        jobs.export(run, format="torchscript", output=tmp_path / "file.ts")
    assert list(tmp_path.iterdir()) == []


def agreement(**changes: Any) -> Agreement:
    kl = {"kl_run_file": {"value": 0.01, "unit": "bits", "floor": 0.0, "limit": 0.02}}
    values: dict[str, Any] = {"max_abs_error": 1e-5, "median_abs_error": 0.0, "max_rel_error": 1e-5, "tolerance": 1e-3}
    return Agreement(**{**values, "divergences": kl, **changes})


def test_points_and_distribution_have_to_agree() -> None:
    assert agreement().objection is None
    assert "differs from the run by 0.01" in str(agreement(max_abs_error=0.01).objection)
    assert "differs" in str(agreement(max_abs_error=float("nan")).objection)
    another = {"kl_file_run": {"value": 0.3, "unit": "bits", "floor": 0.0, "limit": 0.02}}
    assert "another distribution than the run: kl_file_run is 0.3 bits" in str(agreement(divergences=another).objection)


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
        jobs.export(run, **words)  # type: ignore[arg-type]


@pytest.mark.parametrize("format", FORMATS)
def test_samples_and_scores_come_from_the_file_alone(
    format: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = narrow(data={"points": 400, "held_out_points": 400})
    run = finished(config, tmp_path / "run")
    jobs.export(run, format=format, output=Path("model.bin"))
    drawn = jobs.sample(run, n=300, output="run.npy", device="cpu", seed=2)
    scores = jobs.evaluate(run, n=300, device="cpu", seed=2)["metrics"]
    for path in run.path.iterdir():
        path.rename(path.with_suffix(".gone"))
    exported = ExportedModel.open(Path("model.bin"), device="cpu")
    record = jobs.sample_exported(exported, n=300, output="file.npy", seed=2)
    assert (record["run"], record["from"], record["columns"]) == (None, "model.bin", ["x", "y"])
    assert record["network_evaluations"] == drawn["network_evaluations"]
    np.testing.assert_allclose(np.load("file.npy"), np.load("run.npy"), rtol=0, atol=1e-3 * 12)
    scored = jobs.evaluate_exported(exported, n=300, seed=2)
    assert (scored["run"], scored["dataset"], scored["n_generated"]) == (None, "moons", 300)
    for name in ("kl_real_generated", "kl_generated_real", "sliced_wasserstein"):
        assert scored["metrics"][name]["value"] == pytest.approx(scores[name]["value"], rel=0.01, abs=0.01)


def test_the_comparison_reaches_the_edge_of_the_noise(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[Tensor, Tensor]] = []
    walk = ExportedModel.walk

    def watched(self: ExportedModel, noise: Tensor, step_noise: Tensor | None = None) -> Tensor:
        assert step_noise is not None
        seen.append((noise, step_noise))
        return walk(self, noise, step_noise)

    monkeypatch.setattr(ExportedModel, "walk", watched)
    jobs.export(run, format="torchscript", output=tmp_path / "file.ts")
    assert {len(noise) for noise, _ in seen} >= {1, 2, 7, 2048}
    everything = torch.cat([noise.flatten() for noise, _ in seen])
    assert (everything.min(), everything.max()) == (-6, 6)
    assert max(float(step_noise.abs().max()) for _, step_noise in seen) == 6
