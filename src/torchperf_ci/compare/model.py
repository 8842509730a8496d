"""The parts of a comparison: the rules of what counts, what was measured, and what was found out about it.

An `Explanation` holds the causes of a change, most likely first, in words; room `explain` makes them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from torchperf_ci.compare.effects import (
    BETWEEN_FLOOR,
    LOOKS,
    TWO_PROCESSES,
    ChangeTolerance,
    Launch,
    LaunchNoise,
    Verdict,
)
from torchperf_ci.core.records import EXACT_COUNTS, INSTRUCTIONS, Case, Metric, Source
from torchperf_ci.core.text import Word, format_digits, one_line

if TYPE_CHECKING:
    from torchperf_ci.machine.host import HostLoad


_LONGEST_NAME = 80
_LONGEST_NOTE = 240
_LONGEST_INPUTS = 120


class CauseKind(Word):
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
    return f"{value:,.0f}" if value == round(value) or value >= 100 else format_digits(value, 3)


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
    return f"{sign}{format_digits(size / scale, 3)} {name}"


LATENCY = "abs_latency"
SPEEDUP = "speedup"
MEMORY = "dynamo_peak_mem"
COMPILING = "compilation_latency"
ACCURACY = "accuracy"
PROCESS = "dynamo_process_mem"
GRAPHS = "unique_graphs"
COUNTED = ("graph_breaks", GRAPHS, "recompiles")
TIMED = (LATENCY, SPEEDUP)
"""The metrics a case's own verdict is made of."""
ALL = (LATENCY, SPEEDUP, MEMORY, COMPILING, *COUNTED, *EXACT_COUNTS, *INSTRUCTIONS)
"""Every metric a rule may speak of."""

LEAST = {
    SPEEDUP: ChangeTolerance(margin=0.05, threshold=0.10),
    LATENCY: ChangeTolerance(margin=0.10, threshold=0.25),
}
"""The least a difference between runs of different days has to be. Speedups differ by 1.1
to 1.6 % (SD) between moments of a shared machine, times by 2.6 to 23.5 %."""

_DEFAULTS = {
    MEMORY: ChangeTolerance(margin=0.01, threshold=0.01),  # the same every time, but for how an allocator rounds
    COMPILING: ChangeTolerance(margin=0.10, threshold=0.25),
    **dict.fromkeys((*COUNTED, *EXACT_COUNTS), ChangeTolerance(margin=0.0, threshold=0.0)),
    # Counts of one program differ by up to 0.04 % (callgrind) or 0.1 % (a processor's); of compiling by 1.5 %, says
    # PyTorch's benchmarks/dynamo/pr_time_benchmarks.
    "instructions": ChangeTolerance(margin=0.001, threshold=0.001),
    "compile_instructions": ChangeTolerance(margin=0.015, threshold=0.015),
}

_WORSE = frozenset({Verdict.REGRESSED, Verdict.FAILED, Verdict.MISSING})

_JUDGED = frozenset(
    {
        Verdict.REGRESSED,
        Verdict.IMPROVED,
        Verdict.UNCHANGED,
        Verdict.INCONCLUSIVE,
        Verdict.FAILED,
        Verdict.MISSING,
    }
)
"""Verdicts of cases that base had and could run: without one of these nothing was compared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A margin, a threshold or both for the metrics and cases whose names fit the patterns of shell wildcards.

    case: is held against `suite/model` and against the whole name, `suite/model compiler mode dtype device`.
    """

    case: str = "*"
    metric: str = LATENCY
    margin: float | None = None
    threshold: float | None = None

    def fits(self, case: Case, metric: str) -> bool:
        return fnmatchcase(metric, self.metric) and case.matches(self.case)


@dataclass(frozen=True, slots=True, kw_only=True)
class ToleranceRules:
    """`latency`: that of times where no rule says otherwise. `rules`: later ones win over earlier ones.

    gate_counts: more operators, kernels, allocations or FLOPs are worse, not only told.
    """

    latency: ChangeTolerance = TWO_PROCESSES
    rules: Sequence[Rule] = ()
    gate_counts: bool = False

    def gates(self, case: Case, metric: str) -> bool:
        """Say whether a count of one iteration gets a verdict: all of them do, or a rule speaks of it."""
        return self.gate_counts or any(rule.fits(case, metric) for rule in self.rules)

    def find(self, case: Case, metric: str) -> ChangeTolerance:
        """Find the tolerance of one metric of one case. A threshold is never below its margin."""
        usual = _DEFAULTS.get(metric, self.latency)
        margin, threshold = usual.margin, usual.threshold
        for rule in self.rules:
            if rule.fits(case, metric):
                margin = margin if rule.margin is None else rule.margin
                threshold = threshold if rule.threshold is None else rule.threshold
        return ChangeTolerance(margin=margin, threshold=max(margin, threshold))


def widen_for_days(asked: ChangeTolerance, metric: str) -> ChangeTolerance:
    """Take what was asked for, or what runs of different days need, whichever is more."""
    least = LEAST.get(metric, asked)
    return ChangeTolerance(margin=max(asked.margin, least.margin), threshold=max(asked.threshold, least.threshold))


@dataclass(frozen=True, slots=True, kw_only=True)
class SideResult:
    """The results of one side for a case, besides its times.

    accuracy: its status, with the reason when it is not a pass; empty where it was not looked at.
    failure: why there are no times, or empty. compile_seconds: one per launch from an empty cache.
    memory_bytes: what an iteration of the compared arm needs. process_bytes: the largest size of the process. Both are
        None where they cannot be measured.
    not_compiled: nothing of it was compiled, though it should have been. remarks: what else a reader should know.
    log: what its process printed, as a path in the results folder. strays: see `Loaded`. counted, digests: see
        `Counted`.
    """

    accuracy: str = ""
    failure: str = ""
    batch_size: int = 0
    parameters: int = 0
    counters: Mapping[str, int] = field(default_factory=dict)
    compile_seconds: tuple[float, ...] = ()
    memory_bytes: int | None = None
    process_bytes: int | None = None
    not_compiled: bool = False
    remarks: tuple[str, ...] = ()
    log: str = ""
    strays: tuple[str, ...] = ()
    counted: Mapping[str, float] = field(default_factory=dict)
    digests: Mapping[str, str] = field(default_factory=dict)


MOST_DIFFERENCES = 200
"""Differences that are kept of a case: by far more than anybody reads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramDifference:
    """A part of the program that differs. `base` and `head`: what each has, None where it has no such thing.

    Of a function that is `[file, line, calls, digest]`, else a digest; without a name the part as a whole differs.
    """

    part: str
    name: str
    base: Any
    head: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Sameness:
    """Whether a case is the same program on both sides. A single difference, or doubt, means that it is not proved.

    differences: at most `MOST_DIFFERENCES` of them.
    """

    differences: tuple[ProgramDifference, ...] = ()
    doubts: tuple[str, ...] = ()

    @property
    def is_same(self) -> bool:
        return not self.differences and not self.doubts


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One case measured on both sides: everything the verdicts are made of.

    A side that does not have the model is None. between: see `estimate_effect`. seconds: what sampling took.
    look: the index of `LOOKS` at which it ended. refusals: why it may not be compared. remarks: what a reader should
    know. host: the system's load; recorded, not used in verdicts. spread: what its launches differ by, by metric.
    noise: what those of all cases differ by, see `estimate_effect`. again: a second measurement in fresh processes,
    made when the first one showed a change. sameness: whether it is the same program on both sides; None where nobody
    looked. spared: it is, so that a short check was all. metrics: the suite's own. wall_seconds: of the case, less
    `again`.
    """

    case: Case
    base: SideResult | None
    head: SideResult | None
    launches: tuple[Launch, ...] = ()
    between: float = BETWEEN_FLOOR
    seconds: float = 0.0
    look: int = len(LOOKS) - 1
    refusals: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    host: HostLoad | None = None
    spread: Mapping[str, LaunchNoise] = field(default_factory=dict)
    noise: Mapping[str, LaunchNoise] = field(default_factory=dict)
    metrics: tuple[Metric, ...] = ()
    again: Measured | None = None
    sameness: Sameness | None = None
    spared: bool = False
    wall_seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptedChange:
    """The decision that lets a change land: whose, why, where it stands, and up to which ratio of head to base."""

    by: str
    reason: str
    url: str
    limit: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The verdict on one metric of one case. `base` and `head` are in the metric's unit, or absent.

    unit: that of a metric that `METRICS` does not have.
    p: of "the slowdown is at most the margin".
    leans: the change that a first measurement makes probable enough for a second one.
    confirmed: whether a second measurement in fresh processes says the same; None when there was none.
    again: what that one says of the metric.
    log: the log of the side that failed, as a path in the results folder.
    spared: the case is the same program on both sides, and had a short check instead of a measurement.
    more_seconds, more_launches: what an inconclusive one would need on top.
    fails_on_both: neither side runs, or is right: there is nothing to compare, and it is nobody's change.
    accepted: who lets it land although it blocks, and why.
    listed, blocks: whether it stands after the correction for the size of the family (Benjamini and Hochberg for what
        is listed, Holm for what blocks).
    """

    case: Case
    metric: str
    verdict: Verdict
    base: float | None = None
    head: float | None = None
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    leans: Verdict | None = None
    listed: bool = False
    blocks: bool = False
    fails_on_both: bool = False
    accepted: AcceptedChange | None = None
    confirmed: bool | None = None
    again: Comparison | None = None
    more_seconds: float | None = None
    more_launches: int | None = None
    why: str = ""
    log: str = ""
    spared: bool = False
    unit: str = ""


def name_verdict(verdict: Verdict, metric: str) -> str:
    """Name a verdict as people do: a case gets slower or faster, any other metric worse or better.

    Files keep the one pair for all metrics, `regressed` and `improved`.
    """
    names = {Verdict.REGRESSED: ("slower", "worse"), Verdict.IMPROVED: ("faster", "better")}
    return names[verdict][metric not in TIMED] if verdict in names else str(verdict)


def pick_case_verdicts(comparisons: Sequence[Comparison]) -> dict[Case, Comparison]:
    """Pick every case's own verdict: the most urgent one of its times."""
    urgency = {verdict: place for place, verdict in enumerate(Verdict)}
    picked: dict[Case, Comparison] = {}
    for comparison in comparisons:
        if comparison.metric in TIMED:
            before = picked.setdefault(comparison.case, comparison)
            if urgency[comparison.verdict] < urgency[before.verdict]:
                picked[comparison.case] = comparison
    return picked


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitSummary:
    """A commit as people know it. The subject is blank where it is not at hand."""

    sha: str
    subject: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """The sides of a comparison, the method and the place.

    base, head: what the sides are called. how: whole sentences of ours, shown as they are. source: where head comes
    from. server: where pages of commits and runs are, for example https://github.com; blank where there are none.
    commands: what measures the same again. bisect_options: those with which `bisect` looks for the commit between base
    and head that made a change; None where there is none to look for.
    """

    base: str
    head: str
    how: str
    machine: str
    tolerances: ToleranceRules
    warnings: tuple[str, ...] = ()
    source: Source = field(default_factory=Source)
    base_commit: CommitSummary | None = None
    head_commit: CommitSummary | None = None
    server: str = ""
    commands: tuple[str, ...] = ()
    bisect_options: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparisonFindings:
    """Everything a report of a comparison is made of. `measured` is empty for runs that were not measured here.

    unmeasured: cases that an interrupted comparison did not come to, or not to measure again.
    not_compiled: cases that run, of which a side did not compile anything.
    saved_seconds: what the cases that were spared would have taken longer, about.
    explanations: of the changes that were looked into.
    """

    header: Header
    comparisons: tuple[Comparison, ...]
    measured: tuple[Measured, ...] = ()
    unmeasured: int = 0
    not_compiled: int = 0
    saved_seconds: float = 0.0
    explanations: tuple[Explanation, ...] = ()

    @property
    def spared(self) -> int:
        """Count the cases that are the same program on both sides, and were checked shortly."""
        return sum(c.spared for c in pick_case_verdicts(self.comparisons).values())

    @property
    def blocking(self) -> int:
        """Count what fails the comparison and was accepted by nobody."""
        return sum(comparison.blocks and comparison.accepted is None for comparison in self.comparisons)

    @property
    def is_recorded(self) -> bool:
        """Say whether runs of different moments were compared; of a stored comparison that is not known."""
        return not self.measured and bool(self.header.how)

    @property
    def inconclusive(self) -> int:
        return sum(c.verdict is Verdict.INCONCLUSIVE for c in pick_case_verdicts(self.comparisons).values())

    @property
    def compared(self) -> int:
        """Count the cases about which something was found out."""
        return sum(c.verdict in _JUDGED for c in pick_case_verdicts(self.comparisons).values())

    @property
    def is_open(self) -> bool:
        """Say whether there are cases of which nobody knows whether they are slower."""
        refused = any(c.verdict is Verdict.REFUSED for c in self.comparisons)
        return not self.compared or bool(self.inconclusive or refused or self.unmeasured)

    @property
    def sign(self) -> str:
        """Say in one sign how it stands: green only where nothing is worse, and all is known."""
        if self.blocking:
            return "❌"
        is_worse = any(c.verdict in _WORSE and c.accepted is None for c in self.comparisons)
        return "⚠️" if is_worse or self.is_open or self.not_compiled else "✅"
