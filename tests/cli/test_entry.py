"""What the program sets before it loads anything."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from dualdiff_cli.__main__ import SPINS

CODE = """
import atexit, os, sys
from dualdiff_cli.__main__ import main
sys.argv = ["dualdiff", "--version"]
atexit.register(lambda: print(os.environ["GOMP_SPINCOUNT"], "torch" in sys.modules))
main()
"""


@pytest.mark.parametrize(("own", "expected"), [(None, SPINS), ("7", "7")])
def test_openmp_is_told_how_long_to_wait_before_torch_is_loaded_unless_the_user_says_so(
    own: str | None, expected: str
) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "GOMP_SPINCOUNT"}
    environment |= {} if own is None else {"GOMP_SPINCOUNT": own}
    done = subprocess.run([sys.executable, "-c", CODE], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == f"{expected} False"
