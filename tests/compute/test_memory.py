from __future__ import annotations

import pytest

from dualdiff_cli.compute.memory import require_memory
from dualdiff_cli.errors import InputError


def test_rows_that_no_machine_holds_are_refused_and_a_million_are_not() -> None:
    require_memory(1_000_000, 2)
    with pytest.raises(InputError, match=r"9,223,372,036,854,775,807 rows need .* GB"):
        require_memory(2**63 - 1, 2)
