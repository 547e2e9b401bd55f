from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import tiny

from dualdiff_cli.compute.device import has_bfloat16_products
from dualdiff_cli.compute.execution import (
    PLAIN,
    REPAID,
    REPAID_BY_SAMPLING,
    Execution,
    LayerShape,
    choose_products,
    decide_sampling,
    decide_training,
)
from dualdiff_cli.config.schema import TrainingConfig
from dualdiff_cli.errors import DeviceError

CPU = torch.device("cpu")
SMALL, LARGE = LayerShape(1, 8, 8), LayerShape(2, 128, 256)


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
    sampling = decide_sampling("auto", "float32", CPU, work=share * REPAID_BY_SAMPLING, layer=SMALL)
    for execution in (training, sampling):
        assert execution.compiled == compiled
        assert not execution.required


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


@pytest.mark.parametrize(("share", "taken"), [(0.5, "bfloat16"), (0.9, "float32")])
def test_bfloat16_is_taken_where_it_is_clearly_faster(
    share: float, taken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dualdiff_cli.compute.execution.has_bfloat16_products", lambda: True)
    monkeypatch.setattr("dualdiff_cli.compute.execution._time_products", lambda layer, ways: [1e-3, share * 1e-3])
    chosen = decided(LARGE, precision="auto")
    assert chosen.precision == taken
    found = f"a layer of 2 × 128 × 256 took 1.00 ms in float32 on 1, {share:.2f} ms in bfloat16 on 1"
    assert chosen.why["products"] == found


@pytest.mark.usefixtures("two_threads", "free_to_choose")
@pytest.mark.parametrize(
    ("seconds", "taken"),
    [
        ([4, 2, 1.2, 0.8], (2, "bfloat16")),
        ([4, 2, 1.2, 1.15], (1, "bfloat16")),  # a thread more that hardly helps is left alone
        ([4, 2, 1.8, 1.9], (2, "float32")),  # each precision is judged with its own threads
    ],
)
def test_threads_and_precision_are_chosen_together(
    seconds: list[float], taken: tuple[int, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dualdiff_cli.compute.execution.has_bfloat16_products", lambda: True)
    monkeypatch.setattr("dualdiff_cli.compute.execution._time_products", lambda layer, ways: seconds)
    assert choose_products(LARGE, "auto")[:2] == taken


def test_bfloat16_is_tried_only_where_the_processor_has_it_and_by_name_it_is_taken_anywhere(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    small, large = (decided(layer, precision="auto") for layer in (SMALL, LARGE))
    assert small.precision == "float32"
    assert ("in bfloat16" in large.why["products"]) == has_bfloat16_products()
    monkeypatch.setattr("dualdiff_cli.compute.execution.has_bfloat16_products", lambda: False)
    auto, asked = (decided(LARGE, precision=word) for word in ("auto", "bfloat16"))
    assert (auto.precision, asked.precision) == ("float32", "bfloat16")
    assert auto.why["products"].endswith("this processor has no instructions for bfloat16")


def test_the_papers_recipe_is_float32_whatever_is_fast() -> None:
    assert [tiny(recipe).training.precision for recipe in ("paper", "precise")] == ["float32", "auto"]


def test_what_a_training_rounds_to_tf32_is_float32_again_for_samples() -> None:
    replace(PLAIN, precision="tf32").apply()
    assert torch.get_float32_matmul_precision() == "high"
    decide_sampling("off", "float32", CPU, work=1, layer=SMALL).apply()
    assert torch.get_float32_matmul_precision() == "highest"


# Threads


@pytest.mark.usefixtures("two_threads")
def test_threads_that_somebody_chose_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert choose_products(SMALL, "float32") == (2, "float32", "OMP_NUM_THREADS is set; float32: asked for")
    monkeypatch.delenv("OMP_NUM_THREADS")
    torch.set_num_threads(1)
    assert choose_products(SMALL, "float32") == (1, "float32", "torch is set to one thread; float32: asked for")


@pytest.mark.usefixtures("two_threads", "free_to_choose")
def test_threads_are_tried_up_to_what_torch_is_set_to_and_a_look_changes_nothing() -> None:
    number, _, why = choose_products(SMALL, "float32")
    assert number in (1, 2)
    assert "ms in float32 on 1, " in why
    assert why.endswith("ms in float32 on 2; asked for")
    assert torch.get_num_threads() == 2
    assert "OMP_NUM_THREADS" not in os.environ
