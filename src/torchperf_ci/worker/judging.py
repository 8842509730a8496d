"""Judge whether what a compiler made of a workload is right, by runs of the workload on copies of its state."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
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
from torchperf_ci.worker.compile import AS_IT_IS, calls_until_recorded, uses_dynamo
from torchperf_ci.worker.copying import CannotCopy
from torchperf_ci.worker.load import Workload, random_state, seed_all
from torchperf_ci.worker.memory import free_memory
from torchperf_ci.worker.protocol import CaseError, describe, one_line, read_message
from torchperf_ci.worker.timing import synchronizer
from torchperf_ci.worker.world import World

_PASS = "pass"
_SAME_MOVE, _SMALL_MOVE = 0.5, 0.1
_MAY_BE_THE_COPYS_FAULT = {"fail_accuracy", "eager_1st_run_fail"}


@dataclass(slots=True, kw_only=True)
class AccuracyCheck:
    """The check of one case by the rules of `worker.accuracy`.

    independent: returns the workload's state once more. observe_compiled: compiles, and returns what the compiled
    iteration did. observe_again: returns what another call of it does. ends_after: says whether nothing can follow an
    error in this process.
    """

    workload: Workload
    case: Mapping[str, str]
    suite: Suite
    world: World
    independent: Callable[[], Workload]
    observe_compiled: Callable[[], IterationOutcome]
    observe_again: Callable[[], IterationOutcome]
    ends_after: Callable[[BaseException], bool]
    _compiled: IterationOutcome | None = field(default=None, init=False)
    _first: Workload = field(init=False)
    _eager: IterationOutcome = field(init=False)
    _nan_before: Set[str] = field(default=frozenset(), init=False)
    _initial: Sequence[torch.Tensor] = field(default=(), init=False)
    _random_state_in_float64: torch.Tensor = field(init=False)

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
        if self.workload.program.check is not None:
            return self._ask_suite(self.workload.program.check)
        if self.case["compiler"] == AS_IT_IS:
            return leave_unjudged("nothing is compiled, so there is nothing to compare with")
        float64, remark = self._float64_reference()
        try:
            verdict = self._compare(self.independent, float64, remark)
            failure = None
        except CaseError as error:
            if not error.status.startswith("eager") or self.world.is_shared or self.ends_after(error):
                raise  # of several processes the others do not know of it, and would wait for ever
            verdict, failure = make_verdict(error.status, error.reason), error
        if verdict["status"] in _MAY_BE_THE_COPYS_FAULT and not self.world.is_shared:
            try:
                again = self._compare(lambda: self.workload.built_anew(same_state=False), float64, remark)
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
        from call to call, so only what is another function is told, and was none in the first call (cosine similarity
        lets that pass); and only where eager, built anew, does the same.
        """
        workload, world = self.workload, self.world
        if world.is_shared or workload.has_setup or calls_until_recorded(self.case["compiler"], workload.device) > 1:
            return None
        assert self._compiled is not None
        try:
            if another_function(self._compiled, self._eager):
                return None
            eager, compiled = self._observe_second(self._first), self.observe_again()
            said = another_function(compiled, eager) or ""
            if "differ by" not in said:  # results of another form may come of a state that is rounded otherwise
                return None
            other = workload.built_anew(same_state=False)
            observe(other, self.case["compiler"])
            exact = AccuracyTolerance(value=0.0, nan_equals_nan=True)
            if compare_outcomes(eager, self._observe_second(other), None, exact, exact=True) is not None:
                return None
        except Exception as error:
            if self.ends_after(error):
                raise CaseError("not_judged", f"its second call breaks the device: {describe(error)}") from error
            print(f"torchperf-ci: no second call is compared: {describe(error)}")  # noqa: T201 - for the case's log
            return None
        return f"right in the first call, wrong in the second: {said.replace(' in float64', '')}"

    def _observe_second(self, workload: Workload) -> IterationOutcome:
        """Run a workload that has run once, with new inputs where it spoils them."""
        if workload.inputs_change:
            args, kwargs = self.workload.fresh_inputs()
            workload = replace(workload, args=args, kwargs=kwargs)
        return observe(workload, self.case["compiler"])

    def _ask_suite(self, check: Callable[[Any], Any]) -> Mapping[str, Any]:
        """Let the suite judge the compiled result, or the only one; where that is wrong, the eager one as well."""
        compiler = self.case["compiler"]
        try:
            eager = self.independent()
        except CannotCopy:
            eager = self.workload
        if compiler == AS_IT_IS:
            wrong = _ask(check, self._eager_outcome("1st", lambda: eager))
            return make_verdict("fail_accuracy", wrong) if wrong else make_verdict(_PASS)
        wrong = _ask(check, self.observe_compiled())
        if not wrong:
            return make_verdict(_PASS)
        too = _ask(check, self._eager_outcome("1st", lambda: eager))
        return make_verdict("fail_accuracy", f"{wrong}; eager's result is wrong as well: {too}" if too else wrong)

    def _compare(
        self, make: Callable[[], Workload], float64: IterationOutcome | None, remark: str
    ) -> Mapping[str, Any]:
        case, suite = self.case, self.suite
        default = 1e-4 if case["dtype"] == "float32" else 1e-3
        own, cosine = suite.option("tolerance"), suite.option("use_cosine")
        tolerance = AccuracyTolerance(
            value=float(own(case["model"], case["mode"], case["dtype"])) if own else default,
            cosine=bool(cosine and cosine(case["model"])),
            nan_equals_nan=case["dtype"] != "float32",
        )
        first = self._eager = self._eager_outcome("1st", make)
        if float64 is not None and not torch.equal(random_state(self.workload.device), self._random_state_in_float64):
            float64, remark = None, "no float64 reference: it draws other random numbers"
        second = self._eager_outcome("2nd", make)
        differs = self._difference(first, second, None, tolerance, exact=True)
        if self.world.is_any(differs is not None):
            elsewhere = "two eager runs differ in another process"
            said = f"two eager runs differ: {differs}" if differs else elsewhere
            return make_verdict("eager_two_runs_differ", said)
        keeps_state = uses_dynamo(case["compiler"])  # exporters do not
        first.held = keep_settled(first.held, second.held) if keeps_state else {}
        first.moved = keep_settled_moves(first, second) if keeps_state else frozenset()
        del second
        self._nan_before = frozenset() if tolerance.nan_equals_nan else self._find_nan_before(first, make)
        self._initial = self._initial_tensors(make) if first.moved else ()
        if self._compiled is None:
            self._compiled = self.observe_compiled()
        close = replace(tolerance, cosine=False)
        if not tolerance.cosine and self._difference(first, self._compiled, None, close) is None:
            return self._passed(first, make)
        if float64 is not None and (reason := another_function(first, float64)):
            float64, remark = None, f"no float64 reference: {reason}"
        if float64 is None and not tolerance.cosine:
            tolerance = replace(tolerance, cosine=True, size=True)
        differs = self._difference(first, self._compiled, float64, tolerance)
        return make_verdict("fail_accuracy", differs, remark) if differs else self._passed(first, make, remark)

    def _passed(self, eager: IterationOutcome, make: Callable[[], Workload], remark: str = "") -> Mapping[str, Any]:
        """Pass what was compared; what returns nothing, and changes nothing it holds or is given, was not."""
        if self._does_nothing(eager, make):
            return leave_unjudged("it returns nothing that can be compared")
        return make_verdict(_PASS, "", remark)

    def _does_nothing(self, eager: IterationOutcome, make: Callable[[], Workload]) -> bool:
        """Tell whether an iteration left no result, and everything else as it was before."""
        made = replace(eager, state={}, given={}).leaves()
        if eager.writes or any(leaf.value is not None for leaf in made.values()):
            return False
        if self.world.is_shared:  # the others may not come here, and building it anew may need them
            return all(leaf.value is None for leaf in eager.leaves_around().values())
        exact = AccuracyTolerance(value=0.0)
        with _outset(make) as before:
            return self._difference(replace(eager, results={}, gradients={}), before, None, exact, exact=True) is None

    def _find_nan_before(self, eager: IterationOutcome, make: Callable[[], Workload]) -> Set[str]:
        """Name the places in state and inputs that hold NaN already before an iteration."""
        if not self.world.is_any(bool(_find_nan(eager))):
            return frozenset()
        with _outset(make) as before:
            return _find_nan(before)

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
            differs = compare_outcomes(one, two, float64, tolerance, exact=exact, nan_before=self._nan_before)
            if differs is None and not exact:
                differs = compare_held_state(one.held, two.held, float64.held if float64 else {}, tolerance)
                differs = differs or compare_moves(one, two, self._initial)
            return differs
        except CannotJudge:
            raise
        except Exception as error:  # results may be objects of any class, with code of their own
            if is_of_device(error):
                raise
            raise CannotJudge(f"torchperf-ci's own check failed: {describe(error)}") from error

    def _initial_tensors(self, make: Callable[[], Workload]) -> Sequence[torch.Tensor]:
        """Return what the callable holds before it is called; nothing where there is no memory for it once more."""
        try:
            return make().owned_tensors()
        except (CannotCopy, torch.OutOfMemoryError):
            return ()

    def _float64_reference(self) -> tuple[IterationOutcome | None, str]:
        """Run the workload in float64. Where that cannot be done the text says why, and cosine similarity decides."""
        try:
            outcome = observe(self.workload.in_float64(), self.case["compiler"])
        except BaseException as error:  # a model may raise anything, and an interrupt does not come here
            if self.ends_after(error):
                raise CaseError("not_judged", f"its float64 reference breaks the device: {describe(error)}") from error
            print(f"torchperf-ci: no float64 reference: {describe(error)}")  # noqa: T201 - goes to the case's log
            return None, f"no float64 reference: {describe(error)}"
        finally:
            free_memory(torch.device(self.case["device"]))
        self._random_state_in_float64 = random_state(self.workload.device)
        return outcome, ""

    def _eager_outcome(self, which: str, make: Callable[[], Workload]) -> IterationOutcome:
        try:
            workload = make()
            if which == "1st":
                self._first = workload  # its weights are in the outcome, too
            return observe(workload, self.case["compiler"])
        except (CannotCopy, CannotJudge):
            raise
        except BaseException as error:  # as in `load`
            word = "OOM" if is_out_of_memory(error) else "fail"
            raise CaseError(f"eager_{which}_run_{word}", describe(error)) from error
        finally:
            free_memory(torch.device(self.case["device"]))


@contextmanager
def _outset(make: Callable[[], Workload]) -> Iterator[IterationOutcome]:
    """Give the state and the inputs that an iteration from the check's seed starts with."""
    workload = make()
    seed_all(SEED)
    args, kwargs = workload.set_up()
    state: dict[str, Any] = {f"buffer {name}": buffer for name, buffer in workload.module.named_buffers()}
    state |= {f"parameter {name}": weight.detach() for name, weight in workload.module.named_parameters()}
    given = {f"argument {name}": value for name, value in (*enumerate(args), *kwargs.items())}
    try:
        yield IterationOutcome(state=state, given=given)
    finally:
        if workload.has_setup:
            workload.tear_down()


def _find_nan(outcome: IterationOutcome) -> Set[str]:
    """Name the places in state and inputs that hold NaN."""
    found = set()
    for where, leaf in outcome.leaves_around().items():
        if isinstance(leaf.value, torch.Tensor):
            is_nan = leaf.value.is_floating_point() and bool(torch.isnan(leaf.value).any())
        else:
            is_nan = isinstance(leaf.value, (float, complex)) and leaf.value != leaf.value
        if is_nan:
            found.add(where)
    return frozenset(found)


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
    return {"status": status, "reason": reason, "remarks": [remark] if remark else []}


def keep_settled(held: Mapping[str, Any], again: Mapping[str, Any]) -> dict[str, Any]:
    """Keep what two eager runs left alike; times, identities and what a process remembers are not the compiler's."""
    exact = AccuracyTolerance(value=0.0, nan_equals_nan=True)
    return {
        place: value
        for place, value in held.items()
        if place in again and _value_difference(value, again[place], None, exact, exact=True) is None
    }


def compare_held_state(
    reference: Mapping[str, Any], result: Mapping[str, Any], float64: Mapping[str, Any], tolerance: AccuracyTolerance
) -> str | None:
    """Say where `result` lacks what the reference has, or has something else there, or None.

    The rules are those for results, but an attribute is not returned: rounding may weigh more in it than in any result
    that was made of it. So a difference has to be above a hundred tolerances of its size as well, from 1 to 10 %.
    """
    tolerance = replace(tolerance, nan_equals_nan=True)
    limit = min(0.1, max(0.01, 100 * tolerance.value))
    for place, value in reference.items():
        if place not in result:
            return f"{place}: missing in the compiled result"
        reason = _value_difference(value, result[place], float64.get(place), tolerance)
        if reason is not None and not _is_rounding(value, result[place], limit):
            return f"{place}{reason}"
    return None


def keep_settled_moves(one: IterationOutcome, two: IterationOutcome) -> frozenset[int]:
    """Say which tensors of a callable two eager runs wrote to alike. What both runs share would be the same anyway."""
    if len(one.owned) != len(two.owned):
        return frozenset()
    pairs = {index: (one.owned[index], two.owned[index]) for index in one.moved & two.moved}
    return frozenset(index for index, (mine, other) in pairs.items() if mine is not other and torch.equal(mine, other))


def compare_moves(reference: IterationOutcome, result: IterationOutcome, initial: Sequence[torch.Tensor]) -> str | None:
    """Say how what a callable changed in its own tensors differs from what eager changed in them, or None.

    What a training step adds to a weight is small beside the weight and would be lost in any tolerance, so the changes
    are compared. An optimizer makes whole steps of gradients that are nothing but rounding, so that is done over all
    tensors at once, and half of the size of the change is allowed: a step that is missing, or made twice, is more.
    """
    if not len(reference.owned) == len(result.owned) == len(initial):
        return None
    apart = size = 0.0
    for index in sorted(reference.moved):
        before, mine, theirs = (each[index].detach() for each in (initial, reference.owned, result.owned))
        if not before.shape == mine.shape == theirs.shape or initial[index] is reference.owned[index]:
            continue
        start, end = before.cpu().double(), mine.cpu().double()  # on the CPU: some devices have no float64
        moved = end - start
        finite = torch.isfinite(start) & torch.isfinite(moved)
        change = float(moved[finite].square().sum())
        weight = float(start[finite].square().sum()) + _SMALL_MOVE**2 * start.numel()
        if change <= (4 * torch.finfo(before.dtype).eps) ** 2 * weight:
            continue  # no more than rounding, of what may have been larger on the way
        size += change
        apart += float((theirs.cpu().double() - end)[finite].square().sum())
    if size == 0 or math.sqrt(apart / size) <= _SAME_MOVE:
        return None
    return f"what the function changes in its own tensors differs by {math.sqrt(apart / size):.0%} of the change"


def _value_difference(
    one: Any,  # noqa: ANN401 - a tensor, an array or a number
    two: Any,  # noqa: ANN401
    float64: Any,  # noqa: ANN401
    tolerance: AccuracyTolerance,
    *,
    exact: bool = False,
) -> str | None:
    """Compare values of one place; what cannot be compared, for example memory that is used again, does not differ."""
    left, right = (IterationOutcome(state={"": value}) for value in (one, two))
    wide = None if float64 is None else IterationOutcome(state={"": float64})
    try:
        return compare_outcomes(left, right, wide, tolerance, exact=exact)
    except Exception as error:
        if is_of_device(error):
            raise
        return None


def _is_rounding(one: Any, two: Any, limit: float) -> bool:  # noqa: ANN401 - tensors, arrays or numbers
    """Tell whether two floating-point values differ by at most `limit` of their size, and by no infinity."""
    try:
        mine, theirs = (torch.as_tensor(value).detach().cpu() for value in (one, two))
        if not mine.is_floating_point() or mine.dtype != theirs.dtype or mine.shape != theirs.shape:
            return False
        mine, theirs = mine.double(), theirs.double()
    except (TypeError, ValueError, RuntimeError):
        return False
    finite = torch.isfinite(mine)
    if not torch.equal(finite, torch.isfinite(theirs)):
        return False
    apart = (mine - theirs)[finite].square().sum()
    return bool(apart <= limit**2 * mine[finite].square().sum())
