"""Find suites by name, file, module and entry point, other tools' benchmarks too. Standard library only."""

from __future__ import annotations

import difflib
import functools
import importlib
import importlib.util
import inspect
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

from torchperf_ci.suites.problems import (
    Parameters,
    expand,
    problem_of_mapping,
    problem_of_metrics,
    problem_of_models,
    problem_of_result,
    problem_of_shapes,
    problem_of_world,
    short_path,
    takes_batch_size,
)
from torchperf_ci.suites.program import Program, read_mapping, read_program

ENTRY_POINTS = "torchperf_ci.suites"

BUILT_IN: Mapping[str, str] = {
    "fastrnns": "torchperf_ci.suites.fastrnns.suite",
    "tiny": "torchperf_ci.suites.tiny",
    "huggingface": "torchperf_ci.suites.huggingface",
    "timm_models": "torchperf_ci.suites.timm_models",
    "torchbench": "torchperf_ci.suites.torchbench",
}
"""Built-in suites: name and module."""


class SuiteError(Exception):
    """A suite that cannot be found or used; the message names the choices."""


@dataclass(frozen=True, kw_only=True)
class Skip:
    """A model that is left out on a device type and in a mode (None: on all), with the reason people will read."""

    model: str
    reason: str
    device: str | None = None
    mode: str | None = None


@dataclass(frozen=True, kw_only=True)
class Suite:
    """A loaded suite. `build` calls the model's function with what it declares.

    A model with parameters is several cases; `models` and whatever takes a `model` have their names.
    """

    name: str
    module: ModuleType

    @functools.cached_property
    def _cases(self) -> Mapping[str, tuple[str, Parameters]]:
        choices = getattr(self.module, "PARAMS", {})
        return {
            name: (model, parameters)
            for model in self.module.MODELS
            for name, parameters in expand(model, choices.get(model)).items()
        }

    @functools.cached_property
    def models(self) -> Mapping[str, Callable[..., Any]]:
        return {name: self.module.MODELS[model] for name, (model, _) in self._cases.items()}

    def own_name(self, model: str) -> str:
        """Return a model's name in MODELS, without parameters."""
        return self._cases[model][0] if model in self._cases else model

    def parameters(self, model: str) -> Parameters:
        return self._cases[model][1]

    @property
    def metrics(self) -> Mapping[str, Mapping[str, str]]:
        """The unit and the direction of the suite's own metrics, by name."""
        metrics: Mapping[str, Mapping[str, str]] = getattr(self.module, "METRICS", {})
        return metrics

    @property
    def quick(self) -> Sequence[str]:
        return tuple(getattr(self.module, "QUICK", ()))

    @property
    def groups(self) -> Mapping[str, Sequence[str]]:
        groups: Mapping[str, Sequence[str]] = getattr(self.module, "GROUPS", {})
        return {
            name: [case for case, (own, _) in self._cases.items() if own in models or case in models]
            for name, models in groups.items()
        }

    @property
    def skips(self) -> Sequence[Skip]:
        """The skips, a case each: one of a model with parameters is for all of its cases."""
        return tuple(
            replace(skip, model=case)
            for skip in getattr(self.module, "SKIPS", ())
            for case in [name for name, (own, _) in self._cases.items() if own == skip.model] or [skip.model]
        )

    def world(self, model: str) -> int:
        """Return the number of processes that run `model` together, as the suite's WORLD has it."""
        world: int | Mapping[str, int] = getattr(self.module, "WORLD", 1)
        return world.get(self.own_name(model), 1) if isinstance(world, Mapping) else world

    def build(self, model: str, *, batch_size: int | None, **request: str) -> Program:
        """Return what the model's function makes. Raises `SuiteError` for what cannot be measured."""
        make, parameters = self.models[model], self.parameters(model)
        accepted = {
            name
            for name, parameter in inspect.signature(make).parameters.items()
            if parameter.kind is inspect.Parameter.KEYWORD_ONLY
        }
        given = {name: value for name, value in request.items() if name in accepted} | dict(parameters)
        result = make(batch_size, **given) if takes_batch_size(make, parameters) else make(**given)
        if isinstance(result, Mapping):
            try:
                program = read_mapping(result, tuple(self.metrics))
            except ValueError as error:
                raise SuiteError(problem_of_mapping(make, str(error))) from error
        elif (read := read_program(result)) is not None:
            program = read
        else:
            raise SuiteError(problem_of_result(make, result))
        return self._complete(program, self.own_name(model))

    def _complete(self, program: Program, model: str) -> Program:
        """Add what the suite says for all of its models: the check, the metrics, the inputs that are run in turn."""
        check, metrics = self.option("check"), self.option("metrics")
        if program.check is None and check is not None:
            program = replace(program, check=functools.partial(check, model))
        if program.metrics is None and metrics is not None and self.metrics:
            program = replace(program, metrics=functools.partial(metrics, model))
        shapes = getattr(self.module, "SHAPES", {}).get(model)
        if shapes is None:
            return program
        listed = shapes() if callable(shapes) else shapes
        if problem := problem_of_shapes(model, listed, program):
            raise SuiteError(problem)
        return replace(program, args=(), kwargs={}, shapes=tuple(map(_inputs, listed)))

    def missing(self, model: str | None = None) -> str | None:
        """Say why the suite, or one of its models, cannot run in this environment; None when it can."""
        ask = self.option("missing")
        return ask(None if model is None else self.own_name(model)) if ask else None

    def describe(self, model: str) -> str:
        """Describe the model in one line: what the suite says, else the first line of its function's docstring."""
        if describe := self.option("describe"):
            return str(describe(self.own_name(model)))
        make = self.models[model]
        documented = inspect.getdoc(make) if inspect.isroutine(make) else None
        return documented.splitlines()[0] if documented else ""

    def option(self, name: str) -> Callable[..., Any] | None:
        """Return the module's optional function `name`."""
        function: Callable[..., Any] | None = getattr(self.module, name, None)
        return function


def suite_of_one(model: str, make: Callable[..., Program], **names: Any) -> Suite:  # noqa: ANN401 - what a suite defines
    """Make a suite of one model. names: what else a suite defines, for example METRICS."""
    module = ModuleType("torchperf_suite_of_one")
    vars(module).update(names, MODELS={model: make})
    return Suite(name=module.__name__, module=module)


def _inputs(inputs: Any) -> tuple[tuple[Any, ...], Mapping[str, Any]]:  # noqa: ANN401 - one element of SHAPES
    """Return positional and named inputs: a tuple or a list, a mapping, or one input alone."""
    if isinstance(inputs, Mapping):
        return (), dict(inputs)
    return (tuple(inputs) if isinstance(inputs, (tuple, list)) else (inputs,)), {}


def resolve(spec: str) -> Suite:
    """Load the suite of a name, a path to a `.py` file, or a dotted module name. Raises `SuiteError`."""
    module = _load(spec)
    problem = (
        problem_of_models(module)
        or problem_of_metrics(module)
        or problem_of_world(getattr(module, "WORLD", 1), module.MODELS)
    )
    if problem:
        raise SuiteError(f"suite {short_path(spec)}: {problem}")
    return Suite(name=suite_name(spec), module=module)


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
        below = sorted(map(str, Path(spec).glob("[!_]*.py"))) if Path(spec).is_dir() else []
        near = [f"{spec}.py"] if is_file else below or difflib.get_close_matches(spec, known(), n=1)
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


@dataclass(frozen=True, kw_only=True)
class ExistingBenchmark:
    """A benchmark of another tool.

    suite, model: its name as a case, the one by which the tool's results are imported. spec: what loads it alone.
    metrics: units and directions of its own, by name. skip: why it is left out; empty if it is not. broken: why it
    cannot be loaded, and neither can the benchmarks beside it, whose names nobody knows.
    """

    suite: str
    model: str
    spec: str = ""
    metrics: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    skip: str = ""
    broken: str = ""


def find_asv_folder(path: Path) -> Path:
    """Find the folder of the benchmarks: the one that asv.conf.json names, where that is in this one."""
    configuration = path / "asv.conf.json"
    if not configuration.is_file():
        return path
    match = re.search(r'^\s*"benchmark_dir"\s*:\s*"([^"]+)"', configuration.read_text(encoding="utf-8"), re.MULTILINE)
    return (path / (match[1] if match else "benchmarks")).resolve()
