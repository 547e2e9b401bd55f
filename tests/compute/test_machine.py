from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch

from dualdiff_cli.compute import machine
from dualdiff_cli.compute.machine import describe_choice, describe_conditions, describe_machine


def test_the_machine_is_described_as_json_can_hold_it() -> None:
    described = json.loads(json.dumps(describe_machine()))
    assert torch.__version__.startswith(described["versions"]["torch"])
    assert described["python"] == ".".join(map(str, sys.version_info[:3]))
    assert described["threads"] == torch.get_num_threads()
    assert described["processor"]
    assert len(described["gpus"]) == torch.cuda.device_count()


def test_conditions_on_the_cpu_have_nothing_of_a_gpu() -> None:
    conditions = json.loads(json.dumps(describe_conditions(torch.device("cpu"))))
    assert conditions["device"] == "cpu"
    assert not {"gpu_driver", "gpu_clocks"} & set(conditions)
    assert len(conditions["load_average"]) == 3


def test_describing_a_machine_loads_no_onnx_runtime() -> None:
    code = "import sys; from dualdiff_cli.compute import machine; machine.describe_machine(); "
    done = subprocess.run(
        [sys.executable, "-c", code + "print('onnxruntime' in sys.modules)"], capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"


@pytest.mark.parametrize(
    ("device", "cuda", "reason"),
    [
        ("cpu", None, "this torch is built without CUDA"),
        ("cpu", "12.8", "torch finds no usable NVIDIA GPU"),
        ("cuda:1", "12.8", "CUDA works"),
    ],
)
def test_the_choice_is_described_with_its_reason(
    device: str, cuda: str | None, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "_onnxruntime_wheels", lambda: ["onnxruntime"])
    monkeypatch.setattr(machine, "choose_device", lambda request: torch.device(device))
    monkeypatch.setattr(machine, "cuda_version", lambda: cuda)
    choice = describe_choice()
    assert (choice["device"], choice["reason"]) == (device, reason)
    assert "CPUExecutionProvider" in choice["providers"]


def test_two_wheels_of_onnx_runtime_are_a_fault_worth_showing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_version", lambda name: "1.0")
    with pytest.warns(UserWarning, match="onnxruntime and onnxruntime-gpu are both installed"):
        describe_choice()
