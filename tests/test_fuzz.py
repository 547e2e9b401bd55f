"""Damaged files: whatever is in them, the answer is two sentences and an exit code, never a traceback.

``DUALDIFF_FUZZ`` is the number of inputs a target gets, and ``DUALDIFF_FUZZ_SEED`` the seed; see `nox -s fuzz`. The
inputs come in rounds through all targets, and after each round of a long run one line has the counts so far, so that a
run may be stopped at any time. ``DUALDIFF_FUZZ_MINUTES`` ends it after a round, and ``DUALDIFF_FUZZ_KEEP`` names a
folder for the inputs that failed.
"""

from __future__ import annotations

import gc
import json
import os
import random
import time
import warnings
from collections import Counter
from pathlib import Path

import matplotlib.pyplot as plt
import pytest
from fuzz_targets import targets
from fuzzing import Target, within

from dualdiff_cli.errors import InputError

INPUTS = int(os.environ.get("DUALDIFF_FUZZ", "20"))
SEED = int(os.environ.get("DUALDIFF_FUZZ_SEED", "0"))
MINUTES = float(os.environ.get("DUALDIFF_FUZZ_MINUTES", "inf"))
KEEP = os.environ.get("DUALDIFF_FUZZ_KEEP")
ROUND = 500
"""The number of inputs of a target in a round."""
LONGEST = 60.0
"""An input that takes longer, in seconds, is a failure."""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def all_targets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Target]:
    found = targets(tmp_path_factory.mktemp("fuzz"), all_of_them=INPUTS > 100)
    for target in found.values():
        target.use()  # the good example
    if INPUTS > 100:
        gc.freeze()  # otherwise every input pays for the libraries, which stay
    return found


class Fuzzer:
    """Uses one file with one damage after the other, and counts the answers."""

    def __init__(self, name: str, target: Target, seed: int) -> None:
        self._name, self._target, self._draws = name, target, random.Random(f"{seed} {name}")
        self.inputs = self.refused = 0
        self.outside: Counter[str] = Counter()

    def run(self, inputs: int) -> None:
        """Try so many more inputs; the file is whole again afterwards."""
        path = self._target.path
        good = path.read_bytes()
        try:
            for _ in range(inputs):
                content = self._draws.choice(self._target.damages)(good, self._draws)
                path.write_bytes(content)
                self._try(content)
        finally:
            path.write_bytes(good)

    def _try(self, content: bytes) -> None:
        self.inputs += 1
        try:
            with warnings.catch_warnings(action="ignore"), within(LONGEST):
                self._target.use()
        except InputError:  # exit code 2
            self.refused += 1
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # a panic of polars is no Exception
            self.outside[f"{self._name}: {type(error).__name__}: {str(error)[:200]}"] += 1
            if KEEP:
                Path(KEEP, f"{self._name}-{self.inputs}{self._target.path.suffix}".replace(" ", "-")).write_bytes(
                    content
                )
        finally:
            if plt.get_fignums():
                plt.close("all")


def fuzz(all_targets: dict[str, Target], say: pytest.CaptureFixture[str]) -> dict[str, Fuzzer]:
    fuzzers = {name: Fuzzer(name, target, SEED) for name, target in all_targets.items()}
    started, done = time.monotonic(), 0
    while done < INPUTS and time.monotonic() - started < 60 * MINUTES:
        done = min(done + ROUND, INPUTS)
        for name, fuzzer in fuzzers.items():
            fuzzer.run(max(round(all_targets[name].share * done), 2) - fuzzer.inputs)
        if INPUTS > 100:
            with say.disabled():
                print(json.dumps(counts(fuzzers)), flush=True)
    return fuzzers


def counts(fuzzers: dict[str, Fuzzer]) -> dict[str, object]:
    """Give what a long run prints; each target has its inputs, those refused, and those outside the contract."""
    each = {name: [f.inputs, f.refused, f.outside.total()] for name, f in fuzzers.items()}
    inputs, refused, outside = (sum(part) for part in zip(*each.values(), strict=True))
    kinds = [what for f in fuzzers.values() for what in f.outside]
    return {"inputs": inputs, "refused": refused, "outside": outside, "failures": kinds, "targets": each}


def test_damaged_files_are_refused_in_two_sentences(
    all_targets: dict[str, Target], capsys: pytest.CaptureFixture[str]
) -> None:
    fuzzers = fuzz(all_targets, capsys)
    outside = sum((fuzzer.outside for fuzzer in fuzzers.values()), Counter[str]())
    assert not outside, "\n".join(outside)
