"""Damaged files: some are still tables, and all others are refused in two sentences."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from dualdiff_cli import seeding
from dualdiff_cli.data import READABLE, WRITABLE, read_table, write_chunks
from dualdiff_cli.errors import InputError

N = 60
FRAME = pl.DataFrame(
    {
        "a": seeding.stream(0, "damaged files").normal(size=N),
        "k": np.arange(N),
        "s": ["ab", "c", None] * (N // 3),
        "d": pl.Series(["2024-01-01", "2024-02-02"] * (N // 2)).str.to_date(),
    }
)
FILES = 200


def damaged(good: bytes, seed: int) -> bytes:
    """Overwrite some bytes, half of them near the beginning, where headers are; or cut the file."""
    choice = random.Random(seed)
    data = bytearray(good)
    for _ in range(choice.choice([1, 1, 2, 5, 30])):
        end = len(data) if choice.random() < 0.5 else min(len(data), 128)
        data[choice.randrange(end)] = choice.randrange(256)
    return bytes(data[: choice.randrange(1, len(data))] if choice.random() < 0.15 else data)


@pytest.mark.parametrize("suffix", sorted(set(READABLE) & set(WRITABLE)))
def test_a_damaged_file_is_read_or_refused_and_never_raises_anything_else(
    tmp_path: Path, suffix: str, capfd: pytest.CaptureFixture[str]
) -> None:
    if suffix == ".xlsx":
        pytest.importorskip("fastexcel")
        pytest.importorskip("xlsxwriter")
    path = tmp_path / f"t{suffix}"
    write_chunks(path, iter([FRAME.select("a", "k") if suffix == ".npy" else FRAME]), rows=N)
    good, refused = path.read_bytes(), 0
    for seed in range(FILES):
        path.write_bytes(damaged(good, seed))
        try:
            read_table(path)
        except InputError:
            refused += 1
    assert refused > FILES / 10
    assert capfd.readouterr().err == ""


def test_an_array_that_declares_more_rows_than_memory_holds_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "t.npy").open("wb") as file:
        header = {"descr": "<f8", "fortran_order": False, "shape": (10**12, 2)}
        np.lib.format.write_array_header_1_0(file, header)
        file.write(bytes(320))
    with pytest.raises(InputError, match=r"not an \.npy file"):
        read_table(tmp_path / "t.npy")
