"""Find suites by name, by file, by module and by entry point. Standard library only, so that listing costs nothing."""

from __future__ import annotations

import ast
import contextlib
import difflib
import functools
import importlib
import importlib.util
import inspect
import re
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

ENTRY_POINTS = "torchperf_ci.suites"

BUILT_IN: Mapping[str, str] = {
    "fastrnns": "torchperf_ci.suites.fastrnns.suite",
    "tiny": "torchperf_ci.suites.tiny",
    "huggingface": "torchperf_ci.suites.huggingface",
    "timm_models": "torchperf_ci.suites.timm_models",
    "torchbench": "torchperf_ci.suites.torchbench",
}
"""Built-in suites: name and module."""


REQUEST = ("mode", "device", "dtype", "scale")
"""Keyword-only parameters that a model's function is given, where it declares them."""

_POSITIONAL = {
    inspect.Parameter.POSITIONAL_ONLY,
    inspect.Parameter.POSITIONAL_OR_KEYWORD,
    inspect.Parameter.VAR_POSITIONAL,
}
_LONGEST_LINE = 80


class SuiteError(Exception):
    """A suite that cannot be found or used; the message names the choices."""


@dataclass(frozen=True, kw_only=True)
class Skip:
    """A model that is left out on a device type and in a mode (None: on all), with the reason people will read."""

    model: str
    reason: str
    device: str | None = None
    mode: str | None = None

    def applies(self, *, model: str, device: str, mode: str) -> bool:
        return self.model == model and self.device in {None, device.partition(":")[0]} and self.mode in {None, mode}


@dataclass(frozen=True, kw_only=True)
class Suite:
    """A loaded suite. `build` calls the model's function with what it declares."""

    name: str
    module: ModuleType

    @property
    def models(self) -> Mapping[str, Callable[..., Any]]:
        models: Mapping[str, Callable[..., Any]] = self.module.MODELS
        return models

    @property
    def quick(self) -> Sequence[str]:
        return tuple(getattr(self.module, "QUICK", ()))

    @property
    def groups(self) -> Mapping[str, Sequence[str]]:
        groups: Mapping[str, Sequence[str]] = getattr(self.module, "GROUPS", {})
        return groups

    @property
    def skips(self) -> Sequence[Skip]:
        return tuple(getattr(self.module, "SKIPS", ()))

    def world(self, model: str) -> int:
        """Return the number of processes that run `model` together, as the suite's WORLD has it."""
        world: int | Mapping[str, int] = getattr(self.module, "WORLD", 1)
        return world.get(model, 1) if isinstance(world, Mapping) else world

    def build(self, model: str, *, batch_size: int | None, **request: str) -> tuple[Any, ...]:
        """Return `(module, args)` or `(module, args, kwargs)` of `model`. Raises `SuiteError` for anything else."""
        make = self.models[model]
        accepted = {
            name
            for name, parameter in inspect.signature(make).parameters.items()
            if parameter.kind is inspect.Parameter.KEYWORD_ONLY
        }
        result = make(batch_size, **{name: value for name, value in request.items() if name in accepted})
        is_good = isinstance(result, tuple) and len(result) in {2, 3} and isinstance(result[1], (tuple, list))
        if not is_good or (len(result) == 3 and not isinstance(result[2], Mapping)):
            raise SuiteError(_result_problem(make, result))
        return tuple(result)

    def missing(self, model: str | None = None) -> str | None:
        """Say why the suite, or one of its models, cannot run in this environment; None when it can."""
        ask = self.option("missing")
        return ask(model) if ask else None

    def describe(self, model: str) -> str:
        """Describe the model in one line: what the suite says, else the first line of its function's docstring."""
        if describe := self.option("describe"):
            return str(describe(model))
        make = self.models[model]
        documented = inspect.getdoc(make) if inspect.isroutine(make) else None
        return documented.splitlines()[0] if documented else ""

    def option(self, name: str) -> Callable[..., Any] | None:
        """Return the module's optional function `name`."""
        function: Callable[..., Any] | None = getattr(self.module, name, None)
        return function


def resolve(spec: str) -> Suite:
    """Load the suite of a name, a path to a `.py` file, or a dotted module name. Raises `SuiteError`."""
    module = _load(spec)
    problem = _models_problem(module) or _world_problem(getattr(module, "WORLD", 1), module.MODELS)
    if problem:
        raise SuiteError(f"suite {short_path(spec)}: {problem}")
    return Suite(name=suite_name(spec), module=module)


def _models_problem(module: ModuleType) -> str:
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
    where = _place_of_models(module)
    if not isinstance(models, Mapping):
        kind = type(models).__name__
        return f'{where}MODELS is a {kind}, not a mapping; write MODELS = {{"{example}": {example}}}'
    if not models:
        return f'{where}MODELS is empty; write MODELS = {{"{example}": {example}}}'
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
        if problem := _signature_problem(make):
            return problem
    return ""


def _place_of_models(module: ModuleType) -> str:
    """Return `file:line: ` of the assignment to MODELS; empty where there is no such line."""
    with contextlib.suppress(OSError, TypeError):
        for number, line in enumerate(inspect.getsource(module).splitlines(), start=1):
            if re.match(r"MODELS\b", line):
                return f"{short_path(str(module.__file__))}:{number}: "
    return ""


def _signature_problem(make: Callable[..., Any]) -> str:
    """Say why a function cannot be called with a batch size alone, with its place; empty when it can."""
    try:
        parameters = inspect.signature(make).parameters
    except (TypeError, ValueError):  # a built-in function that does not say
        return ""
    positional = [each for each in parameters.values() if each.kind in _POSITIONAL]
    name = getattr(make, "__name__", "the function")
    if not positional:
        return f"{_place(make)}{name} takes no batch size; write def {name}(batch_size):"
    for each in parameters.values():
        has_value = each.default is not each.empty or each.kind in {each.VAR_POSITIONAL, each.VAR_KEYWORD}
        is_given = each is positional[0] or (each.kind is each.KEYWORD_ONLY and each.name in REQUEST)
        if not has_value and not is_given:
            return (
                f"{_place(make)}{name} needs {each.name}, which nothing gives it: give it a default, {each.name}=…, or "
                f"bind it with functools.partial (given are the batch size, and after a * {', '.join(REQUEST)})"
            )
    return ""


def _result_problem(make: Callable[..., Any], result: Any) -> str:  # noqa: ANN401 - whatever a suite returns
    """Say what is wrong with what a model's function returned, with the place of its `return` and what to write."""
    place, expression, parts = _returned(make)
    module, inputs = (parts[0], parts[1]) if len(parts) > 1 else ("module", "x")
    kinds = [type(part).__name__ for part in result] if isinstance(result, (tuple, list)) else []
    if len(kinds) not in {2, 3}:
        alone = parts[0] if len(parts) == 1 and not isinstance(result, Mapping) and not kinds else "module"
        problem, fix = f"{len(kinds)} values" if kinds else f"a {type(result).__name__} alone", f"{alone}, (x,)"
    elif isinstance(result[1], Mapping):
        problem, fix = f"a {kinds[1]} in the place of the tuple of inputs", f"{module}, (), {inputs}"
    elif not isinstance(result[1], (tuple, list)):
        problem, fix = f"a {kinds[1]} in the place of the tuple of inputs", f"{module}, ({inputs},)"
    elif not isinstance(result, tuple):
        problem, fix = f"a {type(result).__name__}, not a tuple", f"{module}, {inputs}"
    else:
        problem, fix = f"a {kinds[2]} in the place of the named inputs", f"{module}, {inputs}, {{…}}"
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


def _world_problem(world: Any, models: Mapping[str, Any]) -> str:  # noqa: ANN401 - whatever the suite says
    sizes = world if isinstance(world, Mapping) else {"": world}
    for model, size in sizes.items():
        where = f"WORLD[{model!r}]" if isinstance(world, Mapping) else "WORLD"
        if isinstance(world, Mapping) and model not in models:
            return f"{where}: MODELS has no such model"
        if not isinstance(size, int) or isinstance(size, bool) or size < 1:
            return f"{where} is {size!r:.60}, expected the number of processes, a whole number of at least 1"
    return ""


def suite_name(spec: str) -> str:
    """Return the name a suite has in results: a file's stem, the last part of a dotted name, else the name itself."""
    return Path(spec).stem if spec.endswith(".py") else spec.rpartition(".")[2]


def known() -> dict[str, str]:
    """List every suite that can be named: the built-in ones and those other packages registered."""
    registered = {entry.name: entry.value for entry in metadata.entry_points(group=ENTRY_POINTS)}
    return {**registered, **BUILT_IN}


def _load(spec: str) -> ModuleType:
    if spec.endswith(".py"):
        return _load_file(Path(spec))
    target = known().get(spec, spec if "." in spec else None)
    if target is None:
        is_file = Path(f"{spec}.py").is_file()
        near = [f"{spec}.py"] if is_file else difflib.get_close_matches(spec, known(), n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        choices = ", ".join(sorted(known()))
        raise SuiteError(f"unknown suite {spec!r}.{hint} There are: {choices}, a path to a .py file, a module name.")
    try:
        return importlib.import_module(target)
    except ModuleNotFoundError as error:
        if error.name and (target == error.name or target.startswith(error.name + ".")):
            raise SuiteError(
                f"suite {spec}: there is no module {error.name} for {sys.executable} in {Path.cwd()}; go to the folder "
                "that holds it, install it there, or give the path to its .py file"
            ) from error
        raise


def missing_file(path: Path) -> str:
    """Say that a suite's file is not there, with the one that may be meant; blank when it is."""
    if path.is_file():
        return ""
    there = sorted(each.name for each in path.parent.glob("*.py")) if path.parent.is_dir() else []
    near = difflib.get_close_matches(path.name, there, n=1)
    hint = f" Did you mean {short_path(str(path.with_name(near[0])))}?" if near else ""
    return f"suite {short_path(str(path))}: there is no such file.{hint}"


def _load_file(path: Path) -> ModuleType:
    if problem := missing_file(path):
        raise SuiteError(problem)
    name = _module_name(path)
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise SuiteError(f"suite {short_path(str(path))}: Python cannot load this file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    sys.path.insert(0, str(path.parent))  # so that a suite may import its neighbours
    spec.loader.exec_module(module)
    return module


def _module_name(path: Path) -> str:
    """Name the module of a suite's file by its stem, so that processes that it starts can import it; another name where
    that one is taken."""
    loaded = sys.modules.get(path.stem)
    taken = loaded is not None and getattr(loaded, "__file__", None) != str(path)
    if taken or path.stem in sys.stdlib_module_names:
        return "torchperf_suite_" + re.sub(r"\W", "_", path.stem)
    return path.stem
