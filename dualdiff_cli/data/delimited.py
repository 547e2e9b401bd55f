"""Text files of rows: their encoding, their separator and their header, found from the first lines."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import re
import zlib
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import polars as pl

from ..errors import InputError
from .names import column_names
from .raw import RawTable
from .texts import has_decimal_commas, has_three_decimals_only

__all__ = ["read_delimited"]

_SAMPLE_BYTES = 1 << 18
_SAMPLE_LINES = 200
_SEPARATORS = {"\t": "tabs", ";": "semicolons", "|": "vertical bars", ",": "commas", " ": "spaces"}
"""The separators that are recognised; of two that divide the lines equally well the first is taken."""
_CONSISTENT = 0.9
"""The share of the first lines that a separator has to divide into the same number of fields."""
_BYTE_ORDER_MARKS = {codecs.BOM_UTF8: "utf-8", codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}
_SEPARATOR_LINE = re.compile(r'"?sep=(.)"?', re.IGNORECASE)
_ISO_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_VALUE = re.compile(
    r"[+-]?(\d+([.,]\d*)*|[.,]\d+)([eE][+-]?\d+)?|\d{4}-\d\d-\d\d([T ].*)?|[+-]?(inf|nan)", re.IGNORECASE
)


class _Shape(NamedTuple):
    """How the lines of a file are divided.

    Attributes:
        separator: one character.
        fields: the number of fields of a row of values.
        names: the number of fields of the first line, which may lack the name of a first column of row names.

    """

    separator: str
    fields: int
    names: int


def read_delimited(path: Path) -> RawTable:
    """Read a .csv, .tsv or .txt file, which may be compressed by gzip; every column holds texts.

    Raises:
        InputError: the bytes are no text, or a line has more fields than the others. A line with fewer ends in gaps.

    """
    data, notes = _as_utf8(path, _bytes(path))
    data, comment = _without_comments(data.strip(b"\n"))
    data, named = _without_separator_line(data)
    if not data.strip():
        return RawTable(pl.DataFrame(), ())
    shape = _shape_of(_sample(data), (named,) if named else tuple(_SEPARATORS))
    if shape.separator == " " and b'"' not in data:
        data = b"\n".join(b" ".join(line.split()) for line in data.split(b"\n"))
    if shape.separator != _usual_separator(path) and shape.fields > 1:
        notes.append(f"The fields of {path} are separated by {_SEPARATORS[shape.separator]}.")
    frame = _cells(path, data, shape)
    frame, above = _without_title(path, frame)
    header, frame, note = _take_header(path, frame, comment, shape)
    notes += filter(None, (above, note))
    commas = _has_decimal_commas(frame, shape)
    if commas:
        notes.append(f"The numbers of {path} have a decimal comma.")
    elif shape.separator == ";":
        notes += _notes_on_points(header, frame)
    separator = shape.separator if shape.fields > 1 else ","
    return RawTable(frame, tuple(notes), header=header, decimal_comma=commas, separator=separator)


def _has_decimal_commas(frame: pl.DataFrame, shape: _Shape) -> bool:
    """See whether commas are decimal in any column; between semicolons 1,234 is 1.234 where no number has a point."""
    if any(has_decimal_commas(column) for column in frame):
        return True
    if shape.separator != ";" or not any(has_decimal_commas(column, or_thousands=True) for column in frame):
        return False
    return not any(column.str.contains(r"^[+-]?[0-9]*\.[0-9]+$").any() for column in frame)


def _notes_on_points(header: list[str], frame: pl.DataFrame) -> list[str]:
    """Name the columns whose points may stand between thousands, where no number of the file says what a point is."""
    clear = r"^[+-]?(0?\.[0-9]+|[0-9]+\.([0-9]{1,2}|[0-9]{4,}))$"
    if any(has_decimal_commas(column, or_thousands=True) or column.str.contains(clear).any() for column in frame):
        return []
    return [
        f"The points of column '{name}' are read as decimal points. If they stand between thousands, remove them."
        for name, column in zip(header, frame, strict=True)
        if has_three_decimals_only(column)
    ]


def _bytes(path: Path) -> bytes:
    data = path.read_bytes()
    if path.suffix.lower() != ".gz":
        return data
    try:
        return gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path} cannot be decompressed: {error}.", "Check that the file is complete.") from error


def _usual_separator(path: Path) -> str:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    return "," if ".csv" in suffixes[-2:] else "\t"


def _as_utf8(path: Path, data: bytes) -> tuple[bytes, list[str]]:
    """Give the text as UTF-8 with line feeds, and notes on an encoding that is not the usual one."""
    notes: list[str] = []
    mark = next((mark for mark in _BYTE_ORDER_MARKS if data.startswith(mark)), b"")
    encoding = _BYTE_ORDER_MARKS.get(mark, "utf-8")
    data = data[len(mark) :]
    try:
        if encoding != "utf-8":
            data = data.decode(encoding).encode()
            notes.append(f"The text of {path} is encoded as {encoding[:6].upper()}.")
        elif not _is_utf8(data):
            data = data.decode("cp1252", errors="replace").encode()
            notes.append(f"The text of {path} is not UTF-8 and is read as Windows-1252 (Latin-1).")
    except UnicodeError as error:
        raise InputError(f"The text of {path} is not {encoding.upper()}.", "Save the file as UTF-8.") from error
    if b"\0" in data:
        raise InputError(f"{path} holds bytes that are no text.", "Check that the file is what its suffix says.")
    return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n"), notes


def _is_utf8(data: bytes) -> bool:
    """Decode piece by piece, so that the text is never in memory as a whole beside its bytes."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        for start in range(0, len(data), 1 << 20):
            decoder.decode(data[start : start + (1 << 20)])
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def _without_comments(data: bytes) -> tuple[bytes, str]:
    """Remove empty lines and lines that begin with # at the top; also give the last of the latter, without its #."""
    comment = ""
    while data.startswith(b"#"):
        line, _, data = data.partition(b"\n")
        comment, data = line.decode().lstrip("# ").strip(), data.lstrip(b"\n")
    return data, comment


def _without_separator_line(data: bytes) -> tuple[bytes, str]:
    """Remove a first line such as ``sep=;``, which Excel writes and reads; also give the separator, or nothing."""
    line, _, rest = data.partition(b"\n")
    found = _SEPARATOR_LINE.fullmatch(line.decode(errors="replace").strip(" "))
    return (rest, found[1]) if found and found[1] in _SEPARATORS else (data, "")


def _sample(data: bytes) -> list[str]:
    """Give the first lines that are not empty; the last one of a longer file may be cut and is left out."""
    lines = data[:_SAMPLE_BYTES].decode(errors="ignore").split("\n")
    if len(data) > _SAMPLE_BYTES and len(lines) > 1:
        lines.pop()
    return [line for line in lines if line.strip()][:_SAMPLE_LINES]


def _fields(lines: list[str], separator: str) -> list[list[str]]:
    """Divide lines into fields; line feeds inside quotes join lines."""
    if separator == " " and not any('"' in line for line in lines):
        return [line.split() for line in lines]
    try:
        return list(csv.reader((f"{line}\n" for line in lines), delimiter=separator, skipinitialspace=True))
    except csv.Error:  # a field of more than 131,072 characters
        return []


def _shape_of(lines: list[str], separators: tuple[str, ...]) -> _Shape:
    """Choose the separator that divides the first lines most evenly, or one that does not occur in them."""
    best, best_share = None, 0.0
    for separator in separators:
        rows = _fields(lines, separator)
        counts = Counter(map(len, rows[1:] or rows))
        if not counts:
            continue
        fields, rows_alike = max(counts.items(), key=lambda item: (item[1], item[0]))
        share = rows_alike / counts.total()
        first = len(rows[0])
        # The header may lack the name of a first column of row names, or rows may end with a separator.
        fits = first == fields or first == fields - 1 >= 2
        if separator == " " and not any(map(_is_value, rows[-1])):  # the words of a text
            fits = False
        if fields >= 2 and fits and share >= _CONSISTENT and share > best_share:
            best, best_share = _Shape(separator, fields, first), share
    if best is not None:
        return best
    text = "".join(lines)
    unused = next((separator for separator in "\t;|" if separator not in text), "\x1f")
    divided = [separator for separator in "\t;|," if lines and separator in lines[0]]
    if divided:  # a table whose lines are uneven: reading it names the line
        fields = len(_fields(lines[:1], divided[0])[0])
        return _Shape(divided[0], fields, fields)
    return _Shape(unused, 1, 1)


def _cells(path: Path, data: bytes, shape: _Shape) -> pl.DataFrame:
    """Divide the text into cells without blanks around them; empty cells are null."""
    schema = {f"column {i}": pl.String() for i in range(shape.fields)}
    unusual = (b'"' if shape.separator == " " else f'{shape.separator} "'.encode()) in data
    try:
        if unusual:
            raise pl.exceptions.ComputeError("blanks before quotes")
        frame = pl.read_csv(data, separator=shape.separator, has_header=False, schema=schema)
    except pl.exceptions.PolarsError:  # quotes in the middle of a field, or a line with too many fields
        rows = list(_rows(path, data, shape))
        frame = pl.DataFrame(rows, schema=schema, orient="row")
    return frame.with_columns(pl.all().str.strip_chars(" \t").replace("", None))


def _rows(path: Path, data: bytes, shape: _Shape) -> Iterator[list[str | None]]:
    """Divide the text slowly, and accept whatever can be understood."""
    text = io.StringIO(data.decode(), newline="")
    reader = csv.reader(text, delimiter=shape.separator, skipinitialspace=True, strict=True)
    line = 1
    try:
        for row in reader:
            if len(row) > shape.fields:
                raise InputError(
                    f"Line {line:,} of {path} has {len(row)} fields, and most lines have {shape.fields}.",
                    "Correct this line, or put quotes around a text that contains the separator.",
                )
            yield [*row, *[None] * (shape.fields - len(row))]
            line = reader.line_num + 1
    except csv.Error as error:  # for example, a quote that is never closed
        raise InputError(
            f"Line {line:,} of {path} cannot be read: {error}.", "Check the quotes of this line."
        ) from error


def _without_title(path: Path, frame: pl.DataFrame) -> tuple[pl.DataFrame, str]:
    """Drop rows without any value from the top, and a row with one cell above a complete line of names, a title."""

    def filled(frame: pl.DataFrame) -> pl.DataFrame:
        some = frame.select(pl.any_horizontal(pl.all().is_not_null())).to_series()
        return frame[int(some.arg_max() or 0) :]

    rest = frame if frame.width == 1 else filled(frame)
    if rest.width >= 3 and sum(cell is not None for cell in rest.row(0)) == 1 and rest.height > 1:
        below = filled(rest[1:])
        names = [cell or "" for cell in below.row(0)]
        if all(names) and not any(map(_is_value, names)) and _is_header(names, below[1:]):
            rest = below
    note = f"{path} begins with an empty line or with a title, which is left out."
    return rest, note if rest.height < frame.height else ""


def _take_header(path: Path, frame: pl.DataFrame, comment: str, shape: _Shape) -> tuple[list[str], pl.DataFrame, str]:
    """Separate the names of the columns from the rows; a file without names gets the names of an .npy file."""
    first, body = [cell or "" for cell in frame.row(0)], frame[1:]
    width = body.width
    while body.height and width > 1 and first[width - 1] == "" and body[:, width - 1].null_count() == body.height:
        width -= 1  # every line ends with a separator, or with some
    if width < body.width:
        first, body, frame = first[:width], body[:, :width], frame[:, :width]
    elif body.height and first[-1] == "" and shape.names < shape.fields:  # the first column has no name
        first = ["", *first[:-1]]
    commented = _fields([comment], shape.separator)[0] if comment else []
    if len(commented) == len(first) and any(map(_is_value, first)) and not any(map(_is_value, commented)):
        return commented, frame, ""
    if _is_header(first, body):
        return first, body, ""
    names = list(column_names(len(first)))
    listed = " and ".join(names) if len(names) < 3 else f"{names[0]} to {names[-1]}"
    return names, frame, f"The first line of {path} holds values, so the columns are called {listed}."


def _is_header(first: list[str], body: pl.DataFrame) -> bool:
    """Tell a line of names from a line of values.

    Numbers are names if they count from 0 or 1, as other programs name columns without a name. Beside texts, whole
    numbers (years) and growing numbers (wavelengths) may be names, too. A text is a name unless it occurs again in its
    own column.
    """
    filled = [cell for cell in first if cell]
    texts = [(i, cell) for i, cell in enumerate(first) if cell and not _is_value(cell)]
    if not texts:
        counted = [[str(i) for i in range(start, start + len(filled))] for start in (0, 1)]
        return filled in counted and (len(filled) > 2 or first[0] == "")
    numbers = [cell for cell in filled if _is_value(cell)]
    if any("." in cell or "," in cell or "-" in cell for cell in numbers) and not _is_scale(numbers):
        return False
    dated = [body[:, i] for i, cell in enumerate(first) if _ISO_DATE.fullmatch(cell)]
    if any(column.str.contains(f"^{_ISO_DATE.pattern}").any() for column in dated):  # dates above dates are values
        return False
    again = sum(bool((body[:, i] == cell).any()) for i, cell in texts)
    return again == 0 or (again < len(texts) and len(texts) == len(filled))


def _is_scale(numbers: list[str]) -> bool:
    """Say whether at least five numbers, or dates, grow from one to the next, as wavelengths do."""
    if all(map(_ISO_DATE.fullmatch, numbers)):
        return len(numbers) >= 5 and all(a < b for a, b in pairwise(numbers))
    try:
        values = [float(number) for number in numbers]
    except ValueError:
        return False
    return len(values) >= 5 and all(a < b for a, b in pairwise(values))


def _is_value(cell: str) -> bool:
    return _VALUE.fullmatch(cell) is not None
