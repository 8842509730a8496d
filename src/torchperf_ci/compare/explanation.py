"""An explanation of a change: its causes, most likely first, and those causes in words. Room `explain` makes them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum

from torchperf_ci.core.records import Case
from torchperf_ci.core.text import one_line

_LONGEST_NAME = 80
_LONGEST_NOTE = 240
_LONGEST_INPUTS = 120


class CauseKind(str, Enum):
    """The kinds of causes. Outside: all of an iteration that no operator takes."""

    OPERATOR = "operator"
    KERNEL = "kernel"
    OUTSIDE = "outside operators"
    PYTHON = "Python function"
    GRAPHS = "graphs"
    NODES = "graph nodes"
    PHASE = "phase of compiling"
    MEMORY = "memory"
    FAILURE = "failure"
    FUNCTION = "changed function"
    CODE = "generated code"
    ENVIRONMENT = "environment"

    __str__ = str.__str__


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """Something that differs between the sides.

    base, head: what it takes on each, in the explanation's unit; None for what has no amount. low, high: the interval
    of the difference; None where it is exact or was taken once. calls: of both sides, per iteration.
    inputs: what it is called with on one side only. place: `file:line` on head, or on base for what head lacks.
    is_changed: the place lies in lines that differ between the commits. share: of the whole difference.
    note: more about it, from outside or in our words.
    """

    kind: CauseKind
    name: str
    base: float | None = None
    head: float | None = None
    low: float | None = None
    high: float | None = None
    calls: tuple[float, float] | None = None
    inputs: tuple[str, str] | None = None
    place: str = ""
    is_changed: bool = False
    share: float | None = None
    note: str = ""

    @property
    def difference(self) -> float:
        """Return head less base."""
        return (self.head or 0.0) - (self.base or 0.0)

    @property
    def is_certain(self) -> bool:
        """Say whether noise alone does not make it."""
        return self.low is None or self.high is None or self.low > 0 or self.high < 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """The explanation of one metric of a case.

    unit: of amounts: `s`, `B`, or blank for counts. base, head: the metric as it was measured while it was explained;
    low, high: the interval of the difference, None where it is exact. causes: with a share of the difference, most
    likely first. facts: what else differs. lines: changed lines that an iteration runs. changed_lines: how many there
    are in all, None where no two commits are compared. folder: where everything about it is, in the results folder.
    problem: why there is no explanation.
    """

    case: Case
    metric: str
    unit: str = "s"
    base: float | None = None
    head: float | None = None
    low: float | None = None
    high: float | None = None
    causes: tuple[Cause, ...] = ()
    facts: tuple[Cause, ...] = ()
    lines: tuple[str, ...] = ()
    changed_lines: int | None = None
    folder: str = ""
    problem: str = ""

    @property
    def difference(self) -> float:
        """Return head less base."""
        return (self.head or 0.0) - (self.base or 0.0)

    @property
    def explained(self) -> float:
        """Return the share of the difference that the causes make up, which together may be more than all of it."""
        return sum(cause.share or 0.0 for cause in self.causes if cause.kind is not CauseKind.PYTHON)


Quote = Callable[[str], str]


def write_explanation(explanation: Explanation, quote: Quote = one_line, escape: Quote = one_line) -> str:
    """Write the most likely cause in a sentence. Names go through `quote`, sentences that may hold text from outside
    through `escape`."""
    everything = (*explanation.causes, *explanation.facts)
    if explanation.problem:
        certain = ""
        if everything:
            certain = f" What differs all the same: {write_cause(everything[0], explanation, quote, escape)}."
        return f"No cause is given: {escape(one_line(explanation.problem, limit=_LONGEST_NOTE))}.{certain}"
    if not everything:
        return "No cause was found: nothing that can be seen differs between the sides."
    first, *others = everything
    sentence = f"{write_cause(first, explanation, quote, escape)}."
    changed = next((cause for cause in others if cause.is_changed), None)
    if first.is_changed or changed is None:
        return sentence
    return f"{sentence} In code that changed: {write_cause(changed, explanation, quote, escape)}."


def write_cause(cause: Cause, explanation: Explanation, quote: Quote = one_line, escape: Quote = one_line) -> str:
    """Write a cause: what differs, how much of the difference that is, and where it is."""
    limit = _LONGEST_NOTE if cause.kind is CauseKind.FAILURE else _LONGEST_NAME
    name, note = quote(one_line(cause.name, limit=limit)), escape(one_line(cause.note, limit=_LONGEST_NOTE))
    parts = [_write_subject(cause, name, note, explanation)]
    if cause.inputs and any(cause.inputs):
        base, head = (quote(one_line(given or "no tensor", limit=_LONGEST_INPUTS)) for given in cause.inputs)
        parts.append(f"called with {head} where base has {base}")
    if note and cause.kind is not CauseKind.FUNCTION:
        parts.append(note)
    if cause.place:
        changed = ", changed between base and head" if cause.is_changed else ""
        parts.append(f"in {quote(one_line(cause.place, limit=_LONGEST_NOTE))}{changed}")
    return "; ".join(parts)


def _write_subject(cause: Cause, name: str, note: str, explanation: Explanation) -> str:
    """Write what a cause is and what it takes; name and note are as they are shown."""
    part, own = _write_part(cause, explanation), write_amount(explanation.unit, abs(cause.difference))
    match cause.kind:
        case CauseKind.OPERATOR | CauseKind.KERNEL | CauseKind.PYTHON:
            return _write_calls(cause, name, part if explanation.unit else "")
        case CauseKind.OUTSIDE:
            return f"{name}: {part}"
        case CauseKind.PHASE:
            return f"the phase {name}: {part}"
        case CauseKind.MEMORY:
            return f"{name} holds {own} {_more(cause.difference)} at the peak"
        case CauseKind.GRAPHS | CauseKind.NODES if cause.base is not None and cause.head is not None:
            change = cause.head - cause.base
            counts = f"({_write_count(cause.base)} → {_write_count(cause.head)})"
            noun = name.removesuffix("s") if abs(change) == 1 and cause.kind is CauseKind.GRAPHS else name
            return f"{_write_count(abs(change))} {_more(change)} {noun} {counts}"
    endings = {CauseKind.FUNCTION: f" {note}", CauseKind.ENVIRONMENT: " differs"}
    return "Inductor's generated code differs" if cause.kind is CauseKind.CODE else name + endings.get(cause.kind, "")


def _write_calls(cause: Cause, name: str, part: str) -> str:
    """Write how often something is called, where that differs, and the part that it makes."""
    about = "about " if cause.kind is CauseKind.PYTHON else ""
    before, after = cause.calls or (0.0, 0.0)
    if round(before, 2) == round(after, 2):
        times = f", in as many calls ({_write_count(after)})" if cause.calls else ""
        return f"{name} takes longer{times}: {about}{part}" if cause.difference > 0 else f"{name}{times}: {about}{part}"
    size = _write_count(abs(after - before))
    often = f"{'once' if size == '1' else f'{size} times'} {_more(after - before)} per iteration"
    told = f": {about}{part}" if part else ""
    return f"{name} is called {often} ({_write_count(before)} → {_write_count(after)}){told}"


def _write_part(cause: Cause, explanation: Explanation) -> str:
    """Write how much more a cause takes, and of what where it is a part: `88 % of the difference (8.4 ms of 9.53 ms)`.

    Both were measured anew, so that they are no part of the numbers of the comparison.
    """
    own = write_amount(explanation.unit, abs(cause.difference))
    whole = write_amount(explanation.unit, abs(explanation.difference))
    if cause.share is not None and 0 < cause.share < 1.005 and own != whole:
        return f"{100 * cause.share:.0f} % of the difference ({own} of {whole}, measured anew)"
    return f"{own} {_more(cause.difference)}"


def _more(difference: float) -> str:
    return "more" if difference >= 0 else "less"


def _write_count(value: float) -> str:
    return f"{value:,.0f}" if value == round(value) or value >= 100 else f"{value:.3g}"


def write_amount(unit: str, value: float | None) -> str:
    """Write seconds or bytes with a unit that fits them, or a count."""
    if value is None:
        return ""
    sign, size = ("-" if value < 0 else ""), abs(value)
    steps: Sequence[tuple[float, str]]
    match unit:
        case "s":
            steps = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns"))
        case "B":
            steps = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1.0, "B"))
        case _:
            return f"{sign}{_write_count(size)}"
    scale, name = next((step for step in steps if size >= step[0]), steps[-1])
    return f"{sign}{size / scale:.3g} {name}"
