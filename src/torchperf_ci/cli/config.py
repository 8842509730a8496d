"""The configuration file of a project, `torchperf.toml`: options per command, rules for what change counts, and owners.

[compare]
suites = ["bench.py"]
budget-per-case = 5

[[tolerance]]
case = "bench/decoder*"
margin = 0.04
threshold = 0.08

[[owner]]
case = "bench/*"
owners = ["@org/kernels"]
labels = ["module: kernels"]

Its options are defaults, below environment variables and the command line.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from torchperf_ci.core.errors import UsageProblem
from torchperf_ci.core.text import nearest

if TYPE_CHECKING:
    from torchperf_ci.compare.model import Rule
    from torchperf_ci.dashboard.owners import OwnerRule

FILE = "torchperf.toml"
RULES = "tolerance"
OWNERS = "owner"
LONGEST_LABEL = 50
"""Characters of a label on GitHub."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectConfig:
    """The content of the file. `options`: values by option name, by command; they are checked when the command runs."""

    path: Path = Path(FILE)
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    rules: tuple[Rule, ...] = ()
    owners: tuple[OwnerRule, ...] = ()


def use_config(ctx: click.Context, path: Path | None, commands: Collection[str]) -> None:
    """Take the defaults of the command that was called from `path`, or from the file in this folder if there is one.

    Raises `UsageProblem` for everything in it that cannot be meant.
    """
    if path is None and not Path(FILE).is_file():
        return
    config = read_config(path or Path(FILE), commands)
    ctx.obj = config
    name = ctx.invoked_subcommand
    assert isinstance(ctx.command, click.Group)
    command = ctx.command.get_command(ctx, name) if name else None
    if name is None or command is None or name not in config.options:
        return
    known = {
        spelled[2:]: parameter
        for parameter in command.params
        if isinstance(parameter, click.Option)
        for spelled in (*parameter.opts, *parameter.secondary_opts)
        if spelled.startswith("--")
    }
    asked = {key.replace("_", "-"): value for key, value in config.options[name].items()}
    problems = [_explain_unknown("option", key, list(known)) for key in asked if key not in known]
    problems += [problem for key in asked if key in known and (problem := _check_shape(key, asked[key], known[key]))]
    if problems:
        raise UsageProblem("\n".join(f"{config.path}: [{name}]: {problem}" for problem in problems))
    ctx.default_map = {name: {str(known[key].name): value for key, value in asked.items()}}


def tolerance_rules() -> tuple[Rule, ...]:
    """Return the rules of the configuration file; none when there is none."""
    config = click.get_current_context().find_object(ProjectConfig)
    return config.rules if config is not None else ()


def owner_rules() -> tuple[OwnerRule, ...]:
    """Return who owns which cases by the configuration file; nothing when there is none."""
    config = click.get_current_context().find_object(ProjectConfig)
    return config.owners if config is not None else ()


def read_config(path: Path, commands: Collection[str]) -> ProjectConfig:
    """Read the configuration in `path`. Raises `UsageProblem` that lists everything that is wrong with it."""
    from torchperf_ci.compare.model import Rule
    from torchperf_ci.dashboard.owners import OwnerRule

    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib

    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageProblem(f"{path} cannot be read: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise UsageProblem(f"{path} is not TOML: {error}") from error
    problems = []
    for name, value in raw.items():
        if name not in {RULES, OWNERS, *commands}:
            problems.append(_explain_unknown("table", name, [*commands, RULES, OWNERS]))
        elif name not in {RULES, OWNERS} and not isinstance(value, dict):
            problems.append(f"{name!r} is not a table: write [{name}] and its options below")
    problems += [*_check_rules(raw.get(RULES, [])), *_check_owners(raw.get(OWNERS, []))]
    if problems:
        raise UsageProblem("\n".join(f"{path}: {problem}" for problem in problems))
    rules = tuple(Rule(**rule) for rule in raw.pop(RULES, []))
    owners = tuple(OwnerRule(**{name: _freeze(value) for name, value in rule.items()}) for rule in raw.pop(OWNERS, []))
    return ProjectConfig(path=path, options=raw, rules=rules, owners=owners)


def _freeze(value: Any) -> Any:  # noqa: ANN401 - any TOML
    return tuple(value) if isinstance(value, list) else value


def _explain_unknown(kind: str, name: str, choices: Collection[str]) -> str:
    hint = nearest(name, choices) or f" There are: {', '.join(choices)}."
    return f"unknown {kind} {name!r}.{hint}"


def _check_shape(key: str, value: object, option: click.Option) -> str:
    """Say what is wrong with the form of a value; click checks the value itself."""
    if option.multiple:
        return "" if isinstance(value, list) else f"{key} is {value!r}, expected a list: [{value!r}]"
    if option.is_flag:
        return "" if isinstance(value, bool) else f"{key} is {value!r}, expected true or false"
    return f"{key} is {value!r}, expected one value" if isinstance(value, (list, dict)) else ""


def _check_rules(rules: object) -> Iterator[str]:
    from torchperf_ci.compare.model import Rule

    yield from _check_tables(RULES, rules, [item.name for item in fields(Rule)], _check_value)
    for where, rule in _number_tables(RULES, rules):
        if not {"margin", "threshold"} & rule.keys():
            yield f"{where}: it has neither margin nor threshold"
        margin, threshold = rule.get("margin"), rule.get("threshold")
        if isinstance(margin, (int, float)) and isinstance(threshold, (int, float)) and margin > threshold:
            yield f"{where}: margin {margin:g} is above threshold {threshold:g}"


def _check_owners(rules: object) -> Iterator[str]:
    from torchperf_ci.dashboard.owners import OwnerRule

    yield from _check_tables(OWNERS, rules, [item.name for item in fields(OwnerRule)], _check_owner_value)
    for where, rule in _number_tables(OWNERS, rules):
        if not {"owners", "labels"} & rule.keys():
            yield f"{where}: it has neither owners nor labels"


def _check_tables(
    table: str, rules: object, known: Collection[str], check: Callable[[str, object], str]
) -> Iterator[str]:
    """Check a list of tables, each key with its value."""
    if not isinstance(rules, list) or not all(isinstance(rule, dict) for rule in rules):
        yield f"{table!r} is not a list of tables: write [[{table}]] for each"
        return
    for where, rule in _number_tables(table, rules):
        for name, value in rule.items():
            if name not in known:
                yield f"{where}: {_explain_unknown('key', name, known)}"
            elif problem := check(name, value):
                yield f"{where}: {problem}"


def _number_tables(table: str, rules: object) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Name the tables of a list by their numbers; nothing where it is none."""
    for number, rule in enumerate(rules if isinstance(rules, list) else [], start=1):
        if isinstance(rule, dict):
            yield f"[[{table}]] number {number}", rule


def _check_owner_value(name: str, value: object) -> str:
    from torchperf_ci.dashboard.owners import OWNER

    if name not in {"owners", "labels"}:
        return "" if isinstance(value, str) else f"{name} is {value!r}, expected text"
    if not isinstance(value, list) or not value or not all(isinstance(each, str) for each in value):
        return f"{name} is {value!r}, expected a list of texts"
    if name == "owners" and (wrong := next((each for each in value if not OWNER.fullmatch(each)), None)):
        return f"owners has {wrong!r}, expected @user or @organization/team"
    if name == "labels":
        wrong = next((each for each in value if not each.strip() or len(each) > LONGEST_LABEL or "," in each), None)
        if wrong is not None:
            return f"labels has {wrong!r}, expected at most {LONGEST_LABEL} characters without commas"
    return ""


def _check_value(name: str, value: object) -> str:
    from torchperf_ci.compare.model import ALL

    if name in {"margin", "threshold"}:
        good = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= 10
        return "" if good else f"{name} is {value!r}, expected a share from 0 to 10, for example 0.05 for 5 %"
    if not isinstance(value, str):
        return f"{name} is {value!r}, expected text"
    if name == "metric" and not any(char in value for char in "*?[") and value not in ALL and nearest(value, ALL):
        return _explain_unknown("metric", value, ALL)  # what is like none of them may be a suite's own
    return ""
