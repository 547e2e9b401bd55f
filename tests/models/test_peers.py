"""Models of other packages: the face that `compare` sees, and each package where it is installed."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from dualdiff_cli import seeding
from dualdiff_cli.config.registry import PEERS
from dualdiff_cli.data import TableEncoding
from dualdiff_cli.errors import InputError
from dualdiff_cli.models.peers import Peer, VineCopula


def rows(n: int = 150) -> pl.DataFrame:
    """A column of numbers, and whole numbers that rise with it."""
    x = seeding.stream(0, "rows").normal(size=(2, n))
    return pl.DataFrame({"size": 50 + 4 * x[0], "count": np.rint(10 + 3 * x[0] + x[1]).astype(np.int64)})


@pytest.mark.parametrize("name", PEERS)
def test_a_peer_whose_package_is_not_installed_says_how_to_get_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PEERS[name], "package", "a_package_that_is_not_there")
    with pytest.raises(InputError, match="a_package_that_is_not_there is not installed") as caught:
        PEERS[name].fit(rows(), TableEncoding.fit(rows()), seed=0)
    assert 'pip install "dualdiff-cli[peers]"' in caught.value.remedy


@pytest.mark.slow
@pytest.mark.parametrize("name", PEERS)
def test_a_peer_that_is_installed_draws_rows_like_the_training_rows(name: str) -> None:
    kind: type[Peer] = PEERS[name]
    pytest.importorskip(kind.package)
    before = np.random.get_state()[1].tolist()  # type: ignore[index]  # noqa: NPY002
    fitted = kind.fit(rows(), TableEncoding.fit(rows()), seed=1)
    drawn = fitted.sample(500, seed=2)
    assert drawn.schema == {"size": pl.Float64, "count": pl.Int64}
    assert drawn["size"].mean() == pytest.approx(50, abs=2)
    assert np.corrcoef(drawn["size"], drawn["count"])[0, 1] > 0.7
    assert fitted.sample(500, seed=2).equals(drawn)
    assert not fitted.sample(500, seed=3).equals(drawn)
    assert np.random.get_state()[1].tolist() == before  # type: ignore[index]  # noqa: NPY002


def test_a_fit_with_the_same_seed_draws_the_same_rows() -> None:
    pytest.importorskip(VineCopula.package)
    first, again = (VineCopula.fit(rows(), TableEncoding.fit(rows()), seed=1).sample(20, seed=0) for _ in range(2))
    assert first.equals(again)
