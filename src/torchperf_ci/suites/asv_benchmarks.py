"""Existing asv benchmarks as cases: `time_*`, `peakmem_*` and `track_*` functions and methods of a folder of modules.

asv itself is not needed. Its attributes (`params`, `setup`, `setup_cache`, `number`, `timeout` and so on) are read as
https://asv.readthedocs.io/en/stable/benchmarks.html and asv_runner have them.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import inspect
import itertools
import os
import pkgutil
import re
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any, NoReturn

from torchperf_ci.suites.program import Program
from torchperf_ci.suites.registry import ExistingBenchmark, Suite, SuiteError, find_asv_folder, suite_of_one
from torchperf_ci.worker.memory import forget_process_peak, process_peak
from torchperf_ci.worker.protocol import ASV_SPEC, CaseError, describe, one_line

_KIND = re.compile(r"(time|timeraw|mem|peakmem|track)_.|(Time|Timeraw|Mem|PeakMem|Track)[A-Z_].")
_LEFT_OUT = {
    "mem": "mem_: the size of a Python object is not measured; peakmem_ measures what the process needs",
    "timeraw": "timeraw_: the time of code in a Python of its own is not measured",
}
"""The kinds of benchmark that are rows without numbers, with the reason."""


@dataclass(frozen=True, kw_only=True)
class _Found:
    """A function that is a benchmark, by its name below the folder, and where its attributes are looked for in turn."""

    name: str
    function: Callable[..., Any]
    sources: tuple[Any, ...]

    def attribute(self, name: str, default: Any) -> Any:  # noqa: ANN401 - whatever a suite has
        """Return the first attribute of that name: of the function, of its class, of its module."""
        return next(iter(self.attributes(name)), default)

    def attributes(self, name: str) -> list[Any]:
        """Return all of them, the nearest first."""
        return [value for source in self.sources if (value := getattr(source, name, None)) is not None]

    @property
    def kind(self) -> str:
        """Return `time`, `timeraw`, `mem`, `peakmem` or `track`."""
        match = _KIND.match(self.name.rpartition(".")[2])
        return (match[1] or match[2]).lower() if match else ""

    def combinations(self) -> list[tuple[tuple[Any, ...], str]]:
        """Return the parameters of every case, and its name's end: their reprs in brackets, as asv writes them."""
        axes = list(self.attribute("params", ()))
        if not axes:
            return [((), "")]
        axes = [list(axis) for axis in axes] if isinstance(axes[0], (tuple, list)) else [axes]
        names = itertools.product(*(_name_values(axis) for axis in axes))
        return [(values, f"({', '.join(name)})") for values, name in zip(itertools.product(*axes), names, strict=True)]


def collect_benchmarks(path: str) -> list[ExistingBenchmark]:
    """List the benchmarks in a folder or a file, each with every combination of its parameters, and the modules that
    cannot be imported. Raises `SuiteError` where there is no such path, or no benchmark there."""
    root, modules = _find_modules(Path(path))
    found: list[ExistingBenchmark] = []
    for name in modules:
        try:
            module = _import_module(root, name)
            found += [each for one in _benchmarks_of(module, name) for each in _list_cases(one, root, name)]
        except BaseException as error:  # noqa: BLE001 - what a module raises when it is imported, or a class when made
            found.append(ExistingBenchmark(suite=name or root.name, model="(import)", broken=describe(error)))
    if not found:
        raise SuiteError(f"--asv {path}: no benchmark there: no function or method called time_…, peakmem_… or track_…")
    return found


def load_benchmark(node: str) -> Suite:
    """Load one benchmark as a suite of one model. Raises `SuiteError` when it has gone."""
    root, module_name, name, index = node.rsplit("::", 3)
    module = _import_module(Path(root), module_name)
    one = next((each for each in _benchmarks_of(module, module_name) if each.name == name), None)
    if one is None:
        raise SuiteError(f"asv: the benchmark {name} is not there any more")
    case = _list_cases(one, Path(root), module_name)[int(index)]
    values, _ = one.combinations()[int(index)]
    return suite_of_one(case.model, lambda batch_size: _make_program(one, values), METRICS=case.metrics)  # noqa: ARG005


def _make_program(one: _Found, values: tuple[Any, ...]) -> Program:
    """Call a benchmark once, and return what is measured of it. Raises `CaseError` where it is skipped, or slower than
    its own timeout."""
    setups, teardowns = one.attributes("setup")[::-1], one.attributes("teardown")
    args = (*_make_cache(one), *values)
    call = functools.partial(one.function, *args) if args else one.function

    def setup() -> None:
        for each in setups:
            each(*args)
        if one.kind == "peakmem":
            forget_process_peak()

    def teardown() -> None:
        for each in teardowns:
            each(*args)

    with _time_limit(float(one.attribute("timeout", 0.0))):
        try:
            setup()
            call()
            teardown()
        except NotImplementedError as error:  # asv's way to say that it does not apply
            raise CaseError("pass_due_to_skip", f"the benchmark skips itself: {describe(error)}") from error
    metrics: dict[str, Callable[..., Any] | str] = {"peakmem": lambda *_: {"peakmem": process_peak()}, "track": "track"}
    return Program(
        call=call,
        setup=setup if setups or one.kind == "peakmem" else None,
        teardown=teardown if teardowns else None,
        # asv sets up before every call, unless `number` says how many calls one set-up is good for.
        setup_per="reading" if int(one.attribute("number", 0)) > 1 else "call",
        metrics=metrics.get(one.kind),
        as_it_is=True,
    )


def _find_modules(path: Path) -> tuple[Path, list[str]]:
    """Return the folder of the benchmarks, and the dotted names of the modules below it; empty: the package itself."""
    path = path.absolute()
    if not path.exists():
        raise SuiteError(f"--asv {path}: there is no such file or folder")
    if path.is_file():
        return path.parent, [path.stem]
    path = find_asv_folder(path)
    return path, ["", *_walk(path)] if (path / "__init__.py").is_file() else list(_walk(path))


def _walk(folder: Path, prefix: str = "") -> Iterator[str]:
    for module in pkgutil.iter_modules([str(folder)]):
        yield f"{prefix}{module.name}"
        if module.ispkg:
            yield from _walk(folder / module.name, f"{prefix}{module.name}.")


def _import_module(root: Path, name: str) -> ModuleType:
    """Import a module below the folder, which becomes a package for that; empty: the package itself.

    Nothing beside the folder can be imported by that, above all not the project itself.
    """
    package = root.name
    if getattr(sys.modules.get(package), "__path__", None) != [str(root)]:
        init = root / "__init__.py"
        spec = importlib.util.spec_from_file_location(package, init, submodule_search_locations=[str(root)])
        assert spec is not None
        module = sys.modules[package] = importlib.util.module_from_spec(spec)
        if init.is_file():
            assert spec.loader is not None
            spec.loader.exec_module(module)
    return importlib.import_module(f"{package}.{name}" if name else package)


def _benchmarks_of(module: ModuleType, name: str) -> Iterator[_Found]:
    """Yield the benchmarks that a module's functions and classes are. Names with an underscore first are none."""
    prefix = f"{name}." if name else ""
    for attribute, value in vars(module).items():
        if attribute.startswith("_"):
            continue
        if inspect.isfunction(value) and _KIND.match(attribute) and not getattr(value, "skip_benchmark", False):
            yield _Found(name=f"{prefix}{attribute}", function=value, sources=(value, module))
        elif inspect.isclass(value) and not inspect.isabstract(value):
            methods = [
                each
                for each, function in inspect.getmembers(value, inspect.isfunction)
                if _KIND.match(each) and not getattr(function, "skip_benchmark", False)
            ]
            for each in methods:
                instance = value()
                method = getattr(instance, each)
                yield _Found(name=f"{prefix}{attribute}.{each}", function=method, sources=(method, instance, module))


def _list_cases(one: _Found, root: Path, module: str) -> list[ExistingBenchmark]:
    owner, _, function = one.name.rpartition(".")
    suite, _, name = owner.partition(".") if owner.count(".") == 1 else (owner, "", "")
    model = f"{name}.{function}" if name else function
    left_out = list(map(tuple, one.attribute("skip_params", ())))
    units = {"peakmem": "bytes", "track": str(one.attribute("unit", "unit"))}  # for asv, less is better
    return [
        ExistingBenchmark(
            suite=suite or "asv",
            model=one_line(f"{model}{end}".replace("\\", "|")),
            spec=f"{ASV_SPEC}{root}::{module}::{one.name}::{index}",
            metrics={one.kind: {"unit": units[one.kind], "direction": "lower"}} if one.kind in units else {},
            skip=_LEFT_OUT.get(one.kind, "skip_for_params names it" if values in left_out else ""),
        )
        for index, (values, end) in enumerate(one.combinations())
    ]


def _name_values(values: Sequence[Any]) -> list[str]:
    """Name the values of one parameter as asv does: by their reprs without addresses, those that are alike counted."""
    names = [re.sub(r"^(<.*) at 0x[\da-fA-F]+>$", r"\1>", repr(value)) for value in values]
    times, seen = Counter(names), Counter[str]()
    for place, name in enumerate(names):
        if times[name] > 1:
            names[place] = f"{name} ({seen[name]})"
            seen[name] += 1
    return names


def _make_cache(one: _Found) -> tuple[Any, ...]:
    """Run `setup_cache` in a folder of its own, where it may leave files; return its result, the first argument."""
    make = one.attribute("setup_cache", None)
    if make is None:
        return ()
    # The folder of this case's compiler cache is removed with the case.
    os.chdir(tempfile.mkdtemp(prefix="asv-", dir=os.environ.get("TORCHINDUCTOR_CACHE_DIR")))
    cache = make()
    return () if cache is None else (cache,)


@contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """Raise `CaseError` in what runs longer than that; 0 is no limit."""

    def stop(number: int, frame: FrameType | None) -> NoReturn:  # noqa: ARG001 - a signal handler's signature
        raise CaseError("timeout", f"one call took longer than the benchmark's own timeout of {seconds:g} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
