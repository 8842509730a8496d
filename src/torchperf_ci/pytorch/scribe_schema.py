"""What a message in Scribe's category may hold, as data, and the check that a message does."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from enum import Enum
from types import MappingProxyType
from typing import Any

from torchperf_ci.formats.inputs import InputProblem

CATEGORY = "perfpipe_pytorch_benchmarks"
API_URL = "https://graph.facebook.com/scribe_logs"
BATCH_BYTES = 1_000_000
"""Largest body of a request, unless another limit is asked for."""


class Kind(str, Enum):
    """The parts of a message, one per type of value."""

    INT = "int"
    NORMAL = "normal"
    FLOAT = "float"

    __str__ = str.__str__


FIELDS: Mapping[str, Kind] = MappingProxyType(
    {
        "time": Kind.INT,
        "rounds": Kind.INT,
        "benchmark_group": Kind.NORMAL,
        "benchmark_name": Kind.NORMAL,
        "benchmark_executor": Kind.NORMAL,
        "benchmark_fuser": Kind.NORMAL,
        "benchmark_class": Kind.NORMAL,
        "benchmark_time": Kind.NORMAL,
        "pytorch_commit_id": Kind.NORMAL,
        "pytorch_branch": Kind.NORMAL,
        "pytorch_commit_time": Kind.NORMAL,
        "pytorch_version": Kind.NORMAL,
        "pytorch_git_dirty": Kind.NORMAL,
        "machine_kernel": Kind.NORMAL,
        "machine_processor": Kind.NORMAL,
        "machine_hostname": Kind.NORMAL,
        "circle_build_num": Kind.NORMAL,
        "circle_project_reponame": Kind.NORMAL,
        "stddev": Kind.FLOAT,
        "min": Kind.FLOAT,
        "median": Kind.FLOAT,
        "max": Kind.FLOAT,
        "mean": Kind.FLOAT,
    }
)
"""Every field of a message and the part it belongs to. A new field is one line here."""

REQUIRED = ("time",)

Message = Mapping[str, Mapping[str, int | float | str]]


def check_fields(fields: Mapping[str, object], *, where: str) -> Message:
    """The message of `fields`, every value coerced to its field's type; those that are None are left out.

    Raises `InputProblem` with a line for every unknown field, required field that is missing, and value that is not
    of its type.
    """
    message: dict[str, dict[str, int | float | str]] = {}
    problems = [f"{where}: field '{name}' is missing" for name in REQUIRED if fields.get(name) is None]
    for name, value in fields.items():
        if name not in FIELDS:
            problems.append(f"{where}: unknown field '{name}'; the fields are: {', '.join(FIELDS)}")
        elif value is not None:
            try:
                message.setdefault(FIELDS[name].value, {})[name] = _coerced(value, FIELDS[name])
            except (TypeError, ValueError, OverflowError):
                problems.append(f"{where}: field '{name}' is {str(value)[:40]!r}, expected {_EXPECTED[FIELDS[name]]}")
    if problems:
        raise InputProblem(problems)
    return message


def check_all(found: Sequence[tuple[str, Mapping[str, object]]]) -> list[tuple[str, Message]]:
    """Places and their messages. Raises `InputProblem` with what is wrong in all of them together."""
    messages: list[tuple[str, Message]] = []
    problems: list[str] = []
    for where, fields in found:
        try:
            messages.append((where, check_fields(fields, where=where)))
        except InputProblem as error:
            problems.extend(error.problems)
    if problems:
        raise InputProblem(problems)
    return messages


_EXPECTED = {Kind.INT: "a whole number", Kind.NORMAL: "text", Kind.FLOAT: "a finite number"}


def _coerced(value: Any, kind: Kind) -> int | float | str:  # noqa: ANN401 - whatever a foreign file holds
    if not isinstance(value, (str, int, float)):
        raise TypeError
    match kind:
        case Kind.NORMAL:
            return str(value)
        case Kind.INT:
            return _whole(value)
        case Kind.FLOAT:
            return _finite(value)


def _whole(value: str | float) -> int:
    number = int(value)
    if isinstance(value, bool) or (isinstance(value, float) and number != value):
        raise ValueError
    return number


def _finite(value: str | float) -> float:
    number = float(value)
    if isinstance(value, bool) or not math.isfinite(number):
        raise ValueError
    return number
