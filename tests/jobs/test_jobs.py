from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from matplotlib.figure import Figure
from safetensors.torch import load_file

from dualdiff_cli import jobs
from dualdiff_cli.config.recipes import resolve
from dualdiff_cli.config.schema import RunConfig, ScheduleConfig
from dualdiff_cli.data import get_density
from dualdiff_cli.diffusion.samplers import BLOCK, generate
from dualdiff_cli.errors import InputError, Interrupted
from dualdiff_cli.jobs import Callbacks
from dualdiff_cli.models import diffusion as models
from dualdiff_cli.models.diffusion import DiffusionModel
from dualdiff_cli.present.figures.gates import gate_profile
from dualdiff_cli.store.run import RUNS, Run
from dualdiff_cli.training.loop import Progress

TINY: dict[str, Any] = {
    "data": {"points": 400, "held_out_points": 400},
    "model": {"width": 8, "blocks": 1, "gate_hidden": [8]},
    "training": {
        "steps": 30,
        "batch": 16,
        "log_every": 5,
        "checkpoint_every": 10,
        "ema_every": 3,
        "ema_warmup": 2,
        "learning_rate": 1e-2,
    },
    "sampling": {"steps": 8},
}
PAPER = {**TINY, "schedule": {"length": 8, "beta_max": 0.9}}
PRECISE = {**TINY, "objective": {"references": 32}}
COLUMNS = ["age (years)", "income"]


def tiny(dataset: str, *, model: str = "dual-expert", recipe: str = "paper") -> RunConfig:
    return resolve(dataset=dataset, model=model, recipe=recipe, options=PAPER if recipe == "paper" else PRECISE)


def write_people(path: Path, *, n: int = 300, seed: int = 0) -> Path:
    rng = np.random.default_rng(seed)
    age = rng.integers(18, 70, n)
    pl.DataFrame({COLUMNS[0]: age, COLUMNS[1]: 0.1 * age + rng.normal(size=n)}).write_csv(path)
    return path


@pytest.fixture(autouse=True)
def _in_an_empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("jobs")


@pytest.fixture(scope="module")
def trained(shared: Path) -> dict[str, Any]:
    """A gated model of a density with known modes."""
    return jobs.train(tiny("eight-gaussians"), path=shared / "gated", device="cpu")


@pytest.fixture(scope="module")
def of_people(shared: Path) -> dict[str, Any]:
    """A single network of a file with an integer column."""
    people = write_people(shared / "people.csv")
    return jobs.train(tiny(str(people), model="baseline"), path=shared / "people", device="cpu")


@pytest.fixture(scope="module")
def evaluated(trained: dict[str, Any]) -> dict[str, Any]:
    return jobs.evaluate(Run(Path(trained["run"])), n=300, device="cpu")


def run_of(record: dict[str, Any]) -> Run:
    return Run.open(Path(record["run"]))


def copy_of(record: dict[str, Any], path: Path) -> Run:
    return Run.open(Path(shutil.copytree(record["run"], path)))


# Training


def test_the_record_of_a_training_says_what_was_trained(trained: dict[str, Any]) -> None:
    weights = load_file(Path(trained["run"], "model.safetensors"))
    assert (
        trained
        | {
            "run": trained["run"],
            "dataset": "eight-gaussians",
            "model": "dual-expert",
            "recipe": "paper",
            "seed": 0,
            "steps": 30,
            "parameters": sum(weight.numel() for weight in weights.values()),
            "train_seconds": trained["train_seconds"],
            "held_out_loss": trained["held_out_loss"],
            "device": "cpu",
        }
        == trained
    )
    assert 0 < trained["train_seconds"] < 60
    assert 0 < trained["held_out_loss"] < 1.2


def test_a_run_holds_everything_about_its_training(of_people: dict[str, Any], shared: Path) -> None:
    path = Path(of_people["run"])
    assert {entry.name for entry in path.iterdir()} - {"samples", "evaluation.json"} == {
        "config.toml",
        "data.json",
        "environment.json",
        "figures",
        "held_out_rows.npy",
        "metrics.jsonl",
        "model.safetensors",
        "state.pt",
    }
    assert [record["step"] for record in run_of(of_people).load_metrics()] == [5, 10, 15, 20, 25, 30]
    environment = json.loads((path / "environment.json").read_text(encoding="utf-8"))
    assert environment["device"] == "cpu"
    assert environment["versions"]["torch"]
    data = json.loads((path / "data.json").read_text(encoding="utf-8"))
    assert data["sha256"] == hashlib.sha256((shared / "people.csv").read_bytes()).hexdigest()
    assert (data["train_rows"], data["held_out_rows"]) == (270, 30)
    rows = np.load(path / "held_out_rows.npy")
    assert len(set(rows.tolist())) == 30
    assert 0 <= rows.min() <= rows.max() < 300


def test_callbacks_hear_the_start_and_every_logged_step(tmp_path: Path) -> None:
    heard: list[Any] = []
    callbacks = Callbacks(
        on_start=lambda run, config, execution: heard.append((str(run), config.training.steps)),
        on_progress=lambda progress: heard.append(progress.step),
    )
    jobs.train(tiny("line", model="baseline"), device="cpu", callbacks=callbacks)
    assert heard == [("runs/line-baseline-1", 30), 5, 10, 15, 20, 25, 30]


def test_what_is_wrong_with_a_request_is_found_before_a_directory_is_made(tmp_path: Path) -> None:
    Path("bad.csv").write_text("a,b\n" + "1,x\n" * 30, encoding="utf-8")
    too_many = resolve(dataset="line", recipe="paper", options={**PAPER, "sampling": {"steps": 9}})
    for config, path, complaint in (
        (tiny("bad.csv"), None, "text in 30 rows"),
        (tiny("bad.csv"), Path("mine"), "text in 30 rows"),
        (tiny("nowhere.csv"), None, "neither a density nor a file"),
        (too_many, None, "9 steps were asked of a schedule with 8 times"),
    ):
        with pytest.raises(InputError, match=complaint):
            jobs.train(config, path=path, device="cpu")
    assert [entry.name for entry in tmp_path.iterdir()] == ["bad.csv"]


def test_a_schedule_that_keeps_signal_is_reported_with_its_alpha_bar() -> None:
    config = tiny("line").model_copy(update={"schedule": ScheduleConfig()})
    with pytest.warns(UserWarning, match=r"36 % of the signal's power \(ᾱ_T = 0\.364\)"):
        record = jobs.train(config, device="cpu")
    assert record["terminal_alpha_bar"] == pytest.approx(0.3636, abs=1e-3)


def test_a_loss_that_is_no_number_ends_the_training_with_the_setting_to_change() -> None:
    rate = ["training.learning_rate=1e30"]
    exploding = resolve(dataset="line", model="baseline", recipe="paper", options=PAPER, settings=rate)
    with pytest.raises(InputError, match=r"no longer a number after .* Lower training.learning_rate"):
        jobs.train(exploding, device="cpu")
    run = Run.open(RUNS / "line-baseline-1")
    assert all(np.isfinite(record["loss"]) for record in run.load_metrics())


# Stopping and going on


class Killed(BaseException):
    """Stands for a process that is gone: nothing of the program catches it."""


@pytest.fixture
def unpainted(monkeypatch: pytest.MonkeyPatch) -> None:
    module = import_module("dualdiff_cli.jobs.train")  # its name in the package is taken by the function
    monkeypatch.setattr(module, "plot", lambda run, **_: [])


@pytest.fixture(scope="module", params=["paper", "precise"])
def recipe(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def whole(recipe: str, shared: Path) -> Run:
    """A run of the recipe that nothing stopped."""
    path = shared / f"whole-{recipe}"
    jobs.train(tiny("line", recipe=recipe), path=path, device="cpu")
    return Run(path)


def assert_same_run(run: Run, other: Run) -> None:
    for name in ("config.toml", "data.json", "metrics.jsonl", "model.safetensors"):
        assert (run.path / name).read_bytes() == (other.path / name).read_bytes(), name


def stop_after(step: int) -> Callable[[], bool]:
    asked = 0

    def should_stop() -> bool:
        nonlocal asked
        asked += 1
        return asked == step

    return should_stop


@pytest.mark.usefixtures("unpainted")
@pytest.mark.parametrize("step", [1, 10, 17, 29])
def test_a_run_that_was_stopped_ends_in_the_same_bytes_as_one_that_was_not(step: int, recipe: str, whole: Run) -> None:
    with pytest.raises(Interrupted, match=rf"Stopped after {step} of 30 steps.*--resume runs/line-dual-expert-1`"):
        jobs.train(tiny("line", recipe=recipe), device="cpu", callbacks=Callbacks(should_stop=stop_after(step)))
    run = Run.open()
    state = run.load_state()
    assert state is not None
    assert state["trainer"]["step"] == step
    record = jobs.resume(run, device="cpu")
    assert record["steps"] == 30
    assert_same_run(run, whole)


@pytest.mark.usefixtures("unpainted")
@pytest.mark.parametrize(("step", "saved"), [(5, None), (10, None), (15, 10), (20, 10), (30, 20)])
def test_a_run_that_was_killed_ends_in_the_same_bytes_as_one_that_was_not(
    step: int, saved: int | None, recipe: str, whole: Run
) -> None:
    def die(progress: Progress) -> None:
        """After the log is written and before the state is."""
        if progress.step == step:
            raise Killed

    with pytest.raises(Killed):
        jobs.train(tiny("line", recipe=recipe), device="cpu", callbacks=Callbacks(on_progress=die))
    run = Run.open()
    state = run.load_state()
    assert (state and state["trainer"]["step"]) == saved
    with open(run.path / "metrics.jsonl", "a", encoding="utf-8") as file:
        file.write('{"step": 3')  # a line that the kill cut short
    jobs.resume(run, device="cpu")
    assert_same_run(run, whole)


def test_resuming_a_finished_run_changes_nothing(whole: Run, tmp_path: Path) -> None:
    run = Run(Path(shutil.copytree(whole.path, tmp_path / "again")))
    jobs.resume(run, device="cpu")
    assert_same_run(run, whole)
    assert (run.path / "state.pt").read_bytes() == (whole.path / "state.pt").read_bytes()


def test_a_data_file_that_changed_is_refused_wherever_its_split_matters(tmp_path: Path) -> None:
    write_people(tmp_path / "people.csv")
    jobs.train(tiny("people.csv", model="baseline"), path=Path("run"), device="cpu")
    run = Run.open(Path("run"))
    write_people(tmp_path / "people.csv", seed=1)
    for job in (jobs.resume, jobs.evaluate, jobs.plot):
        with pytest.raises(InputError, match=r"people.csv has changed since the run run was begun"):
            job(run, device="cpu")
    write_people(tmp_path / "people.csv")
    assert jobs.resume(run, device="cpu")["steps"] == 30


def test_damage_to_what_a_run_resumes_from_is_a_bad_input(whole: Run, tmp_path: Path) -> None:
    run = Run(Path(shutil.copytree(whole.path, tmp_path / "run")))
    (run.path / "data.json").write_text("{", encoding="utf-8")
    with pytest.raises(InputError, match=r"data.json is damaged"):
        jobs.resume(run, device="cpu")
    shutil.copy(whole.path / "data.json", run.path)
    wider = (run.path / "config.toml").read_text(encoding="utf-8").replace("width = 8", "width = 9")
    (run.path / "config.toml").write_text(wider, encoding="utf-8")
    with pytest.raises(InputError, match=r"state of the run .* is of another configuration"):
        jobs.resume(run, device="cpu")


# Sampling


def drawn(record: dict[str, Any], output: str, **options: Any) -> Path:
    jobs.sample(run_of(record), output=output, device="cpu", **options)
    return Path(output)


def test_the_record_of_a_sampling_says_what_was_drawn(trained: dict[str, Any]) -> None:
    heard: list[int] = []
    record = jobs.sample(
        run_of(trained), n=3000, output="x.npy", sample_steps=5, seed=3, device="cpu", on_progress=heard.append
    )
    assert record | {"seconds": 0, "peak_memory_bytes": 0} == {
        "run": trained["run"],
        "n": 3000,
        "columns": ["x", "y"],
        "sampler": "ancestral",
        "sample_steps": 5,
        "precision": "float32",
        "compiled": False,
        "network_evaluations": 5,
        "seed": 3,
        "seconds": 0,
        "peak_memory_bytes": 0,
        "output": "x.npy",
    }
    assert heard[-1] == 3000
    assert np.load("x.npy").shape == (3000, 2)


def test_a_sampling_says_in_which_precision_it_was_done_and_differs_by_that_alone(trained: dict[str, Any]) -> None:
    drawn_points = {}
    for asked in ("float32", "bfloat16", "auto"):
        record = jobs.sample(run_of(trained), n=500, output=f"{asked}.npy", seed=3, device="cpu", precision=asked)
        assert record["precision"] == ("float32" if asked == "auto" else asked)  # so narrow a network gains nothing
        assert record["network_evaluations"] == record["sample_steps"]
        drawn_points[asked] = np.load(f"{asked}.npy")
    assert np.array_equal(drawn_points["float32"], drawn_points["auto"])
    off = np.abs(drawn_points["bfloat16"] - drawn_points["float32"])
    assert 0 < off.max() < 0.1 * drawn_points["float32"].std()


def test_without_an_output_points_go_into_the_run_under_a_name_that_says_how(of_people: dict[str, Any]) -> None:
    record = jobs.sample(run_of(of_people), n=7, seed=2, sample_steps=4, device="cpu")
    assert record["output"] == str(Path(of_people["run"], "samples", "ancestral-4-n7-seed2.csv"))
    assert pl.read_csv(record["output"]).shape == (7, 2)


def test_the_same_seed_gives_the_same_bytes_and_another_one_other_points(trained: dict[str, Any]) -> None:
    first, again, other = (drawn(trained, f"{i}.csv", n=50, seed=seed) for i, seed in enumerate((1, 1, 2)))
    assert first.read_bytes() == again.read_bytes()
    assert not np.isclose(pl.read_csv(first).to_numpy(), pl.read_csv(other).to_numpy()).any()


def test_points_do_not_depend_on_the_chunks_that_they_are_drawn_in(
    trained: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    n = 2 * BLOCK + 100
    in_one = drawn(trained, "one.npy", n=n)
    monkeypatch.setattr(models, "generate", partial(generate, chunk=BLOCK))
    heard: list[int] = []
    in_three = drawn(trained, "three.npy", n=n, on_progress=heard.append)
    assert heard == [BLOCK, 2 * BLOCK, n]
    assert in_one.read_bytes() == in_three.read_bytes()


@pytest.mark.parametrize("n", [1, 100, BLOCK, BLOCK + 1])
def test_the_first_points_of_a_longer_draw_are_those_of_a_shorter_one(n: int, trained: dict[str, Any]) -> None:
    short, long = np.load(drawn(trained, "s.npy", n=n)), np.load(drawn(trained, "l.npy", n=2 * BLOCK))
    np.testing.assert_allclose(short, long[:n], rtol=1e-4, atol=1e-5)


def test_columns_keep_their_names_and_whole_numbers_in_every_format(of_people: dict[str, Any]) -> None:
    n = 40
    csv = pl.read_csv(drawn(of_people, "p.csv", n=n))
    parquet = pl.read_parquet(drawn(of_people, "p.parquet", n=n))
    array = np.load(drawn(of_people, "p.npy", n=n))
    for frame in (csv, parquet):
        assert frame.columns == COLUMNS
        assert frame.dtypes == [pl.Int64, pl.Float64]
    assert parquet.equals(csv)
    assert np.array_equal(array, csv.to_numpy())
    assert csv["income"].std() > 0  # type: ignore[operator]
    assert not np.array_equal(array[:, 1], array[:, 1].round())


def test_a_table_of_whole_numbers_alone_gives_an_array_of_integers(tmp_path: Path) -> None:
    counts = np.random.default_rng(0).poisson(9, (200, 2))
    np.save("counts.npy", counts)
    record = jobs.train(tiny("counts.npy", model="baseline"), path=Path("run"), device="cpu")
    array = np.load(drawn(record, "c.npy", n=20))
    assert array.dtype == np.int64
    assert array.std() > 0


def test_an_unfinished_run_gives_no_samples_and_says_how_to_finish_it() -> None:
    Run.create(tiny("line"), Path("half"))
    with pytest.raises(InputError, match=r"no trained model yet.*train --resume half"):
        jobs.sample(Run.open(Path("half")), n=5, output="x.csv", device="cpu")
    assert not Path("x.csv").exists()


# Scoring


def test_the_record_of_an_evaluation_has_every_metric_with_its_keys(
    evaluated: dict[str, Any], trained: dict[str, Any]
) -> None:
    assert {key: value for key, value in evaluated.items() if key != "metrics"} == {
        "run": trained["run"],
        "dataset": "eight-gaussians",
        "model": "dual-expert",
        "recipe": "paper",
        "n_real": 400,
        "n_generated": 300,
        "sampler": "ancestral",
        "sample_steps": 8,
        "precision": "float32",
        "sample_seconds": evaluated["sample_seconds"],
    }
    assert evaluated["sample_seconds"] > 0
    metrics = evaluated["metrics"]
    assert set(metrics) == {
        "kl_real_generated",
        "kl_generated_real",
        "kl_published",
        "sliced_wasserstein",
        "wasserstein2",
        "classifier_two_sample",
        "classifier_auc",
        "memorisation",
        "copies",
        "mode_coverage",
        "off_mode_share",
        "mode_share_tv",
        "held_out_loss",
        "training_loss_published",
    }
    for name, score in metrics.items():
        assert {"value", "unit", "ci95", "floor"} <= score.keys()
        if score["ci95"] is not None:
            assert score["ci95"][0] <= score["value"] <= score["ci95"][1], name
        assert (score["floor"] is None) == name.endswith(("_loss", "_loss_published")), name
    assert {metrics[name]["unit"] for name in metrics if name.startswith("kl_")} == {"bits"}
    assert json.loads(json.dumps(evaluated, allow_nan=False)) == evaluated


def test_an_evaluation_is_left_in_the_run(evaluated: dict[str, Any], trained: dict[str, Any]) -> None:
    assert json.loads(Path(trained["run"], "evaluation.json").read_text(encoding="utf-8")) == evaluated


def test_the_held_out_loss_is_the_one_that_training_ended_with(
    evaluated: dict[str, Any], trained: dict[str, Any], of_people: dict[str, Any]
) -> None:
    assert evaluated["metrics"]["held_out_loss"]["value"] == trained["held_out_loss"]
    scored = jobs.evaluate(run_of(of_people), n=100, device="cpu")
    assert scored["metrics"]["held_out_loss"]["value"] == of_people["held_out_loss"]
    assert "kl_published" not in scored["metrics"]


def test_points_of_a_file_are_scored_in_place_of_the_models(trained: dict[str, Any], tmp_path: Path) -> None:
    run = copy_of(trained, tmp_path / "run")
    (run.path / "evaluation.json").unlink(missing_ok=True)
    truth = get_density("eight-gaussians").sample(300, np.random.default_rng(9))
    for name, points in (("true", truth), ("shifted", truth + 1.0)):
        pl.DataFrame(points, schema=["x", "y"]).write_csv(f"{name}.csv")
    good, bad = (jobs.evaluate(run, samples=Path(f"{name}.csv"), device="cpu") for name in ("true", "shifted"))
    for name in ("kl_real_generated", "kl_generated_real", "sliced_wasserstein", "classifier_two_sample"):
        close, far = (record["metrics"][name] for record in (good, bad))
        assert far["value"] - far["floor"] > 5 * abs(close["value"] - close["floor"]), name
    assert "held_out_loss" not in good["metrics"]
    assert not (run.path / "evaluation.json").exists()


def test_two_files_are_scored_without_a_run() -> None:
    for seed, name in enumerate(("samples.csv", "truth.csv")):
        write_people(Path(name), n=200 * (1 + seed), seed=seed)
    record = jobs.evaluate_files(Path("samples.csv"), Path("truth.csv"))
    assert (record["run"], record["dataset"], record["n_real"], record["n_generated"]) == (None, "truth.csv", 200, 200)
    kl = record["metrics"]["kl_real_generated"]
    assert kl["unit"] == "bits"
    assert abs(kl["value"] - kl["floor"]) < 0.5


def test_a_file_without_the_columns_of_the_run_is_refused(trained: dict[str, Any]) -> None:
    write_people(Path("people.csv"))
    with pytest.raises(InputError, match=r"people.csv has no column 'x'"):
        jobs.evaluate(run_of(trained), samples=Path("people.csv"), device="cpu")


def test_the_exact_likelihood_is_scored_against_the_true_entropy(trained: dict[str, Any], tmp_path: Path) -> None:
    run = copy_of(trained, tmp_path / "run")
    metrics = jobs.evaluate(run, n=100, exact=True, device="cpu")["metrics"]
    nll, excess, kl = (metrics[name] for name in ("nll_held_out", "nll_excess", "kl_real_model"))
    assert {score["unit"] for score in (nll, excess, kl)} == {"bits"}
    assert {score["n_real"] for score in (nll, excess, kl)} == {400}
    assert nll["floor"] == pytest.approx(get_density("eight-gaussians").entropy() / np.log(2))
    assert (excess["floor"], kl["floor"]) == (0.0, 0.0)
    assert excess["value"] == pytest.approx(nll["value"] - nll["floor"])
    assert kl["ci95"][0] > 0, "thirty steps of a tiny network are not perfect"
    assert excess["ci95"][0] < kl["value"] < excess["ci95"][1]
    assert "twice the integrator's step" in nll["notes"][0]


def test_the_likelihood_of_a_file_has_no_true_entropy_beside_it(of_people: dict[str, Any], tmp_path: Path) -> None:
    metrics = jobs.evaluate(copy_of(of_people, tmp_path / "run"), n=100, exact=True, device="cpu")["metrics"]
    assert {"nll_excess", "kl_real_model"}.isdisjoint(metrics)
    nll = metrics["nll_held_out"]
    assert (nll["floor"], nll["n_real"]) == (None, 30)
    # Whole years from 18 to 69 and a normal about a line of them: log2 52 + 2.05 bits, plus what thirty steps leave.
    assert 7.7 < nll["value"] < 20


def test_a_diagnosis_splits_the_divergences_into_parts_that_add_up(trained: dict[str, Any], tmp_path: Path) -> None:
    run = copy_of(trained, tmp_path / "run")
    record = jobs.evaluate(run, n=300, diagnosis=True, device="cpu")
    assert json.loads((run.path / "evaluation.json").read_text(encoding="utf-8")) == record
    assert set(record["diagnosis"]) == {"kl_real_generated", "kl_generated_real"}
    for name, parts in record["diagnosis"].items():
        metric = record["metrics"][name]
        assert list(parts) == ["floor", "schedule_and_sampler", "network", "total"]
        assert (parts["floor"]["value"], parts["total"]["value"]) == (metric["floor"], metric["value"])
        values = [part["value"] for part in parts.values()]
        assert sum(values[:3]) == pytest.approx(values[3])
        assert all(part["ci95"][0] <= part["value"] <= part["ci95"][1] for part in parts.values())
    assert record["diagnosis"]["kl_generated_real"]["network"]["ci95"][0] > 0
    path = record["metrics"]["kl_path"]
    assert (path["unit"], path["floor"]) == ("bits", 0.0)
    assert 0 < path["ci95"][0] < path["value"] < path["ci95"][1]


def test_a_diagnosis_sees_a_sampler_that_is_too_coarse(trained: dict[str, Any], tmp_path: Path) -> None:
    run = copy_of(trained, tmp_path / "run")
    coarse, fine = (
        jobs.evaluate(run, n=300, sampler="ddim", sample_steps=steps, diagnosis=True, device="cpu")["diagnosis"]
        for steps in (2, 8)
    )
    cost = [found["kl_real_generated"]["schedule_and_sampler"] for found in (coarse, fine)]
    assert cost[0]["ci95"][0] > max(0.3, cost[1]["ci95"][1])


def test_what_has_no_likelihood_or_no_exact_denoiser_is_refused(
    trained: dict[str, Any], of_people: dict[str, Any]
) -> None:
    with pytest.raises(InputError, match=r"exact denoiser of the data, which a file like .*people.csv does not have"):
        jobs.evaluate(run_of(of_people), diagnosis=True, device="cpu")
    for samples, against in ((Path("a.csv"), None), (None, Path("a.csv"))):
        with pytest.raises(InputError, match="not about points in a file"):
            jobs.evaluate(run_of(trained), samples=samples, against=against, exact=True, device="cpu")


# Pictures


def pictures(record: dict[str, Any]) -> set[str]:
    return {path.name for path in Path(record["run"], "figures").iterdir()}


def test_pictures_of_gates_are_made_of_gated_models_only(trained: dict[str, Any], of_people: dict[str, Any]) -> None:
    assert pictures(of_people) == {"samples.png", "loss.png"}
    gates = {"gate-scatter.png", "gate-histogram.png", "gate-profile.png"}
    assert pictures(trained) == {"samples.png", "loss.png"} | gates


def test_a_gate_on_time_is_drawn_over_the_finite_noise_levels_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = []

    def keep(noise: np.ndarray, weights: np.ndarray, *, title: str) -> Figure:
        drawn.append((noise, weights))
        return gate_profile(noise, weights, title=title)

    monkeypatch.setattr(import_module("dualdiff_cli.jobs.plot"), "gate_profile", keep)
    straight = {**PRECISE, "schedule": {"name": "straight-line"}}
    record = jobs.train(
        resolve(dataset="line", recipe="precise", options=straight), path=tmp_path / "run", device="cpu"
    )
    assert pictures(record) == {"samples.png", "loss.png", "gate-profile.png"}
    ((noise, weights),) = drawn
    t = np.linspace(1, 1e-3, 64)[1:]  # at t = 1 there is no signal left
    np.testing.assert_allclose(noise, t / (1 - t))
    model = DiffusionModel.load(run_of(record), torch.device("cpu"))
    anywhere = model.denoiser.gate(torch.zeros(len(t), 2, dtype=torch.float64), torch.from_numpy(t))
    np.testing.assert_allclose(weights, anywhere, atol=1e-5)


def test_pictures_are_drawn_again_where_they_were(of_people: dict[str, Any], tmp_path: Path) -> None:
    run = copy_of(of_people, tmp_path / "run")
    before = {path.name: path.read_bytes() for path in (run.path / "figures").iterdir()}
    shutil.rmtree(run.path / "figures")
    paths = [Path(path) for path in jobs.plot(run, device="cpu")]
    assert {path.name: path.read_bytes() for path in paths} == before
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)
