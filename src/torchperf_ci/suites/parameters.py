"""Parameters of models: `PARAMS` into cases, `matmul[n=128,dtype=float32]`, and what is wrong with one."""

from __future__ import annotations

import itertools
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Value = str | int | float | bool
Parameters = Mapping[str, Value]

GIVEN = {
    "batch_size": "--batch-size gives it",
    "mode": "--inference and --training choose it",
    "device": "--devices chooses it",
    "scale": "--scale chooses it",
}
"""Names that are no parameters, and what gives them. `dtype` is one: it then is the precision of the case."""

MOST_CASES = 10_000
_TEXT = re.compile(r"[^\s,=\[\]]{1,60}")


def expand(model: str, choices: Any) -> dict[str, Parameters]:  # noqa: ANN401 - a value of PARAMS
    """Return the parameters of every case of a model, by its name; the model alone where there are no choices."""
    if not choices:
        return {model: {}}
    return {name_case(model, combination): combination for combination in combinations(choices)}


def name_case(model: str, parameters: Parameters) -> str:
    """Name a case: the model, and its parameters in brackets."""
    return f"{model}[{','.join(f'{name}={value}' for name, value in parameters.items())}]"


def combinations(choices: Any) -> Iterator[Parameters]:  # noqa: ANN401 - a value of PARAMS
    """Yield every combination: the product of a mapping from names to values, or the mappings of a list."""
    if isinstance(choices, Mapping):
        for values in itertools.product(*choices.values()):
            yield dict(zip(choices, values, strict=True))
    else:
        yield from map(dict, choices)


def problem_of_choices(choices: Any) -> str:  # noqa: ANN401 - whatever a suite says
    """Say what is wrong with the parameters of one model, and what to write; empty when nothing is."""
    if problem := _problem_of_form(choices):
        return problem
    if isinstance(choices, Mapping):
        names, values = list(choices), [value for each in choices.values() for value in each]
        count = math.prod(map(len, choices.values()))
    else:
        names, values = [name for each in choices for name in each], [one for each in choices for one in each.values()]
        count = len(choices)
    if problem := next(filter(None, (*map(_problem_of_name, names), *map(_problem_of_value, values))), ""):
        return problem
    if count > MOST_CASES:
        return f"these are {count:,} cases, more than {MOST_CASES:,}; write a list of the combinations that matter"
    shown = [name_case("", combination) for combination in combinations(choices)]
    twice = [name for name, times in Counter(shown).items() if times > 1]
    return f"the combination {twice[0]} is there twice" if twice else ""


def _problem_of_form(choices: Any) -> str:  # noqa: ANN401 - whatever a suite says
    example = '{"n": [128, 1024]}'
    if isinstance(choices, Mapping):
        for name, values in choices.items():
            if not isinstance(values, Sequence) or isinstance(values, (str, bytes)):
                return f"{name!r} is {values!r:.60}, not a list of values; write {{{name!r}: [{values!r:.60}]}}"
            if not values:
                return f"{name!r} has no values; write {example}"
    is_list = isinstance(choices, Sequence) and all(isinstance(each, Mapping) and each for each in choices)
    if not choices or not (isinstance(choices, Mapping) or is_list):
        return (
            f"it is {choices!r:.60}; write a mapping from parameters to their values, {example}, or a list of mappings"
        )
    return ""


def _problem_of_name(name: Any) -> str:  # noqa: ANN401 - whatever a suite says
    if not isinstance(name, str) or not name.isidentifier():
        return f"{name!r:.60} is not the name of a parameter"
    return f"{name!r} is no parameter: {GIVEN[name]}" if name in GIVEN else ""


def _problem_of_value(value: Any) -> str:  # noqa: ANN401 - whatever a suite says
    if not isinstance(value, (str, int, float)):
        return f"{value!r:.60} is a {type(value).__name__}; a value is text, a number or a truth value"
    if isinstance(value, str) and not _TEXT.fullmatch(value):
        return (
            f"the text {value!r:.70} is empty or longer than 60, or has a space or one of , = [ ]; give it a short name"
        )
    return ""
