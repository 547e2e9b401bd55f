"""What `train` and `compare` say about the rows of a file before they learn them."""

from __future__ import annotations

import io
import shlex
from pathlib import Path

import polars as pl
import pytest
from commands import dualdiff

from dualdiff_cli import seeding


@pytest.mark.parametrize("command", [("train", "--model"), ("compare", "-n", "100", "--model")])
def test_rows_that_are_left_out_are_counted_aloud(command: tuple[str, ...], tmp_path: Path) -> None:
    rng = seeding.stream(0, "notes")
    lines = ["k;x", *(f"{a:.3f};{b:.3f}".replace(".", ",") for a, b in rng.normal(size=(120, 2))), "1,5;", ";2,5"]
    path = tmp_path / "t.csv"
    path.write_text("\n".join(lines), encoding="utf-8")
    words = [*command, "mixture", "--dataset", path, "--run-dir", tmp_path / "run"]
    words += ["--missing", "drop"] if command[0] == "train" else ["--set", "data.missing=drop"]
    result = dualdiff(*words)
    assert result.exit_code == 0, result.stderr
    assert "2 of 122 rows have a missing value and are left out.\n" in result.stderr
    assert "semicolons" in result.stderr
    assert "decimal comma" in result.stderr
    assert "left out" not in result.stdout


def test_a_training_says_which_equations_it_holds_and_offers_those_that_it_cannot_hold_unasked(tmp_path: Path) -> None:
    rng = seeding.stream(0, "equations")
    minutes, hours = rng.integers(0, 60, 100), rng.integers(0, 9, 100)
    lines = [f"{m},{h},{m + 60 * h}" for m, h in zip(minutes, hours, strict=True)]
    path = tmp_path / "times.csv"
    words = ["train", path, "--model", "mixture", "--set", "model.components=2", "--run-dir"]
    path.write_text("\n".join(["minutes,hours,total", *lines]), encoding="utf-8")
    result = dualdiff(*words, tmp_path / "held")
    assert result.exit_code == 0, result.stderr
    assert "In every row total = minutes + 60*hours. The column 'total' is computed so" in result.stderr
    drawn = pl.read_csv(io.StringIO(dualdiff("sample", tmp_path / "held", "-n", "50", "-o", "-").stdout))
    assert (drawn["total"] == drawn["minutes"] + 60 * drawn["hours"]).all()
    own_gap = [lines[0].rpartition(",")[0] + ",", *lines[1:]]
    path.write_text("\n".join(["minutes,hours,total", *own_gap]), encoding="utf-8")
    result = dualdiff(*words, tmp_path / "free")
    assert result.exit_code == 0, result.stderr
    offer = "In every row total = minutes + 60*hours. Drawn rows keep it exactly with --constraint "
    assert offer in result.stderr
    kept = dualdiff(*words, tmp_path / "kept", "--constraint", "total = minutes + 60*hours")
    assert kept.exit_code == 0, kept.stderr
    assert offer not in kept.stderr


def test_columns_offers_one_command_that_keeps_every_equation_and_the_schema(tmp_path: Path) -> None:
    rng = seeding.stream(1, "equations")
    minutes, hours, celsius = rng.integers(0, 60, 100), rng.integers(0, 9, 100), rng.integers(-9, 40, 100)
    rows = pl.DataFrame({"minutes": minutes, "hours": hours, "celsius": celsius})
    rows = rows.with_columns(total=pl.col("minutes") + 60 * pl.col("hours"), kelvin=pl.col("celsius") + 273.15)
    is_there = pl.int_range(pl.len()) > 0  # an equation with a gap of its own is offered and not held unasked
    gaps = [pl.when(is_there).then(name).alias(name) for name in ("total", "kelvin")]
    rows.with_columns(gaps).write_csv(tmp_path / "t.csv")
    (tmp_path / "s.toml").write_text('[columns]\nhours = "integer"\n', encoding="utf-8")
    said = dualdiff("columns", tmp_path / "t.csv", "--schema", tmp_path / "s.toml").stderr
    (offer,) = (line for line in said.splitlines() if "To keep" in line)
    command = shlex.split(offer.partition("exactly: ")[2])
    assert command[:5] == ["dualdiff", "train", str(tmp_path / "t.csv"), "--schema", str(tmp_path / "s.toml")]
    assert set(command[6::2]) == {"total = minutes + 60*hours", "kelvin = celsius + 273.15"}
