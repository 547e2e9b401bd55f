"""Say how the columns of a file would be learnt, before anything is trained."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..config.registry import IDENTIFIER
from ..data import ColumnEncoding, TableEncoding, read_table
from ..data.encoding.derived import DerivedColumn
from ..data.relations import free_relations, held_relations
from ..data.schema_file import read_schema, write_schema
from ..data.split import left_out, parts_of
from ..store.atomic import replaced
from .offers import angle_offers

__all__ = ["columns", "kind_in_words"]


def columns(
    path: str | Path,
    *,
    schema: str | Path | None = None,
    output: str | Path | None = None,
    chosen: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Find the kind of each column of a file, from the rows that a training with the seed 0 learns.

    Args:
        path: the file.
        schema: a schema file with the kinds of some columns.
        output: where a schema file with the kinds that were found is written; None writes none.
        chosen: the columns of the file that are looked at; None takes all.

    Returns:
        {"file", "rows", "columns": [{"name", "kind", "learnt_as", "missing", "distinct", "features"}], "notes",
        "relations", "output"}; the relations are equations that hold in all rows and that no formula keeps.

    Raises:
        InputError: the file or the schema is refused, there is no such column, or the output cannot be written.

    """
    table = read_table(path, columns=chosen)
    asked = {} if schema is None else read_schema(schema)
    rows = table.rows
    learnt = rows.drop(left_out(rows, source=str(path), named=chosen or (), kinds=asked))
    kinds = {name: kind for name, kind in asked.items() if kind != IDENTIFIER}
    kinds |= held_relations(learnt, kinds)
    # The rows that `train` would learn from: a few rows more can have another bound or a finer step.
    training, _ = parts_of(rows.height)
    encodings = TableEncoding.fit(learnt[training], kinds=kinds).columns if learnt.width else ()
    by_name = {encoding.name: encoding for encoding in encodings}
    found: list[dict[str, Any]] = [
        {
            "name": column.name,
            "kind": _kind(by_name[column.name]) if column.name in by_name else IDENTIFIER,
            "learnt_as": by_name[column.name].summary if column.name in by_name else "left out",
            "missing": column.null_count(),
            "distinct": column.drop_nulls().n_unique(),
            "features": by_name[column.name].width if column.name in by_name else 0,
        }
        for column in rows
    ]
    if output is not None:
        with replaced(Path(output)) as temporary:
            temporary.write_text(write_schema({c["name"]: c["kind"] for c in found}), encoding="utf-8")
    return {
        "file": str(path),
        "rows": rows.height,
        "columns": found,
        "notes": [*table.notes, *angle_offers(learnt, encodings, asked=kinds)],
        "relations": free_relations(learnt, encodings),
        "output": None if output is None else str(output),
    }


def kind_in_words(encoding: ColumnEncoding) -> str:
    """Name the kind of a column for a reader: "integer", or "integer with gaps"."""
    return f"{_kind(encoding)}{'' if encoding.present_feature is None else ' with gaps'}"


def _kind(encoding: ColumnEncoding) -> str:
    """Name the kind of a column, or give its formula; the kind of a column with gaps is that of its observed values."""
    if isinstance(encoding, DerivedColumn):
        return str(encoding.formula)
    return encoding.observed.kind
