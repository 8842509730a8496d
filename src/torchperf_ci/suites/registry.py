"""Finds suites by name, by file, by module and by entry point. Standard library only, so that listing costs nothing."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import inspect
import re
import sys
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
        """The processes that run `model` together: `WORLD`, a number, or a mapping from models to numbers (else 1)."""
        world: int | Mapping[str, int] = getattr(self.module, "WORLD", 1)
        return world.get(model, 1) if isinstance(world, Mapping) else world

    def build(self, model: str, *, batch_size: int | None, **request: str) -> tuple[Any, ...]:
        """`(module, args)` or `(module, args, kwargs)` of `model`."""
        make = self.models[model]
        accepted = {
            name
            for name, parameter in inspect.signature(make).parameters.items()
            if parameter.kind is inspect.Parameter.KEYWORD_ONLY
        }
        made = make(batch_size, **{name: value for name, value in request.items() if name in accepted})
        if not isinstance(made, tuple) or len(made) not in {2, 3}:
            raise SuiteError(
                f"{self.name}/{model}: its function returned {type(made).__name__}, "
                "expected (module, args) or (module, args, kwargs)"
            )
        return made

    def missing(self, model: str | None = None) -> str | None:
        """Why the suite, or one of its models, cannot run in this environment; None when it can."""
        ask = self.option("missing")
        return ask(model) if ask else None

    def describe(self, model: str) -> str:
        """The model in one line: what the suite says, else the first line of its function's docstring."""
        if told := self.option("describe"):
            return str(told(model))
        make = self.models[model]
        documented = inspect.getdoc(make) if inspect.isroutine(make) else None
        return documented.splitlines()[0] if documented else ""

    def option(self, name: str) -> Callable[..., Any] | None:
        """The module's optional function `name`."""
        found: Callable[..., Any] | None = getattr(self.module, name, None)
        return found


def resolve(spec: str) -> Suite:
    """The suite of a name, a path to a `.py` file, or a dotted module name. Raises `SuiteError` naming the choices."""
    module = _load(spec)
    models = getattr(module, "MODELS", None)
    if not isinstance(models, Mapping) or not models:
        raise SuiteError(f"suite {spec}: it has no MODELS, a mapping from model name to a function of the batch size")
    broken = [str(name) for name, make in models.items() if not isinstance(name, str) or not callable(make)]
    if broken:
        raise SuiteError(f"suite {spec}: MODELS[{broken[0]!r}] is not a function under a text name")
    if problem := _world_problem(getattr(module, "WORLD", 1), models):
        raise SuiteError(f"suite {spec}: {problem}")
    return Suite(name=suite_name(spec), module=module)


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
    """The name a suite has in results: a file's stem, the last part of a dotted name, else the name itself."""
    return Path(spec).stem if spec.endswith(".py") else spec.rpartition(".")[2]


def known() -> dict[str, str]:
    """Every suite that can be named: the built-in ones and those other packages registered."""
    registered = {entry.name: entry.value for entry in metadata.entry_points(group=ENTRY_POINTS)}
    return {**registered, **BUILT_IN}


def _load(spec: str) -> ModuleType:
    if spec.endswith(".py"):
        return _load_file(Path(spec))
    target = known().get(spec, spec if "." in spec else None)
    if target is None:
        near = difflib.get_close_matches(spec, known(), n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        choices = ", ".join(sorted(known()))
        raise SuiteError(f"unknown suite {spec!r}.{hint} There are: {choices}, a path to a .py file, a module name.")
    try:
        return importlib.import_module(target)
    except ModuleNotFoundError as error:
        if error.name and (target == error.name or target.startswith(error.name + ".")):
            raise SuiteError(f"suite {spec}: there is no module {error.name}") from error
        raise


def _load_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise SuiteError(f"suite {path}: there is no such file")
    name = _module_name(path)
    found = importlib.util.spec_from_file_location(name, path)
    if found is None or found.loader is None:
        raise SuiteError(f"suite {path}: Python cannot load this file")
    module = importlib.util.module_from_spec(found)
    sys.modules[name] = module
    sys.path.insert(0, str(path.parent))  # so that a suite may import its neighbours
    found.loader.exec_module(module)
    return module


def _module_name(path: Path) -> str:
    """Name the module of a suite's file by its stem, so that processes that it starts can import it; another name where
    that one is taken."""
    loaded = sys.modules.get(path.stem)
    taken = loaded is not None and getattr(loaded, "__file__", None) != str(path)
    if taken or path.stem in sys.stdlib_module_names:
        return "torchperf_suite_" + re.sub(r"\W", "_", path.stem)
    return path.stem
