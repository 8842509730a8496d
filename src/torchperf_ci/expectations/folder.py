"""A folder of expectation tables: read them with the flaky models beside them, and write one at once or not at all.

Models that may differ from their expectation stand in `flaky.yaml`, with a reason for each.
"""

from __future__ import annotations

import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from fnmatch import fnmatchcase
from pathlib import Path

import yaml

from torchperf_ci.core.errors import UsageProblem
from torchperf_ci.core.safe_files import write_whole
from torchperf_ci.expectations.table import ExpectationTable, TableProblem, has_names, parse_table, quote, write_table

FLAKY_FILE = "flaky.yaml"
_KEYS = ("name", "configs", "checks", "reason")


class CheckKind(str, Enum):
    """The kinds of checks."""

    ACCURACY = "accuracy"
    GRAPH_BREAKS = "graph-breaks"
    PERFORMANCE = "performance"
    MEMORY = "memory"

    __str__ = str.__str__


@dataclass(frozen=True, slots=True, kw_only=True)
class Flaky:
    """A model that passes either way, for `checks`, in the configurations that match a shell pattern of `configs`."""

    name: str
    configs: tuple[str, ...] = ("*",)
    checks: tuple[CheckKind, ...] = tuple(CheckKind)
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """A table, what it is called, and the flaky models that its folder knows.

    name: the file's name without `.csv`. config: how the flaky file's patterns call it (`rocm/…` from one folder up).
    at_lines: the lines, from 1, that every model stands on.
    """

    path: Path
    name: str
    config: str
    table: ExpectationTable
    flaky: tuple[Flaky, ...] = ()
    at_lines: Mapping[str, Sequence[int]] = field(default_factory=dict)

    def flaky_names(self, kind: CheckKind) -> dict[str, str]:
        """Return the models that are flaky here in a kind of check, with the reason."""
        return {
            entry.name: entry.reason
            for entry in self.flaky
            if kind in entry.checks and any(fnmatchcase(self.config, pattern) for pattern in entry.configs)
        }


def read_table(path: Path, at_lines: dict[str, list[int]] | None = None) -> ExpectationTable | None:
    """Read the table at `path`; None where there is none. `at_lines` takes the lines that every name stands on; without
    it names that stand there twice are refused. Raises `UsageProblem`."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UsageProblem(f"{path} cannot be read ({error.strerror})") from error
    return parse_table(content, source=str(path), at_lines=at_lines)


def read_expectation(path: Path) -> Expectation:
    """Read the table at `path` with its flaky models, from the nearest flaky file: beside it, or one folder up.

    Raises `UsageProblem` when there is none, or one that is no table.
    """
    at_lines: dict[str, list[int]] = {}
    table = read_table(path, at_lines)
    if table is None:
        raise UsageProblem(f"there is no expectation table {path}; torchperf-ci update-expected makes one")
    here = path.absolute().parent
    for folder, config in ((here, path.stem), (here.parent, f"{here.name}/{path.stem}")):
        flaky_file = folder / FLAKY_FILE
        if flaky_file.is_file():
            try:
                text = flaky_file.read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                raise UsageProblem(f"{flaky_file} cannot be read ({error})") from error
            flaky = parse_flaky(text, source=str(flaky_file))
            return Expectation(path=path, name=path.stem, config=config, table=table, flaky=flaky, at_lines=at_lines)
    return Expectation(path=path, name=path.stem, config=path.stem, table=table, at_lines=at_lines)


def list_doubles(at_lines: Mapping[str, Sequence[int]]) -> dict[str, str]:
    """List the models that stand in a table more than once, with the lines."""
    return {name: f"lines {', '.join(map(str, lines))}" for name, lines in at_lines.items() if len(lines) > 1}


def read_expectations(folder: Path) -> tuple[tuple[Expectation, ...], dict[str, str], list[str]]:
    """Read the tables in `folder`, by name; by name, why a table of models cannot be used; and a sentence for each CSV
    that is no such table. Raises `UsageProblem`."""
    if not folder.is_dir():
        raise UsageProblem(f"there is no folder {folder} of expectation tables; torchperf-ci update-expected makes one")
    tables: list[Expectation] = []
    unusable: dict[str, str] = {}
    foreign: list[str] = []
    for path in sorted(path for path in folder.glob("*.csv") if path.is_file()):
        try:
            tables.append(read_expectation(path))
        except TableProblem as error:
            if has_names(path.read_bytes()):
                unusable[path.stem] = str(error)
            else:
                foreign.append(f"{error}; not an expectation table, ignored")
    return tuple(tables), unusable, foreign


def write_expectation(path: Path, table: ExpectationTable) -> None:
    """Replace the table at `path`: a reader sees the old one or the new one, never half of it.

    A link stays a link, and the file keeps its permissions. Raises `UsageProblem` when it cannot be written.
    """
    target = path.resolve()
    try:
        mode = stat.S_IMODE(target.stat().st_mode) if target.exists() else None
        write_whole(target, write_table(table).encode("utf-8"), mode=mode)
    except OSError as error:
        raise UsageProblem(f"{path} cannot be written ({error.strerror})") from error


def parse_flaky(text: str, *, source: str) -> tuple[Flaky, ...]:
    """Parse a flaky file: a list of entries with `name`, `reason`, and optionally `configs` and `checks`.

    Raises `UsageProblem` that lists everything wrong with it.
    """
    try:
        entries = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UsageProblem(f"{source} is not YAML: {' '.join(str(error).split())}") from error
    if entries is None:
        return ()
    if not isinstance(entries, list):
        raise UsageProblem(f"{source} is not a list of entries with 'name' and 'reason'")
    problems = [
        f"entry {at}: {problem}" for at, entry in enumerate(entries, start=1) for problem in _find_problems(entry)
    ]
    if problems:
        raise UsageProblem(f"{source}: {'; '.join(problems)}")
    return tuple(
        Flaky(
            name=str(entry["name"]),
            reason=str(entry["reason"]),
            configs=tuple(_list_texts(entry.get("configs", "*"))),
            checks=tuple(
                CheckKind(word) for word in _list_texts(entry.get("checks", [kind.value for kind in CheckKind]))
            ),
        )
        for entry in entries
    )


def _find_problems(entry: object) -> list[str]:
    if not isinstance(entry, dict):
        return ["is not a mapping"]
    choices = [kind.value for kind in CheckKind]
    unknown = [word for word in _list_texts(entry.get("checks", [])) if word not in choices]
    return [
        *(f"unknown key {quote(str(key))}, expected {', '.join(_KEYS)}" for key in entry if key not in _KEYS),
        *(f"'{key}' is missing" for key in ("name", "reason") if not str(entry.get(key) or "").strip()),
        *(f"unknown check {quote(word)}, expected {', '.join(choices)}" for word in unknown),
    ]


def _list_texts(value: object) -> list[str]:
    return [str(part) for part in value] if isinstance(value, list) else [str(value)]
