"""How the options of a command are declared, and what all commands do with what is typed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import click
import pytest
from click.testing import CliRunner

from torchperf_ci.cli.main import COMMANDS, cli
from torchperf_ci.cli.options import (
    Command,
    GitHubOptions,
    Group,
    argument,
    command,
    command_options,
    declared_parameters,
    option,
    takes,
)


@command_options
class Machines:
    """A group that commands share."""

    SECTION: ClassVar[str] = "Machines"

    devices: tuple[str, ...] = option("--devices", multiple=True, help="Where to run.")


@command_options
class Options:
    """What the command below takes."""

    folder: str = argument(metavar="DIR", default=".")
    machines: Machines
    count: int = option("--how-many", "-n", default=3, type=click.IntRange(min=1), help="How many.")
    quick: bool = option("--quick", is_flag=True, help="Only a few.")


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


def test_the_token_of_github_is_no_option() -> None:
    """It would stand in the process list."""
    assert [name for name, _, _ in declared_parameters(GitHubOptions)] == [
        "repository",
        "token_file",
        "api_url",
        "patience_s",
    ]
