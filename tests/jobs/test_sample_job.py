from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from people import PEOPLE
from short_runs import run_of, short

from dualdiff_cli import seeding
from dualdiff_cli.diffusion.samplers import BLOCK
from dualdiff_cli.errors import InputError
from dualdiff_cli.jobs.sample import sample
from dualdiff_cli.jobs.train import train
from dualdiff_cli.models import DrawingOptions, diffusion
from dualdiff_cli.store.run import Run


def drawn(record: dict[str, Any], output: str, **options: Any) -> Path:
    sample(record["run"], output=output, device="cpu", **options)
    return Path(output)


def test_the_record_of_a_sampling_says_what_was_drawn(trained: dict[str, Any]) -> None:
    heard: list[int] = []
    steps = DrawingOptions(steps=5)
    record = sample(trained["run"], n=3000, output="x.npy", options=steps, seed=3, on_progress=heard.append)
    assert record | {"seconds": 0, "peak_memory_bytes": 0} == {
        "run": trained["run"],
        "n": 3000,
        "columns": ["x", "y"],
        "sampler": "ancestral",
        "sample_steps": 5,
        "precision": "float32",
        "compiled": False,
        "network_evaluations": 5,
        "redrawn": record["redrawn"],
        "seed": 3,
        "seconds": 0,
        "peak_memory_bytes": 0,
        "output": "x.npy",
    }
    assert heard[-1] == 3000
    assert np.load("x.npy").shape == (3000, 2)


def test_a_model_that_is_no_diffusion_model_has_no_sampler_in_its_record_and_the_same_rows_for_a_seed(
    simpler: dict[str, Any],
) -> None:
    record = sample(simpler["run"], n=50, seed=2)
    assert record["columns"] == ["x", "y"]
    assert [record[key] for key in ("sampler", "sample_steps", "network_evaluations")] == [None, None, None]
    assert Path(record["output"]).parent == Path(simpler["run"], "samples")
    rows = pl.read_csv(record["output"])
    longer = pl.read_csv(drawn(simpler, "longer.csv", n=90, seed=2))
    assert rows.equals(longer[:50])
    assert not rows.equals(pl.read_csv(drawn(simpler, "other.csv", n=50, seed=3)))


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (DrawingOptions(sampler="heun"), "--sampler"),
        (DrawingOptions(steps=9), "--sample-steps"),
        (DrawingOptions(precision="bfloat16"), "--precision"),
        (DrawingOptions(compile="on"), "--compile"),
    ],
)
def test_a_model_that_is_no_diffusion_model_refuses_the_options_of_a_sampler(
    options: DrawingOptions, named: str, simpler: dict[str, Any]
) -> None:
    with pytest.raises(InputError, match=f"{named} does not apply to the model .*Leave {named} out"):
        sample(simpler["run"], n=50, output="x.csv", options=options)
    assert not Path("x.csv").exists()


def test_a_sampling_says_in_which_precision_it_was_done_and_differs_by_that_alone(trained: dict[str, Any]) -> None:
    rows = {}
    for asked in ("float32", "bfloat16", "auto"):
        options = DrawingOptions(precision=asked)  # type: ignore[arg-type]
        record = sample(trained["run"], n=500, output=f"{asked}.npy", seed=3, device="cpu", options=options)
        assert record["precision"] == ("float32" if asked == "auto" else asked)  # so narrow a network gains nothing
        assert record["network_evaluations"] == record["sample_steps"]
        rows[asked] = np.load(f"{asked}.npy")
    assert np.array_equal(rows["float32"], rows["auto"])
    off = np.abs(rows["bfloat16"] - rows["float32"])
    assert 0 < off.max() < 0.1 * rows["float32"].std()


def test_without_an_output_rows_go_into_the_run_under_a_name_that_says_how(of_people: dict[str, Any]) -> None:
    record = sample(of_people["run"], n=7, seed=2, options=DrawingOptions(steps=4), device="cpu")
    assert record["output"] == str(Path(of_people["run"], "samples", "ancestral-4-n7-seed2.csv"))
    assert pl.read_csv(record["output"]).shape == (7, 2)


def test_the_same_seed_gives_the_same_bytes_and_another_one_other_rows(trained: dict[str, Any]) -> None:
    first, again, other = (drawn(trained, f"{i}.csv", n=50, seed=seed) for i, seed in enumerate((1, 1, 2)))
    assert first.read_bytes() == again.read_bytes()
    assert not np.isclose(pl.read_csv(first).to_numpy(), pl.read_csv(other).to_numpy()).any()


def test_rows_do_not_depend_on_the_chunks_that_they_are_drawn_in(trained: dict[str, Any]) -> None:
    n = 2 * BLOCK + 100
    in_one = drawn(trained, "one.npy", n=n)
    heard: list[int] = []
    in_three = drawn(trained, "three.npy", n=n, options=DrawingOptions(frame=BLOCK), on_progress=heard.append)
    assert heard == [BLOCK, 2 * BLOCK, n]
    # Rows that are drawn again are drawn together with other ones, so that their products are rounded otherwise.
    np.testing.assert_allclose(np.load(in_one), np.load(in_three), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("n", [1, 100, BLOCK, BLOCK + 1])
def test_the_first_rows_of_a_longer_draw_are_those_of_a_shorter_one(n: int, trained: dict[str, Any]) -> None:
    short_draw, long_draw = np.load(drawn(trained, "s.npy", n=n)), np.load(drawn(trained, "l.npy", n=2 * BLOCK))
    np.testing.assert_allclose(short_draw, long_draw[:n], rtol=1e-4, atol=1e-5)


def test_columns_keep_their_names_and_whole_numbers_in_every_format(of_people: dict[str, Any]) -> None:
    n = 40
    csv = pl.read_csv(drawn(of_people, "p.csv", n=n))
    parquet = pl.read_parquet(drawn(of_people, "p.parquet", n=n))
    array = np.load(drawn(of_people, "p.npy", n=n))
    for frame in (csv, parquet):
        assert frame.columns == PEOPLE
        assert frame.dtypes == [pl.Int64, pl.Float64]
    assert parquet.equals(csv)
    assert np.array_equal(array, csv.to_numpy())
    assert csv["income"].std() > 0  # type: ignore[operator]
    assert not np.array_equal(array[:, 1], array[:, 1].round())


def test_a_table_of_whole_numbers_alone_gives_an_array_of_integers() -> None:
    np.save("counts.npy", seeding.stream(0, "counts").poisson(9, (200, 2)))
    record = train(short("counts.npy", model="baseline"), path="run", device="cpu")
    array = np.load(drawn(record, "c.npy", n=20))
    assert array.dtype == np.int64
    assert array.std() > 0


def test_an_unfinished_run_gives_no_samples_and_says_how_to_finish_it() -> None:
    Run.create(short(), "half")
    with pytest.raises(InputError, match=r"half has no trained model.*train --resume half"):
        sample("half", n=5, output="x.csv", device="cpu")
    assert not Path("x.csv").exists()


def test_a_run_can_be_named_by_its_path_and_a_model_needs_no_run(trained: dict[str, Any]) -> None:
    run = run_of(trained)
    model = diffusion.DiffusionModel.load(run, device=diffusion.torch.device("cpu"))
    for number, source in enumerate((run, str(run), run.path, model)):
        record = sample(source, n=9, output=f"{number}.csv", device="cpu")
        assert record["run"] == (None if source is model else str(run))
    assert len({Path(f"{number}.csv").read_bytes() for number in range(4)}) == 1
