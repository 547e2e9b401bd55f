"""The denoising losses of a run, on held-out and on training rows."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
import torch
from tiny import tiny

from dualdiff_cli import seeding
from dualdiff_cli.data import Data
from dualdiff_cli.models.fitting import build_network_denoiser
from dualdiff_cli.models.losses import losses_of_run
from dualdiff_cli.store.run import Run
from dualdiff_cli.training import gaps


def test_what_gaps_hide_is_fitted_once_for_both_losses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = pl.DataFrame(seeding.stream(0, "rows").normal(size=(80, 2)), schema=["a", "b"])
    rows = rows.with_columns(pl.when(pl.col("a") > -1).then(pl.col("a")))
    data, config = Data("test", rows.head(60), rows.tail(20), None, {}), tiny("paper")
    denoiser = build_network_denoiser(config, data.encoding.width, data.encoding.layout.discrete)
    monkeypatch.setattr(Run, "load_state", lambda run: {"trainer": {"network": denoiser.weights()}})
    fitted, fit = [], gaps._fitted
    monkeypatch.setattr(gaps, "_fitted", lambda z, *args, **more: fitted.append(len(z)) or fit(z, *args, **more))
    run, cpu = Run.create(config, tmp_path / "run"), torch.device("cpu")
    losses = losses_of_run(denoiser, run, data, config=config, encoding=data.encoding, device=cpu, seed=0)
    assert {name: score.n_real for name, score in losses.items()} == {
        "held_out_loss": 20,
        "training_loss_published": 60,
    }
    assert fitted == [60]
