"""What `train` and `compare` say about the rows of a file before they learn them."""

from __future__ import annotations

from pathlib import Path

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


def test_a_training_offers_to_keep_equations_that_hold_in_every_row(tmp_path: Path) -> None:
    rng = seeding.stream(0, "equations")
    minutes, hours = rng.integers(0, 60, 100), rng.integers(0, 9, 100)
    path = tmp_path / "times.csv"
    rows = (f"{m},{h},{m + 60 * h}" for m, h in zip(minutes, hours, strict=True))
    path.write_text("\n".join(["minutes,hours,total", *rows]), encoding="utf-8")
    words = ["train", path, "--model", "mixture", "--set", "model.components=2", "--run-dir"]
    result = dualdiff(*words, tmp_path / "free")
    assert result.exit_code == 0, result.stderr
    offer = "In every row total = minutes + 60*hours. Drawn rows keep it exactly with --constraint "
    assert offer in result.stderr
    kept = dualdiff(*words, tmp_path / "kept", "--constraint", "total = minutes + 60*hours")
    assert kept.exit_code == 0, kept.stderr
    assert offer not in kept.stderr
