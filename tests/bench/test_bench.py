"""The bench job, its command and the comparison of two records."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from people import write_people
from torch.nn.modules.module import register_module_parameter_registration_hook
from typer.testing import CliRunner

from dualdiff_cli.bench.backends import BACKENDS, backends_of
from dualdiff_cli.bench.benchmark import BenchRequest, bench
from dualdiff_cli.bench.records import compare_benchmarks, read_benchmark
from dualdiff_cli.bench.subject import Subject, subjects_of
from dualdiff_cli.bench.tables import benchmark_comparison_table
from dualdiff_cli.cli.app import app
from dualdiff_cli.errors import DeviceError, InputError, Interrupted
from dualdiff_cli.exporting.runtime import ExportedModel

SETTINGS = (
    "model.width=8",
    "model.blocks=1",
    "model.gate_hidden=[8]",
    "schedule.length=8",
    "sampling.steps=8",
    "data.points=400",
    "data.held_out_points=400",
    "training.batch=16",
    "training.steps=1000",
)
REQUEST = BenchRequest(
    datasets=("line",),
    backends=("published", "eager"),
    samples=500,
    repeats=3,
    seconds_per_block=0.0,
    settings=SETTINGS,
)
TINY = ["bench", "--device", "cpu", "--dataset", "line", "-n", "500", "--seconds", "0", "--repeats", "2"]
TINY += [word for setting in SETTINGS for word in ("--set", setting)]
SHORT = [*TINY, "--backend", "eager", "--task", "train", "--model", "baseline"]


def subject_of(folder: Path, dataset: str = "line", model: str = "baseline") -> Subject:
    config = replace(REQUEST, datasets=(dataset,)).config(dataset, model)
    (subject,) = subjects_of([(config, config)], samples=500, device=torch.device("cpu"), folder=folder)
    return subject


@pytest.fixture(scope="module")
def record() -> dict[str, Any]:
    return bench(REQUEST, device="cpu", threads=1)


def rows_of(record: dict[str, Any], **labels: str) -> list[dict[str, Any]]:
    return [row for row in record["rows"] if all(row[name] == value for name, value in labels.items())]


def row_of(record: dict[str, Any], **labels: str) -> dict[str, Any]:
    (row,) = rows_of(record, **labels)
    return row


def test_every_backend_of_every_task_and_model_is_a_row(record: dict[str, Any]) -> None:
    keys = {(row["model"], row["task"], row["backend"]) for row in record["rows"]}
    models, tasks, backends = ("baseline", "dual-expert"), ("train", "sample", "latency"), ("published", "eager")
    assert keys == {(m, t, b) for m in models for t in tasks for b in backends}
    for row in record["rows"]:
        assert (row["dataset"], row["recipe"], row["device"], row["failure"]) == ("line", "paper", "cpu", None)
        assert row["provider"] == row["requested_provider"] == "torch cpu"
        assert row["repeats"] == len(row["raw_s"]) == (30 if row["task"] == "latency" else 3)
        assert row["prepare_s"] > 0
        assert row["warm_up_s"] > 0
    assert {row["parameters"] for row in rows_of(record, model="baseline")} == {385 * 8 + 9 * 8 + 9 * 2}


def test_a_row_is_of_the_whole_task_and_says_what_was_measured(record: dict[str, Any]) -> None:
    training = row_of(record, model="baseline", task="train", backend="eager")
    assert (training["block"], training["whole"], training["unit"]) == (1, 1000, "steps")
    assert training["extrapolated"]
    assert training["median_s"] == pytest.approx(1000 * np.median(training["raw_s"]))
    assert training["per_second"] == pytest.approx(1 / np.median(training["raw_s"]))
    sampling = row_of(record, model="baseline", task="sample", backend="eager")
    assert (sampling["block"], sampling["whole"], sampling["extrapolated"]) == (500, 500, False)
    assert sampling["per_second"] == pytest.approx(500 / sampling["median_s"])
    published = row_of(record, model="baseline", task="sample", backend="published")
    assert (published["block"], published["whole"], published["unit"]) == (1, 8, "steps of all points")
    assert published["per_second"] == pytest.approx(500 / published["median_s"])


def test_a_row_stands_beside_the_baseline_the_published_loop_and_the_paper(record: dict[str, Any]) -> None:
    row = row_of(record, model="dual-expert", task="train", backend="eager")
    baseline = row_of(record, model="baseline", task="train", backend="eager")
    published = row_of(record, model="dual-expert", task="train", backend="published")
    for name, other in (("ratio_to_baseline", baseline), ("ratio_to_published", published)):
        assert row[name]["value"] == pytest.approx(row["median_s"] / other["median_s"])
        assert row[name]["low"] <= row[name]["value"] <= row[name]["high"]
    assert (row["paper_s"], baseline["paper_s"]) == (57.28, 38.89)
    assert row["paper_ratio_to_baseline"] == pytest.approx(57.28 / 38.89)
    assert baseline["ratio_to_baseline"] is None
    assert row_of(record, model="dual-expert", task="latency", backend="eager")["paper_s"] is None


def test_the_environment_says_what_the_times_were_taken_with(record: dict[str, Any]) -> None:
    environment = record["environment"]
    assert environment["device"] == "cpu"
    assert environment["threads"] == 1
    assert {"processor", "cores", "versions", "gpus", "load_average", "processor_mhz", "providers"} <= set(environment)
    assert json.loads(json.dumps(record, allow_nan=False)) == record


def test_threads_are_set_for_the_measurement_alone() -> None:
    before = torch.get_num_threads()
    asked = bench(
        replace(REQUEST, models=("baseline",), tasks=("latency",), backends=("eager",)), device="cpu", threads=2
    )
    assert asked["environment"]["threads"] == 2
    assert torch.get_num_threads() == before


def test_a_call_of_the_published_sampling_builds_no_network(tmp_path: Path) -> None:
    built: list[str] = []
    draw = BACKENDS["published"].draw(subject_of(tmp_path), 1).call
    hook = register_module_parameter_registration_hook(lambda module, name, parameter: built.append(name))
    try:
        draw(2)
    finally:
        hook.remove()
    assert built == []


def test_an_exported_backend_draws_the_categories_that_our_own_sampling_draws(tmp_path: Path) -> None:
    table = write_people(tmp_path / "people.csv", city=[("Bern", "Rome", "Oslo")[i % 3] for i in range(200)])
    subject = subject_of(tmp_path, str(table))
    assert subject.encoding.layout.discrete
    export = BACKENDS["torchscript"].export
    assert export is not None
    export(subject)
    (file,) = tmp_path.glob("*.ts")
    theirs = ExportedModel.open(file, device="cpu", trust=True).sample(300, seed=0)
    ours = subject.model().sample(300, seed=0)
    assert (theirs["city"] == ours["city"]).mean() > 0.97  # rounding may move a row across a border
    torch.testing.assert_close(theirs["income"].to_torch(), ours["income"].to_torch(), rtol=1e-3, atol=1e-3)


def test_a_file_is_timed_in_each_runtime_and_what_cannot_run_is_a_row_with_its_reason() -> None:
    backends = ("torchscript", "pt2", "onnx-cpu", "onnx-cuda", "cuda-graph")
    request = replace(REQUEST, models=("baseline",), tasks=("train", "sample"), backends=backends)
    record = bench(request, device="cpu", threads=1)
    actual = {row["backend"]: row["provider"] for row in rows_of(record, task="sample")}
    files = {"torchscript": "torch cpu", "pt2": "torch cpu", "onnx-cpu": "CPUExecutionProvider"}
    assert {name: actual[name] for name in files} == files
    assert all(row_of(record, task="sample", backend=name)["median_s"] > 0 for name in files)
    assert row_of(record, task="train", backend="cuda-graph")["failure"] == "A CUDA graph needs --device cuda."
    if not torch.cuda.is_available():
        absent = row_of(record, backend="onnx-cuda")
        assert absent["failure"].startswith("ONNX Runtime has no CUDA provider here")
        assert (absent["requested_provider"], absent["median_s"]) == ("CUDAExecutionProvider", None)


def test_what_the_device_cannot_do_is_no_row_unless_it_is_asked_for() -> None:
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    assert backends_of("train", cpu) == ["published", "eager", "compiled"]
    assert backends_of("sample", cpu) == ["published", "eager", "compiled", "torchscript", "pt2", "onnx-cpu"]
    assert backends_of("train", cuda) == ["published", "eager", "compiled", "cuda-graph"]
    assert set(backends_of("sample", cuda)) > {"onnx-cpu", "onnx-cuda"}
    assert backends_of("sample", cpu, ["onnx-cuda"]) == ["onnx-cuda"]


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"tasks": ("trian",)}, "There is no task 'trian'"),
        ({"backends": ("eagre",)}, "There is no backend 'eagre'"),
        ({"models": ("basline",)}, "There is no model 'basline'"),
        ({"tasks": ("train",), "backends": ("pt2",)}, "None of the backends pt2 does any of the tasks train"),
        ({"recipe": "few-rows", "settings": ()}, "A training in folds, as of the recipe few-rows"),
    ],
)
def test_what_cannot_be_timed_is_refused_before_anything_is_computed(changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        bench(replace(REQUEST, **changes), on_start=lambda total: pytest.fail("has begun"))


def test_a_backend_is_timed_because_it_has_a_line_in_the_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BACKENDS, "another", replace(BACKENDS["eager"], train=None))
    record = bench(
        replace(REQUEST, models=("baseline",), tasks=("train", "latency"), backends=("eager", "another")), device="cpu"
    )
    assert {row["task"] for row in rows_of(record, backend="another")} == {"latency"}


def test_progress_ends_where_it_was_said_to() -> None:
    totals, steps = [], []
    bench(replace(REQUEST, tasks=("train", "latency")), device="cpu", on_start=totals.append, on_step=steps.append)
    assert totals == [len(steps)]


def test_an_interrupt_keeps_the_rows_that_were_begun(tmp_path: Path) -> None:
    def on_step(doing: str) -> None:
        if "timing latency" in doing:
            raise KeyboardInterrupt

    output = tmp_path / "bench.json"
    with pytest.raises(Interrupted, match=re.escape(f"They are in {output}")):
        bench(replace(REQUEST, tasks=("train", "latency")), device="cpu", output=output, on_step=on_step)
    rows = json.loads(output.read_text(encoding="utf-8"))["rows"]
    assert [row["task"] for row in rows] == ["train"] * 4


def slower(record: dict[str, Any], factor: float) -> dict[str, Any]:
    rows = [row | {"raw_s": [factor * raw for raw in row["raw_s"]]} for row in record["rows"]]
    return record | {"rows": rows}


def test_a_comparison_gives_the_ratio_it_was_made_with_and_names_who_is_alone(
    record: dict[str, Any], tmp_path: Path
) -> None:
    before, after = tmp_path / "before.json", tmp_path / "after.json"
    before.write_text(json.dumps(record | {"rows": record["rows"][1:]}), encoding="utf-8")
    after.write_text(json.dumps(slower(record | {"rows": record["rows"][:-1]}, 3.0)), encoding="utf-8")
    compared = compare_benchmarks(before, after)
    assert len(compared["rows"]) == len(record["rows"]) - 2
    for row in compared["rows"]:
        assert row["ratio"]["value"] == pytest.approx(3)
        assert row["ratio"]["low"] <= 3 <= row["ratio"]["high"]
    alone = [[row[part] for part in ("dataset", "model", "recipe", "task", "backend")] for row in record["rows"]]
    assert compared["unmatched"] == {"before": [alone[-1]], "after": [alone[0]]}


def test_a_single_time_has_no_ratio_whose_interval_would_have_no_width(record: dict[str, Any], tmp_path: Path) -> None:
    before, after = tmp_path / "before.json", tmp_path / "after.json"
    rows = [row | {"raw_s": row["raw_s"][:1], "unstable": None} for row in record["rows"]]
    before.write_text(json.dumps(record), encoding="utf-8")
    after.write_text(json.dumps(record | {"rows": rows}), encoding="utf-8")
    compared = compare_benchmarks(before, after)
    assert {row["ratio"] for row in compared["rows"]} == {None}
    assert {row[-1] for row in benchmark_comparison_table(compared).rows} == {None}


def test_tasks_of_different_size_are_not_compared(record: dict[str, Any], tmp_path: Path) -> None:
    paths = [tmp_path / "before.json", tmp_path / "after.json"]
    rows = [row | {"whole": 10} if row["task"] == "train" else row for row in record["rows"]]
    for path, kept in zip(paths, (record, record | {"rows": rows, "samples": 700}), strict=True):
        path.write_text(json.dumps(kept), encoding="utf-8")
    compared = compare_benchmarks(*paths)
    assert {row["task"] for row in compared["rows"]} == {"latency"}
    sizes = {(row["task"], row["backend"]): (row["before"], row["after"]) for row in compared["unequal"]}
    assert sizes["train", "eager"] == ("1,000 steps", "10 steps")
    assert sizes["sample", "published"] == ("500 points in 8 steps", "700 points in 8 steps")
    assert compared["settings"] == {"before": [*SETTINGS], "after": [*SETTINGS]}


def invoke(*words: str | Path) -> Any:
    return CliRunner().invoke(app, [str(word) for word in words], prog_name="dualdiff")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_cuda_that_is_not_there_is_one_sentence_what_to_do_and_code_4() -> None:
    with pytest.raises(DeviceError):
        bench(REQUEST, device="cuda", on_start=lambda total: pytest.fail("has begun"))
    result = invoke("bench", "--device", "cuda")
    assert result.exit_code == 4
    assert re.fullmatch(
        r"Error: Device 'cuda' is not available: [^.]+\.\nUse --device cpu or --device auto\.\n", result.stderr
    )
    assert result.stdout == ""


def test_the_command_prints_one_object_or_tables_and_writes_the_record(tmp_path: Path) -> None:
    output = tmp_path / "new" / "bench.json"
    result = invoke(*SHORT, "--json", "--output", output)
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout) == json.loads(output.read_text(encoding="utf-8"))
    tasks = ("--task", "train", "--task", "sample")
    shown = invoke(*TINY, *tasks, "--backend", "eager", "--backend", "cuda-graph").stdout
    for words in ("line: training", "line: sampling", "dual-expert", "1/1,000", "A CUDA graph needs", "V100"):
        assert words in shown
    kept = invoke("bench", "show", output).stdout
    for words in ("line: training", "baseline", "1/1,000", "V100"):
        assert words in kept
    assert invoke("bench", "show", output, "--json").stdout == result.stdout
    same = invoke("bench", "compare", output, output).stdout
    assert "1 (" in same
    assert json.loads(invoke("bench", "compare", output, output, "--json").stdout)["rows"][0]["ratio"]["value"] == 1


@pytest.mark.parametrize("text", ["", "{}", '{"rows": [{}]}', '{"rows": 1}'])
def test_what_is_no_record_is_neither_shown_nor_compared(text: str, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(text, encoding="utf-8")
    for words in (("compare", path, path), ("show", path)):
        result = invoke("bench", *words)
        assert result.exit_code == 2
        assert "is not a record of `dualdiff bench`" in result.stderr


def test_what_the_published_loops_cannot_run_is_a_reason_in_their_row_and_stops_nobody_else() -> None:
    settings = (*(s for s in SETTINGS if not s.startswith("schedule.")), "schedule.name=log-snr-uniform")
    request = replace(REQUEST, models=("baseline",), tasks=("latency",), repeats=1, settings=settings)
    alone = bench(replace(request, backends=("eager",)), device="cpu", threads=1)
    assert [row["failure"] for row in alone["rows"]] == [None]
    both = bench(request, device="cpu", threads=1)
    assert row_of(both, backend="published")["failure"] == "The published loops need a schedule that is a table."
    assert row_of(both, backend="eager")["failure"] is None


def test_a_record_with_a_row_that_failed_in_its_preparation_is_read_and_one_with_times_of_empty_blocks_is_not(
    tmp_path: Path,
) -> None:
    output = tmp_path / "bench.json"
    request = replace(REQUEST, models=("baseline",), tasks=("train",), backends=("cuda-graph", "eager"))
    record = bench(request, device="cpu", threads=1, output=output)
    assert row_of(record, backend="cuda-graph")["block"] == 0
    assert read_benchmark(output) == record
    assert len(compare_benchmarks(output, output)["rows"]) == 1
    assert "A CUDA graph needs" in invoke("bench", "show", output).stdout
    output.write_text(json.dumps(record | {"rows": [row | {"block": 0} for row in record["rows"]]}), encoding="utf-8")
    with pytest.raises(InputError, match="is not a record"):
        compare_benchmarks(output, output)


def test_a_signal_ends_the_command_with_130_and_the_rows_kept(tmp_path: Path) -> None:
    output = tmp_path / "bench.json"
    words = [*TINY, "--backend", "eager", "--task", "latency", "--task", "train"]
    words += ["--seconds", "100000", "--set", "training.steps=1000000000"]  # a block that nobody would wait for
    command = [sys.executable, "-m", "dualdiff_cli", *words, "--output", str(output)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as running:
        while not output.exists():
            assert running.poll() is None
            time.sleep(0.05)
        running.send_signal(signal.SIGTERM)  # taken as Ctrl-C is
        _, stderr = running.communicate(timeout=60)
    assert running.returncode == 130, stderr
    assert {row["task"] for row in json.loads(output.read_text(encoding="utf-8"))["rows"]} == {"latency"}
    assert f"They are in {output}." in stderr


@pytest.mark.gpu
def test_every_backend_runs_on_a_gpu() -> None:
    record = bench(replace(REQUEST, backends=(), models=("baseline",)), device="cuda:0")
    assert {row["backend"]: row["failure"] for row in record["rows"] if row["failure"]} == {}
    graph = row_of(record, task="sample", backend="cuda-graph")
    assert (graph["provider"], graph["memory_bytes"]) == ("torch cuda:0", None)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--json", "show", "x.json"), "`bench show` does not see what stands before it: --json."),
        (("--dataset", "moons", "-q", "compare", "x.json", "y.json"), "--dataset, "),
        (("--seconds", "inf"), "--seconds inf"),
        (("--dataset", "line", "--device", "cpu", "-o", "file/out.json"), "file/out.json: Not a directory"),
    ],
)
def test_what_would_be_ignored_or_lost_is_refused_before_anything_is_timed(
    words: tuple[str, ...], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    result = invoke("bench", *words)
    assert result.exit_code == 2, result.output
    assert said in result.stderr
