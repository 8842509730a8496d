"""A test that stands still in the call of its `benchmark` fixture while its worker answers the controller."""

from __future__ import annotations

import functools
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from torchperf_ci.suites.program import Program
from torchperf_ci.suites.pytest_tests import TestFailed, TestSkipped, run_test
from torchperf_ci.suites.registry import Suite, suite_of_one
from torchperf_ci.worker.judging import make_verdict
from torchperf_ci.worker.protocol import CaseError, Channel, Handler, serve

if TYPE_CHECKING:
    from torchperf_ci.suites.pytest_plugin import HeldCall

_ENDS_WITH = "accuracy"
"""The command that lets the test go on: whether it passes is the answer."""


@dataclass(slots=True, kw_only=True)
class HeldTest:
    """Runs one test and serves the commands of its case from inside.

    readings: the nanoseconds of a call in each reading that was taken, for `benchmark.stats`.
    """

    channel: Channel
    handlers: Mapping[str, Handler]
    ends_after: Callable[[BaseException], bool]
    readings: list[int] = field(default_factory=list)

    def run(self, node: str, model: str, load_model: Callable[[Suite], Mapping[str, Any]]) -> Mapping[str, Any]:
        """Run the test. In its call `load` is answered with what `load_model` says of the call, and the requests after
        it are served; when the test has ended, the verdict on it is returned, which answers the last request.

        Raises `CaseError` when the test ends before its call.
        """
        problem: BaseException | None = None
        thread = threading.get_ident()

        def hold(call: HeldCall) -> Sequence[float]:
            nonlocal problem
            try:
                if threading.get_ident() != thread:
                    raise CaseError(
                        "model_fail_to_load",
                        "the test calls its `benchmark` fixture in another thread; call it in the test itself",
                    )
                loaded = load_model(suite_of_one(model, lambda batch_size: program_of(call)))  # noqa: ARG005
            except BaseException as error:
                problem = error
                raise
            self.channel.answer({"ok": {**loaded, "in_test": True}})
            serve(self.channel, self.handlers, ends_after=self.ends_after, until=_ENDS_WITH)
            if self.readings:
                return [reading / 1e9 for reading in self.readings]
            start = time.perf_counter()
            call.call_once()
            return [time.perf_counter() - start]

        try:
            outcome = run_test(node, hold)
        except TestSkipped as error:
            raise CaseError("pass_due_to_skip", str(error)) from error
        except TestFailed as error:
            raise CaseError("model_fail_to_load", str(error)) from error
        finally:
            sys.stdout.flush()
        if problem is not None:
            raise problem
        verdict = make_verdict("fail_accuracy", outcome.failure) if outcome.failure else make_verdict("pass")
        return {**verdict, "extra_info": outcome.extra_info}


def program_of(call: HeldCall) -> Program:
    """Make what is measured of a test's call, with its set-up and teardown around each call."""
    if call.setup is None and call.teardown is None:
        return Program(call=functools.partial(call.function, *call.args, **call.kwargs), as_it_is=True)
    args, kwargs = call.args, call.kwargs

    def setup() -> None:
        nonlocal args, kwargs
        args, kwargs = call.make_arguments()

    def run() -> Any:  # noqa: ANN401 - whatever the function returns
        return call.function(*args, **kwargs)

    def teardown() -> None:
        if call.teardown is not None:
            call.teardown(*args, **kwargs)

    return Program(call=run, setup=setup, teardown=teardown, as_it_is=True)
