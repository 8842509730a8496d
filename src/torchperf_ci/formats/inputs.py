"""Foreign JSON files: read, looked into, and every fault named by its place."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone, tzinfo
from typing import Any

from torchperf_ci.core.errors import UsageProblem
from torchperf_ci.core.text import one_line

_SHOWN = 20


class InputProblem(UsageProblem):
    """A file that cannot be used. The message lists what is wrong, one place a line."""

    def __init__(self, problems: Sequence[str]) -> None:
        lines = [one_line(problem, limit=300) for problem in problems[:_SHOWN]]
        if len(problems) > _SHOWN:
            lines.append(f"and {len(problems) - _SHOWN} more")
        super().__init__("\n  ".join(lines))
        self.problems = tuple(problems)


def read_object(content: bytes, *, file: str) -> Mapping[str, Any]:
    """The JSON object that `content` is. Raises `InputProblem` naming the line."""
    try:
        found = json.loads(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputProblem([f"{file}:{line}: not UTF-8 text"]) from error
    except json.JSONDecodeError as error:
        raise InputProblem([f"{file}:{error.lineno}: not JSON: {error.msg}"]) from error
    except (ValueError, RecursionError) as error:
        raise InputProblem([f"{file}: not usable as JSON: {error}"]) from error
    if not isinstance(found, dict):
        raise InputProblem([f"{file}: holds {_kind(found)}, expected a JSON object"])
    return found


def objects_in(raw: Mapping[str, Any], name: str, *, file: str) -> list[Mapping[str, Any]]:
    """The list of objects `name`. Raises `InputProblem` when it is anything else."""
    found = raw.get(name)
    if not isinstance(found, list):
        raise InputProblem([f"{file}: '{name}' is {_kind(found)}, expected a list"])
    wrong = [
        f"{file}: {name}[{at}] is {_kind(item)}, expected an object"
        for at, item in enumerate(found)
        if not isinstance(item, dict)
    ]
    if wrong:
        raise InputProblem(wrong)
    return found


def object_in(raw: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """The object `name`, or an empty one: what it would hold is not known then."""
    found = raw.get(name)
    return found if isinstance(found, dict) else {}


def text_in(raw: Mapping[str, Any], name: str) -> str:
    """The text `name`, numbers as they are written; empty where there is neither."""
    found = raw.get(name)
    return str(found) if isinstance(found, (str, int, float)) and not isinstance(found, bool) else ""


def count_in(raw: Mapping[str, Any], name: str) -> int:
    """The whole number `name`, or 0."""
    found = raw.get(name)
    return found if isinstance(found, int) and not isinstance(found, bool) else 0


def seconds_of(value: object) -> float | None:
    """`value` as a duration, or None when it cannot be one."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        seconds = float(value)
    except OverflowError:
        return None
    return seconds if math.isfinite(seconds) and seconds >= 0 else None


def number_in(raw: Mapping[str, Any], name: str) -> float | None:
    """The finite number `name`, or None."""
    value = raw.get(name)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def moment(text: str, *, naive: tzinfo | None = None) -> datetime | None:
    """The time, in UTC, that an ISO 8601 text names; None when it names none.

    A text without an offset is in the zone `naive`, or in local time for None: tools differ in this.
    """
    try:
        when = datetime.fromisoformat(text.replace("Z", "+00:00"))
        return (when if when.tzinfo else when.replace(tzinfo=naive)).astimezone(timezone.utc)
    except (ValueError, OverflowError):
        return None


def _kind(value: object) -> str:
    match value:
        case None:
            return "missing"
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case str():
            return "text"
        case list():
            return "a list"
        case _:
            return "an object"
