"""How the options of a command are declared, and what all commands do with what is typed."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import click
import pytest
from click.testing import CliRunner

from torchperf_ci.cli.main import COMMANDS, cli
from torchperf_ci.cli.options import (
    LAST_SECTIONS,
    Command,
    Formatter,
    GitHubOptions,
    Group,
    argument,
    command,
    command_options,
    declared_parameters,
    option,
    takes,
)


@command_options("Machines")
class Machines:
    """A group that commands share."""

    devices: tuple[str, ...] = option(help="Where to run.")


@command_options
class Options:
    """What the command below takes."""

    folder: str = argument(metavar="DIR", default=".")
    machines: Machines
    count: int = option("--how-many", "-n", default=3, type=click.IntRange(min=1), help="How many.")
    quick: bool = option(help="Only a few.")


@command()
@takes(Options)
def measure(options: Options) -> None:
    """Measure."""
    click.echo(repr(options))


def call(*arguments: str, env: dict[str, str] | None = None) -> str:
    done = CliRunner().invoke(measure, arguments, env=env)
    return str(done.output)


def test_a_command_gets_one_object_with_its_groups_inside() -> None:
    """Whatever the options are called on the command line."""
    expected = Options(folder="there", machines=Machines(devices=("cpu", "cuda:1")), count=5, quick=True)
    assert call("there", "-n", "5", "--devices", "cpu,cuda:1", "--quick").strip() == repr(expected)
    assert call("there", "--how_many=5", "--devices", "cpu", "--devices", "cuda:1", "--quick").strip() == repr(expected)
    env = {"TORCHPERF_HOW_MANY": "5", "TORCHPERF_DEVICES": "cpu cuda:1", "TORCHPERF_QUICK": "1"}
    assert call("there", env=env).strip() == repr(expected)


def test_the_help_has_a_section_per_group_and_no_ranges() -> None:
    """In the order in which they are declared."""
    text = call("--help")
    assert text.index("Machines:") < text.index("--devices") < text.index("Options:") < text.index("--how-many N")
    assert "x>=" not in text
    assert "env" not in text


def test_a_list_that_is_typed_with_spaces_is_explained() -> None:
    """With the way to write it."""
    text = call("there", "--devices", "cpu", "cuda:1")
    assert "--devices cpu,cuda:1" in text


def test_a_field_without_an_option_is_a_mistake_of_ours() -> None:
    """It is seen when the command is declared."""

    @dataclass(frozen=True)
    class Wrong:
        name: str

    with pytest.raises(AssertionError, match=r"Wrong\.name"):
        list(declared_parameters(Wrong))


def test_all_commands_have_sections_and_say_what_may_be_meant() -> None:
    """The mechanism is everybody's."""
    context = click.Context(cli)
    commands = [cli.get_command(context, name) for name in COMMANDS]
    assert all(isinstance(each, (Command, Group)) for each in commands)
    done = CliRunner().invoke(cli, ["comparee"])
    assert (done.exit_code, "Did you mean compare?" in done.output) == (2, True)


def commands_in(group: click.Group, *path: str) -> Iterator[tuple[str, ...]]:
    """Every command below a group, and the group itself, as it is typed."""
    yield path
    for name in group.list_commands(click.Context(group)):
        each = group.get_command(click.Context(group), name)
        if isinstance(each, click.Group):
            yield from commands_in(each, *path, name)
        else:
            yield (*path, name)


@pytest.mark.parametrize("width", [80, 120])
def test_no_help_is_wider_than_the_terminal(width: int) -> None:
    """Examples are folded as a shell reads them; nothing is cut off."""
    for path in commands_in(cli):
        usage, *lines = CliRunner().invoke(cli, [*path, "--help"], env={"COLUMNS": str(width)}).output.splitlines()
        assert [line for line in (usage, *lines) if len(line) > width] == [], path
        assert not any(line.endswith("...") for line in lines), path
        folded = [following for line, following in pairwise(lines) if line.endswith("\\")]
        assert all(following.startswith("        ") for following in folded), path


def test_a_folded_example_is_the_same_command() -> None:
    """Quoted words stay whole, and no name is broken at a hyphen."""
    command = """torchperf-ci compare --base-ref merge-base --setup "pip install -e ." --suites bench.py --inference"""
    formatter = Formatter(width=60)
    formatter.write_text(f"\b\nExamples:\n  {command}")
    lines = formatter.getvalue().splitlines()[1:]
    assert max(map(len, lines)) <= 60
    assert shlex.split("\n".join(lines).replace("\\\n", "")) == shlex.split(command)
    formatter.write_text("word " * 11 + "github-action-benchmark")
    assert formatter.getvalue().splitlines()[-1] == "github-action-benchmark"


def test_the_options_of_every_day_come_first() -> None:
    """What is compared and measured, what counts and where it goes; fine tuning and GitHub behind."""
    text = CliRunner().invoke(cli, ["compare", "--help"]).output
    titles = [line.rstrip(":") for line in text.splitlines() if line.endswith(":") and not line.startswith(" ")]
    assert titles[:4] == ["What to compare", "What to measure", "What counts as a change", "Options"]
    assert [*titles[4:]] == [title for title in LAST_SECTIONS if title in titles]


@pytest.mark.parametrize(
    ("command", "typed", "first"),
    [
        ("run", "--suite", "--suites"),
        ("run", "--output", "--output-dir"),
        ("run", "--compiler", "--compilers"),
        ("run", "--fliter", "--filter"),
        ("run", "--keep_output", "--keep-output-dir"),
        ("compare", "--base", "--base-ref"),
        ("compare", "--ref", "--base-ref"),
    ],
)
def test_an_unknown_option_gets_the_name_that_is_meant(command: str, typed: str, first: str) -> None:
    """What begins as it was typed stands before what only looks like it."""
    done = CliRunner().invoke(cli, [command, typed, "x"])
    assert done.exit_code == 2
    assert f"No such option {typed}. Did you mean {first}" in done.output


def test_an_option_of_all_commands_goes_before_the_command() -> None:
    """It is no option of the command."""
    done = CliRunner().invoke(cli, ["run", "--config", "x.toml"])
    assert done.exit_code == 2
    assert "Write it before the command: " in done.output
    assert "--config … run" in done.output


def test_a_slip_gets_one_option() -> None:
    """What else is a little like it helps nobody."""
    done = CliRunner().invoke(cli, ["run", "--inferense"])
    assert "Did you mean --inference?" in done.output


def test_the_token_of_github_is_no_option() -> None:
    """It would stand in the process list."""
    assert [name for name, *_ in declared_parameters(GitHubOptions)] == [
        "repository",
        "token_file",
        "api_url",
        "patience_s",
    ]


@pytest.mark.parametrize(("place", "value"), [("variable", "abc"), ("option", "1.5")])
def test_a_number_that_is_none_names_its_variable(place: str, value: str) -> None:
    """In words that do not come from a program; an option on the command line has no variable to be named."""
    words, env = ([], {"TORCHPERF_LIMIT": value}) if place == "variable" else (["--limit", value], {})
    done = CliRunner().invoke(cli, ["report", ".", *words], env=env)
    assert done.exit_code == 2
    assert f"'{value}' is not a whole number" in done.output
    assert ("TORCHPERF_LIMIT" in done.output) is (place == "variable")
