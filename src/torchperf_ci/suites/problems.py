"""Parameters of models (`PARAMS`), and the problems of suites, each with its line and what to write there."""

from __future__ import annotations

import ast
import contextlib
import difflib
import functools
import inspect
import itertools
import math
import re
import textwrap
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from torchperf_ci.suites.program import Program, suggest

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


REQUEST = ("mode", "device", "dtype", "scale")
"""Keyword-only parameters that a model's function is given, where it declares them."""

_POSITIONAL = {
    inspect.Parameter.POSITIONAL_ONLY,
    inspect.Parameter.POSITIONAL_OR_KEYWORD,
    inspect.Parameter.VAR_POSITIONAL,
}
_LONGEST_LINE = 80
_DEFINES = ("unit", "direction")
_DIRECTIONS = ("higher", "lower", "unknown")


def problem_of_models(module: ModuleType) -> str:
    """Say what is wrong with a suite's MODELS, with the place and what to write; empty when nothing is."""
    models = getattr(module, "MODELS", None)
    functions = [
        name
        for name, value in vars(module).items()
        if inspect.isfunction(value) and value.__module__ == module.__name__ and not name.startswith("_")
    ]
    example = functions[0] if functions else "mlp"
    if models is None:
        near = difflib.get_close_matches("MODELS", [name for name in vars(module) if not name.startswith("_")], n=1)
        near += [name for name in vars(module) if name.lower() in {"model", "models"}]
        hint = f"rename {near[0]} to MODELS" if near else f'add MODELS = {{"{example}": {example}}} at its end'
        return f"it has no MODELS, a mapping from model name to a function of the batch size; {hint}"
    where = _place_of(module, "MODELS")
    if not isinstance(models, Mapping):
        kind = type(models).__name__
        return f'{where}MODELS is a {kind}, not a mapping; write MODELS = {{"{example}": {example}}}'
    if not models:
        return f'{where}MODELS is empty; write MODELS = {{"{example}": {example}}}'
    return _problem_of_parameters(module) or _problem_of_functions(models, module, where=where, example=example)


def _problem_of_functions(models: Mapping[Any, Any], module: ModuleType, *, where: str, example: str) -> str:
    for name, make in models.items():
        if not isinstance(name, str):
            return f"{where}MODELS[{name!r:.60}]: a model's name is text; write {str(name)!r:.60}"
        example = name if name.isidentifier() else example
        wanted = f"a function: def {example}(batch_size): return module, (inputs,)"
        if inspect.isclass(make):
            return f"{where}MODELS[{name!r}] is the class {make.__name__}; write {wanted}"
        if callable(getattr(make, "forward", None)):  # a torch.nn.Module, which can be called as well
            return f"{where}MODELS[{name!r}] is a module ({type(make).__name__}), shared by all cases; write {wanted}"
        if not callable(make):
            return f"{where}MODELS[{name!r}] is a {type(make).__name__}; write {wanted}"
        choices = getattr(module, "PARAMS", {}).get(name)
        if problem := _problem_of_signature(make, list(combinations(choices)) if choices else [{}]):
            return problem
    return ""


def _place_of(module: ModuleType, name: str) -> str:
    """Return `file:line: ` of the assignment to `name`; empty where there is no such line."""
    with contextlib.suppress(OSError, TypeError):
        for number, line in enumerate(inspect.getsource(module).splitlines(), start=1):
            if re.match(rf"{name}\b", line):
                return f"{short_path(str(module.__file__))}:{number}: "
    return ""


def takes_batch_size(make: Callable[..., Any], parameters: Parameters) -> bool:
    """Say whether the first thing that a model's function takes is the batch size, and not one of its parameters."""
    try:
        positional = [each for each in inspect.signature(make).parameters.values() if each.kind in _POSITIONAL]
    except (TypeError, ValueError):  # a built-in function that does not say
        return True
    return bool(positional) and positional[0].name not in parameters


def _problem_of_signature(make: Callable[..., Any], called_with: Sequence[Parameters]) -> str:
    """Say why a function cannot be called as it will be, with its place; empty when it can."""
    try:
        parameters = inspect.signature(make).parameters
    except (TypeError, ValueError):  # a built-in function that does not say
        return ""
    positional = [each for each in parameters.values() if each.kind in _POSITIONAL]
    name = getattr(make, "__name__", "the function")
    if not positional and not called_with[0]:
        return f"{_place(make)}{name} takes no batch size; write def {name}(batch_size):"
    takes_any = any(each.kind is each.VAR_KEYWORD for each in parameters.values())
    named = [each.name for each in parameters.values() if each.kind in {each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY}]
    for given in called_with:
        unknown = next((each for each in given if each not in named and not takes_any), None)
        if unknown is not None:
            hint = suggest(unknown, named) or f"; write def {name}(batch_size, {unknown}):"
            return f"{_place(make)}{name} takes no parameter {unknown!r}, which PARAMS gives it{hint}"
        for each in parameters.values():
            has_value = each.default is not each.empty or each.kind in {each.VAR_POSITIONAL, each.VAR_KEYWORD}
            is_batch_size = bool(positional) and each is positional[0]
            is_given = each.name in given or is_batch_size or (each.kind is each.KEYWORD_ONLY and each.name in REQUEST)
            if not has_value and not is_given:
                return (
                    f"{_place(make)}{name} needs {each.name}, which nothing gives it: give it a default, "
                    f"{each.name}=…, list its values in PARAMS, or bind it with functools.partial (given are the batch "
                    f"size, and after a * {', '.join(REQUEST)})"
                )
    return ""


def _problem_of_parameters(module: ModuleType) -> str:
    """Say what is wrong with a suite's PARAMS, or the keys of its SHAPES; empty when nothing is."""
    for name, example in (("PARAMS", '{"n": [128, 1024]}'), ("SHAPES", "[(x,), (y,)]")):
        choices, place = getattr(module, name, {}), _place_of(module, name)
        if not isinstance(choices, Mapping):
            return f'{place}{name} is a {type(choices).__name__}; write {name} = {{"model": {example}}}'
        for model, chosen in choices.items():
            if model not in module.MODELS:
                return f"{place}{name}[{model!r:.60}]: MODELS has no such model{suggest(model, module.MODELS)}"
            if name == "PARAMS" and (problem := problem_of_choices(chosen)):
                return f"{place}PARAMS[{model!r}]: {problem}"
    return ""


def problem_of_metrics(module: ModuleType) -> str:
    """Say what is wrong with a suite's METRICS; empty when nothing is."""
    metrics, place = getattr(module, "METRICS", {}), _place_of(module, "METRICS")
    example = '{"unit": "1/s", "direction": "higher"}'
    if not isinstance(metrics, Mapping):
        return f'{place}METRICS is a {type(metrics).__name__}; write METRICS = {{"tokens_per_second": {example}}}'
    if not metrics and callable(getattr(module, "metrics", None)):
        place = _place_of(module, "def metrics")
        return f"{place}metrics() makes numbers that METRICS does not declare; write METRICS = {{name: {example}}}"
    for name, definition in metrics.items():
        if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z_]\w{0,63}", name):
            return f"{place}METRICS[{name!r:.70}]: a metric's name has letters, digits and _ alone"
        if not isinstance(definition, Mapping):
            return f"{place}METRICS[{name!r}] is {definition!r:.60}; write {example}"
        if unknown := [key for key in definition if key not in _DEFINES]:
            return f"{place}METRICS[{name!r}]: the key {unknown[0]!r:.60}; there are: {', '.join(_DEFINES)}"
        if not isinstance(definition.get("unit"), str):
            return f'{place}METRICS[{name!r}] has no unit; write {example}, and "" for a number without one'
        if definition.get("direction") not in _DIRECTIONS:
            said = f"the direction {definition['direction']!r:.60}" if "direction" in definition else "no direction"
            return f"{place}METRICS[{name!r}] has {said}; write one of: {', '.join(_DIRECTIONS)}"
    return ""


def problem_of_shapes(model: str, shapes: Any, program: Program) -> str:  # noqa: ANN401 - whatever a suite says
    """Say what is wrong with the inputs that a case is to run in turn; empty when nothing is."""
    if not isinstance(shapes, (list, tuple)) or not shapes:
        return (
            f"SHAPES[{model!r}] is {shapes!r:.60}; write a list of inputs, [(x,), (y,)], or a function that returns one"
        )
    if program.setup is not None:
        return f"SHAPES[{model!r}]: a model with a setup has its inputs from there, and cannot run a list in turn"
    return ""


def problem_of_mapping(make: Callable[..., Any], problem: str) -> str:
    """Put the place of a function's `return` before what is wrong with the mapping that it returns."""
    place, *_ = _returned(make)
    return f"{place}the mapping that {getattr(make, '__name__', 'the function')} returns has {problem}"


def problem_of_result(make: Callable[..., Any], result: Any) -> str:  # noqa: ANN401 - whatever a suite returns
    """Say what is wrong with what a model's function returned, with the place of its `return` and what to write."""
    place, expression, parts = _returned(make)
    module, inputs = (parts[0], parts[1]) if len(parts) > 1 else ("module", "x")
    kinds = [type(part).__name__ for part in result] if isinstance(result, (tuple, list)) else []
    if len(kinds) not in {2, 3}:
        alone = parts[0] if len(parts) == 1 and not isinstance(result, Mapping) and not kinds else "module"
        problem, fix = f"{len(kinds)} values" if kinds else f"a {type(result).__name__} alone", f"{alone}, (x,)"
    elif isinstance(result[1], Mapping):
        problem, fix = f"a {kinds[1]} instead of the tuple of inputs", f"{module}, (), {inputs}"
    elif not isinstance(result[1], (tuple, list)):
        problem, fix = f"a {kinds[1]} instead of the tuple of inputs", f"{module}, ({inputs},)"
    elif not isinstance(result, tuple):
        problem, fix = f"a {type(result).__name__}, not a tuple", f"{module}, {inputs}"
    else:
        problem, fix = f"a {kinds[2]} instead of the named inputs", f"{module}, {inputs}, {{…}}"
    shown = f"`{expression}`" if expression else "the function"
    return f"{place}{shown} gives {problem}; write `return {fix}`"


def _returned(make: Callable[..., Any]) -> tuple[str, str, list[str]]:
    """Return the place of a function's last `return`, its expression and the parts of that; blank where not known."""
    function = inspect.unwrap(make.func if isinstance(make, functools.partial) else make)
    try:
        lines, first = inspect.getsourcelines(function)
        source = textwrap.dedent("".join(lines))
        definition = ast.parse(source).body[0]
    except (OSError, TypeError, SyntaxError):
        return _place(make), "", []
    returns = [node for node in ast.walk(definition) if isinstance(node, ast.Return) and node.value is not None]
    if not returns:
        return _place(make), "", []
    last = max(returns, key=lambda node: node.lineno)
    assert last.value is not None
    parts = last.value.elts if isinstance(last.value, (ast.Tuple, ast.List)) else [last.value]
    place = f"{short_path(inspect.getfile(function))}:{first + last.lineno - 1}: "
    expression = ast.get_source_segment(source, last) or ""
    return (
        place,
        expression if len(expression) <= _LONGEST_LINE and "\n" not in expression else "",
        [ast.unparse(part) for part in parts],
    )


def _place(make: Callable[..., Any]) -> str:
    """Return `file:line: ` of a function; empty where it has none."""
    function = inspect.unwrap(make.func if isinstance(make, functools.partial) else make)
    code = getattr(function, "__code__", None)
    return f"{short_path(code.co_filename)}:{code.co_firstlineno}: " if code is not None else ""


def short_path(path: str) -> str:
    """Return a path from the working folder where it lies below that."""
    try:
        return str(Path(path).relative_to(Path.cwd()))
    except (ValueError, OSError):
        return path


def problem_of_world(world: Any, models: Mapping[str, Any]) -> str:  # noqa: ANN401 - whatever the suite says
    sizes = world if isinstance(world, Mapping) else {"": world}
    for model, size in sizes.items():
        where = f"WORLD[{model!r}]" if isinstance(world, Mapping) else "WORLD"
        if isinstance(world, Mapping) and model not in models:
            return f"{where}: MODELS has no such model"
        if not isinstance(size, int) or isinstance(size, bool) or size < 1:
            return f"{where} is {size!r:.60}, expected the number of processes, a whole number of at least 1"
    return ""
