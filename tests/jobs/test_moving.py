"""Rows that are moved on within a rare condition keep the conditional distribution."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest
import torch
from scipy.stats import kstest, norm, truncnorm
from tiny import tiny
from torch import Tensor

from dualdiff_cli.errors import InputError
from dualdiff_cli.jobs.moving import Chains
from dualdiff_cli.jobs.sample import sample
from dualdiff_cli.jobs.train import train
from dualdiff_cli.models import FromNoise

RARE = 3.0
CHAINS = 400


def first_coordinates(noise: Tensor, step_noise: Tensor | None) -> Tensor:
    """A model whose x is the first noise itself, and whose y is the mean of the others, scaled to variance one."""
    assert step_noise is not None
    return torch.stack([noise[:, 0], step_noise[:, :, 1].sum(0) / len(step_noise) ** 0.5], dim=1).double()


NORMAL = FromNoise(first_coordinates, 4, 2, lambda x: pl.DataFrame(x, schema=["x", "y"]), None)


def beyond(rows: pl.DataFrame) -> npt.NDArray[np.bool_]:
    accepted: npt.NDArray[np.bool_] = (rows["x"] > RARE).to_numpy()
    return accepted


def starts(seed: int) -> Tensor:
    """Noise of rows that meet the condition, drawn from their distribution."""
    noise = torch.randn(4, CHAINS, 2, generator=torch.Generator().manual_seed(seed))
    tail = truncnorm.rvs(RARE, np.inf, size=CHAINS, random_state=seed)
    noise[0, :, 0] = torch.from_numpy(tail).float()
    return noise


@pytest.mark.parametrize("seed", range(3))
def test_chains_keep_the_tail_of_a_normal_distribution_and_what_is_independent_of_it(seed: int) -> None:
    rows = pl.concat(Chains(NORMAL, beyond, starts(seed), seed=seed).rows(2 * CHAINS))[CHAINS:]
    assert kstest(rows["x"], truncnorm(RARE, np.inf).cdf).pvalue > 1e-3
    assert kstest(rows["y"], norm.cdf).pvalue > 1e-3


def test_chains_forget_where_they_started() -> None:
    begun = starts(0)
    rows = pl.concat(Chains(NORMAL, beyond, begun, seed=0).rows(CHAINS))
    assert abs(np.corrcoef(rows["y"], first_coordinates(begun[0], begun[1:])[:, 1])[0, 1]) < 0.25
    assert abs(np.corrcoef(rows["x"], begun[0, :, 0])[0, 1]) < 0.5


def test_more_rows_than_chains_come_from_the_same_chains_further_on() -> None:
    chains = Chains(NORMAL, beyond, starts(0)[:, :10], seed=0)
    frames = list(chains.rows(25))
    assert sum(frame.height for frame in frames) == 25
    assert (pl.concat(frames)["x"] > RARE).all()
    assert 0 < chains.accepted < chains.proposed


def test_noise_whose_row_does_not_meet_the_condition_is_no_start() -> None:
    begun = starts(0)[:, :20]
    begun[0, :5, 0] = 0.0
    chains = Chains(NORMAL, beyond, begun, seed=0)
    assert chains.independent == 15
    assert (pl.concat(chains.rows(100))["x"] > RARE).all()


@pytest.fixture(scope="module")
def diffusion(shared: Path) -> str:
    config = tiny("precise", settings=["sampling.steps=8"])
    return str(train(config, path=shared / "diffusion-to-move", device="cpu")["run"])


def test_a_condition_that_is_too_rare_for_selection_is_met_by_moved_rows(diffusion: str, tmp_path: Path) -> None:
    free, rows = tmp_path / "free.parquet", tmp_path / "rows.parquet"
    sample(diffusion, n=100_000, output=free, seed=3, device="cpu")
    limit = float(pl.read_parquet(free)["x"].quantile(0.999) or 0)
    record = sample(diffusion, n=3_000, output=rows, where=f"x > {limit}", seed=3, device="cpu")
    x = pl.read_parquet(rows)["x"]
    assert x.min() > limit
    assert x.n_unique() > 2_700
    moved = record["moved_rows"]
    assert 20 <= moved["independent_rows"] < 100
    assert 0.1 < moved["accepted_moves"] < 1
    beyond = pl.read_parquet(free).filter(pl.col("x") > limit)["x"]
    assert x.mean() - limit == pytest.approx(beyond.mean() - limit, rel=0.5)


def test_the_same_seed_moves_to_the_same_rows(diffusion: str, tmp_path: Path) -> None:
    files = [tmp_path / f"{k}.csv" for k in range(2)]
    for file in files:
        sample(diffusion, n=600, output=file, where="x > 1.5 AND y > 1.2", seed=1, device="cpu")
    assert files[0].read_bytes() == files[1].read_bytes()


def test_a_condition_that_nothing_meets_is_still_given_up(diffusion: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="x > 1000"):
        sample(diffusion, n=5, output=tmp_path / "rows.csv", where="x > 1000", device="cpu")
