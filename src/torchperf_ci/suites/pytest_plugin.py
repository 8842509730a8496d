"""The pytest plugin that stands in for pytest-benchmark in the Python under test. Standard library and pytest.

It gives tests a `benchmark` fixture whose call stands still while the case is measured, takes the options and hooks of
pytest-benchmark (which itself is switched off), and writes down what became of the test.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest

from torchperf_ci.core.statistics import describe_times
from torchperf_ci.worker.protocol import one_line

_FLAGS = "disable-gc skip disable enable only save-data verbose quiet autosave"
_HAVE_VALUE = (
    "min-time max-time min-rounds precision confidence timer calibration-precision warmup-iterations save json "
    "cprofile cprofile-loops cprofile-top storage sort group-by columns name time-unit"
)
_MAY_HAVE_VALUE = "warmup compare histogram csv netrc cprofile-dump"
_HAVE_VALUES = "compare-fail"
_HOOKS = (
    "scale_unit generate_machine_info update_machine_info generate_commit_info update_commit_info group_stats "
    "generate_json update_json compare_machine_info"
)
_ANSI = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True, kw_only=True)
class HeldCall:
    """The call that a test hands to its fixture.

    setup: runs before each call; it may return the call's arguments, `(args, kwargs)`. teardown: runs after each call,
    with the same arguments.
    """

    function: Any
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any]
    setup: Callable[[], Any] | None = None
    teardown: Callable[..., Any] | None = None

    def make_arguments(self) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
        made = self.setup() if self.setup is not None else None
        if not made:
            return self.args, self.kwargs
        if self.args or self.kwargs:
            raise TypeError("pedantic: give the arguments by `args` and `kwargs`, or as what `setup` returns, not both")
        args, kwargs = made
        return args, kwargs

    def call_once(self) -> Any:  # noqa: ANN401 - whatever the function returns
        """Call it with set-up and teardown; return its result."""
        args, kwargs = self.make_arguments()
        result = self.function(*args, **kwargs)
        if self.teardown is not None:
            self.teardown(*args, **kwargs)
        return result


Hold = Callable[[HeldCall], Sequence[float]]
"""Measures a call while its test waits; returns the seconds of the readings."""


class FixtureAlreadyUsed(Exception):
    """A test called its `benchmark` fixture twice."""


class Stats:
    """The readings as `benchmark.stats`, with pytest-benchmark's names: `.stats.mean` and `["mean"]` alike."""

    def __init__(self, times: Sequence[float]) -> None:
        self.stats = SimpleNamespace(**describe_times(times))
        self.iterations = 1

    def __getitem__(self, name: str) -> Any:  # noqa: ANN401 - a number or the list of times
        return getattr(self.stats, name)

    def get(self, name: str, default: Any = None) -> Any:  # noqa: ANN401 - as above
        return getattr(self.stats, name, default)


class BenchmarkFixture:
    """The `benchmark` fixture: its first call stands still while the case is measured.

    The number of rounds, iterations and warm-up rounds that a test asks for are not used: how much is sampled is the
    controller's decision.
    """

    def __init__(self, node: pytest.Item, hold: Hold) -> None:
        callspec: Any = getattr(node, "callspec", None)
        self.name, self.fullname = node.name, node.nodeid
        self.param = callspec.id if callspec else None
        self.params = callspec.params if callspec else None
        self.group = group_of(node)
        self.extra_info: dict[str, Any] = {}
        self.stats: Stats | None = None
        self.disabled = self.has_error = self.skipped = self.cprofile = False
        self.enabled = True
        self._hold, self._used = hold, ""

    def __call__(self, function_to_benchmark: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - as pytest-benchmark's
        """Measure a call; return its result. As a decorator it measures the function at once."""
        __tracebackhide__ = True
        return self._measure("benchmark(…)", HeldCall(function=function_to_benchmark, args=args, kwargs=kwargs))

    def pedantic(
        self,
        target: Callable[..., Any],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        setup: Callable[[], Any] | None = None,
        teardown: Callable[..., Any] | None = None,
        rounds: int = 1,
        warmup_rounds: int = 0,
        iterations: int = 1,
    ) -> Any:  # noqa: ANN401 - whatever the target returns
        """Measure a call with a set-up before and a teardown after each one; return its result."""
        __tracebackhide__ = True
        for name, number in (("rounds", rounds), ("iterations", iterations), ("warmup_rounds", warmup_rounds + 1)):
            if number < 1:
                raise ValueError(f"pedantic: {name} has to be at least {int(name != 'warmup_rounds')}")
        if iterations > 1 and setup is not None:
            raise ValueError("pedantic: with a `setup` there is one call per round, so leave `iterations` at 1")
        call = HeldCall(function=target, args=tuple(args), kwargs=kwargs or {}, setup=setup, teardown=teardown)
        return self._measure("benchmark.pedantic(…)", call)

    def weave(self, *_: Any, **__: Any) -> None:  # noqa: ANN401 - as pytest-benchmark's
        """Refuse to measure a function wherever others call it: nobody would know which call to hold."""
        raise NotImplementedError("torchperf-ci cannot measure with benchmark.weave; write benchmark(function)")

    patch = weave

    def _measure(self, how: str, call: HeldCall) -> Any:  # noqa: ANN401 - whatever the function returns
        __tracebackhide__ = True  # what is wrong is where the test calls this
        if not callable(call.function):
            kind = type(call.function).__name__
            raise TypeError(
                f"{how.replace('…', 'function, …')} takes the function to call, and not its result; got {kind}"
            )
        if inspect.iscoroutinefunction(call.function):
            raise TypeError(
                "calling an async function only makes a coroutine, so there is nothing to measure; "
                "give one that runs it, such as lambda: asyncio.run(function())"
            )
        if self._used:
            raise FixtureAlreadyUsed(f"benchmark can be used once per test; this one has called {self._used} before")
        self._used = how
        try:
            self.stats = Stats(self._hold(call))
            return call.call_once()
        except BaseException:
            self.has_error = True
            raise


def group_of(node: pytest.Item) -> str | None:
    marker = node.get_closest_marker("benchmark")
    group = marker.kwargs.get("group") if marker else None
    return None if group is None else str(group)


class _Fixtures:
    """The fixtures, in a plugin that is registered after all others, so that no other plugin's `benchmark` wins."""

    def __init__(self, owner: Plugin) -> None:
        self._owner = owner

    @pytest.fixture
    def benchmark(self, request: pytest.FixtureRequest) -> BenchmarkFixture:
        """Give the test the fixture that holds its call."""
        self._owner.fixture = BenchmarkFixture(request.node, self._owner.hold)
        return self._owner.fixture

    @pytest.fixture
    def benchmark_weave(self, benchmark: BenchmarkFixture) -> Callable[..., None]:
        """Give the test the function that says why it cannot be used."""
        return benchmark.weave


class Plugin:
    """Takes part in one call of `pytest.main`. What became of it is in the attributes afterwards.

    items: the tests with the fixture. broken: files and classes that could not be collected, with the reason.
    failure: what failed, and in which phase. skip: why the test was skipped. crash: what ended pytest itself, say an
    error in a conftest.py. fixture: the one it was given.
    """

    def __init__(self, hold: Hold) -> None:
        self.hold = hold
        self.items: list[pytest.Item] = []
        self.broken: dict[str, str] = {}
        self.failure = self.skip = self.crash = ""
        self.fixture: BenchmarkFixture | None = None

    def pytest_addoption(self, parser: pytest.Parser) -> None:
        """Take pytest-benchmark's options, which a project's configuration may hold; none of them has an effect."""
        group = parser.getgroup("benchmark")
        for name in _FLAGS.split():
            group.addoption(f"--benchmark-{name}", action="store_true")
        for names, values in ((_HAVE_VALUE, None), (_MAY_HAVE_VALUE, "?"), (_HAVE_VALUES, "+")):
            for name in names.split():
                group.addoption(f"--benchmark-{name}", nargs=values, action="append")

    def pytest_addhooks(self, pluginmanager: pytest.PytestPluginManager) -> None:
        """Declare pytest-benchmark's hooks, which a conftest.py may implement; none of them is called."""

        @pytest.hookspec
        def any_hook(
            config: object,
            benchmarksession: object,
            benchmarks: object,
            machine_info: object,
            commit_info: object,
            compared_benchmark: object,
            group_by: object,
            include_data: object,
            output_json: object,
            unit: object,
            best: object,
            worst: object,
            sort: object,
        ) -> None:
            """Stand for each of them: an implementation may ask for some of these arguments."""

        names = (f"pytest_benchmark_{name}" for name in _HOOKS.split())
        pluginmanager.add_hookspecs(type("Hooks", (), dict.fromkeys(names, any_hook)))

    @pytest.hookimpl(trylast=True)
    def pytest_configure(self, config: pytest.Config) -> None:
        """Register the marker, and last of all the fixtures."""
        config.addinivalue_line("markers", "benchmark: measure this test; `group` names its group")
        config.pluginmanager.register(_Fixtures(self), "torchperf-ci-fixtures")

    @pytest.hookimpl(optionalhook=True, tryfirst=True)
    def pytest_timeout_set_timer(self) -> bool:
        """Set no timer of pytest-timeout: a test stands still for as long as its case is measured."""
        return True

    def pytest_internalerror(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        self.crash = one_line(excinfo.exconly(tryshort=True))

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.broken[report.nodeid] = crash_message(report)

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Keep the tests that ask for the fixture, themselves or by another fixture."""
        items[:] = [item for item in items if "benchmark" in getattr(item, "fixturenames", ())]
        self.items = list(items)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed and not self.failure:
            phases = {"setup": "its set-up failed: ", "teardown": "its teardown failed: "}
            self.failure = phases.get(report.when, "") + crash_message(report)
        elif report.skipped and not self.skip:
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else getattr(report, "wasxfail", "")
            self.skip = one_line(str(reason).removeprefix("Skipped: ")) or "skipped by pytest"


def crash_message(report: pytest.TestReport | pytest.CollectReport) -> str:
    """Return the message of what failed in one line, with the file and the line where that is known."""
    longrepr = report.longrepr
    crash = getattr(longrepr, "reprcrash", None)
    if crash is not None:
        path = str(crash.path).rpartition("/")[2]
        message = crash.message.splitlines()[0].removeprefix(f"{__name__}.")
        return one_line(f"{message} ({path}:{crash.lineno})")
    lines = [_ANSI.sub("", line) for line in str(longrepr).splitlines() if line.strip()]
    errors = [line.removeprefix("E").strip() for line in lines if line.startswith("E  ")]
    return one_line(errors[-1] if errors else lines[-1] if lines else "no reason given")
