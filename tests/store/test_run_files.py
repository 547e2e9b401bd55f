"""The files of a run: what is written comes back as it was, or is refused in a sentence."""

from __future__ import annotations

import hashlib
import json
import os
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from full_disks import files_of_at_most
from safetensors.torch import save_file
from torch import nn

from dualdiff_cli.compute.execution import PLAIN
from dualdiff_cli.config.schema import RunConfig
from dualdiff_cli.errors import InputError
from dualdiff_cli.store import run as store
from dualdiff_cli.store.run import FORMAT, OLDEST, Run

STATE = {
    "trainer": {"step": 3, "network": nn.Linear(3, 2).state_dict()},
    "seconds": 1.5,
    "compile_seconds": 0.0,
    "execution": PLAIN.to_dict(),
    "device": "cpu",
}
DESCRIPTION = {"kind": "größe", "encoding": {"columns": [{"name": "a b", "kind": "integer", "shift": 1 / 3}]}}


@pytest.fixture
def run(tiny_config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)
    return Run.create(tiny_config)


# State and model


def test_the_state_comes_back_as_it_was(run: Run) -> None:
    assert run.load_state() is None
    run.save_state(STATE)
    loaded = run.load_state()
    assert loaded is not None
    assert loaded["seconds"] == 1.5
    assert loaded["trainer"]["step"] == 3
    assert torch.equal(loaded["trainer"]["network"]["weight"], STATE["trainer"]["network"]["weight"])  # type: ignore[index]


def test_the_model_comes_back_as_it_was(run: Run) -> None:
    tensors = {"a.weight": torch.arange(6.0).reshape(2, 3).T, "b": torch.tensor(0.1)}
    run.save_model(tensors, DESCRIPTION)
    loaded, description = run.load_model()
    assert {name: description[name] for name in DESCRIPTION} == DESCRIPTION
    assert description["sha256"] == hashlib.sha256((run.path / "model.safetensors").read_bytes()).hexdigest()
    assert loaded.keys() == tensors.keys()
    assert all(torch.equal(loaded[name], tensors[name]) for name in tensors)
    assert sorted(path.name for path in run.path.iterdir()) == ["config.toml", "model.json", "model.safetensors"]


def test_an_unfinished_run_has_no_model_and_says_how_to_finish(run: Run) -> None:
    with pytest.raises(InputError, match="has no trained model yet") as caught:
        run.load_model()
    assert f"--resume {run}" in caught.value.remedy


def test_a_run_that_was_killed_before_its_weights_were_written_is_not_finished(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(path: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(store, "replaced", killed)
    with pytest.raises(KeyboardInterrupt):
        run.save_model({"weight": torch.ones(3)}, DESCRIPTION)
    assert not run.is_trained
    with pytest.raises(InputError, match="has no trained model yet"):
        run.load_model()


def test_a_state_that_would_run_code_is_refused_and_does_not(run: Run) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, ("sprung",)

    torch.save({"trainer": Trap()}, run.path / "state.pt")
    with pytest.raises(InputError, match=r"state\.pt cannot be read"):
        run.load_state()
    assert not Path("sprung").exists()


def refusals_when_damaged(path: Path, load: Callable[[], object]) -> list[str]:
    """Cut the file short or flip single bits, and load it each time; gives what was said where it was refused."""
    whole, draws, refusals = path.read_bytes(), random.Random(0), []
    damaged = [b"", b"hello\n", *(whole[: draws.randrange(len(whole))] for _ in range(50))]
    for _ in range(250):
        content = bytearray(whole)
        content[draws.randrange(len(whole))] ^= 1 << draws.randrange(8)
        damaged.append(bytes(content))
    for content in damaged:
        path.write_bytes(content)
        try:
            load()
        except InputError as error:
            refusals.append(error.problem)
    return refusals


def test_no_damage_to_the_state_escapes_as_anything_but_a_bad_input(run: Run) -> None:
    run.save_state(STATE)
    refusals = refusals_when_damaged(run.path / "state.pt", run.load_state)
    assert len(refusals) > 100
    assert all("state.pt" in refusal for refusal in refusals)


@pytest.mark.parametrize("name", ["model.safetensors", "model.json"])
def test_no_damage_to_the_model_escapes_as_anything_but_a_bad_input(run: Run, name: str) -> None:
    run.save_model({"weight": torch.ones(3)}, DESCRIPTION)
    refusals = refusals_when_damaged(run.path / name, run.load_model)
    assert len(refusals) > 100
    assert all("model." in refusal or "version of dualdiff" in refusal for refusal in refusals)


def test_no_flipped_bit_of_the_weights_passes_unseen(run: Run) -> None:
    run.save_model({"weight": torch.ones(3)}, DESCRIPTION)
    path = run.path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    with pytest.raises(InputError, match=r"not the one that model\.json describes"):
        run.load_model()


@pytest.mark.parametrize("description", [None, {"format_version": OLDEST - 1, "sha256": ""}, {}])
def test_a_model_of_another_version_or_without_description_is_refused(
    run: Run, description: dict[str, object] | None
) -> None:
    save_file({"weight": torch.ones(3)}, run.path / "model.safetensors")
    if description is not None:
        (run.path / "model.json").write_text(json.dumps(description))
    with pytest.raises(InputError, match="another version of dualdiff") as caught:
        run.load_model()
    assert "Train the run again" in caught.value.remedy
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(("version", "said"), [(OLDEST - 1, "another version"), (FORMAT + 1, "newer version")])
def test_a_state_of_another_version_is_refused(run: Run, version: int, said: str) -> None:
    torch.save({"format_version": version, **STATE}, run.path / "state.pt")
    with pytest.raises(InputError, match=said):
        run.load_state()


def test_a_model_of_a_newer_version_is_refused_with_the_remedy_to_install_it(run: Run) -> None:
    run.save_model({"weight": torch.ones(3)}, {**DESCRIPTION, "format_version": FORMAT + 1, "kind": ["unknown"]})
    with pytest.raises(InputError, match="newer version") as caught:
        run.load_model()
    assert "Install" in caught.value.remedy
    assert caught.value.exit_code == 2


def test_the_pairs_of_a_reflow_come_back_as_they_were_with_the_encoding(run: Run) -> None:
    assert run.load_pairs() is None
    pairs = {"points": torch.rand(4, 2), "noise": torch.rand(4, 2), "held_out": torch.rand(2, 1, 2)}
    run.save_pairs(pairs, DESCRIPTION["encoding"])
    tensors, encoding = run.load_pairs() or ({}, {})
    assert encoding == DESCRIPTION["encoding"]
    assert all(torch.equal(tensors[name], values) for name, values in pairs.items())
    refusals = refusals_when_damaged(run.path / "pairs.safetensors", run.load_pairs)
    assert len(refusals) > 50
    assert all("pairs.safetensors" in refusal for refusal in refusals)


def test_a_configuration_that_cannot_be_read_is_named_with_a_remedy_of_the_run(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> dict[str, object]:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("dualdiff_cli.config.recipes.read_toml", refuse)
    with pytest.raises(InputError, match=r"config\.toml cannot be read: Permission denied") as caught:
        _ = run.config
    assert caught.value.remedy == "Restore it, or start a new run."


def test_the_environment_noted_last_is_the_one_kept(run: Run) -> None:
    run.save_environment({"device": "cpu", "cores": 2})
    run.save_environment({"device": "cuda:0"})
    assert json.loads((run.path / "environment.json").read_text()) == {"device": "cuda:0"}


def test_where_the_rows_came_from_and_which_were_held_out_is_noted(run: Run) -> None:
    assert run.load_data() is None
    run.save_data({"source": "density", "name": "größe"}, None)
    assert run.load_data() == {"source": "density", "name": "größe"}
    assert not (run.path / "held_out_rows.npy").exists()
    run.save_data({"source": "file"}, np.array([3, 5]))
    assert run.load_data() == {"source": "file"}
    assert np.array_equal(np.load(run.path / "held_out_rows.npy"), [3, 5])


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"3", b"\xff"])
def test_a_damaged_note_of_the_rows_is_a_bad_input(run: Run, content: bytes) -> None:
    (run.path / "data.json").write_bytes(content)
    with pytest.raises(InputError, match=r"data\.json is damaged"):
        run.load_data()


def test_the_last_evaluation_is_the_one_kept(run: Run) -> None:
    run.save_evaluation({"metrics": 1})
    run.save_evaluation({"metrics": 2})
    assert json.loads((run.path / "evaluation.json").read_text()) == {"metrics": 2}


@pytest.mark.parametrize(
    "save",
    [
        lambda run, bad: run.save_state({"trainer": bad}),
        lambda run, bad: run.save_data({"name": bad}, None),
        lambda run, bad: run.save_evaluation({"name": bad}),
        lambda run, bad: run.save_environment({"name": bad}),
        lambda run, bad: run.save_model({"a": torch.ones(2)}, {"name": bad}),
    ],
    ids=["state", "data", "evaluation", "environment", "model"],
)
def test_a_file_that_cannot_be_written_leaves_the_old_one_whole(run: Run, save: Callable[[Run, object], None]) -> None:
    save(run, "old")
    before = {path.name: path.read_bytes() for path in run.path.iterdir()}
    with pytest.raises((AttributeError, TypeError)):
        save(run, lambda: None)
    assert {path.name: path.read_bytes() for path in run.path.iterdir()} == before


def test_a_full_disk_leaves_the_old_state_whole(run: Run) -> None:
    run.save_state(STATE)
    before = {path.name: path.read_bytes() for path in run.path.iterdir()}
    with files_of_at_most(100), pytest.raises(OSError, match="too large"):
        run.save_state(STATE)
    assert {path.name: path.read_bytes() for path in run.path.iterdir()} == before


# Metrics


def logged(*steps: int) -> list[dict[str, float]]:
    return [{"step": step, "loss": 1 / step} for step in steps]


def test_metrics_accumulate(run: Run) -> None:
    assert run.load_metrics() == []
    run.append_metrics(logged(3))
    run.append_metrics(logged(6, 9))
    assert run.load_metrics() == logged(3, 6, 9)


def test_rewinding_keeps_the_step_resumed_from_and_drops_what_follows(run: Run) -> None:
    run.append_metrics(logged(3, 6, 9))
    run.rewind_metrics(6)
    assert run.load_metrics() == logged(3, 6)
    run.append_metrics(logged(7))
    assert run.load_metrics() == logged(3, 6, 7)
    run.rewind_metrics(0)
    assert run.load_metrics() == []


def test_rewinding_a_run_that_logged_nothing_is_harmless(run: Run) -> None:
    run.rewind_metrics(0)
    assert run.load_metrics() == []


@pytest.mark.parametrize("rest", ['{"st', '{"step": 9, "loss": 0.', "{"])
def test_a_line_cut_short_by_a_kill_is_passed_over_and_mended_by_rewinding(run: Run, rest: str) -> None:
    run.append_metrics(logged(3, 6))
    with open(run.path / "metrics.jsonl", "a", encoding="utf-8") as file:
        file.write(rest)
    assert run.load_metrics() == logged(3, 6)
    run.rewind_metrics(6)
    run.append_metrics(logged(9))
    assert run.load_metrics() == logged(3, 6, 9)
