"""What `--dataset` takes, the name of a density or a file, split into training rows and held-out rows.

A density is drawn from twice, with independent streams of one seed; the rows of a file are split by a seeded
permutation. In both cases no model ever learns a held-out row.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

from .. import seeding
from ..config.registry import IDENTIFIER
from ..errors import InputError, did_you_mean
from .densities.base import Density
from .densities.catalogue import DENSITIES, get_density
from .encoding import TableEncoding
from .reading import READABLE, Missing, SourceTable, read_table
from .relations import held_relations
from .tidied import LARGEST_EXACT

__all__ = ["JSON", "Data", "check_source", "draw", "is_identifier", "left_out", "load_data", "parts_of", "split_table"]

MIN_IDENTIFIERS = 50
"""Among fewer rows, numbers that never repeat, and texts that hardly ever do, do not show an identifier."""
MIN_UNIQUE_TEXTS = 10
"""Among fewer rows, texts that never repeat do not show an identifier either."""
REMEDY_FOR_KEYS = "Say with --schema which columns are to be learnt, and as which kind."

JSON: TypeAlias = "bool | int | float | str | list[JSON] | dict[str, JSON] | None"


@dataclass(frozen=True, eq=False)
class Data:
    """Rows to learn from and rows to score against.

    Attributes:
        name: the name of the density or of the file.
        train: n rows.
        held_out: m rows with the same columns.
        density: what the rows were drawn from; None for a file.
        provenance: how to get the same rows again.
        held_out_rows: (m,) the numbers of the held-out rows in the file, ascending; None for a density.
        kinds: the kinds of columns that were asked for, and the formulas that were found, by the name of the column.
        notes: sentences for the user about what of a file was left out, renamed or recognised.
        learnt: whether the training rows are those of a model; False where they stand for perfect samples only.

    """

    name: str
    train: pl.DataFrame
    held_out: pl.DataFrame
    density: Density | None
    provenance: dict[str, JSON]
    held_out_rows: npt.NDArray[np.int64] | None = None
    kinds: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    learnt: bool = True

    @cached_property
    def encoding(self) -> TableEncoding:
        """Between columns and standardised features, fitted to the training rows once for whoever needs it."""
        return TableEncoding.fit(self.train, kinds=self.kinds)


def load_data(
    source: str | Path,
    *,
    seed: int,
    n_train: int = 100_000,
    n_held_out: int = 100_000,
    columns: Sequence[str] | None = None,
    missing: Missing = "keep",
    kinds: Mapping[str, str] = MappingProxyType({}),
    held_out_fraction: float = 0.1,
    learnt: Collection[str] = (),
) -> Data:
    """Draw from a density or split a file; a density's name wins over a file of that name.

    Args:
        source: a name in `DENSITIES`, or the path of a file for `read_table`.
        seed: of the draws or of the split; not negative.
        n_train: the number of training rows that are drawn from a density.
        n_held_out: the number of held-out rows that are drawn from a density.
        columns: which columns of a file.
        missing: what to do about missing values in a file: keep them as gaps, drop their rows, or refuse the file.
        kinds: the kinds of some columns of a file, by name; see `TableEncoding.fit`.
        held_out_fraction: the share of a file's rows that is held out, in (0, 1).
        learnt: columns of a file that a model has learnt already, so that none of them is left out as an identifier.

    Raises:
        InputError: the source is neither, the file is refused, or an option does not go with the source.

    Examples:
        >>> import dualdiff_cli as dualdiff
        >>> data = dualdiff.load_data("moons", seed=0, n_train=500, n_held_out=100)
        >>> data.train.shape, data.held_out.shape, data.density.name
        ((500, 2), (100, 2), 'moons')

    """
    source = str(source)
    if source in DENSITIES:
        if columns is not None or missing != "keep" or kinds:
            raise InputError(
                f"--columns, --missing and --schema are for files, but '{source}' is a density.",
                "Leave them out, or give a file as --dataset.",
            )
        return _draw_both(get_density(source), seed=seed, n_train=n_train, n_held_out=n_held_out)
    check_source(source)
    path = Path(source)
    table = read_table(path, columns=columns, missing=missing)
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    origin: dict[str, JSON] = {"source": "file", "path": str(path), "sha256": sha256}
    return split_table(
        table,
        name=path.name,
        origin=origin,
        seed=seed,
        named=[*(columns or ()), *learnt],
        kinds=kinds,
        fraction=held_out_fraction,
    )


def check_source(source: str) -> None:
    """See that there is such a density or such a file, whatever it holds.

    Raises:
        InputError: there is neither.

    """
    if source not in DENSITIES and not Path(source).exists():
        accepted = f"Give a {', '.join(READABLE)} file, or one of {', '.join(DENSITIES)}."
        raise InputError(
            f"'{source}' is neither a density nor a file that exists.", did_you_mean(source, DENSITIES) + accepted
        )


def draw(density: Density, n: int, *, seed: int, role: str) -> pl.DataFrame:
    """Draw n rows; draws with another role or another seed are independent of these."""
    return pl.DataFrame(density.sample(n, seeding.stream(seed, role)), schema=list(density.columns))


def _draw_both(density: Density, *, seed: int, n_train: int, n_held_out: int) -> Data:
    return Data(
        name=density.name,
        train=draw(density, n_train, seed=seed, role="train"),
        held_out=draw(density, n_held_out, seed=seed, role="held-out"),
        density=density,
        provenance={
            "source": "density",
            "name": density.name,
            "train_rows": n_train,
            "held_out_rows": n_held_out,
            "seed": seed,
        },
    )


def split_table(
    table: SourceTable,
    *,
    name: str,
    origin: Mapping[str, JSON],
    seed: int,
    named: Collection[str] = (),
    kinds: Mapping[str, str] = MappingProxyType({}),
    fraction: float = 0.1,
) -> Data:
    """Split the rows of a table into training rows and held-out rows.

    Columns that number the rows are left out, and columns that follow from others in every row get a formula.

    Args:
        table: at least two rows.
        name: what the rows are called in messages: the name of a file, or words.
        origin: where the rows came from: the first entries of the provenance.
        seed: of the split.
        named: the columns that were asked for by name; they are never left out unasked.
        kinds: see `TableEncoding.fit`; a column of the kind `IDENTIFIER` is left out.
        fraction: the share of the rows that is held out, in (0, 1).

    Raises:
        InputError: the fraction leaves one part empty, a column is unknown, or every column is an identifier.

    """
    learnt, unseen = parts_of(table.rows.height, seed=seed, fraction=fraction)
    keys = left_out(table.rows, source=name, named=named, kinds=kinds, numbers=table.numbers)
    rows = table.rows.drop(keys)
    if not rows.width:
        raise InputError(f"Every column of {name} is an identifier, which says nothing about its row.", REMEDY_FOR_KEYS)
    asked = {column: kind for column, kind in kinds.items() if kind != IDENTIFIER}
    found = held_relations(rows, asked)
    return Data(
        name=name,
        train=rows[learnt],
        held_out=rows[unseen],
        density=None,
        provenance={
            **origin,
            "columns": [*rows.columns],
            **({"identifiers": [*keys]} if keys else {}),
            "rows": table.rows_in_file,
            "dropped_rows": table.rows_in_file - rows.height,
            "train_rows": len(learnt),
            "held_out_rows": len(unseen),
            "seed": seed,
        },
        held_out_rows=table.numbers[unseen],
        kinds=asked | found,
        notes=(
            *table.notes,
            *(f"The column '{key}' identifies the rows and is left out." for key in keys),
            *(
                f"In every row {column} {formula}. The column '{column}' is computed so and not learnt, unless a "
                "--schema file names a kind for it."
                for column, formula in found.items()
            ),
        ),
    )


def parts_of(n: int, *, seed: int = 0, fraction: float = 0.1) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Give the numbers of the training rows and of the held-out rows among n rows, both ascending.

    Args:
        n: at least two.
        seed, fraction: see `split_table`; the defaults are those of a training that is asked for neither.

    Raises:
        InputError: the fraction leaves one part empty.

    """
    if not 0 < fraction < 1:
        raise InputError(f"A held-out fraction of {fraction} leaves one part empty.", "Give a number between 0 and 1.")
    order = seeding.stream(seed, "split").permutation(n)
    m = min(max(round(fraction * n), 1), n - 1)
    return np.sort(order[m:]), np.sort(order[:m])


def left_out(
    rows: pl.DataFrame,
    *,
    source: str,
    named: Collection[str] = (),
    kinds: Mapping[str, str] = MappingProxyType({}),
    numbers: npt.NDArray[np.int64] | None = None,
) -> list[str]:
    """Give the names of the columns that are not learnt, because they only tell the rows apart.

    Args:
        rows: n rows.
        source: what the rows are called in messages.
        named, kinds: see `split_table`.
        numbers: see `is_identifier`.

    Raises:
        InputError: ``kinds`` names a column that there is not, or calls a column without gaps ``missing``.

    """
    if unknown := [name for name in kinds if name not in rows.columns]:
        if named:
            raise InputError(
                f"The schema names the column '{unknown[0]}', which is not among the columns that --columns names.",
                "Name it there, too, or leave its line out of the schema.",
            )
        known = did_you_mean(unknown[0], rows.columns)
        raise InputError(f"{source} has no column '{unknown[0]}'.", f"{known}Name columns of the file in the schema.")
    # Only all rows tell: those that are learnt may lack the gaps of a column that has few.
    if complete := [name for name, kind in kinds.items() if kind == "missing" and not rows[name].null_count()]:
        raise InputError(
            f"The column '{complete[0]}' of {source} is called missing, and has no missing cell.",
            "Leave its line out of the schema, so that the data choose the kind.",
        )
    asked = dict.fromkeys(named, "") | dict(kinds)
    return [x.name for x in rows if (asked[x.name] == IDENTIFIER if x.name in asked else is_identifier(x, numbers))]


def is_identifier(column: pl.Series, numbers: npt.NDArray[np.int64] | None = None) -> bool:
    """Say whether a column only tells its rows apart.

    That is text that hardly ever repeats (of few rows: that never repeats), or whole numbers that count the rows, or
    that never repeat and are so far apart that float64 cannot hold their differences. Missing cells say nothing: an
    identifier may lack some values.

    Args:
        column: n values.
        numbers: (n,) the numbers of the rows in their file, of which some rows may have been left out.

    """
    known = column.drop_nulls()
    n, distinct = len(known), known.n_unique()
    if column.dtype == pl.String:
        return distinct > 0.95 * n if n >= MIN_IDENTIFIERS else distinct == n >= MIN_UNIQUE_TEXTS
    if n < MIN_IDENTIFIERS or not column.dtype.is_integer():
        return False
    counts = [np.arange(len(column))] + ([] if numbers is None else [numbers])
    ahead = [(column.cast(pl.Int128) - pl.Series(count)).drop_nulls() for count in counts]
    far_apart = int(known.max()) - int(known.min()) > LARGEST_EXACT  # type: ignore[arg-type]
    return any(bool((a == a[0]).all()) for a in ahead) or (far_apart and distinct == n)
