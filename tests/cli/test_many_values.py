"""Options that take several values in a row, as argparse's do."""

from __future__ import annotations

import click
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from torchperf_ci.cli.options import ManyValues, command_options, option, spread, takes

WORDS = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1).filter(lambda text: text[0] != "-")


@command_options
class Values:
    """What the command below takes."""

    names: tuple[str, ...] = option()
    long_names: tuple[str, ...] = option()
    flag: bool = option()
    number: int | None = option(type=int)


@click.command(cls=ManyValues)
@takes(Values)
def command(values: Values) -> None:
    click.echo(repr(values))


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ("--names a b c", ("a", "b", "c")),
        ("--names a --names b c", ("a", "b", "c")),
        ("--names=a b", ("a", "b")),
        ("--names a,b c", ("a", "b", "c")),
        ("--names --flag", ()),
        ("--number -3 --names a", ("a",)),
        ("--names a --number 3", ("a",)),
        ("--names -", ("-",)),
        ("--long_names x y --names a", ("a",)),
    ],
)
def test_values_follow_their_option(arguments: str, names: tuple[str, ...]) -> None:
    """In a row, repeated or after an equals sign, up to the next option."""
    result = CliRunner().invoke(command, arguments.split())
    assert result.exit_code == 0, result.output
    assert f"(names={names!r}," in result.output


def test_underscores_work_too() -> None:
    """The spelling with underscores takes several values as well."""
    assert "long_names=('x', 'y')" in CliRunner().invoke(command, ["--long_names", "x", "y"]).output


def test_a_value_without_an_option_is_refused() -> None:
    """A stray value, and one after another option's own, is an error."""
    for arguments in (["stray"], ["--number", "3", "stray"]):
        assert CliRunner().invoke(command, arguments).exit_code == 2


@given(st.lists(WORDS), st.lists(WORDS))
def test_spread_repeats_the_option(first: list[str], second: list[str]) -> None:
    """Every value gets the option in front; what follows another option is left as it is."""
    args = ["--names", *first, "--other", *second]
    expected = [part for value in first for part in ("--names", value)] + ["--other", *second]
    assert spread(args, {"--names"}) == expected
