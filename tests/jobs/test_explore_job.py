"""The page of the explorer: its data are the samplers' states, and its scripts read them."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from conditions import known_rows
from short_runs import run_of

from dualdiff_cli.errors import InputError
from dualdiff_cli.jobs.explore import EXPLORED, GUIDANCE, explore
from dualdiff_cli.jobs.inputs import data_of_run
from dualdiff_cli.jobs.shown import shown_model
from dualdiff_cli.jobs.trajectories import forward_process, reverse_process
from dualdiff_cli.models import load_model
from dualdiff_cli.present.explorer.page import FULL


def data_of(folder: Path) -> dict[str, Any]:
    text = (folder / "data.js").read_text(encoding="utf-8")
    found = re.fullmatch(r"const DUALDIFF = (.*);\n", text)
    assert found
    data: dict[str, Any] = json.loads(found[1])
    return data


def positions(text: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), "<i2") / FULL


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("explorer") / "page"
    record = explore(dataset="two-modes", output=folder, points=150, frames=7, seed=2)
    assert (record["run"], record["dataset"], record["samplers"]) == (None, "two-modes", list(EXPLORED))
    assert record["bytes"] == sum(path.stat().st_size for path in folder.iterdir())
    return folder


def test_the_page_holds_the_states_of_every_sampler_but_for_rounding(page: Path) -> None:
    data, shown = data_of(page), shown_model(None, "two-modes", n=150)
    assert (data["frames"], data["points"]) == (7, 150)
    for process in data["processes"]:
        if process["name"] == "forward":
            states = forward_process(shown, frames=7, seed=2).states
        else:
            states = reverse_process(shown, process["name"], n=150, frames=7, seed=2).states
        kept = data["limit"] * positions(process["states"][0]).reshape(states.shape)
        limited = states.clip(-data["limit"], data["limit"])
        assert np.abs(kept - limited).max() <= data["limit"] / FULL
        assert np.mean(states == limited) > 0.99
        assert (process["still"] is None) == (process["name"] != "langevin")


def test_only_langevin_dynamics_stay_at_one_noise_level_also_in_two_frames(tmp_path: Path) -> None:
    explore(dataset="two-modes", output=tmp_path / "page", samplers=["ddim", "ULA"], points=5, frames=2)
    still = {process["name"]: process["still"] for process in data_of(tmp_path / "page")["processes"]}
    assert (still["forward"], still["ddim"]) == (None, None)
    assert still["langevin"] > 0


def test_the_arrows_point_to_what_the_denoiser_answers(page: Path) -> None:
    data = data_of(page)
    side = data["field"]["side"]
    answers = data["limit"] * positions(data["field"]["answers"]).reshape(7, side, side, 2)
    mean = shown_model(None, "two-modes", n=2000).points.mean(axis=0)
    np.testing.assert_allclose(answers[0], np.broadcast_to(mean, answers[0].shape), atol=0.3)  # σ/α is 20
    axis = ((np.arange(side) + 0.5) / side * 2 - 1) * data["limit"]
    np.testing.assert_allclose(answers[-1, :, :, 0], np.broadcast_to(axis, (side, side)), atol=1e-3)
    np.testing.assert_allclose(answers[-1, :, :, 1], np.broadcast_to(axis[:, None], (side, side)), atol=1e-3)


def test_the_heat_map_is_brightest_at_the_heavier_mode(page: Path) -> None:
    data = data_of(page)
    side = data["density"]["side"]
    shares = np.frombuffer(base64.b64decode(data["density"]["shares"]), np.uint8).reshape(side, side)
    row, column = np.unravel_index(shares.argmax(), shares.shape)
    place = (np.array([column, row]) + 0.5) / side * 2 - 1
    np.testing.assert_allclose(place * data["limit"], data["modes"]["centres"][0], atol=2.5 * data["limit"] / side)
    assert data["modes"]["shares"] == [0.8, 0.2]


def test_the_page_needs_no_server_and_no_network(page: Path) -> None:
    html = (page / "index.html").read_text(encoding="utf-8")
    for name in re.findall(r'(?:src|href)="([^"]+)"', html):
        assert name.startswith("data:") or (page / name).is_file()
    scripts = "".join(path.read_text(encoding="utf-8") for path in page.glob("*.js") if path.name != "data.js")
    assert not re.search(r"https?://|fetch\(|import |XMLHttpRequest", scripts + html)


@pytest.mark.skipif(shutil.which("node") is None, reason="no node to run the scripts")
def test_the_script_reads_the_states_interpolates_and_counts(page: Path) -> None:
    script = """
const fs = require("fs"), vm = require("vm");
const context = vm.createContext({ atob });
for (const name of ["data.js", "unpack.js"]) vm.runInContext(fs.readFileSync(name, "utf8"), context);
const result = vm.runInContext(`
  const positions = positionsOf(DUALDIFF.processes[1].states[0]), size = 2 * DUALDIFF.points;
  JSON.stringify({
    last: Array.from(between(positions, size, DUALDIFF.frames, 6, new Float32Array(size))),
    middle: Array.from(between(positions, size, DUALDIFF.frames, 2.25, new Float32Array(size))),
    shares: sharesOf([0, 0, 1, 1, 0.9, 1, 0.2, 0], [[0, 0], [1, 1]]),
  })`, context);
console.log(result);
"""
    done = subprocess.run(["node", "-e", script], cwd=page, capture_output=True, text=True, check=True)
    read = json.loads(done.stdout)
    states = positions(data_of(page)["processes"][1]["states"][0]).reshape(7, -1)
    np.testing.assert_allclose(read["last"], states[6], atol=1e-6)
    np.testing.assert_allclose(read["middle"], 0.75 * states[2] + 0.25 * states[3], atol=1e-6)
    assert read["shares"] == [0.5, 0.5]


def test_the_page_of_a_run_has_the_weights_of_its_experts_and_the_density_of_the_data(
    trained: dict[str, Any], tmp_path: Path
) -> None:
    record = explore(run_of(trained), output=tmp_path / "page", samplers=["ddim"], points=40, frames=5, device="cpu")
    assert (record["run"], record["samplers"], record["points"]) == (trained["run"], ["ddim"], 40)
    data = data_of(tmp_path / "page")
    weights = np.array(data["experts"]["weights"])
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-3)
    assert len(data["experts"]["noise"]) == len(weights)
    assert len(data["modes"]["shares"]) == 8


@pytest.fixture(scope="module")
def guided(of_gaps: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of two columns of a model with four, of which two are given."""
    folder = tmp_path_factory.mktemp("guided") / "page"
    given = {"side": "high", "hits": "3"}
    options: dict[str, Any] = {"samplers": ["ddim"], "points": 300, "frames": 6, "device": "cpu"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dualdiff_cli.jobs.explore.MODEL_CELLS", 8)  # a density of folds takes long
        record = explore(run_of(of_gaps), output=folder, given=given, **options)
    assert (record["given"], record["guidance"]) == (given, list(GUIDANCE))
    return folder


def test_the_points_are_of_all_rows_of_rows_with_the_given_cells_or_beyond_them_by_the_weight(
    guided: Path, of_gaps: dict[str, Any]
) -> None:
    data, encoding = data_of(guided), load_model(run_of(of_gaps), device=torch.device("cpu")).encoding
    assert (data["columns"], data["given"]["words"]) == (["x", "y"], "side = high, hits = 3")
    ends = [
        data["limit"] * positions(states).reshape(data["frames"], 300, 2)[-1].mean(axis=0)
        for states in data["processes"][1]["states"]
    ]
    places = [encoding.spans[encoding.names.index(name)].start for name in ("x", "y")]
    rows = known_rows(20_000, seed=5)
    alike = rows.filter(pl.col("side") == "high", pl.col("hits") == 3)
    of_all, of_alike = (encoding.encode(part, None)[:, places].mean(axis=0) for part in (rows, alike))
    np.testing.assert_allclose(ends[0], of_all, atol=0.2)
    np.testing.assert_allclose(ends[1], of_alike, atol=0.2)
    distances = [np.linalg.norm(end - of_all) for end in ends]
    assert distances[1] < distances[2] < distances[3]


def test_true_points_have_the_given_cells_and_the_noise_is_the_same_for_all_weights(
    guided: Path, of_gaps: dict[str, Any]
) -> None:
    data, run = data_of(guided), run_of(of_gaps)
    known = data_of_run(run)
    rows = pl.concat([known.held_out, known.train]).drop_nulls()
    forward, ddim = data["processes"]
    assert forward["points"] == rows.filter(pl.col("side") == "high", pl.col("hits") == 3).height > 0
    starts = [positions(states).reshape(data["frames"], 300, 2)[0] for states in ddim["states"]]
    for start in starts:
        np.testing.assert_allclose(start - start.mean(axis=0), starts[0] - starts[0].mean(axis=0), atol=1e-3)
    assert data["density"]["of"] == "the model"


def test_given_cells_that_cannot_be_shown_are_refused(
    trained: dict[str, Any], of_gaps: dict[str, Any], tmp_path: Path
) -> None:
    for source, dataset, given, named, remedy in (
        (run_of(of_gaps), None, {"side": "high"}, "3 features", "--given"),
        (run_of(of_gaps), None, {"side": "medium", "hits": 3}, "medium", "value"),
        (run_of(trained), None, {"x": 0.5}, "not learnt", "objective.conditional"),
        (None, "two-modes", {"x": 0.5}, "two-modes", "--given"),
    ):
        with pytest.raises(InputError, match=named) as refusal:
            explore(source, dataset=dataset, given=given, output=tmp_path / "page", points=10, device="cpu")
        assert remedy in refusal.value.remedy
    assert not (tmp_path / "page").exists()


def test_a_place_that_cannot_be_a_folder_and_too_few_frames_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("", encoding="utf-8")
    with pytest.raises(InputError, match="is a file"):
        explore(dataset="dino", output=file)
    with pytest.raises(InputError, match="1 frames"):
        explore(dataset="dino", output=tmp_path / "page", frames=1)
