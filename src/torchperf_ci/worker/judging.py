"""Judge whether what a compiler made of a workload is right, by runs of the workload on copies of its state."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch

from torchperf_ci.suites.registry import Suite
from torchperf_ci.worker.accelerators import is_of_device, is_out_of_memory
from torchperf_ci.worker.accuracy import (
    SEED,
    AccuracyTolerance,
    CannotJudge,
    IterationOutcome,
    another_function,
    compare_outcomes,
)
from torchperf_ci.worker.compile import AS_IT_IS, calls_until_recorded
from torchperf_ci.worker.copying import CannotCopy
from torchperf_ci.worker.load import Workload, random_state, seed_all
from torchperf_ci.worker.memory import free_memory
from torchperf_ci.worker.protocol import CaseError, describe, one_line, read_message
from torchperf_ci.worker.timing import synchronizer
from torchperf_ci.worker.world import World

_PASS = "pass"
_MAY_BE_THE_COPYS_FAULT = {"fail_accuracy", "eager_1st_run_fail"}


class AccuracyCheck:
    """The check of one case by the rules of `worker.accuracy`.

    independent: returns the workload's state once more. observe_compiled: compiles, and returns what the compiled
    iteration did. observe_again: returns what another call of it does. ends_after: says whether nothing can follow an
    error in this process.
    """

    def __init__(
        self,
        workload: Workload,
        case: Mapping[str, str],
        suite: Suite,
        world: World,
        *,
        independent: Callable[[], Workload],
        observe_compiled: Callable[[], IterationOutcome],
        observe_again: Callable[[], IterationOutcome],
        ends_after: Callable[[BaseException], bool],
    ) -> None:
        self._workload, self._case, self._suite, self._world = workload, case, suite, world
        self._independent, self._observe_compiled, self._ends_after = independent, observe_compiled, ends_after
        self._observe_again = observe_again
        self._compiled: IterationOutcome | None = None
        self._first: Workload

    def judge(self) -> Mapping[str, Any]:
        """Judge the first call by all rules; where it is right, look whether the second one is far off."""
        verdict = self._judge_first_call()
        if verdict["status"] == _PASS and self._compiled is not None and (stale := self._find_stale_call()):
            return make_verdict("fail_accuracy", stale)
        return verdict

    def _judge_first_call(self) -> Mapping[str, Any]:
        """Judge by eager runs on copies; what does not pass so is judged once more by runs on what is built anew.

        A copy may lack what only the original has, e.g. a hook that nothing shows: then eager cannot run, or computes
        something else, which is no fault of the compiler's. Two copies that differ from each other differ for good.
        A suite that checks its results itself has the last word about them.
        """
        if self._workload.program.check is not None:
            return self._ask_suite(self._workload.program.check)
        if self._case["compiler"] == AS_IT_IS:
            return leave_unjudged("nothing is compiled, so there is nothing to compare with")
        float64, remark = self._float64_reference()
        try:
            verdict = self._compare(self._independent, float64, remark)
            failure = None
        except CaseError as error:
            if not error.status.startswith("eager") or self._world.is_shared or self._ends_after(error):
                raise  # of several processes the others do not know of it, and would wait for ever
            verdict, failure = make_verdict(error.status, error.reason), error
        if verdict["status"] in _MAY_BE_THE_COPYS_FAULT and not self._world.is_shared:
            try:
                again = self._compare(lambda: self._workload.built_anew(same_state=False), float64, remark)
            except (CaseError, CannotCopy):
                pass
            else:
                if again["status"] == _PASS:
                    why = (
                        f"copies of the model behave differently ({verdict['reason']}), so it was built anew for eager"
                    )
                    return {**again, "remarks": [*again["remarks"], why]}
        if failure is not None:
            raise failure
        return verdict

    def _find_stale_call(self) -> str | None:
        """Say where the second compiled call is not eager's second one, by far, or None where it is not known to be.

        Compiled code may keep what has changed since its first call. Rounding of a state that both go on with may grow
        from call to call, so only what is another function is told; and only where eager, built anew, does the same.
        """
        workload, world = self._workload, self._world
        if world.is_shared or workload.has_setup or calls_until_recorded(self._case["compiler"], workload.device) > 1:
            return None
        try:
            eager, compiled = self._observe_second(self._first), self._observe_again()
            said = another_function(compiled, eager) or ""
            if "differ by" not in said:  # results of another form may come of a state that is rounded otherwise
                return None
            other = workload.built_anew(same_state=False)
            observe(other, self._case["compiler"])
            exact = AccuracyTolerance(value=0.0, nan_equals_nan=True)
            if compare_outcomes(eager, self._observe_second(other), None, exact, exact=True) is not None:
                return None
        except Exception as error:
            if self._ends_after(error):
                raise CaseError("not_judged", f"its second call breaks the device: {describe(error)}") from error
            print(f"torchperf-ci: no second call is compared: {describe(error)}")  # noqa: T201 - for the case's log
            return None
        return f"right in the first call, wrong in the second: {said.replace(' in float64', '')}"

    def _observe_second(self, workload: Workload) -> IterationOutcome:
        """Run a workload that has run once, with new inputs where it spoils them."""
        if workload.inputs_change:
            args, kwargs = self._workload.fresh_inputs()
            workload = replace(workload, args=args, kwargs=kwargs)
        return observe(workload, self._case["compiler"])

    def _ask_suite(self, check: Callable[[Any], Any]) -> Mapping[str, Any]:
        """Let the suite judge the compiled result, or the only one; where that is wrong, the eager one as well."""
        compiler = self._case["compiler"]
        try:
            eager = self._independent()
        except CannotCopy:
            eager = self._workload
        if compiler == AS_IT_IS:
            wrong = _ask(check, self._eager_outcome("1st", lambda: eager))
            return make_verdict("fail_accuracy", wrong) if wrong else make_verdict(_PASS)
        wrong = _ask(check, self._observe_compiled())
        if not wrong:
            return make_verdict(_PASS)
        too = _ask(check, self._eager_outcome("1st", lambda: eager))
        return make_verdict("fail_accuracy", f"{wrong}; eager's result is wrong as well: {too}" if too else wrong)

    def _compare(
        self, make: Callable[[], Workload], float64: IterationOutcome | None, remark: str
    ) -> Mapping[str, Any]:
        case, suite = self._case, self._suite
        default = 1e-4 if case["dtype"] == "float32" else 1e-3
        own, cosine = suite.option("tolerance"), suite.option("use_cosine")
        tolerance = AccuracyTolerance(
            value=float(own(case["model"], case["mode"], case["dtype"])) if own else default,
            cosine=bool(cosine and cosine(case["model"])),
            nan_equals_nan=case["dtype"] != "float32",
        )
        first = self._eager_outcome("1st", make)
        if float64 is not None and not torch.equal(random_state(self._workload.device), self._random_state_in_float64):
            float64, remark = None, "no float64 reference: it draws other random numbers"
        second = self._eager_outcome("2nd", make)
        differs = self._difference(first, second, None, tolerance, exact=True)
        if self._world.is_any(differs is not None):
            elsewhere = "two eager runs differ in another process"
            said = f"two eager runs differ: {differs}" if differs else elsewhere
            return make_verdict("eager_two_runs_differ", said)
        del second
        if self._compiled is None:
            self._compiled = self._observe_compiled()
        close = replace(tolerance, cosine=False)
        if not tolerance.cosine and self._difference(first, self._compiled, None, close) is None:
            return self._passed(first)
        if float64 is not None and (reason := another_function(first, float64)):
            float64, remark = None, f"no float64 reference: {reason}"
        if float64 is None:
            tolerance = replace(tolerance, cosine=True)
        differs = self._difference(first, self._compiled, float64, tolerance)
        return make_verdict("fail_accuracy", differs, remark) if differs else self._passed(first, remark)

    def _passed(self, eager: IterationOutcome, remark: str = "") -> Mapping[str, Any]:
        """Pass what was compared; a callable that returns nothing, and changes nothing it is given, was not."""
        if self._workload.function is not None and all(leaf.value is None for leaf in eager.leaves().values()):
            return leave_unjudged("it returns nothing that can be compared")
        return make_verdict(_PASS, "", remark)

    def _difference(
        self,
        one: IterationOutcome,
        two: IterationOutcome,
        float64: IterationOutcome | None,
        tolerance: AccuracyTolerance,
        *,
        exact: bool = False,
    ) -> str | None:
        try:
            return compare_outcomes(one, two, float64, tolerance, exact=exact)
        except CannotJudge:
            raise
        except Exception as error:  # results may be objects of any class, with code of their own
            if is_of_device(error):
                raise
            raise CannotJudge(f"torchperf-ci's own check failed: {describe(error)}") from error

    def _float64_reference(self) -> tuple[IterationOutcome | None, str]:
        """Run the workload in float64. Where that cannot be done the text says why, and cosine similarity decides."""
        try:
            outcome = observe(self._workload.in_float64(), self._case["compiler"])
        except BaseException as error:  # a model may raise anything, and an interrupt does not come here
            if self._ends_after(error):
                raise CaseError("not_judged", f"its float64 reference breaks the device: {describe(error)}") from error
            print(f"torchperf-ci: no float64 reference: {describe(error)}")  # noqa: T201 - goes to the case's log
            return None, f"no float64 reference: {describe(error)}"
        finally:
            free_memory(torch.device(self._case["device"]))
        self._random_state_in_float64 = random_state(self._workload.device)
        return outcome, ""

    def _eager_outcome(self, which: str, make: Callable[[], Workload]) -> IterationOutcome:
        try:
            workload = make()
            if which == "1st":
                self._first = workload
            return observe(workload, self._case["compiler"])
        except CannotCopy:
            raise
        except BaseException as error:  # as in `load`
            word = "OOM" if is_out_of_memory(error) else "fail"
            raise CaseError(f"eager_{which}_run_{word}", describe(error)) from error
        finally:
            free_memory(torch.device(self._case["device"]))


def observe(workload: Workload, compiler: str, call: Callable[..., Any] | None = None) -> IterationOutcome:
    """Run a workload from the check's seed; return everything that it did."""
    seed_all(SEED)
    outcome = workload.observe(call, calls=calls_until_recorded(compiler, workload.device))
    synchronizer(workload.device)()  # what fails late on the device fails here, and not in what comes next
    return outcome


def _ask(check: Callable[[Any], Any], outcome: IterationOutcome) -> str:
    """Return what the suite's own check has against a result; empty when it is right. Raises `CannotJudge`."""
    try:
        answer = check(outcome.results["output"])
        if answer is None or isinstance(answer, str):
            return answer or ""
        return "" if bool(answer) else "check(result) says that it is wrong"
    except AssertionError as error:
        return one_line(read_message(error)) or "check(result) raised an AssertionError"
    except Exception as error:
        raise CannotJudge(f"check(result) failed itself: {describe(error)}") from error


def leave_unjudged(reason: str) -> dict[str, Any]:
    """Make the reply of a check that has nothing to check, and say what could: it is no failure, and no pass either."""
    return make_verdict("pass_due_to_skip", f"not checked: {reason}; a check(result) in the suite can judge it")


def make_verdict(status: str, reason: str = "", remark: str = "") -> dict[str, Any]:
    """Make the reply of an accuracy check."""
    return {"status": status, "reason": reason, "remarks": [remark] if remark else []}
