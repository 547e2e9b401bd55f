"""How runs are made, numbered and found."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dualdiff_cli.config.schema import RunConfig
from dualdiff_cli.errors import InputError
from dualdiff_cli.store.run import RUNS, Run


@pytest.fixture(autouse=True)
def _in_an_empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def run(tiny_config: RunConfig) -> Run:
    return Run.create(tiny_config)


def named(config: RunConfig, dataset: str) -> RunConfig:
    return config.model_copy(update={"dataset": dataset})


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
    with pytest.raises(InputError, match="full is not empty") as caught:
        Run.create(tiny_config, full)
    assert "--resume" not in caught.value.remedy
    assert [path.name for path in full.iterdir()] == ["thesis.tex"]
    with pytest.raises(InputError, match=r"thesis\.tex is not empty"):
        Run.create(tiny_config, full / "thesis.tex")


def test_what_finishes_a_run_can_be_pasted_into_a_shell(tiny_config: RunConfig) -> None:
    run = Run.create(tiny_config, "my runs/$1")
    with pytest.raises(InputError, match="is not empty") as caught:
        Run.create(tiny_config, run.path)
    assert "`dualdiff train --resume 'my runs/$1'`" in caught.value.remedy


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
