"""Options that take a number of rows, points or steps."""

from __future__ import annotations

import pytest
import typer
from commands import COMMANDS, dualdiff

from dualdiff_cli.cli.counts import at_least


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("5000", 5000),
        ("100k", 100_000),
        ("1.5K", 1500),
        ("2M", 2_000_000),
        ("1e5", 100_000),
        ("2.5E+3", 2500),
        ("1_000", 1000),
        ("1,000,000", 1_000_000),
        (" 7 ", 7),
        ("12.0", 12),
        (str(2**53 + 1), 2**53 + 1),
    ],
)
def test_a_count_means_what_it_says(text: str, number: int) -> None:
    assert at_least(1)(text) == number


@pytest.mark.parametrize(
    ("text", "word"),
    [
        *(
            (text, "100k")
            for text in ("", "many", "1.5", "1.2345k", "--5", "1,00", "1__0", "10%", "0x10", "1e-1", "nan", "k")
        ),
        ("99", "from 100"),
        ("-500", "from 100"),
        ("1e19", "too large"),
        ("1e99", "too large"),
    ],
)
def test_what_is_no_count_is_refused_with_an_example_or_the_range(text: str, word: str) -> None:
    with pytest.raises(typer.BadParameter, match=word) as caught:
        at_least(100)(text)
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize(
    "words",
    [
        ("train", "--steps"),
        ("sample", "-n"),
        ("sample", "--sample-steps"),
        ("evaluate", "-n"),
        ("evaluate", "--sample-steps"),
        ("compare", "--dataset", "moons", "-n"),
        ("compare", "--dataset", "moons", "--steps"),
        ("bench", "-n"),
        ("reproduce", "table1", "--steps"),
    ],
)
def test_every_command_refuses_a_wrong_count_before_it_does_anything(words: tuple[str, ...]) -> None:
    assert words[0] in COMMANDS
    result = dualdiff(*words, "1.5")
    assert result.exit_code == 2
    assert "'1.5' is not a whole number" in result.stderr
