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
from torchperf_ci.suites.registry import SuiteError
from torchperf_ci.worker.protocol import CaseError, describe, one_line

_KIND = re.compile(r"(time|timeraw|mem|peakmem|track)_.|(Time|Timeraw|Mem|PeakMem|Track)[A-Z_].")
_LEFT_OUT = {
    "mem": "the size of a Python object is not measured; peakmem_ measures what the process needs",
    "timeraw": "the time of code in a Python of its own is not measured",
}
"""The kinds of benchmark that are rows without numbers, with the reason."""


@dataclass(frozen=True, kw_only=True)
class AsvBenchmark:
    """A benchmark with one combination of its parameters.

    suite, model: its name as a case, the one by which asv's results are imported. node: what finds it again. kind: what
    its name begins with. unit: of what a `track_` function returns. skip: why it is left out; empty if it is not.
    """

    suite: str
    model: str
    node: str
    kind: str
    unit: str = ""
    skip: str = ""


@dataclass(frozen=True, kw_only=True)
class _Found:
    """A function that is a benchmark, by its name below the folder, and where its attributes are looked for in turn."""

    name: str
    function: Callable[..., Any]
    sources: tuple[Any, ...]

    def attribute(self, name: str, default: Any) -> Any:  # noqa: ANN401 - whatever a suite has
        """Return the first attribute of that name: of the function, of its class, of its module."""
        return next((value for value in self.attributes(name)), default)

    def attributes(self, name: str) -> list[Any]:
        """Return all attributes of that name, the nearest first."""
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


def collect_benchmarks(path: str) -> tuple[list[AsvBenchmark], dict[str, str]]:
    """List the benchmarks in a folder or a file, each with every combination of its parameters, and the modules that
    cannot be imported, with reasons. Raises `SuiteError` where there is no such path, or no benchmark there."""
    root, modules = _find_modules(Path(path))
    package = _import_package(root)
    found: list[AsvBenchmark] = []
    broken: dict[str, str] = {}
    for name in modules:
        try:
            module = importlib.import_module(f"{package}.{name}" if name else package)
            found += [each for one in _benchmarks_of(module, name) for each in _list_cases(one, root, name)]
        except BaseException as error:  # noqa: BLE001 - what a module raises when it is imported, or a class when made
            broken[name or root.name] = describe(error)
    if not found and not broken:
        raise SuiteError(f"--asv {path}: no benchmark there: no function or method called time_…, peakmem_… or track_…")
    return found, broken


def load_benchmark(node: str) -> tuple[Program, AsvBenchmark]:
    """Load one benchmark, call it once, and return what is measured. Raises `CaseError` where it is skipped, or slower
    than its own timeout."""
    root, module_name, name, index = node.rsplit("::", 3)
    package = _import_package(Path(root))
    module = importlib.import_module(f"{package}.{module_name}" if module_name else package)
    one = next((each for each in _benchmarks_of(module, module_name) if each.name == name), None)
    if one is None:
        raise SuiteError(f"asv: {name} is not there any more")
    benchmark = _list_cases(one, Path(root), module_name)[int(index)]
    values, _ = one.combinations()[int(index)]
    setups, teardowns = one.attributes("setup")[::-1], one.attributes("teardown")
    args = (*_make_cache(one), *values)

    def setup() -> None:
        for each in setups:
            each(*args)

    def teardown() -> None:
        for each in teardowns:
            each(*args)

    call = functools.partial(one.function, *args) if args else one.function
    _try_once(one, setup, call, teardown)
    if one.kind == "peakmem":
        from torchperf_ci.worker.memory import forget_process_peak, process_peak

        def start() -> None:
            setup()
            forget_process_peak()

        return Program(call=call, setup=start, teardown=teardown, metrics=lambda *_: {"peakmem": process_peak()}), benchmark
    return Program(
        call=call,
        setup=setup if setups else None,
        teardown=teardown if teardowns else None,
        # asv calls it so often after one set-up when its author says so, and else once.
        setup_per="reading" if int(one.attribute("number", 0)) > 1 else "call",
        metrics="track" if one.kind == "track" else None,
    ), benchmark


def _find_modules(path: Path) -> tuple[Path, list[str]]:
    """Return the folder of the benchmarks, and the modules below it by their dotted names; empty: the package itself."""
    path = path.absolute()
    if not path.exists():
        raise SuiteError(f"--asv {path}: there is no such file or folder")
    if path.is_file():
        return path.parent, [path.stem]
    configuration = path / "asv.conf.json"
    if configuration.is_file():
        match = re.search(r'^\s*"benchmark_dir"\s*:\s*"([^"]+)"', configuration.read_text(), re.MULTILINE)
        path = path / (match[1] if match else "benchmarks")
    found = pkgutil.walk_packages([str(path)], onerror=lambda _: None)
    return path, ["", *_walk(path)] if (path / "__init__.py").is_file() else list(_walk(path))


def _walk(folder: Path, prefix: str = "") -> Iterator[str]:
    for module in pkgutil.iter_modules([str(folder)]):
        yield f"{prefix}{module.name}"
        if module.ispkg:
            yield from _walk(folder / module.name, f"{prefix}{module.name}.")


def _import_package(root: Path) -> str:
    """Make the folder a package by its name, so that its modules can import each other; nothing else below its parent
    can be imported by that, above all not the project itself."""
    name = root.name
    if getattr(sys.modules.get(name), "__path__", None) == [str(root)]:
        return name
    init = root / "__init__.py"
    if init.is_file():
        spec = importlib.util.spec_from_file_location(name, init, submodule_search_locations=[str(root)])
        assert spec is not None
        assert spec.loader is not None
        module = sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    else:
        module = sys.modules[name] = ModuleType(name)
        module.__path__ = [str(root)]
    return name


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


def _list_cases(one: _Found, root: Path, module: str) -> list[AsvBenchmark]:
    owner, _, function = one.name.rpartition(".")
    suite, _, name = owner.partition(".") if owner.count(".") == 1 else (owner, "", "")
    model = f"{name}.{function}" if name else function
    left_out = list(map(tuple, one.attribute("skip_params", ())))
    reason = _LEFT_OUT.get(one.kind, "")
    return [
        AsvBenchmark(
            suite=suite or "asv",
            model=one_line(f"{model}{end}".replace("\\", "|")),
            node=f"{root}::{module}::{one.name}::{index}",
            kind=one.kind,
            unit=str(one.attribute("unit", "unit")) if one.kind == "track" else "",
            skip=f"asv's {one.kind}_: {reason}" if reason else "left out by skip_for_params" if values in left_out else "",
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
    """Run `setup_cache`, in a folder of its own, which it may leave files in; return its result as the first argument."""
    make = one.attribute("setup_cache", None)
    if make is None:
        return ()
    # The folder of this case's compiler cache is removed with the case.
    os.chdir(tempfile.mkdtemp(prefix="asv-", dir=os.environ.get("TORCHINDUCTOR_CACHE_DIR")))
    cache = make()
    return () if cache is None else (cache,)


def _try_once(one: _Found, setup: Callable[[], None], call: Callable[[], Any], teardown: Callable[[], None]) -> None:
    """Call it once. NotImplementedError is asv's way to say that it does not apply."""
    seconds = float(one.attribute("timeout", 0.0))
    try:
        with _time_limit(seconds):
            setup()
            call()
            teardown()
    except NotImplementedError as error:
        raise CaseError("pass_due_to_skip", f"skipped by the benchmark: {describe(error)}") from error


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
