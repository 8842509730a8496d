"""Read foreign JSON: parse it, give it a type, and name the place of every fault."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone, tzinfo
from enum import Enum
from typing import Annotated, Any, TypeVar

import msgspec

from torchperf_ci.core.errors import UsageProblem
from torchperf_ci.core.text import one_line

Typed = TypeVar("Typed")
Choice = TypeVar("Choice", bound=Enum)
Default = TypeVar("Default")

_LARGEST = sys.float_info.max
Finite = Annotated[float, msgspec.Meta(ge=-_LARGEST, le=_LARGEST)]
"""A number that is neither infinite nor NaN."""
Duration = Annotated[float, msgspec.Meta(ge=0, le=_LARGEST)]
"""A finite number of seconds, or of another unit of time, not below 0."""

_SHOWN = 20
_WORDS = {
    "array": "a list",
    "bool": "true or false",
    "float": "a number",
    "int": "a whole number",
    "null": "nothing",
    "object": "an object",
    "str": "text",
}


class InputProblem(UsageProblem):
    """A file that cannot be used. The message lists what is wrong, one place a line."""

    def __init__(self, problems: Sequence[str]) -> None:
        lines = [one_line(problem, limit=700) for problem in problems[:_SHOWN]]
        if len(problems) > _SHOWN:
            lines.append(f"and {len(problems) - _SHOWN} more")
        super().__init__("\n  ".join(lines))
        self.problems = tuple(problems)


def parse(content: bytes, *, file: str) -> Any:  # noqa: ANN401 - any JSON
    """Parse JSON of another tool, which may hold `NaN` and `Infinity`. Raises `InputProblem` naming the line."""
    try:
        return msgspec.json.decode(content)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        pass  # Python's parser is slower, but takes NaN, a byte order mark and halves of surrogate pairs
    try:
        return json.loads(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputProblem([f"{file}:{line}: not UTF-8 text"]) from error
    except json.JSONDecodeError as error:
        raise InputProblem([f"{file}:{error.lineno}: not JSON: {error.msg}"]) from error
    except (ValueError, RecursionError) as error:
        raise InputProblem([f"{file}: not usable as JSON: {error}"]) from error


def convert(raw: object, kind: type[Typed], *, where: str) -> Typed:
    """Give parsed JSON a type. Raises `InputProblem` naming the place and what was expected there.

    In a struct's own fields, not in those of what it holds, null is as good as a field that is not there.
    """
    if isinstance(raw, dict) and hasattr(kind, "__struct_fields__"):
        raw = {name: value for name, value in raw.items() if value is not None}
    try:
        return msgspec.convert(raw, kind)
    except msgspec.ValidationError as error:
        raise InputProblem([f"{where}: {explain(error)}"]) from None


def explain(error: msgspec.ValidationError) -> str:
    """Say in plain words what msgspec found wrong, the place first: `stats.min: expected a number, got text`."""
    text, _, place = str(error).partition(" - at `$")
    text = text.replace(f" <= {_LARGEST}", " that is finite").replace(f" >= -{_LARGEST}", " that is finite")
    text = text.replace(" >= 0.0", " of at least 0")
    text = re.sub(r"Object missing required field `(\w+)`", r"'\1' is missing", text)
    text = re.sub(
        r"`([a-z |]+)`", lambda types: " or ".join(_WORDS.get(word, word) for word in types[1].split(" | ")), text
    )
    text = text[:1].lower() + text[1:]
    return f"{place.rstrip('`').lstrip('.')}: {text}" if place else text


def text_in(raw: Mapping[str, Any], name: str) -> str:
    """Read a text that may be missing or of any type; numbers as they are written, anything else as blank."""
    value = raw.get(name)
    return str(value) if isinstance(value, (str, int, float)) and not isinstance(value, bool) else ""


def count_in(raw: Mapping[str, Any], name: str) -> int:
    """Read a whole number that may be missing, text or of any type; anything else is 0."""
    text = text_in(raw, name)
    return int(text) if text.isdecimal() else 0


def as_object(value: object) -> Mapping[str, Any]:
    """Return `value` as an object, an empty one for anything else."""
    return value if isinstance(value, dict) else {}


def finite(value: object) -> float | None:
    """Return `value` as a finite number, or None for anything else."""
    try:
        return msgspec.convert(value, Finite)
    except msgspec.ValidationError:
        return None


def choice(kind: type[Choice], word: object, default: Default) -> Choice | Default:
    """Return the member of an enum with this value, or the default."""
    return next((member for member in kind if member.value == word), default)


def moment(text: str, *, naive: tzinfo | None = None) -> datetime | None:
    """Parse ISO 8601 as a time in UTC; None for anything else.

    A text without an offset is in the zone `naive`, or in local time for None: tools differ in this.
    """
    try:
        when = datetime.fromisoformat(text.replace("Z", "+00:00"))
        return (when if when.tzinfo else when.replace(tzinfo=naive)).astimezone(timezone.utc)
    except (ValueError, OverflowError):
        return None


def moment_of_seconds(seconds: float) -> datetime | None:
    """Return the time in UTC, from seconds since 1970; None beyond what a calendar has."""
    try:
        return datetime.fromtimestamp(seconds, tz=timezone.utc)
    except (ValueError, OverflowError, OSError):
        return None
