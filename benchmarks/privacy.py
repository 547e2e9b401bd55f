"""What a model tells about its training rows: attacks that tell training rows from fresh rows of the same truth.

    nice -n 19 python benchmarks/privacy.py                     # measure what is not there yet
    python benchmarks/privacy.py --show                         # the table of what is there

Somebody has the model and a row, and wants to know whether the row was among the training rows. Two attacks give every
row a score, which is meant to be larger for training rows:

- *distance*: minus the distance to the nearest of 10,000 generated rows, whitened by the covariance of these rows. It
  needs generated rows alone.
- *likelihood*: of a diffusion model, minus the mean squared error of the noise that the denoiser finds in noisy copies
  of the row, over noise levels that are even in log SNR; of any other model, its log-density. It needs the model.

The area under the ROC curve (AUC) is the probability that a training row has a larger score than a fresh row: 0.5 for
an attack that learns nothing, 1 for one that is always right. Its interval of 95 % is a percentile bootstrap over both
kinds of rows. The truths are those of `few_rows.py`. The rows that `train` holds out are left out.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from few_rows import Cell
from scipy.spatial import KDTree
from sklearn.metrics import roc_auc_score
from truths import TRUTHS

from dualdiff_cli import resolve, seeding, train
from dualdiff_cli.compute.device import choose_device
from dualdiff_cli.compute.machine import describe_machine
from dualdiff_cli.diffusion.denoisers import Denoiser
from dualdiff_cli.jobs.inputs import load_run_data
from dualdiff_cli.models import Model, load_model
from dualdiff_cli.models.diffusion import DiffusionModel
from dualdiff_cli.present.tables import Column, Table
from dualdiff_cli.store.atomic import write_json
from dualdiff_cli.store.run import Run

RESULTS = Path(__file__).parent / "results" / "privacy.json"
GENERATED = 10_000
FRESH = 1_000
"""The number of fresh rows, which the model has never seen."""
LEVELS, COPIES = 16, 32
"""The number of noise levels, and of noisy copies of a row at each."""
RESAMPLES = 1_000
MODELS = ("dual-expert", "mixture", "kernel-density")


def nearness(model: Model, rows: pl.DataFrame, *, seed: int) -> np.ndarray:
    """Give minus the distance of each row to the nearest generated row."""
    generated = model.sample(GENERATED, seed=seed).to_numpy()
    whitening = np.linalg.inv(np.linalg.cholesky(np.cov(generated.T))).T
    return -KDTree(generated @ whitening).query(rows.to_numpy() @ whitening)[0]


def likelihood(model: Model, rows: pl.DataFrame, *, seed: int) -> np.ndarray:
    """Give the log-density of each row, or, of a diffusion model, minus its denoising loss."""
    if not isinstance(model, DiffusionModel):
        return model.log_density(rows, seed=seed)
    features = torch.from_numpy(model.encoding.encode(rows, seeding.stream(seed, "dequantise"))).float()
    return -denoising_loss(model.denoiser, features, seed=seed).numpy()


@torch.no_grad()
def denoising_loss(denoiser: Denoiser, features: torch.Tensor, *, seed: int) -> torch.Tensor:
    """Give the mean squared error of the noise that a denoiser finds in noisy copies of each row, (n,).

    Args:
        denoiser: of a continuous schedule.
        features: the rows, (n, width).
        seed: of the noise, which is the same for every row.

    """
    schedule, losses = denoiser.schedule, torch.zeros(len(features))
    generator = seeding.torch_stream(seed, "noise of the attack")
    ends = [2 * float(schedule.lam_end), 2 * float(schedule.lam_start)]
    for t in schedule.time(torch.linspace(*ends, LEVELS, dtype=torch.float64)):
        alpha, sigma = (float(value) for value in schedule(t))
        for epsilon in torch.randn(COPIES, features.shape[1], generator=generator):
            clean = denoiser(alpha * features + sigma * epsilon, t)
            losses += (alpha / sigma * (features - clean)).square().mean(1)  # the error of (x_t − α·clean)/σ as noise
    return losses / (LEVELS * COPIES)


def area(learnt: np.ndarray, fresh: np.ndarray, *, seed: int) -> dict[str, Any]:
    """Give the AUC of an attack with its 95 % interval, from the scores of training rows and of fresh rows."""
    rng = seeding.stream(seed, "bootstrap of the attack")
    labels = np.repeat([1, 0], [len(learnt), len(fresh)])

    def auc(*scores: np.ndarray) -> float:
        return float(roc_auc_score(labels, np.concatenate(scores)))

    drawn = [auc(*(rng.choice(scores, len(scores)) for scores in (learnt, fresh))) for _ in range(RESAMPLES)]
    return {"auc": auc(learnt, fresh), "ci95": np.quantile(drawn, [0.025, 0.975]).tolist(), "floor": 0.5}


def measure(cell: Cell) -> dict[str, Any]:
    """Train the model of a cell, and attack it."""
    rows, fresh, _ = cell.draw()
    names = [f"x{i + 1}" for i in range(cell.columns)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "rows.parquet")
        pl.DataFrame(rows, schema=names).write_parquet(path)
        options = {"seed": cell.seed, "data": {"held_out_fraction": max(0.1, 20 / cell.rows)}}
        record = train(
            resolve(dataset=str(path), model=cell.model, rows=cell.rows, options=options),
            path=Path(folder, "run"),
            device="cpu",
        )
        run = Run.open(record["run"])
        model, learnt = load_model(run, device=choose_device("cpu")), load_run_data(run.config).train
        both = pl.concat([learnt, pl.DataFrame(fresh[:FRESH], schema=names)])
        attacks = {}
        for name, attack in (("distance", nearness), ("likelihood", likelihood)):
            scores = attack(model, both, seed=cell.seed)
            attacks[name] = area(scores[: learnt.height], scores[learnt.height :], seed=cell.seed)
    facts = {"training_rows": learnt.height, "fresh_rows": FRESH, "train_seconds": record["train_seconds"]}
    return {**cell._asdict(), **facts, "recipe": record["recipe"], "attacks": attacks}


def table(results: list[dict[str, Any]]) -> Table:
    """Lay out the AUC of both attacks, with its interval."""

    def text(attack: dict[str, Any]) -> str:
        low, high = attack["ci95"]
        return f"{attack['auc']:.3f} ({low:.3f}–{high:.3f})"

    ordered = sorted(results, key=lambda r: (r["truth"], r["columns"], MODELS.index(r["model"])))
    body = tuple(
        (
            r["truth"],
            f"{r['rows']} × {r['columns']}",
            r["model"],
            *(text(r["attacks"][name]) for name in ("distance", "likelihood")),
        )
        for r in ordered
    )
    heads = ("truth", "rows × columns", "model", "AUC by distance", "AUC by likelihood")
    return Table("Training rows told from fresh rows", tuple(Column(head) for head in heads), body)


def main() -> None:
    """Measure the cells that are not there yet, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--truth", nargs="+", choices=list(TRUTHS), default=["mixture", "sheet", "copula"])
    parser.add_argument("--rows", type=int, default=300)
    parser.add_argument("--columns", nargs="+", type=int, default=[2, 5])
    parser.add_argument("--model", nargs="+", choices=MODELS, default=MODELS)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--show", action="store_true", help="print the table of what is there, and run nothing")
    args = parser.parse_args()
    kept = json.loads(args.output.read_text(encoding="utf-8")) if args.output.exists() else {"results": []}
    done = {tuple(result[key] for key in Cell._fields) for result in kept["results"]}
    for seed in range(args.seeds):
        for cell in (
            Cell(truth, args.rows, columns, model, seed)
            for columns in args.columns
            for truth in args.truth
            for model in args.model
        ):
            if cell in done or args.show:
                continue
            kept["results"].append(result := measure(cell))
            write_json(args.output, {**kept, "machine": describe_machine()})
            print(*cell, json.dumps(result["attacks"]), flush=True)
    print(table(kept["results"]).to_markdown())


if __name__ == "__main__":
    main()
