"""Points on their way from noise to data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from short_runs import run_of, short

from dualdiff_cli.data import get_density
from dualdiff_cli.diffusion.samplers import build_sampler, draw_noise
from dualdiff_cli.errors import InputError
from dualdiff_cli.jobs.shown import Shown, shown_model
from dualdiff_cli.jobs.train import train
from dualdiff_cli.jobs.trajectories import STEPS_A_FRAME, forward_process, reverse_process
from dualdiff_cli.metrics import mode_scores

FRAMES = 9


@pytest.fixture(scope="module")
def two_modes() -> Shown:
    return shown_model(None, "two-modes", n=800)


def small_share(shown: Shown, places: np.ndarray) -> float:
    """The share of the points that are nearer to the mode of 20 %."""
    assert shown.affine is not None
    shift, scale = shown.affine
    large, small = (get_density("two-modes").modes.centres - shift) / scale  # type: ignore[union-attr]
    return float(np.mean(np.linalg.norm(places - small, axis=1) < np.linalg.norm(places - large, axis=1)))


def test_every_sampler_starts_from_the_same_noise_and_so_does_the_forward_process(two_modes: Shown) -> None:
    forward = forward_process(two_modes, frames=FRAMES, seed=3)
    noise = draw_noise(3, 0, dim=2, draws=1)[0, :800].double().numpy()
    for name in ("ancestral", "ddim", "langevin"):
        process = reverse_process(two_modes, name, n=800, frames=FRAMES, seed=3)
        assert process.states.shape == (FRAMES, 800, 2)
        np.testing.assert_allclose(process.states[0], noise, rtol=2e-3)
        assert np.isfinite(process.states).all()
    np.testing.assert_allclose(forward.states[0], noise, atol=0.25)  # σ/α is 20
    np.testing.assert_allclose(forward.states[-1], two_modes.points)
    assert np.all(np.diff(forward.noise) < 0)
    assert forward.noise[-1] == 0


def test_the_last_frame_is_what_the_sampler_gives(two_modes: Shown) -> None:
    process = reverse_process(two_modes, "heun", n=50, frames=FRAMES, seed=1)
    sampling = two_modes.config.sampling.model_copy(update={"sampler": "heun", "steps": STEPS_A_FRAME * (FRAMES - 1)})
    noise = draw_noise(1, 0, dim=2, draws=1)[0, :50]
    ends = build_sampler(sampling)(two_modes.denoiser, noise)
    np.testing.assert_allclose(process.states[-1], ends.numpy())


def test_plain_langevin_gets_the_shares_of_two_modes_wrong_and_the_reverse_processes_get_them_right(
    two_modes: Shown,
) -> None:
    ends = {
        name: reverse_process(two_modes, name, n=800, frames=40, seed=0).states[-1]
        for name in ("ancestral", "heun", "dpmpp-2m-sde", "langevin")
    }
    shares = {name: small_share(two_modes, places) for name, places in ends.items()}
    for name in ("ancestral", "heun", "dpmpp-2m-sde"):
        assert shares[name] == pytest.approx(0.2, abs=0.06)  # 4 standard deviations of 800 points
    assert shares["langevin"] > 0.35
    assert two_modes.affine is not None
    shift, scale = two_modes.affine
    modes = get_density("two-modes").modes
    assert modes is not None
    off = mode_scores(ends["langevin"] * scale + shift, modes)["off_mode_share"].value
    assert off < 0.1  # the walks have arrived: what is wrong is the shares


def test_a_run_is_shown_in_the_features_of_its_model(trained: dict[str, Any]) -> None:
    shown = shown_model(run_of(trained), None, n=60)
    process = reverse_process(shown, "ddim", n=60, frames=FRAMES, seed=0)
    assert len(process.states) <= FRAMES
    assert process.states.shape[1:] == (60, 2)
    assert shown.model is not None
    assert shown.affine is not None
    assert shown.data is not None
    shift, scale = shown.affine
    of_table = cdist(shown.points * scale + shift, shown.data.held_out.to_numpy())
    assert of_table.min(1).max() < 1e-6
    assert len(set(of_table.argmin(1))) == 60


def test_what_cannot_be_shown_is_refused(
    trained: dict[str, Any], simpler: dict[str, Any], tmp_path: Path, two_modes: Shown
) -> None:
    with pytest.raises(InputError, match="both named"):
        shown_model(run_of(trained), "dino", n=10)
    with pytest.raises(InputError, match="no noise levels") as refusal:
        shown_model(run_of(simpler), None, n=10)
    assert "dual-expert" in refusal.value.remedy
    with pytest.raises(InputError, match="no density 'dyno'"):
        shown_model(None, "dyno", n=10)
    with pytest.raises(InputError, match="2,001 points"):
        shown_model(None, "dino", n=2001)
    with pytest.raises(InputError, match="own steps"):
        reverse_process(two_modes, "adaptive", n=10, frames=5, seed=0)
    with pytest.raises(InputError, match="no sampler 'dimm'"):
        reverse_process(two_modes, "dimm", n=10, frames=5, seed=0)
    table = tmp_path / "three.csv"
    table.write_text(
        "a,b,c\n" + "".join(f"{0.37 * (k * 37 % 61):.2f},{0.1 * (k * 11 % 59):.1f},{k % 7}.25\n" for k in range(60)),
        encoding="utf-8",
    )
    record = train(short(str(table), model="baseline"), path=tmp_path / "three", device="cpu")
    with pytest.raises(InputError, match="3 features") as refusal:
        shown_model(record["run"], None, n=10)
    assert "--columns" in refusal.value.remedy
    assert "use `dualdiff explore` with --given" in refusal.value.remedy  # `animate` has no --given
    with pytest.raises(InputError, match="3 features that are not given") as refusal:
        shown_model(record["run"], None, n=10, given={})
    assert "give cells of all other columns with --given" in refusal.value.remedy
