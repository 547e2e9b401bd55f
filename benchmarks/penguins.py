"""The figures of docs/tables.md: a model of the Palmer penguins, and what rows of it say beside the data.

    pip install palmerpenguins
    python benchmarks/penguins.py             # trains runs/penguins first, if there is no such run

Each figure is computed from rows that the commands of that page draw.
"""

from __future__ import annotations

import importlib.util
import tempfile
from pathlib import Path

import numpy as np
import polars as pl

from dualdiff_cli import sample, train
from dualdiff_cli.config.recipes import Request
from dualdiff_cli.jobs.impute import impute
from dualdiff_cli.models import DrawingOptions
from dualdiff_cli.present.tables import Column, Table, Value

RUN = Path("runs/penguins")
FEMALE_GENTOO = {"species": "Gentoo", "sex": "female"}
MEASURES = {"bill_length_mm": ".1f", "bill_depth_mm": ".1f", "flipper_length_mm": ".1f", "body_mass_g": ",.0f"}
HEAVY = "species = 'Adelie' AND body_mass_g > 4000"


def table_of_penguins() -> Path:
    """Find the file that the package palmerpenguins brings, without importing the package."""
    found = importlib.util.find_spec("palmerpenguins")
    assert found is not None, "pip install palmerpenguins"
    assert found.origin is not None
    return Path(found.origin).parent / "data" / "penguins.csv"


def drawn(n: int, where: str | None = None, **options: object) -> tuple[pl.DataFrame, dict[str, object]]:
    """Draw n rows as `dualdiff sample` does; give them with the record."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "rows.parquet")
        record = sample(RUN, n=n, output=file, where=where, options=DrawingOptions(**options))  # type: ignore[arg-type]
        return pl.read_parquet(file), record


def main() -> None:
    """Print the figures."""
    file = table_of_penguins()
    penguins = pl.read_csv(file, null_values="NA")
    if not (RUN / "model.safetensors").exists():
        train(Request(dataset=str(file)), path=RUN)

    females = penguins.filter(pl.all_horizontal(pl.col(name) == value for name, value in FEMALE_GENTOO.items()))
    given, guided = (drawn(1000, given=FEMALE_GENTOO, guidance=w)[0] for w in (1.0, 2.0))
    body: list[tuple[Value, ...]] = []
    for name, rows in {f"{females.height} of the data": females, "given": given, "guidance 2": guided}.items():
        cells = [f"{rows[m].mean():{form}} ± {rows[m].std():{form}}" for m, form in MEASURES.items()]
        body.append((name, *cells, f"{100 * (rows['island'] == 'Biscoe').mean():.1f} %"))  # type: ignore[operator]
    columns = (Column("female Gentoo penguins"), *map(Column, MEASURES), Column("on Biscoe"))
    print(Table("Mean ± standard deviation", columns, tuple(body)).to_markdown())

    adelie = penguins.filter(pl.col("species") == "Adelie").drop_nulls("body_mass_g")
    share = (adelie["body_mass_g"] > 4000).mean()
    _, record = drawn(300, where=HEAVY)
    print(f"\n{HEAVY}: {record['acceptance_rate']:.1%} of {record['candidates']:,} rows, {share:.1%} of the data")

    rows, _ = drawn(500)
    print(f"without sex: {rows['sex'].null_count()} of 500 rows, {penguins['sex'].null_count()} of {penguins.height}")

    filled = impute(RUN, file, draws=20)["frame"]
    mass, sex = (filled[name].to_numpy().reshape(20, -1) for name in ("body_mass_g", "sex"))
    low, high = np.quantile(mass[:, 3], [0.1, 0.9])
    print(f"fourth penguin, 20 draws: mean {mass[:, 3].mean():,.0f} g, central 80 % {low:,.0f} to {high:,.0f} g")
    print(f"tenth penguin, {mass[0, 9]:,.0f} g: male in {(sex[:, 9] == 'male').sum()} of 20 draws")


if __name__ == "__main__":
    main()
