from __future__ import annotations

import os
import warnings
from pathlib import Path

import pytest
import torch

from dualdiff_cli.compute.device import (
    Readback,
    choose_device,
    denormals_flushed,
    peak_memory_bytes,
    synchronize,
)
from dualdiff_cli.errors import DeviceError, InputError

CPU = torch.device("cpu")


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)


def unusable(monkeypatch: pytest.MonkeyPatch, *, cuda: str | None, node: bool) -> None:
    """A machine without usable GPU, whose torch is built for a CUDA version or none."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", cuda)
    monkeypatch.setattr(os.path, "exists", lambda path: node)


# Choosing


def test_the_cpu_is_always_there() -> None:
    assert choose_device("cpu") == CPU


@pytest.mark.usefixtures("two_gpus")
@pytest.mark.parametrize(
    ("request_", "expected"), [("auto", "cuda:1"), ("cuda", "cuda:0"), ("cuda:0", "cuda:0"), ("cuda:1", "cuda:1")]
)
def test_a_gpu_is_taken_by_number_and_by_default_if_it_works(request_: str, expected: str) -> None:
    assert choose_device(request_) == torch.device(expected)


@pytest.mark.usefixtures("two_gpus")
def test_a_gpu_beyond_the_last_is_not_there() -> None:
    with pytest.raises(DeviceError, match="'cuda:2' is not there") as caught:
        choose_device("cuda:2")
    assert caught.value.exit_code == 4
    assert "cuda:0 to cuda:1" in caught.value.remedy


@pytest.mark.parametrize("word", ["", "gpu", "CUDA", "cpu:0", "cuda:x", "cuda:-1", "cuda:1.5", "cuda:0:1", "mps"])
def test_any_other_word_is_bad_usage(word: str) -> None:
    with pytest.raises(InputError, match="There is no device") as caught:
        choose_device(word)
    assert repr(word) in caught.value.problem


@pytest.mark.parametrize(("cuda", "reason"), [(None, "built without CUDA"), ("12.8", "no usable NVIDIA GPU was found")])
def test_cuda_asked_for_by_name_and_absent_is_an_error_with_the_reason(
    monkeypatch: pytest.MonkeyPatch, cuda: str | None, reason: str
) -> None:
    unusable(monkeypatch, cuda=cuda, node=False)
    with pytest.raises(DeviceError, match=reason):
        choose_device("cuda")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_on_this_machine_without_cuda_it_is_refused_and_auto_takes_the_cpu() -> None:
    for word in ("cuda", "cuda:0"):
        with pytest.raises(DeviceError) as caught:
            choose_device(word)
        assert caught.value.exit_code == 4
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a GPU may be there that this torch cannot use
        assert choose_device() == CPU


def test_auto_warns_of_a_gpu_that_cannot_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    unusable(monkeypatch, cuda="12.8", node=True)
    with pytest.warns(UserWarning, match="CUDA cannot use it"):
        assert choose_device("auto") == CPU


@pytest.mark.parametrize(("cuda", "node"), [("12.8", False), (None, True), (None, False)])
def test_auto_takes_the_cpu_quietly_where_no_gpu_could_be_used(
    monkeypatch: pytest.MonkeyPatch, cuda: str | None, node: bool
) -> None:
    unusable(monkeypatch, cuda=cuda, node=node)
    assert choose_device("auto") == CPU  # a warning would be an error here


# Waiting


def test_on_the_cpu_a_number_has_arrived_at_once() -> None:
    synchronize(CPU)
    readback = Readback(torch.tensor(0.25) * 3)
    assert readback.ready()
    assert readback.item() == 0.75


@pytest.mark.gpu
def test_on_the_gpu_a_number_is_that_of_its_time_whatever_follows() -> None:
    place = choose_device("cuda")
    value = torch.zeros((), device=place)
    a = torch.ones(2048, 2048, device=place)
    readbacks = []
    for _ in range(20):
        a = (a @ a).clamp(-1, 1)  # keeps the device busy behind each copy
        value += 1
        readbacks.append(Readback(value / 2))
    assert [readback.item() for readback in readbacks] == [k / 2 for k in range(1, 21)]
    synchronize(place)
    assert all(readback.ready() for readback in readbacks)


# Memory


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells it twice")
def test_peak_memory_is_what_the_kernel_counts() -> None:
    lines = Path("/proc/self/status").read_text().splitlines()
    kilobytes = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    assert peak_memory_bytes() == pytest.approx(kilobytes * 1024, rel=0.05)


def test_denormal_numbers_are_zero_only_while_they_are_to_be() -> None:
    small = torch.full((4,), 1e-38)

    def halved_and_doubled() -> list[float]:
        return (small / 1024 * 1024).tolist()

    assert halved_and_doubled() == pytest.approx([1e-38] * 4, rel=1e-3)
    with denormals_flushed():
        assert halved_and_doubled() == [0.0] * 4
    assert halved_and_doubled() == pytest.approx([1e-38] * 4, rel=1e-3)
