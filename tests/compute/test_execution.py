from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import tiny

from dualdiff_cli.compute.execution import (
    PLAIN,
    REPAID,
    REPAID_BY_SAMPLING,
    WORTH_ROUNDING,
    WORTH_SHARING,
    Execution,
    LayerShape,
    choose_products,
    decide_folds,
    decide_sampling,
    decide_training,
)
from dualdiff_cli.compute.processor import has_fast_bfloat16
from dualdiff_cli.config.sections import TrainingConfig
from dualdiff_cli.errors import DeviceError
from dualdiff_cli.jobs.inputs import load_run_data
from dualdiff_cli.models.diffusion import DiffusionModel
from dualdiff_cli.store.run import Run
from dualdiff_cli.training.session import Callbacks

CPU = torch.device("cpu")
SMALL, LARGE = LayerShape(1, 8, 8), LayerShape(2, 128, 256)
FAST_BFLOAT16 = "dualdiff_cli.compute.execution.has_fast_bfloat16"


def decided(layer: LayerShape = SMALL, *, parameters: int = 1, **training: Any) -> Execution:
    return decide_training(TrainingConfig(**training), CPU, parameters=parameters, layer=layer)


@pytest.fixture
def two_threads() -> Iterator[None]:
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(1)


@pytest.fixture
def free_to_choose(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)


# Compiled


@pytest.mark.parametrize(("share", "compiled"), [(0.9, False), (1.1, True)])
def test_what_is_work_enough_to_repay_it_is_compiled(share: float, compiled: bool) -> None:
    training = decided(steps=1000, batch=100, parameters=int(share * REPAID / 1e5))
    sampling = decide_sampling("auto", "float32", CPU, work=share * REPAID_BY_SAMPLING["cpu"], layer=SMALL)
    for execution in (training, sampling):
        assert execution.compiled == compiled
        assert not execution.required


def test_on_a_gpu_only_far_more_samples_repay_compiling(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dualdiff_cli.compute.execution._finds_triton", lambda: True)
    cuda = torch.device("cuda", 0)
    work = {share * REPAID_BY_SAMPLING[kind] for share in (0.9, 1.1) for kind in ("cpu", "cuda")}
    decided_for = [decide_sampling("auto", "float32", cuda, work=each, layer=SMALL).compiled for each in sorted(work)]
    assert decided_for == [False, False, False, True]


def test_compiling_by_name_is_as_asked_however_little_there_is_to_do() -> None:
    for on, off in (
        (decided(steps=1, compile="on"), decided(steps=10**6, compile="off", parameters=10**6)),
        (decide_sampling(word, "float32", CPU, work=work, layer=SMALL) for word, work in (("on", 1), ("off", 1e20))),
    ):
        assert (on.compiled, on.required) == (True, True)
        assert (off.compiled, off.required) == (False, False)


def test_without_a_compiler_nothing_is_compiled_and_asking_for_it_is_an_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    execution = decided(steps=10**6, parameters=10**6)
    assert execution.compiled is False
    assert execution.why["compiled"] == "there is no C++ compiler"
    with pytest.raises(DeviceError, match="needs a C\\+\\+ compiler") as caught:
        decided(compile="on")
    assert caught.value.exit_code == 4


# Precision


def layer_of(multiplications: int) -> LayerShape:
    return LayerShape(1, multiplications // 64**2, 64)


@pytest.mark.parametrize(
    ("fast", "multiplications", "taken", "why"),
    [
        (True, WORTH_ROUNDING, "bfloat16", "faster"),
        (True, WORTH_ROUNDING // 2, "float32", "small"),
        (False, WORTH_ROUNDING, "float32", "not faster"),
    ],
)
def test_auto_is_bfloat16_for_large_products_on_a_processor_that_is_faster_in_it(
    fast: bool, multiplications: int, taken: str, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FAST_BFLOAT16, lambda: fast)
    chosen = decided(layer_of(multiplications), precision="auto")
    assert chosen.precision == taken
    assert why in chosen.why["products"]


def test_a_precision_that_is_asked_for_is_taken_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    for fast, asked in ((False, "bfloat16"), (True, "float32")):
        monkeypatch.setattr(FAST_BFLOAT16, lambda fast=fast: fast)
        assert decided(LARGE, precision=asked).precision == asked


@pytest.mark.parametrize(
    ("capabilities", "fast"),
    [
        ({}, False),
        ({"cpu_name": "AMD EPYC", "avx512_bf16": True, "amx_bf16": False}, True),
        ({"cpu_name": "AMD EPYC", "avx512_bf16": False, "amx_bf16": False}, False),
        ({"cpu_name": "Intel Xeon", "avx512_bf16": True, "amx_bf16": True}, True),
        ({"cpu_name": "Intel Xeon", "avx512_bf16": True, "amx_bf16": False}, False),
    ],
)
def test_bfloat16_is_fast_with_amx_and_with_amds_avx_512(
    capabilities: dict[str, Any], fast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert has_fast_bfloat16() == fast


def test_the_papers_recipe_is_float32_whatever_is_fast() -> None:
    assert [tiny(recipe).training.precision for recipe in ("paper", "precise")] == ["float32", "auto"]


def test_what_a_training_rounds_to_tf32_is_float32_again_afterwards() -> None:
    with replace(PLAIN, precision="tf32").applied():
        assert torch.get_float32_matmul_precision() == "high"
    assert torch.get_float32_matmul_precision() == "highest"


def test_what_torchs_newer_interface_has_set_is_no_obstacle() -> None:
    before = torch.backends.cuda.matmul.fp32_precision
    torch.backends.cuda.matmul.fp32_precision = "tf32"
    try:
        with pytest.raises(RuntimeError, match="in the block"), PLAIN.applied():
            raise RuntimeError("what happens in the block is not hidden")
        with PLAIN.applied():
            assert torch.get_num_threads() == 1
    finally:
        torch.backends.cuda.matmul.fp32_precision = before
        torch.set_float32_matmul_precision("highest")


# Threads


@pytest.mark.usefixtures("two_threads")
def test_threads_that_somebody_chose_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert choose_products(SMALL, "float32") == (2, "float32", "OMP_NUM_THREADS is set; float32: asked for")
    monkeypatch.delenv("OMP_NUM_THREADS")
    torch.set_num_threads(1)
    assert choose_products(LARGE, "float32") == (1, "float32", "torch is set to one thread; float32: asked for")


@pytest.mark.usefixtures("two_threads", "free_to_choose")
@pytest.mark.parametrize("recipe", ["paper", "few-rows"])
def test_a_small_training_and_its_samples_take_one_thread_and_leave_the_others_to_the_process(
    recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, found = tiny(recipe), []
    plan = DiffusionModel.plan(config, load_run_data(config), device=CPU)
    callbacks = Callbacks(on_progress=lambda progress: found.append(torch.get_num_threads()))
    model, _ = DiffusionModel.fit(plan, Run.create(plan.config, tmp_path / "run"), device=CPU, callbacks=callbacks)
    assert set(found) == {2 if recipe == "few-rows" else 1}
    assert torch.get_num_threads() == 2
    model.denoiser.register_forward_hook(lambda *_: found.append(torch.get_num_threads()))
    for _ in model.draw(5, seed=0).chunks:
        assert torch.get_num_threads() == 2
    assert found[-1] == 1


@pytest.mark.usefixtures("two_threads", "free_to_choose")
@pytest.mark.parametrize(("multiplications", "threads"), [(WORTH_SHARING, 2), (WORTH_SHARING // 2, 1)])
def test_large_products_are_shared_by_all_threads_that_torch_is_set_to(multiplications: int, threads: int) -> None:
    assert choose_products(layer_of(multiplications), "float32")[0] == threads
    assert torch.get_num_threads() == 2  # the choice changes nothing by itself


@pytest.mark.parametrize(
    ("device", "compile", "graphed"), [("cuda", "auto", True), ("cuda", "off", False), ("cpu", "auto", False)]
)
def test_folds_are_captured_on_a_gpu_unless_compiling_is_off(device: str, compile: Any, graphed: bool) -> None:
    execution = decide_folds(TrainingConfig(compile=compile), torch.device(device))
    assert (execution.graphed, execution.compiled, execution.precision) == (graphed, False, "float32")
