"""The configuration file of a project, `torchperf.toml`: options per command, and rules for what change counts.

[compare]
suites = ["bench.py"]
budget-per-case = 5

[[tolerance]]
case = "bench/decoder*"
margin = 0.04
threshold = 0.08
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from torchperf_ci.compare.tolerances import ALL, Rule
from torchperf_ci.core.errors import UsageProblem
from torchperf_ci.core.text import nearest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

RULES = "tolerance"


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """What the file says. `options`: values by option name, by command; they are checked when the command runs."""

    path: Path
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    rules: tuple[Rule, ...] = ()


def read_config(path: Path, commands: Collection[str]) -> Config:
    """The configuration in `path`. Raises `UsageProblem` that lists everything that is wrong with it."""
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageProblem(f"{path} cannot be read: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise UsageProblem(f"{path} is not TOML: {error}") from error
    problems = [*_table_problems(raw, commands), *_rule_problems(raw.get(RULES, []))]
    if problems:
        raise UsageProblem("\n".join(f"{path}: {problem}" for problem in problems))
    rules = tuple(Rule(**rule) for rule in raw.pop(RULES, []))
    return Config(path=path, options=raw, rules=rules)


def unknown(what: str, name: str, choices: Collection[str]) -> str:
    """A message about a name that is none of the choices, with the nearest one."""
    hint = nearest(name, choices) or f" There are: {', '.join(choices)}."
    return f"unknown {what} {name!r}.{hint}"


def _table_problems(raw: Mapping[str, Any], commands: Collection[str]) -> Iterator[str]:
    for name, value in raw.items():
        if name not in {RULES, *commands}:
            yield unknown("table", name, [*commands, RULES])
        elif name != RULES and not isinstance(value, dict):
            yield f"{name!r} is not a table: write [{name}] and its options below"


def _rule_problems(rules: object) -> Iterator[str]:
    if not isinstance(rules, list) or not all(isinstance(rule, dict) for rule in rules):
        yield f"{RULES!r} is not a list of tables: write [[{RULES}]] for each"
        return
    known = [item.name for item in fields(Rule)]
    for number, rule in enumerate(rules, start=1):
        where = f"[[{RULES}]] number {number}"
        for name, value in rule.items():
            if name not in known:
                yield f"{where}: {unknown('key', name, known)}"
            elif problem := _value_problem(name, value):
                yield f"{where}: {problem}"
        if not {"margin", "threshold"} & rule.keys():
            yield f"{where}: it has neither margin nor threshold"
        if _above(rule):
            yield f"{where}: margin {rule['margin']:g} is above threshold {rule['threshold']:g}"


def _value_problem(name: str, value: object) -> str:
    if name in {"margin", "threshold"}:
        good = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= 10
        return "" if good else f"{name} is {value!r}, expected a share from 0 to 10, say 0.05 for 5 %"
    if not isinstance(value, str):
        return f"{name} is {value!r}, expected text"
    if name == "metric" and not any(char in value for char in "*?[") and value not in ALL:
        return unknown("metric", value, ALL)
    return ""


def _above(rule: Mapping[str, Any]) -> bool:
    margin, threshold = rule.get("margin"), rule.get("threshold")
    numbers = isinstance(margin, (int, float)) and isinstance(threshold, (int, float))
    return numbers and margin > threshold  # type: ignore[operator]  # mypy does not carry `numbers` over
