from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import tiny
from torch import Tensor

from dualdiff_cli.config import RunConfig, TrainingConfig
from dualdiff_cli.device import has_bfloat16_products
from dualdiff_cli.errors import DeviceError
from dualdiff_cli.execution import PLAIN, REPAID, Compiled, Execution, choose_threads, decide, prepare_sampling
from dualdiff_cli.models import build_denoiser
from dualdiff_cli.objectives import batch_loss
from dualdiff_cli.training import Trainer

CPU = torch.device("cpu")
COMPILED = Execution(compiled=True, required=True)
POINTS = torch.randn(200, 2, generator=torch.Generator().manual_seed(5))


def trainer(execution: Execution, config: RunConfig, *, weights_seed: int = 0) -> Trainer:
    denoiser = build_denoiser(config.model_copy(update={"seed": weights_seed}), 2)
    return Trainer(denoiser, POINTS, objective=config.objective, config=config.training, seed=0, execution=execution)


def trained(t: Trainer) -> list[Tensor]:
    """The weights and their averages at the end."""
    for _ in t.run():
        pass
    return [p.detach().clone() for denoiser in (t.denoiser, t.average) for p in denoiser.parameters()]


def equal(first: list[Tensor], second: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.fixture
def two_threads() -> Iterator[None]:
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(1)


@pytest.fixture
def free_to_choose(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)


# Compiled


def gradients(loss: Callable[..., Tensor], config: RunConfig, *, bfloat16: bool = False) -> tuple[float, list[Tensor]]:
    """Loss and gradients of one batch, the same for every way to compute them."""
    t = trainer(PLAIN, config)
    draws = t._batches.draw(config.training.batch, torch.Generator().manual_seed(1))
    value = loss(t.denoiser, config.objective, t._batches, draws, bfloat16=bfloat16)
    return float(value.detach()), list(torch.autograd.grad(value, list(t.denoiser.parameters())))


def test_a_compiled_step_has_the_plain_ones_gradients_and_resumes_bit_for_bit() -> None:
    """One test, because every network that is compiled costs seconds."""
    config = tiny("precise")
    (plain, expected), (fast, found) = (
        gradients(loss, config) for loss in (batch_loss, Compiled(batch_loss, required=True))
    )
    assert fast == pytest.approx(plain, rel=1e-5)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)

    whole = trainer(COMPILED, config)
    weights = trained(whole)
    assert whole.compile_seconds > 0
    assert whole.execution == COMPILED
    for a, b in zip(weights, trained(trainer(PLAIN, config)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)

    part = trainer(COMPILED, config)
    for _ in part.run(lambda: part.step == 7):
        pass
    file = io.BytesIO()
    torch.save(part.state_dict(), file)
    file.seek(0)
    rest = trainer(COMPILED, config, weights_seed=99)
    rest.load_state_dict(torch.load(file, weights_only=True))
    assert equal(trained(rest), weights)


@pytest.fixture
def broken_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """A C++ compiler that fails, and no results of a better one to fall back on."""
    inductor = pytest.importorskip("torch._inductor.config")
    broken = tmp_path / "c++"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    torch._dynamo.reset()
    with inductor.patch({"cpp.cxx": (str(broken),), "force_disable_caches": True, "compile_threads": 1}):
        yield
    torch._dynamo.reset()


@pytest.mark.usefixtures("broken_compiler")
def test_where_the_compiler_fails_training_goes_on_plainly_or_is_refused_as_asked() -> None:
    config = tiny("paper")
    t = trainer(replace(COMPILED, required=False), config)
    with pytest.warns(UserWarning, match="Compiling failed and training goes on without it"):
        weights = trained(t)
    assert equal(weights, trained(trainer(PLAIN, config)))
    assert not t.execution.compiled
    assert "compiling failed" in t.execution.why["compiled"]
    with pytest.raises(DeviceError, match="could not be compiled") as caught:
        trained(trainer(COMPILED, config))
    assert caught.value.exit_code == 4


@pytest.mark.parametrize(("share", "compiled"), [(0.9, False), (1.1, True)])
def test_a_run_is_compiled_where_it_is_long_enough_to_repay_it(share: float, compiled: bool) -> None:
    config = TrainingConfig(steps=1000, batch=100)
    execution = decide(config, CPU, parameters=int(share * REPAID / 1e5), width=8)
    assert execution.compiled == compiled
    assert not execution.required


def test_compiling_by_name_is_as_asked_however_short_the_run() -> None:
    on, off = (
        decide(TrainingConfig(steps=steps, compile=word), CPU, parameters=10**6, width=8)
        for word, steps in (("on", 1), ("off", 10**6))
    )
    assert (on.compiled, on.required) == (True, True)
    assert (off.compiled, off.required) == (False, False)


def test_without_a_compiler_nothing_is_compiled_and_asking_for_it_is_an_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    execution = decide(TrainingConfig(steps=10**6), CPU, parameters=10**6, width=8)
    assert not execution.compiled
    assert execution.why["compiled"] == "there is no C++ compiler"
    with pytest.raises(DeviceError, match="needs a C\\+\\+ compiler") as caught:
        decide(TrainingConfig(compile="on"), CPU, parameters=1, width=8)
    assert caught.value.exit_code == 4


# Precision


@pytest.mark.parametrize(("share", "taken"), [(0.5, "bfloat16"), (0.9, "float32")])
def test_bfloat16_is_taken_where_it_is_clearly_faster(
    share: float, taken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dualdiff_cli.execution.has_bfloat16_products", lambda: True)
    monkeypatch.setattr("dualdiff_cli.execution._time_products", lambda rows, width, ways: [1e-3, share * 1e-3])
    chosen = decide(TrainingConfig(precision="auto"), CPU, parameters=1, width=256)
    assert chosen.precision == taken
    assert chosen.why["precision"] == f"a product took 1.00 ms in float32, {share:.2f} ms in bfloat16"


def test_bfloat16_is_tried_only_where_the_processor_has_it_and_by_name_it_is_taken_anywhere(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    small, large = (decide(TrainingConfig(precision="auto"), CPU, parameters=1, width=width) for width in (8, 256))
    assert small.precision == "float32"
    assert ("in bfloat16" in large.why["precision"]) == has_bfloat16_products()
    monkeypatch.setattr("dualdiff_cli.execution.has_bfloat16_products", lambda: False)
    auto, asked = (
        decide(TrainingConfig(precision=word), CPU, parameters=1, width=256) for word in ("auto", "bfloat16")
    )
    assert (auto.precision, asked.precision) == ("float32", "bfloat16")
    assert auto.why["precision"] == "this processor has no instructions for bfloat16"


def test_the_papers_recipe_is_float32_whatever_is_fast() -> None:
    assert [tiny(recipe).training.precision for recipe in ("paper", "precise")] == ["float32", "auto"]


def test_in_bfloat16_the_loss_is_the_same_to_its_three_digits_and_the_weights_stay_float32() -> None:
    config = tiny("precise")
    plain, expected = gradients(batch_loss, config)
    rounded, found = gradients(batch_loss, config, bfloat16=True)
    assert rounded == pytest.approx(plain, rel=0.02)
    assert rounded != plain
    norm = sum(float(g.square().sum()) for g in expected) ** 0.5
    assert sum(float((a - b).square().sum()) for a, b in zip(found, expected, strict=True)) ** 0.5 < 0.05 * norm
    assert {w.dtype for w in trained(trainer(replace(PLAIN, precision="bfloat16"), config))} == {torch.float32}


def test_what_a_training_rounds_to_tf32_is_float32_again_for_samples() -> None:
    replace(PLAIN, precision="tf32").apply()
    assert torch.get_float32_matmul_precision() == "high"
    prepare_sampling(8, 8)
    assert torch.get_float32_matmul_precision() == "highest"


# Threads


@pytest.mark.usefixtures("two_threads")
def test_threads_that_somebody_chose_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert choose_threads(8, 8) == (2, "OMP_NUM_THREADS is set")
    monkeypatch.delenv("OMP_NUM_THREADS")
    torch.set_num_threads(1)
    assert choose_threads(8, 8) == (1, "torch is set to one thread")


@pytest.mark.usefixtures("two_threads", "free_to_choose")
def test_threads_are_tried_up_to_what_torch_is_set_to_and_a_look_changes_nothing() -> None:
    number, why = choose_threads(8, 8)
    assert number in (1, 2)
    assert "ms on 1, " in why
    assert why.endswith("ms on 2")
    assert torch.get_num_threads() == 2
    prepare_sampling(8, 8)
    assert torch.get_num_threads() in (1, 2)
    assert "OMP_NUM_THREADS" not in os.environ
