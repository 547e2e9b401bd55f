"""Damaged files: whatever is in them, the answer is two sentences and an exit code, never a traceback.

``DUALDIFF_FUZZ`` is the number of inputs a target gets, and ``DUALDIFF_FUZZ_SEED`` the seed; see `nox -s fuzz`.
"""

from __future__ import annotations

import os
import random
import warnings
from pathlib import Path

import matplotlib.pyplot as plt
import pytest
from fuzz_targets import Target, targets

from dualdiff_cli.errors import InputError

INPUTS = int(os.environ.get("DUALDIFF_FUZZ", "20"))
SEED = int(os.environ.get("DUALDIFF_FUZZ_SEED", "0"))

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def all_targets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Target]:
    return targets(tmp_path_factory.mktemp("fuzz"))


def failures(name: str, target: Target, inputs: int, seed: int) -> tuple[int, list[str]]:
    """Use the file with so many damages; give how many were refused, and what else was raised."""
    good, draws, refused, found = target.path.read_bytes(), random.Random(f"{seed} {name}"), 0, []
    try:
        for number in range(inputs):
            content = draws.choice(target.damages)(good, draws)
            target.path.write_bytes(content)
            try:
                with warnings.catch_warnings(action="ignore"):
                    target.use()
            except InputError:  # exit code 2
                refused += 1
            except Exception as error:
                found.append(f"{name}, input {number}: {type(error).__name__}: {str(error)[:200]}")
                if keep := os.environ.get("DUALDIFF_FUZZ_KEEP"):
                    Path(keep, f"{name}-{number}{target.path.suffix}".replace(" ", "-")).write_bytes(content)
            finally:
                plt.close("all")
    finally:
        target.path.write_bytes(good)
    return refused, found


def test_damaged_files_are_refused_in_two_sentences(
    all_targets: dict[str, Target], capsys: pytest.CaptureFixture[str]
) -> None:
    found, total = [], 0
    for name, target in all_targets.items():
        target.use()
        inputs = max(round(target.share * INPUTS), 2)
        refused, others = failures(name, target, inputs, SEED)
        with capsys.disabled():
            if INPUTS > 100:
                print(f"{name}: {inputs} inputs, {refused} refused, {len(others)} other failures", flush=True)
        total += inputs
        found += others
    with capsys.disabled():
        if INPUTS > 100:
            print(f"{total} inputs, {len(found)} failures outside the contract")
    assert not found, "\n".join(found)
