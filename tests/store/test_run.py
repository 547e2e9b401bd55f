from __future__ import annotations

import json
import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from dualdiff_cli.config.schema import RunConfig
from dualdiff_cli.errors import InputError
from dualdiff_cli.store.run import RUNS, Run

STATE = {"trainer": {"step": 3, "network": nn.Linear(3, 2).state_dict()}, "seconds": 1.5}
METADATA = {"dataset": "größe.csv", "columns": [{"name": "a b", "kind": "integer"}], "scaler": {"shift": [1 / 3]}}


@pytest.fixture(autouse=True)
def _in_an_empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def run(tiny_config: RunConfig) -> Run:
    return Run.create(tiny_config)


def named(config: RunConfig, dataset: str) -> RunConfig:
    return config.model_copy(update={"dataset": dataset})


# Making and finding


def test_runs_of_one_data_set_and_model_are_numbered_from_one(tiny_config: RunConfig) -> None:
    paths = [Run.create(tiny_config).path for _ in range(3)]
    assert paths == [RUNS / f"line-dual-expert-{k}" for k in (1, 2, 3)]
    assert Run.create(named(tiny_config, "dino")).path == RUNS / "dino-dual-expert-1"


def test_numbers_go_on_after_the_largest_and_look_at_numbers_only(tiny_config: RunConfig) -> None:
    for name in ("line-dual-expert-9", "line-dual-expert-2", "line-dual-expert-old", "line-dual-expert-10-copy"):
        (RUNS / name).mkdir(parents=True)
    assert Run.create(tiny_config).path.name == "line-dual-expert-10"


def test_a_number_that_another_process_takes_first_is_passed_over(
    tiny_config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    Run.create(tiny_config)
    monkeypatch.setattr(Path, "glob", lambda self, pattern: iter(()))  # as seen before the other one made it
    assert Run.create(tiny_config).path.name == "line-dual-expert-2"


def test_a_file_gives_a_run_its_stem_without_what_shells_dislike(tiny_config: RunConfig) -> None:
    run = Run.create(named(tiny_config, "/data/my table (ü) *.v2.csv"))
    assert run.path == RUNS / "my-table-.v2-dual-expert-1"
    assert run.config.dataset == "/data/my table (ü) *.v2.csv"


def test_a_run_gives_back_its_configuration(run: Run, tiny_config: RunConfig) -> None:
    assert run.config == tiny_config
    assert Run.open(run.path).config == tiny_config


def test_a_directory_that_is_named_is_used_as_it_is(tiny_config: RunConfig) -> None:
    empty = Path("empty")
    empty.mkdir()
    assert Run.create(tiny_config, empty).path == empty
    assert Run.create(tiny_config, Path("to/be/made")).path == Path("to/be/made")
    assert not RUNS.exists()


def test_a_directory_that_holds_something_is_refused_untouched(tiny_config: RunConfig) -> None:
    full = Path("full")
    full.mkdir()
    (full / "thesis.tex").write_text("x")
    with pytest.raises(InputError, match="full is not empty"):
        Run.create(tiny_config, full)
    assert [path.name for path in full.iterdir()] == ["thesis.tex"]
    with pytest.raises(InputError, match=r"thesis\.tex is not empty"):
        Run.create(tiny_config, full / "thesis.tex")


def test_without_a_path_the_newest_run_is_opened(tiny_config: RunConfig) -> None:
    runs = [Run.create(named(tiny_config, name)) for name in ("line", "circle", "dino")]
    for run, age in zip(runs, (20, 5, 10), strict=True):
        os.utime(run.path / "config.toml", (1e9 - age, 1e9 - age))
    (RUNS / "no-run").mkdir()
    assert Run.open().path == runs[1].path


def test_opening_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="There is no run under runs"):
        Run.open()
    with pytest.raises(InputError, match=r"it has no config\.toml"):
        Run.open(tmp_path)
    with pytest.raises(InputError, match=r"nowhere is not a run"):
        Run.open(Path("nowhere"))


def test_output_goes_into_a_folder_of_the_run(run: Run) -> None:
    for _ in range(2):
        path = run.output_path("samples", "a.csv")
    assert path == run.path / "samples" / "a.csv"
    assert path.parent.is_dir()


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
    run.save_model(tensors, METADATA)
    loaded, metadata = run.load_model()
    assert metadata == METADATA
    assert loaded.keys() == tensors.keys()
    assert all(torch.equal(loaded[name], tensors[name]) for name in tensors)
    assert sorted(path.name for path in run.path.iterdir()) == ["config.toml", "model.safetensors"]


def test_an_unfinished_run_has_no_model_and_says_how_to_finish(run: Run) -> None:
    with pytest.raises(InputError, match="has no trained model yet") as caught:
        run.load_model()
    assert f"--resume {run}" in caught.value.remedy


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


def test_no_damage_to_the_model_escapes_as_anything_but_a_bad_input(run: Run) -> None:
    run.save_model({"weight": torch.ones(3)}, METADATA)
    refusals = refusals_when_damaged(run.path / "model.safetensors", run.load_model)
    assert len(refusals) > 100
    assert all("model.safetensors" in refusal for refusal in refusals)


def test_a_model_file_of_another_program_has_no_metadata(run: Run) -> None:
    save_file({"weight": torch.ones(3)}, run.path / "model.safetensors")
    tensors, metadata = run.load_model()
    assert torch.equal(tensors["weight"], torch.ones(3))
    assert metadata == {}


def test_the_environment_noted_last_is_the_one_kept(run: Run) -> None:
    run.save_environment({"device": "cpu", "cores": 2})
    run.save_environment({"device": "cuda:0"})
    assert json.loads((run.path / "environment.json").read_text()) == {"device": "cuda:0"}


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
