from __future__ import annotations

import pytest

from dualdiff_cli.errors import DeviceError, DualdiffError, InputError, Interrupted, ToleranceError


@pytest.mark.parametrize(
    ("kind", "code"), [(DualdiffError, 1), (InputError, 2), (ToleranceError, 3), (DeviceError, 4), (Interrupted, 130)]
)
def test_each_kind_ends_in_the_exit_code_that_scripts_rely_on(kind: type[DualdiffError], code: int) -> None:
    error = kind("The file is empty.", "Name another.")
    assert isinstance(error, DualdiffError)
    assert error.exit_code == code
    assert str(error) == "The file is empty. Name another."
