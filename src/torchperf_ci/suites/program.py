"""The program of a case, as a model's function returns it: a module or a callable, its inputs, and what goes along."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

SETUP_PER = ("call", "reading")


@dataclass(frozen=True, kw_only=True)
class Program:
    """A module or a callable that is measured, with all that belongs to its calls.

    call: a module, or any callable. args, kwargs: its inputs.
    setup: runs before each call outside of the timed region, and may return `(args, kwargs)` for it. teardown: runs
        afterwards, outside as well. setup_per: `call`, or `reading`, where several calls of a reading share a setup.
    check: is given a result; None or True when it is right, else False, a text that says why not, or an AssertionError.
    metrics: is given a result and the seconds of the call and returns numbers by the names of METRICS; or the name of
        the metric that the result is.
    cast: whether floating inputs get the precision of the case; else they keep their own.
    items, bytes: how many items a call works on, and how many bytes it moves, for rates.
    shapes: the inputs of a case that runs them in turn; `args` are then empty.
    as_it_is: a benchmark that was written for another tool: nothing is copied of it, and nothing compared.
    """

    call: Any
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    setup: Callable[[], Any] | None = None
    teardown: Callable[[], Any] | None = None
    setup_per: str = "call"
    check: Callable[[Any], Any] | None = None
    metrics: Callable[[Any, float], Any] | str | None = None
    cast: bool = True
    items: float | None = None
    bytes: float | None = None
    shapes: tuple[tuple[tuple[Any, ...], Mapping[str, Any]], ...] = ()
    as_it_is: bool = False


KEYS = tuple(item.name for item in fields(Program) if item.name not in {"shapes", "as_it_is"})


def suggest(name: object, choices: Iterable[str]) -> str:
    """Return `; did you mean 'x'?` with the choice that is most like a name; empty when none is."""
    near = difflib.get_close_matches(str(name), list(choices), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def is_module(call: Any) -> bool:  # noqa: ANN401 - any callable
    """Say whether it is a torch.nn.Module, without importing torch."""
    return any(f"{cls.__module__}.{cls.__qualname__}" == "torch.nn.modules.module.Module" for cls in type(call).__mro__)


def read_program(result: Any) -> Program | None:  # noqa: ANN401 - whatever a suite returns
    """Read a tuple or a callable; None where it is neither as it has to be. A mapping is read by `read_mapping`."""
    if isinstance(result, Program):
        return result
    if callable(result) and not is_module(result):
        return Program(call=result)
    is_good = isinstance(result, tuple) and len(result) in {2, 3} and isinstance(result[1], (tuple, list))
    if not is_good or (len(result) == 3 and not isinstance(result[2], Mapping)):
        return None
    return Program(call=result[0], args=tuple(result[1]), kwargs=dict(result[2]) if len(result) == 3 else {})


def read_mapping(result: Mapping[str, Any], metrics: Sequence[str]) -> Program:
    """Read a mapping. metrics: the names of METRICS. Raises `ValueError` saying what is wrong and what to write."""
    for key in result:
        if key not in KEYS:
            raise ValueError(f"the key {key!r:.60}{suggest(key, KEYS)} (there are: {', '.join(KEYS)})")
    if "call" not in result:
        raise ValueError('no key \'call\'; write {"call": function, "args": (x,)}')
    wanted: Mapping[str, tuple[Callable[[Any], bool], str]] = {
        "call": (callable, "a module or a function"),
        "args": (lambda value: isinstance(value, (tuple, list)), "a tuple of inputs, (x,)"),
        "kwargs": (lambda value: isinstance(value, Mapping), "a mapping of named inputs"),
        **dict.fromkeys(("setup", "teardown", "check"), (lambda value: callable(value) or value is None, "a function")),
        "cast": (lambda value: isinstance(value, bool), "True or False"),
        "setup_per": (lambda value: value in SETUP_PER, " or ".join(map(repr, SETUP_PER))),
        "metrics": (
            lambda value: callable(value) or value is None or value in metrics,
            f"a function, or the name of a metric in METRICS ({', '.join(metrics) or 'there is none'})",
        ),
        **dict.fromkeys(("items", "bytes"), (_is_positive, "a number above 0")),
    }
    for key, value in result.items():
        is_good, form = wanted[key]
        if not is_good(value):
            raise ValueError(f"{value!r:.60} under {key!r}; write {form}")
    return Program(**{**result, "args": tuple(result.get("args", ())), "kwargs": dict(result.get("kwargs", {}))})


def _is_positive(value: Any) -> bool:  # noqa: ANN401 - whatever a suite says
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0
