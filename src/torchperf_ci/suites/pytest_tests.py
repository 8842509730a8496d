"""Existing tests with a `benchmark` fixture (pytest-benchmark's interface) as cases: list them, and run one of them.

pytest itself collects and runs them, in the worker, with the project's own configuration, conftest.py and plugins.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import math
import re
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torchperf_ci.core.text import LONGEST_NAME
from torchperf_ci.suites.registry import ExistingBenchmark, SuiteError
from torchperf_ci.worker.protocol import PYTEST_SPEC, one_line

if TYPE_CHECKING:
    from torchperf_ci.suites.pytest_plugin import Hold, Plugin

PRELOAD = ("pytest", "_pytest.assertion.rewrite")
"""The modules that every run of pytest imports."""

_NEUTRAL: dict[str, tuple[str, ...]] = {
    "xdist": ("-n0", "--dist=no"),
    "pytest_cov": ("--no-cov",),
    "randomly": ("--randomly-seed=0",),  # the same random numbers in every process, and on both sides
}
"""Options that undo what a project's configuration asks of a plugin, by its entry point."""

_NO_TESTS = 5
"""pytest's exit code when it has collected nothing."""

_ESCAPED = re.compile(r"\\(?:x([0-9a-f]{2})|u([0-9a-f]{4})|U([0-9a-f]{8}))")


@dataclass(frozen=True, kw_only=True)
class TestOutcome:
    """The end of a test that was held. failure: the message of what failed, empty when it passed.

    extra_info: the numbers that it added to its fixture.
    """

    __test__ = False  # the name is pytest's; it must not collect it

    failure: str
    extra_info: dict[str, float]


class TestSkipped(Exception):
    """A test ended before it called its fixture, and did not fail; the message says why."""

    __test__ = False


class TestFailed(Exception):
    """A test failed before it called its fixture; the message is pytest's."""

    __test__ = False


def collect_tests(path: str) -> list[ExistingBenchmark]:
    """List the tests with a `benchmark` fixture in a file or a folder, and the files that cannot be collected.

    A test's suite is its group, or else its file; its model is its name in that file: the names by which files of
    pytest-benchmark are imported. Raises `SuiteError` where there is no such path, no pytest, or no such test.
    """
    if not Path(path.partition("::")[0]).exists():
        raise SuiteError(f"--pytest {path}: there is no such file or folder")
    plugin, code, said = _run_pytest(path, ["--collect-only", "-qq"], hold=_refuse)
    if not plugin.items and not plugin.broken:
        if code not in {0, _NO_TESTS}:
            raise SuiteError(f"--pytest {path}: pytest ended with exit code {code}: {said}")
        raise SuiteError(f"--pytest {path}: no test there asks for the fixture `benchmark` (pytest-benchmark's)")
    tests = [_name_test(item) for item in plugin.items]
    times = Counter((test.suite, test.model) for test in tests)
    tests = [
        _name_test(item, with_path=True) if times[test.suite, test.model] > 1 else test
        for item, test in zip(plugin.items, tests, strict=True)
    ]
    broken = [
        ExistingBenchmark(suite=_readable(node.removesuffix(".py")), model="(collection)", broken=reason)
        for node, reason in plugin.broken.items()
    ]
    return [*tests, *broken]


def run_test(node: str, hold: Hold) -> TestOutcome:
    """Run one test; `hold` measures the call that it hands to its fixture, and is not called again afterwards.

    Raises `TestSkipped` and `TestFailed` when the test ends without having been held.
    """
    held = False

    def hold_once(call: Any) -> Sequence[float]:  # noqa: ANN401 - a HeldCall, whose module imports pytest
        nonlocal held
        if held:  # a plugin runs the test again
            call.call_once()
            return [0.0]
        held = True
        return hold(call)

    plugin, code, said = _run_pytest(node, ["-q"], hold=hold_once)
    failure = plugin.failure or next(iter(plugin.broken.values()), "")
    if not failure and code not in {0, _NO_TESTS}:
        failure = f"pytest ended with exit code {code}: {said}"
    if held:
        info = plugin.fixture.extra_info if plugin.fixture else {}
        numbers = {str(name): float(value) for name, value in info.items() if _is_number(value)}
        return TestOutcome(failure=failure, extra_info=numbers)
    if failure:
        raise TestFailed(failure)
    if plugin.skip:
        raise TestSkipped(plugin.skip)
    if not plugin.items:
        raise TestFailed(f"pytest does not find the test any more: {said}")
    raise TestSkipped("the test passed without calling its `benchmark` fixture, so there is nothing to measure")


def _run_pytest(path: str, options: Sequence[str], *, hold: Hold) -> tuple[Plugin, int, str]:
    """Run pytest with our plugin; return that, the exit code, and the last error it wrote to stderr."""
    try:
        import pytest
    except ImportError as error:
        raise SuiteError(
            f"--pytest needs pytest in the Python under test: {sys.executable} -m pip install pytest"
        ) from error
    from torchperf_ci.suites.pytest_plugin import Plugin

    plugin = Plugin(hold)
    installed = {point.name for point in metadata.entry_points(group="pytest11")}
    neutral = [option for name, choices in _NEUTRAL.items() if name in installed for option in choices]
    # Our options come after the project's own, so that ours hold; the path comes last, since some options before it
    # may take a value or not.
    options = ["-p", "no:benchmark", "-s", "-m", "", "-k", "", *neutral, *options]
    listener = _Listener()
    with contextlib.redirect_stderr(listener):
        code = pytest.main([*options, "--", path], plugins=[plugin])
    said = listener.lines
    errors = [line for line in said if line.startswith("ERROR")] or said or ["it says nothing more"]
    return plugin, int(code), plugin.crash or one_line(errors[-1])


class _Listener(io.TextIOBase):
    """Keeps the last lines that are written to stderr, which go on to where they went."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._usual = sys.stderr

    def write(self, text: str) -> int:
        self.lines.extend(filter(str.strip, re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines()))
        del self.lines[:-20]
        return self._usual.write(text)

    def flush(self) -> None:
        self._usual.flush()

    def fileno(self) -> int:
        return self._usual.fileno()


def _is_number(value: Any) -> bool:  # noqa: ANN401 - whatever a test notes
    return not isinstance(value, bool) and isinstance(value, Real) and math.isfinite(value)


def _refuse(_: Any) -> Sequence[float]:  # noqa: ANN401 - a HeldCall
    raise RuntimeError("tests are not run while they are listed")


def _name_test(item: Any, *, with_path: bool = False) -> ExistingBenchmark:  # noqa: ANN401 - a pytest.Item
    """Name a test as a case. with_path: the model's name begins with the file."""
    from torchperf_ci.suites.pytest_plugin import group_of

    path, _, inside = item.nodeid.partition("::")
    name = f"{path}::{inside}" if with_path else inside
    return ExistingBenchmark(
        suite=_readable(group_of(item) or path.removesuffix(".py")),
        model=_readable(name),
        spec=f"{PYTEST_SPEC}{item.path}::{inside}",
    )


def _readable(name: str) -> str:
    """Turn pytest's escapes back into characters, and a name that is too long into its beginning and a checksum."""
    text = _ESCAPED.sub(lambda match: chr(int(next(filter(None, match.groups())), 16)), name)
    text = "".join(char if char.isprintable() else " " for char in text.replace("\\", "|"))
    text = " ".join(text.split()) or "unnamed"
    if len(text) > LONGEST_NAME:
        digest = hashlib.sha256(name.encode()).hexdigest()[:8]
        text = f"{text[: LONGEST_NAME - 9]}…{digest}"
    return text
