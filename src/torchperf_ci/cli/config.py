"""How the configuration file reaches the commands: its options are defaults, below variables and the command line."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from torchperf_ci.core.errors import UsageProblem

if TYPE_CHECKING:
    from torchperf_ci.cli.config_file import Config
    from torchperf_ci.compare.tolerances import Rule


def use_config(ctx: click.Context, path: Path | None, commands: Collection[str]) -> None:
    """Take the defaults of the command that was called from `path`, or from the file in this folder if there is one.

    Raises `UsageProblem` for everything in it that cannot be meant.
    """
    path = path or Path("torchperf.toml")
    if not path.is_file():
        return
    from torchperf_ci.cli.config_file import read_config

    config = read_config(path, commands)
    name = ctx.invoked_subcommand
    assert isinstance(ctx.command, click.Group)
    command = ctx.command.get_command(ctx, name) if name else None
    ctx.obj = config
    if name is not None and command is not None and name in config.options:
        ctx.default_map = {name: _defaults(config, name, command)}


def tolerance_rules() -> tuple[Rule, ...]:
    """The rules of the configuration file; none when there is none."""
    from torchperf_ci.cli.config_file import Config

    found = click.get_current_context().find_object(Config)
    return found.rules if found is not None else ()


def _defaults(config: Config, name: str, command: click.Command) -> dict[str, Any]:
    """The command's options by the names click knows them by."""
    from torchperf_ci.cli.config_file import unknown

    known = {
        spelled[2:]: parameter
        for parameter in command.params
        if isinstance(parameter, click.Option)
        for spelled in (*parameter.opts, *parameter.secondary_opts)
        if spelled.startswith("--")
    }
    asked = {key.replace("_", "-"): value for key, value in config.options[name].items()}
    problems = [unknown("option", key, list(known)) for key in asked if key not in known]
    problems += [problem for key in asked if key in known and (problem := _shape(key, asked[key], known[key]))]
    if problems:
        raise UsageProblem("\n".join(f"{config.path}: [{name}]: {problem}" for problem in problems))
    return {str(known[key].name): value for key, value in asked.items()}


def _shape(key: str, value: object, option: click.Option) -> str:
    """What is wrong with the form of a value; click checks the value itself."""
    if option.multiple:
        return "" if isinstance(value, list) else f"{key} is {value!r}, expected a list: [{value!r}]"
    if option.is_flag:
        return "" if isinstance(value, bool) else f"{key} is {value!r}, expected true or false"
    return f"{key} is {value!r}, expected one value" if isinstance(value, (list, dict)) else ""
