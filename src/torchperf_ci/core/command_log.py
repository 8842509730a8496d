"""commands.jsonl: what was planned, and how each command of a foreign harness ended. Beside the CSV files they wrote.

A CSV file cannot say that its writer crashed half-way, or was never started; with these lines a folder can, also to
those who read it later.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torchperf_ci.core.records import Build, RecordProblem, Status, from_line
from torchperf_ci.core.results import COMMANDS, Problem, read_lines
from torchperf_ci.core.strict_json import parse_json

_NAMED = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandResult:
    """How a command ended: `pass` when it exited with 0 and wrote rows, else with a one-line reason.

    csv, log: its files, below the results folder. seconds: wall time. rows: rows of results in its CSV file.
    lost: models that it began and that have no row, as happens to one whose process is killed.
    """

    csv: str
    log: str
    argv: tuple[str, ...]
    status: Status
    reason: str = ""
    seconds: float = 0.0
    rows: int = 0
    lost: tuple[str, ...] = ()

    @property
    def trouble(self) -> str:
        """What went wrong, in one line; empty when nothing did."""
        lost = f"no row for {_names(self.lost)}" if self.lost else ""
        return "; ".join(part for part in (self.reason, lost) if part)

    @property
    def summary(self) -> str:
        """How much it wrote, and where to read more."""
        rows = "1 row" if self.rows == 1 else f"{self.rows:,} rows"
        return f"{rows} in {self.seconds:.0f} s" + (f", see {self.log}" if self.log and self.trouble else "")

    @property
    def problem(self) -> Problem | None:
        """What a report has to say about it, if anything."""
        return Problem(file=self.csv, what=f"its command: {self.trouble} ({self.summary})") if self.trouble else None


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandLog:
    """What commands.jsonl holds: the CSV files that were planned, the newest result of each, lines that are neither."""

    builds: tuple[Build, ...] = ()
    planned: tuple[str, ...] = ()
    results: Mapping[str, CommandResult]
    unreadable: tuple[Problem, ...] = ()

    def problems(self) -> Iterator[Problem]:
        """Everything that went wrong, commands that were planned and not run included."""
        yield from self.unreadable
        for csv in dict.fromkeys([*self.planned, *self.results]):
            result = self.results.get(csv)
            if result is None:
                yield Problem(file=csv, what="its command was not run to its end; --keep-output-dir runs what is left")
            elif result.problem:
                yield result.problem


def plan_line(csvs: Sequence[str]) -> str:
    """The line that says which files are going to be written."""
    return _line("plan", csvs=list(csvs))


def result_line(result: CommandResult) -> str:
    """The line of a command that has ended."""
    return _line("command", **asdict(result))


def read_command_log(folder: Path) -> CommandLog:
    """The lines of a results folder; empty where no commands were run."""
    return parse_command_log(read_lines(folder / COMMANDS))


def parse_command_log(lines: Iterable[tuple[int, str]]) -> CommandLog:
    """The lines of a commands.jsonl, each with its number from 1."""
    builds: list[Build] = []
    planned: dict[str, None] = {}
    results: dict[str, CommandResult] = {}
    unreadable: list[Problem] = []
    for number, line in lines:
        try:
            match _parse(line):
                case Build() as build:
                    builds.append(build)
                case CommandResult() as result:
                    results[result.csv] = result
                case csvs:
                    planned.update(dict.fromkeys(csvs))
        except (RecordProblem, LookupError, TypeError, ValueError) as error:
            unreadable.append(Problem(file=COMMANDS, line=number, what=f"cannot be used: {error}"))
    return CommandLog(builds=tuple(builds), planned=tuple(planned), results=results, unreadable=tuple(unreadable))


def _parse(line: str) -> Build | CommandResult | tuple[str, ...]:
    raw: dict[str, Any] = parse_json(line)
    match raw.get("type"):
        case "command":
            return CommandResult(
                csv=str(raw["csv"]),
                log=str(raw["log"]),
                argv=tuple(map(str, raw["argv"])),
                status=Status(raw["status"]),
                reason=str(raw["reason"]),
                seconds=float(raw["seconds"]),
                rows=int(raw["rows"]),
                lost=tuple(map(str, raw["lost"])),
            )
        case "plan":
            return tuple(map(str, raw["csvs"]))
        case _:
            item = from_line(line)
            if isinstance(item, Build):
                return item
            raise RecordProblem("a record does not belong here")


def _line(kind: str, **fields: Any) -> str:  # noqa: ANN401 - JSON values
    return json.dumps({"type": kind, "v": 1, **fields}, ensure_ascii=False, separators=(",", ":"))


def _names(names: Sequence[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")
