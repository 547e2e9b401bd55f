"""Requests that hypothesis makes up: whatever is asked, the answer is a result, or two sentences and an exit code.

``DUALDIFF_EXAMPLES`` is the number of examples a test makes up; a longer search is part of `nox -s fuzz`. Every example
that once failed stands here as an ``@example``.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import shutil
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import polars as pl
import pytest
import tomli_w
from click.testing import Result
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tiny import finished, tiny, tiny_of
from typer.main import get_command
from typer.testing import CliRunner

from dualdiff_cli import seeding
from dualdiff_cli.cli.app import app
from dualdiff_cli.config.layers import MODELS, RECIPES
from dualdiff_cli.config.recipes import resolve
from dualdiff_cli.config.registry import COLUMN_KINDS, SAMPLERS, SCHEDULES, check_column_kind
from dualdiff_cli.data import load_data, write_chunks
from dualdiff_cli.data.schema_file import read_schema, write_schema
from dualdiff_cli.errors import InputError
from dualdiff_cli.jobs.train import train

pytestmark = pytest.mark.slow

EXAMPLES = os.environ.get("DUALDIFF_EXAMPLES")
TRIES = int(EXAMPLES or "40")


def bounded(share: float = 1.0) -> Callable[[Any], Any]:
    """Limit the examples of a test; without a number from outside, they are the same ones every time."""
    return settings(
        max_examples=max(round(share * TRIES), 3),
        deadline=None,
        derandomize=EXAMPLES is None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


TEXTS = st.one_of(
    st.text(max_size=8),
    st.sampled_from(
        ["", "nan", "-inf", "1e999", "=1+1", "[red]", "a\nb", "../x", "x" * 300, "\x7f", "é", "NA", "--", "-"]
    ),
)
NUMBERS = st.one_of(
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.sampled_from([0, -1, 1, 2, 3, 16, 10**9, 10**12, 2**31, 2**63, 1e308, 5e-324, 1e-9, 0.5]),
)
NAMES = st.sampled_from(
    [*MODELS, *RECIPES, *SAMPLERS, *SCHEDULES, *COLUMN_KINDS, "line", "moons", "auto", "likelihood"]
)
PLAIN = st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS, NAMES)
VALUES = st.one_of(PLAIN, st.lists(PLAIN, max_size=3), st.dictionaries(TEXTS, PLAIN, max_size=2))


def settings_of_the_schema() -> list[str]:
    """The keys that some model's configuration has, and some that none has."""
    keys = {"", "model", "training", "x.y", "model..width", "data.kinds.x", "seed", "dataset", "recipe"}
    for model in MODELS:
        for section, values in resolve(dataset="line", model=model).model_dump().items():
            keys |= {f"{section}.{name}" for name in values} if isinstance(values, dict) else {section}
    return sorted(keys)


@bounded(3)
@given(
    st.sampled_from(list(MODELS)),
    st.lists(st.tuples(st.sampled_from(settings_of_the_schema()), VALUES), max_size=4),
    st.booleans(),
)
def test_a_configuration_is_settled_or_refused(model: str, asked: list[tuple[str, Any]], as_file: bool) -> None:
    words = [f"{key}={value if isinstance(value, str) else json.dumps(value, default=str)}" for key, value in asked]
    with suppress(InputError), TemporaryDirectory() as folder:
        if not as_file:
            config = resolve(dataset="line", model=model, settings=words)
        else:
            path = Path(folder, "config.toml")
            tree: dict[str, Any] = {"dataset": "line"}
            for key, value in asked:
                section, _, name = key.partition(".")
                tree.setdefault(section, {}) if name else tree.update({section: value})
                if name and isinstance(tree[section], dict):
                    tree[section][name] = value
            path.write_bytes(tomli_w.dumps(_without_none(tree)).encode("utf-8", "surrogatepass"))
            config = resolve(file=path, model=model)
        path = Path(folder, "again.toml")
        path.write_text(config.to_toml(), encoding="utf-8")
        assert resolve(file=path) == config


def _without_none(value: Any) -> Any:
    """TOML has no null, and its integers have 64 bits."""
    if isinstance(value, dict):
        return {key: _without_none(each) for key, each in value.items() if each is not None}
    return [_without_none(each) for each in value if each is not None] if isinstance(value, list) else value


@bounded(2)
@given(st.one_of(st.dictionaries(TEXTS, st.one_of(NAMES, TEXTS), max_size=4), st.text(max_size=60)))
@example({"": "=0"})
def test_a_schema_file_is_read_or_refused(content: dict[str, str] | str) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder, "schema.toml")
        text = content if isinstance(content, str) else write_schema(content)
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
        with suppress(InputError):
            read = read_schema(path)
            if not isinstance(content, str):  # a formula is written anew, such as "= 0" for "=0"
                assert read == {name: check_column_kind(kind) for name, kind in content.items()}


CELLS: dict[str, st.SearchStrategy[Any]] = {
    "numbers": st.floats(),
    "finite": st.floats(allow_nan=False, allow_infinity=False),
    "rounded": st.floats(-1e6, 1e6).map(lambda value: round(value, 2)),
    "small": st.integers(-3, 3),
    "whole": st.integers(-(2**63), 2**63 - 1),
    "unsigned": st.integers(2**63 - 5, 2**64 - 1),
    "texts": TEXTS,
    "names": st.sampled_from(["a", "b", "c"]),
    "flags": st.booleans(),
    "dates": st.dates(),
    "moments": st.datetimes(),
    "times": st.times(),
    "spans": st.timedeltas(dt.timedelta(-1000), dt.timedelta(1000)),
    "mixed": PLAIN,
    "nothing": st.none(),
}


@st.composite
def columns(draw: st.DrawFn) -> list[Any]:
    """Draw the cells of a column, of which some may be missing and many may be equal."""
    cells = CELLS[draw(st.sampled_from(list(CELLS)))]
    pool = draw(st.lists(cells, min_size=1, max_size=draw(st.sampled_from([1, 2, 6, 30]))))
    if draw(st.integers(0, 3)) == 0:
        pool.append(None)
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    return [pool[k] for k in rng.integers(0, len(pool), draw(st.sampled_from([25, 25, 25, 5])))]


FORMATS = (".csv", ".tsv", ".parquet", ".ndjson")


@bounded(1.5)
@given(st.dictionaries(TEXTS, columns(), min_size=1, max_size=4), st.sampled_from(FORMATS), st.booleans())
def test_a_table_is_learnt_and_comes_back_or_is_refused(
    cells: dict[str, list[Any]], suffix: str, trained: bool
) -> None:
    rows = min(map(len, cells.values()))
    try:
        frame = pl.DataFrame({name: column[:rows] for name, column in cells.items()}, strict=False)
    except Exception:  # polars has no such table
        return
    with TemporaryDirectory() as folder, suppress(InputError), warnings.catch_warnings(action="ignore"):
        path = Path(folder, f"table{suffix}")
        if not write(frame, path):
            return
        data = load_data(str(path), seed=0)
        features = data.encoding.encode(data.train, seeding.stream(0, "test"))
        assert np.isfinite(features).all()
        back = data.encoding.decode(features)
        assert back.columns == data.train.columns
        # A moment of long ago has more microseconds than a float64 holds.
        exact = [name for name, kind in data.train.schema.items() if not kind.is_float() and kind != pl.Datetime("us")]
        assert back.select(exact).equals(data.train.select(exact))
        write_chunks(Path(folder, "again.csv"), [back], rows=back.height)
        if trained and TRIES > 100:
            config = resolve(dataset=str(path), model="kernel-density")
            train(config, path=Path(folder, "run"), device="cpu")


def write(frame: pl.DataFrame, path: Path) -> bool:
    """Write a table as other programs do; False where its format cannot hold the table."""
    try:
        if path.suffix in (".csv", ".tsv"):
            frame.write_csv(path, separator="," if path.suffix == ".csv" else "\t")
        elif path.suffix == ".parquet":
            frame.write_parquet(path)
        else:
            frame.write_ndjson(path)
    except Exception:
        return False
    return True


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with everything that a command may be asked for."""
    folder = tmp_path_factory.mktemp("requests")
    finished(tiny("paper"), folder / "run")
    train(tiny_of("mixture", dataset="line"), path=folder / "mixture", device="cpu")
    rows = "a,b,c\n" + "".join(f"{k / 7},{k % 3},{'xyz'[k % 3]}\n" for k in range(30))
    (folder / "table.csv").write_text(rows, encoding="utf-8")
    (folder / "gaps.csv").write_text("a,b\n1,\n,2\n", encoding="utf-8")
    (folder / "schema.toml").write_text('[columns]\nb = "category"\n', encoding="utf-8")
    (folder / "empty").mkdir()
    return folder


QUICK = ("train", "sample", "impute", "export", "columns", "datasets")
LONGER = ("evaluate", "plot", "report", "explore", "animate")
"""Commands that may take seconds, which only a longer search starts."""
PARSED = ("compare", "reproduce", "bench", "info")
"""Commands that may take hours, which are given to the parser only."""
COMMANDS = (*QUICK, *(LONGER if EXAMPLES else ()), *PARSED)
TRAINED = (
    *("--set", "data.points=100", "--set", "data.held_out_points=100", "--steps", "2", "--recipe", "paper"),
    *("--set", "model.width=8", "--set", "schedule.length=8", "--device", "cpu", "--run-dir", "new"),
)
ARGUMENTS = st.one_of(
    st.sampled_from(["run", "mixture", "table.csv", "gaps.csv", "schema.toml", "empty", "nowhere", "new", "line", "-"]),
    NAMES,
    TEXTS,
    NUMBERS.filter(lambda number: not 60 < number < 1e15).map(str),
    st.sampled_from(["out.csv", "out.onnx", "out.parquet", "out.npy", "a=1", "x=0.5", "x > 0", "training.batch=4"]),
)


def options_of(command: str) -> list[str]:
    root: Any = get_command(app)
    found = [name for parameter in root.commands[command].params for name in parameter.opts if name.startswith("-")]
    return [name for name in found if name not in ("--install-completion", "--show-completion")]


@st.composite
def command_lines(draw: st.DrawFn) -> list[str]:
    """Draw the words of a command."""
    command = draw(st.sampled_from(COMMANDS))
    words = draw(st.lists(ARGUMENTS, max_size=2))
    if command == "train":
        words = [*TRAINED, *(["line"] if draw(st.booleans()) else words)]
    for option in draw(st.lists(st.sampled_from([*options_of(command), "--nothing"]), max_size=3)):
        words += [option, draw(ARGUMENTS)] if draw(st.integers(0, 3)) else [option]
    return [command, *words, *(["--nonsense"] if command in PARSED else [])]


@contextmanager
def inside(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def run(words: list[str], folder: Path) -> Result:
    with inside(folder), warnings.catch_warnings(action="ignore"):
        return CliRunner(env={"COLUMNS": "200"}).invoke(app, words, prog_name="dualdiff")


@bounded()
@given(command_lines())
def test_a_command_line_ends_in_an_exit_code_of_the_contract(place: Path, words: list[str]) -> None:
    shutil.rmtree(place / "new", ignore_errors=True)
    result = run(words, place)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise AssertionError(words) from result.exception
    assert result.exit_code in (0, 2, 3, 4), (words, result.output)
    if result.exit_code:
        assert result.stderr, words
