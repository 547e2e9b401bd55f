from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from tiny import tiny
from torch import Tensor
from torch._inductor import config as inductor

from dualdiff_cli.compute.compiling import Compiled
from dualdiff_cli.compute.execution import PLAIN, Execution
from dualdiff_cli.compute.optimiser import adamw, fused_adamw
from dualdiff_cli.compute.rewriting import write_down
from dualdiff_cli.config.schema import RunConfig
from dualdiff_cli.errors import DeviceError
from dualdiff_cli.models.fitting import build_network_denoiser
from dualdiff_cli.seeding import torch_stream
from dualdiff_cli.training.loop import Trainer

COMPILED = Execution(compiled=True, required=True)
POINTS = torch.randn(200, 2, generator=torch_stream(5, "test"))


def trainer(execution: Execution, config: RunConfig, *, weights_seed: int = 0) -> Trainer:
    denoiser = build_network_denoiser(config.model_copy(update={"seed": weights_seed}), 2)
    return Trainer(denoiser, POINTS, objective=config.objective, training=config.training, seed=0, execution=execution)


def trained(t: Trainer) -> list[Tensor]:
    """The weights and their averages at the end."""
    for _ in t.run():
        pass
    return [p.detach().clone() for denoiser in (t.denoiser, t.average) for p in denoiser.parameters()]


def equal(first: list[Tensor], second: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def first_step(call: Callable[..., None], t: Trainer) -> tuple[float, Tensor]:
    """The loss of a step, and the clipped gradient that it leaves in the first moment: m = (1 − β₁)·g from zero."""
    t._rates.fill(1e-3, 1, beta_2=0.99)
    draws = t._batches.draw(t.training.batch, torch_stream(1, "test"))
    call(*t._state, *draws)
    return float(t._loss_sum), t._moments[0].m / 0.1


def test_a_compiled_step_has_the_plain_ones_gradients_and_resumes_bit_for_bit() -> None:
    """One test, because every step that is compiled costs seconds."""
    config = tiny("precise")
    plain, fast = trainer(PLAIN, config), trainer(PLAIN, config)
    before = fast._weights[0].vector.clone()
    compiled = Compiled(partial(fast._descend, adamw), required=True)
    (loss, expected), (found_loss, found) = (
        first_step(partial(plain._descend, fused_adamw), plain),
        first_step(compiled, fast),
    )
    assert found_loss == pytest.approx(loss, rel=1e-5)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-6)
    # compiling tried the step on copies: what it was given has moved once, and as the plain one's
    assert not torch.equal(fast._weights[0].vector, before)
    moved, theirs = (t._weights[0].vector - before for t in (fast, plain))
    assert float((moved - theirs).abs().mean()) < 0.01 * float(theirs.abs().mean())

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


def test_what_a_function_holds_is_read_at_every_call_and_is_no_part_of_what_is_compiled() -> None:
    x, scale, other = torch.arange(3.0), torch.tensor(2.0), torch.tensor(5.0)
    first, second = (Compiled(lambda x, held=held: x * held + held, required=True) for held in (scale, other))
    assert first(x).tolist() == [2, 4, 6]
    assert second(x).tolist() == [5, 10, 15]
    scale.fill_(3.0)
    assert first(x).tolist() == [3, 6, 9]


@pytest.mark.parametrize("schedule", ["log-snr-uniform", "learned"])
def test_a_step_on_other_data_is_the_same_list_of_operations_so_that_the_compilers_cache_serves_it(
    schedule: str,
) -> None:
    """What comes of the data must be a tensor that the step holds; a plain number would be written into the list."""
    config = tiny("precise")
    config = config.model_copy(update={"schedule": config.schedule.model_copy(update={"name": schedule})})
    finer = {
        "schedule": config.schedule.model_copy(update={"sigma_min": 0.01}),
        "model": config.model.model_copy(update={"finest_frequency": 90.0}),
    }
    assert operations(trainer(PLAIN, config)) == operations(trainer(PLAIN, config.model_copy(update=finer)))


def operations(t: Trainer) -> str:
    arguments = [*t._state, *t._batches.draw(t.training.batch, torch_stream(1, "test"))]
    return write_down(partial(t._descend, adamw), arguments).code


@pytest.fixture
def broken_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """A C++ compiler that fails, and no results of a better one to fall back on."""
    broken = tmp_path / "c++"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    with inductor.patch({"cpp.cxx": (str(broken),), "force_disable_caches": True, "compile_threads": 1}):
        yield


@pytest.mark.usefixtures("broken_compiler")
def test_where_the_compiler_fails_training_goes_on_plainly() -> None:
    config = tiny("paper")
    t = trainer(replace(COMPILED, required=False), config)
    with pytest.warns(UserWarning, match="continues without the compiler"):
        weights = trained(t)
    assert equal(weights, trained(trainer(PLAIN, config)))
    assert not t.execution.compiled
    assert "compiling failed" in t.execution.why["compiled"]


def test_where_the_compiler_fails_training_is_refused_if_compiling_is_required(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise RuntimeError("no compiler")

    monkeypatch.setattr("torch._inductor.standalone_compile", fails)
    with pytest.raises(DeviceError, match=r"Compiling failed: no compiler\.") as caught:
        trained(trainer(COMPILED, tiny("paper")))
    assert caught.value.exit_code == 4
