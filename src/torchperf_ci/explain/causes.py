"""Find the causes of a change in the evidence, and put the most likely one first.

Times: every operator's own time is taken in turns of both sides, so that each row has an interval of its difference;
what is left of the iteration is everything outside operators. The profiler slows down what it hears of, by about the
same for every event, which is taken off. What differs for certain (graphs, counts, bytes) needs no interval.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from statistics import fmean, median, variance

from torchperf_ci.compare.effects import Verdict, floor_at
from torchperf_ci.compare.model import COMPILING, COUNTED, MEMORY, Cause, CauseKind, Comparison, Explanation
from torchperf_ci.core.records import EXACT_COUNTS, INSTRUCTIONS
from torchperf_ci.core.statistics import student_t
from torchperf_ci.explain.model import (
    CallProfile,
    CompilerArtefacts,
    Evidence,
    ProfiledTurn,
    SideEvidence,
    is_changed,
    list_executed,
)

OUTSIDE = "Python and everything else outside operators"

LEAST_SHARE = 0.05
"""Of the difference: what makes less of it is no cause of it."""

PROGRAM_SHARE = 0.15
"""Of the difference, from which on a cause in the program comes before one that only takes longer."""

MOST_CAUSES = 25

LEAST_TURNS = 3
"""With fewer turns no interval says anything."""

_MOST_OVERHEAD = 5e3
"""Nanoseconds that the profiler may take per event; more is something else."""

_DEVICE_SHARE = 0.5
"""Of an iteration, from which on the device's kernels make its time, not the host that starts them."""

_GENERATED = ("cpp_fused_", "triton_")
_OPERATOR = re.compile(r"^[\w, ]+(?::[^=]*)?= *(?:[\w.]+|\([^()]*\)) (?P<operator>[-+*/%@&|^<>=!]{1,2}) ")
_TARGET = re.compile(r"^[\w, ]+(?::[^=]*)?= *(?P<target>[\w.]+)\(")


def explain_change(comparison: Comparison, evidence: Evidence, *, folder: str = "") -> Explanation:
    """Explain the change of one metric of a case."""
    explanation = Explanation(
        case=comparison.case,
        metric=comparison.metric,
        facts=tuple(_list_facts(evidence)),
        lines=tuple(list_executed(evidence)),
        changed_lines=None if evidence.changes is None else evidence.changes.count,
        folder=folder,
    )
    metric = comparison.metric
    if evidence.problem and len(evidence.turns) < LEAST_TURNS:
        return _explain_failure(explanation, evidence)
    if metric == MEMORY:
        return _explain_memory(explanation, evidence)
    if metric == COMPILING:
        return _explain_compiling(explanation, comparison, evidence)
    if metric in {*COUNTED, *EXACT_COUNTS, *INSTRUCTIONS}:
        return _explain_count(explanation, comparison, evidence)
    return _explain_time(explanation, comparison, evidence)


def _explain_failure(explanation: Explanation, evidence: Evidence) -> Explanation:
    """Name what fails, and the last place of the side's own code on the way there, as its log has it."""
    failed = evidence.head if evidence.head.failure else evidence.base
    if not failed.failure:
        return replace(explanation, problem=evidence.problem, facts=())
    side, changes = "head" if failed is evidence.head else "base", evidence.changes
    lines = {} if changes is None else changes.added if side == "head" else changes.removed
    cause = Cause(kind=CauseKind.FAILURE, name=f"{side} fails: {failed.failure}")
    places = [place for place in read_places(failed.log) if changes is None or is_changed(place, lines, failed.seen)]
    if places:
        cause = replace(cause, place=places[-1], is_changed=changes is not None)
    return replace(explanation, unit="", causes=(cause,))


_FRAME = re.compile(r'File "(?P<file>[^"]+)", line (?P<line>\d+), in ')


def read_places(log: str) -> list[str]:
    """List the places of a traceback in a log, the last one last: those that lie below a side's own tree."""
    marker = "/tree/"
    return [
        f"{match['file'].rpartition(marker)[2]}:{match['line']}"
        for match in _FRAME.finditer(log)
        if marker in match["file"]
    ]


def _explain_time(explanation: Explanation, comparison: Comparison, evidence: Evidence) -> Explanation:
    whole = _compare_turns(evidence.turns, lambda profile: profile.wall, CauseKind.OUTSIDE, "all of an iteration")
    explanation = replace(explanation, base=whole.base, head=whole.head, low=whole.low, high=whole.high)
    is_same = evidence.sameness is not None and evidence.sameness.is_same
    if is_same and comparison.verdict in {Verdict.UNCHANGED, Verdict.INCONCLUSIVE}:
        return replace(explanation, problem="it is the same program on both sides, and no change is confirmed")
    if not whole.is_certain:
        return replace(explanation, problem="measured anew, the sides do not differ by more than noise")
    causes = [replace(row, share=row.difference / whole.difference) for row in _list_time_rows(evidence)]
    causes = [cause for cause in causes if cause.is_certain and abs(cause.share or 0.0) >= LEAST_SHARE]
    outside = next((cause for cause in causes if cause.kind is CauseKind.OUTSIDE), None)
    if outside is not None:  # its parts come before it, where they can be told
        causes[:0] = _split_outside(outside, evidence)
    causes.sort(key=lambda cause: (not _is_of_program(cause), -(cause.share or 0.0)))
    environment = [fact for fact in explanation.facts if fact.kind is CauseKind.ENVIRONMENT]
    graphs = [f for f in explanation.facts if f.kind is CauseKind.GRAPHS and f.difference * whole.difference > 0]
    is_same_commit = evidence.changes is None or not evidence.changes.count
    return _put_first(explanation, environment if environment and is_same_commit else graphs, causes[:MOST_CAUSES])


def _put_first(explanation: Explanation, facts: Sequence[Cause], causes: Sequence[Cause] = ()) -> Explanation:
    """Make causes of some of the facts, before others."""
    others = tuple(fact for fact in explanation.facts if fact not in facts)
    return replace(explanation, causes=(*facts, *causes), facts=others)


def _is_of_program(cause: Cause) -> bool:
    """Say whether a cause of some size lies in the program: it is called more often, with something else, or changed.

    It comes before one that only takes longer: what a program does more makes what it did before slower, too, by what
    it throws out of caches and leaves to the threads.
    """
    is_called_otherwise = cause.calls is not None and abs(cause.calls[1] - cause.calls[0]) >= 0.5
    return (cause.share or 0.0) >= PROGRAM_SHARE and (is_called_otherwise or bool(cause.inputs) or cause.is_changed)


def _compare_turns(
    turns: Sequence[ProfiledTurn], read: Callable[[CallProfile], float], kind: CauseKind, name: str
) -> Cause:
    """Compare a time, which is read in nanoseconds, on both sides: the median difference of turns with Student's
    interval of 95 %.

    Its variance is that of turns within launches, plus what launches differ by beyond it, which is at least what
    processes of equal code differ by (`floor_at`). Degrees of freedom are those of a sum of estimated variances after
    Welch and Satterthwaite, as in `estimate_effect`.
    """
    pairs = [(turn.launch, read(turn.base), read(turn.head)) for turn in turns]
    by_launch = [[head - base for launch, base, head in pairs if launch == one] for one in {p[0] for p in pairs}]
    means = [fmean(each) for each in by_launch]
    within = sum((value - fmean(each)) ** 2 for each in by_launch for value in each)
    freedom = max(1, len(pairs) - len(by_launch))
    of_turns = within / freedom / len(pairs)
    seconds = median(min(turn.base.wall, turn.head.wall) for turn in turns) / 1e9
    floor = (floor_at(seconds) * max(fmean(p[1] for p in pairs), fmean(p[2] for p in pairs))) ** 2 / len(means)
    beyond = variance(means) / len(means) - of_turns if len(means) > 1 else 0.0
    total, doubt = of_turns + max(beyond, floor), of_turns**2 / freedom
    if beyond > floor:  # else the part between launches is a constant, which adds no doubt
        doubt += beyond**2 / (len(means) - 1)
    half = student_t(0.975, total**2 / doubt if doubt > 0 else freedom) * math.sqrt(total)
    centre = median(head - base for _, base, head in pairs)
    base = median(p[1] for p in pairs)
    nanoseconds = (base, base + centre, centre - half, centre + half)
    base, head, low, high = (each / 1e9 for each in nanoseconds)
    return Cause(kind=kind, name=name, base=base, head=head, low=low, high=high)


def _list_time_rows(evidence: Evidence) -> list[Cause]:
    """List the times of operators, or of what runs on the device where that makes the time, and what is left."""
    turns = evidence.turns
    profiles = [profile for turn in turns for profile in (turn.base, turn.head)]
    busy = median(sum(time for _, time in p.device.values()) / p.wall for p in profiles)
    on_device = busy >= _DEVICE_SHARE
    overhead = min(_MOST_OVERHEAD, max(0.0, median((p.profiled - p.wall) / max(1.0, p.events) for p in profiles)))

    def own(profile: CallProfile, name: str) -> float:
        if on_device:
            return profile.device.get(name, (0.0, 0.0))[1]
        calls, nanoseconds = profile.host.get(name, (0.0, 0.0))
        return max(0.0, nanoseconds - overhead * calls)

    def listed(profile: CallProfile) -> Mapping[str, tuple[float, float]]:
        return profile.device if on_device else profile.host

    names = list(dict.fromkeys(name for profile in profiles for name in listed(profile)))
    groups = _group_kernels(names, [listed(turn.base) for turn in turns], [listed(turn.head) for turn in turns])
    rows = []
    for title, (of_base, of_head) in groups.items():
        members = list(dict.fromkeys((*of_base, *of_head)))
        calls = tuple(
            median(sum(listed(p).get(m, (0.0, 0.0))[0] for m in members) for p in each)
            for each in ([turn.base for turn in turns], [turn.head for turn in turns])
        )
        kind = CauseKind.KERNEL if on_device or title.startswith(_GENERATED) else CauseKind.OPERATOR
        row = _compare_turns(turns, lambda p, members=members: sum(own(p, m) for m in members), kind, title)  # type: ignore[misc]
        note = f"in place of {', '.join(of_base)}" if len(members) > 1 and of_base else ""
        rows.append(_place_row(replace(row, calls=(calls[0], calls[1]), note=note), evidence))

    def rest(profile: CallProfile) -> float:
        if on_device:
            return profile.wall - sum(time for _, time in profile.device.values())
        return profile.outside

    title = "the host, while the device waits," if on_device else OUTSIDE
    return [*rows, _compare_turns(turns, rest, CauseKind.OUTSIDE, title)]


def _group_kernels(
    names: Sequence[str], base: Sequence[Mapping[str, object]], head: Sequence[Mapping[str, object]]
) -> dict[str, tuple[list[str], list[str]]]:
    """Group names for rows. Kernels that the compiler generates are called after what they fuse: those of one side
    alone take the place of each other, and are one row."""
    of_base = {name for each in base for name in each}
    of_head = {name for each in head for name in each}
    gone = [name for name in names if name.startswith(_GENERATED) and name not in of_head]
    new = [name for name in names if name.startswith(_GENERATED) and name not in of_base]
    groups = {name: ([name], [name]) for name in names if not (gone and new) or name not in {*gone, *new}}
    if gone and new:
        groups[", ".join(new)] = (gone, new)
    return groups


def _place_row(row: Cause, evidence: Evidence) -> Cause:
    """Say where an operator is called from where that differs, and with what; of a kernel where its graph differs."""
    if row.kind is CauseKind.KERNEL:
        new_nodes = _list_new_nodes(evidence)
        return _place_at(row, _pick_place(*new_nodes[0][1:]) if new_nodes else "", evidence)
    inputs = [Counter[str](), Counter[str]()]
    places = [Counter[str](), Counter[str]()]
    for number, side in enumerate((evidence.base, evidence.head)):
        for name, place, given, calls in side.seen.operators:
            if name == row.name:
                inputs[number][given] += calls
                places[number][place] += calls
    row = _place_at(row, _pick_place(places[0], places[1]), evidence)
    lost, new = inputs[0] - inputs[1], inputs[1] - inputs[0]
    if lost and new:  # as many, of another kind: that is what makes them slower
        return replace(row, inputs=(lost.most_common(1)[0][0], new.most_common(1)[0][0]))
    return row


def _pick_place(base: Counter[str], head: Counter[str]) -> str:
    """Pick the place from which there are more calls than before, or less; else the one with most calls."""
    for differing in (head - base, base - head, head):
        known = [place for place, _ in differing.most_common() if place]
        if known:
            return known[0]
    return ""


def _place_at(cause: Cause, place: str, evidence: Evidence) -> Cause:
    changes = evidence.changes
    if changes is None or not place:
        return replace(cause, place=place)
    is_new = is_changed(place, changes.added, evidence.head.seen)
    return replace(cause, place=place, is_changed=is_new or is_changed(place, changes.removed, evidence.base.seen))


def _split_outside(outside: Cause, evidence: Evidence) -> Iterator[Cause]:
    """Split the time outside operators by Python function, in the proportions of one iteration that was traced."""
    by_side = [
        {(file, name): (line, calls, nanoseconds) for file, line, name, calls, nanoseconds in side.seen.functions}
        for side in (evidence.base, evidence.head)
    ]
    differences = {
        key: by_side[1].get(key, (0, 0, 0))[2] - by_side[0].get(key, (0, 0, 0))[2]
        for key in dict.fromkeys([*by_side[1], *by_side[0]])
    }
    sign = 1 if outside.difference > 0 else -1
    total = sum(value for value in differences.values() if value * sign > 0)
    for key, value in sorted(differences.items(), key=lambda item: -sign * item[1]):
        part = value / total if total else 0.0
        share = part * (outside.share or 0.0)
        if value * sign <= 0 or share < LEAST_SHARE:
            break
        line = by_side[1].get(key, by_side[0].get(key, (0, 0, 0)))[0]
        cause = Cause(
            kind=CauseKind.PYTHON,
            name=key[1],
            base=0.0,
            head=part * outside.difference,
            calls=(by_side[0].get(key, (0, 0, 0))[1], by_side[1].get(key, (0, 0, 0))[1]),
            share=share,
        )
        yield _place_at(cause, f"{key[0]}:{line}", evidence)


def _explain_memory(explanation: Explanation, evidence: Evidence) -> Explanation:
    """Explain the peak by what lives at it on each side, by operator and place."""
    peaks = [
        Counter({(of, place): size for of, place, size in side.seen.peak}) for side in (evidence.base, evidence.head)
    ]
    base, head = (sum(peak.values()) for peak in peaks)
    difference = head - base
    explanation = replace(explanation, unit="B", base=base, head=head)
    if not difference:
        return replace(explanation, problem="the peak was the same on both sides while it was explained")
    by_operator: dict[tuple[str, str], tuple[int, int]] = {
        key: (peaks[0][key], peaks[1][key]) for key in dict.fromkeys([*peaks[1], *peaks[0]])
    }
    causes = [
        _place_at(
            Cause(
                kind=CauseKind.MEMORY,
                name=operator or "memory outside of operators",
                base=before,
                head=after,
                share=(after - before) / difference,
            ),
            place,
            evidence,
        )
        for (operator, place), (before, after) in by_operator.items()
        if abs(after - before) >= LEAST_SHARE * abs(difference)
    ]
    causes.sort(key=lambda cause: -(cause.share or 0.0))
    return replace(explanation, causes=tuple(causes[:MOST_CAUSES]))


def _explain_compiling(explanation: Explanation, comparison: Comparison, evidence: Evidence) -> Explanation:
    """Explain the time of compiling from an empty cache: its graphs first, then what is set otherwise, then phases."""
    one, two = evidence.base.compile_seconds[:1], evidence.head.compile_seconds[:1]
    base, head = one[0] if one else 0.0, two[0] if two else 0.0
    explanation = replace(explanation, base=base, head=head)
    difference = head - base
    if comparison.ratio and difference * (comparison.ratio - 1) <= 0:
        return replace(explanation, problem="the difference was not seen while it was explained")
    facts = explanation.facts
    upstream = [
        fact for fact in facts if fact.kind in {CauseKind.GRAPHS, CauseKind.NODES} and fact.difference * difference > 0
    ]
    upstream += [fact for fact in facts if fact.kind is CauseKind.ENVIRONMENT and "inductor" in fact.name]
    return _put_first(explanation, upstream, [*_list_phases(evidence, difference)] if difference else [])


def _list_phases(evidence: Evidence, difference: float) -> Iterator[Cause]:
    """List the phases of compiling whose time differs by a part of the difference; they lie within each other."""
    mine, theirs = _first(evidence.base).phases, _first(evidence.head).phases
    rows = [
        Cause(
            kind=CauseKind.PHASE,
            name=name,
            base=mine.get(name, 0.0),
            head=theirs.get(name, 0.0),
            share=(theirs.get(name, 0.0) - mine.get(name, 0.0)) / difference,
        )
        for name in dict.fromkeys([*theirs, *mine])
    ]
    # The innermost of two that have about the same part tells more than the one around it.
    rows = [row for row in rows if (row.share or 0.0) >= 2 * LEAST_SHARE]
    yield from sorted(rows, key=lambda row: (-round(row.share or 0.0, 1), row.head or 0.0))[:MOST_CAUSES]


def _explain_count(explanation: Explanation, comparison: Comparison, evidence: Evidence) -> Explanation:
    """Explain a count: of graphs by the compilers' artefacts, of an iteration by what it calls."""
    base, head = comparison.base or 0.0, comparison.head or 0.0
    explanation = replace(explanation, unit="", base=base, head=head)
    if comparison.metric in COUNTED:
        return _put_first(explanation, [fact for fact in explanation.facts if fact.kind is CauseKind.GRAPHS])
    mine, theirs = evidence.base.operators, evidence.head.operators
    difference = head - base
    causes = []
    for name in dict.fromkeys([*theirs, *mine]):
        before, after = mine.get(name, 0), theirs.get(name, 0)
        if before != after:
            row = Cause(
                kind=CauseKind.OPERATOR,
                name=_name_as_profiled(name),
                base=before,
                head=after,
                calls=(before, after),
                share=(after - before) / difference if comparison.metric == "operators" and difference else None,
            )
            causes.append(_place_row(row, evidence))
    causes.sort(key=lambda cause: (not cause.is_changed, -abs(cause.difference)))
    return replace(explanation, causes=tuple(causes[:MOST_CAUSES]))


def _name_as_profiled(operator: str) -> str:
    """Name an operator as the profiler does: `aten::add` for `aten.add.Tensor`."""
    space, _, rest = operator.partition(".")
    return f"{space}::{rest.partition('.')[0]}" if rest else operator


def _first(side: SideEvidence) -> CompilerArtefacts:
    return side.artefacts[0] if side.artefacts else CompilerArtefacts()


def _list_facts(evidence: Evidence) -> Iterator[Cause]:
    """List what differs for certain, whatever it takes: what the compiler did, code that ran, the environment."""
    mine, theirs = _first(evidence.base), _first(evidence.head)
    for title, counter, of_base, of_head in (
        ("graph breaks", "graph_breaks", mine.breaks, theirs.breaks),
        ("recompiles", "recompiles", [r[:0:-1] for r in mine.recompiles], [r[:0:-1] for r in theirs.recompiles]),
        ("graphs", "unique_graphs", [], []),
        ("fallbacks to eager", "fallbacks_to_eager", [], []),
        ("skipped CUDA graphs", "cudagraph_skips", [], []),
    ):
        of_sides = [side.counters.get(counter, 0) for side in (evidence.base, evidence.head)]
        if of_sides[0] != of_sides[1]:
            new = [item for item in of_head if item not in of_base] or [item for item in of_base if item not in of_head]
            reason, place = new[0] if new else ("", "")
            fact = Cause(kind=CauseKind.GRAPHS, name=title, base=of_sides[0], head=of_sides[1], note=reason)
            yield _place_at(fact, place, evidence)
    for name, before, after in _list_new_nodes(evidence):
        title = f"calls of {name} in the graphs"
        node = Cause(kind=CauseKind.NODES, name=title, base=before.total(), head=after.total())
        yield _place_at(node, _pick_place(before, after), evidence)
    if evidence.base.code != evidence.head.code:
        yield Cause(kind=CauseKind.CODE, name="Inductor's generated code differs")
    yield from _list_functions(evidence)
    environments = evidence.base.environment, evidence.head.environment
    for name in dict.fromkeys([*environments[0], *environments[1]]):
        was, now = (environment.get(name, "absent") for environment in environments)
        if was != now:
            yield Cause(kind=CauseKind.ENVIRONMENT, name=name, note=f"{was} → {now}")
    named = {"settings": "the setting", "variables": "the variable", "libraries": "the library", "files": "the file"}
    for item in evidence.sameness.differences if evidence.sameness else ():
        if item.part in named and f"variable {item.name}" not in {*environments[0], *environments[1]}:
            yield Cause(kind=CauseKind.ENVIRONMENT, name=f"{named[item.part]} {item.name}")


def _list_functions(evidence: Evidence) -> Iterator[Cause]:
    """List the functions of the side's own that differ, or run more or less often."""
    differences = evidence.sameness.differences if evidence.sameness else ()
    ran = {item.name for item in differences if item.part == "functions"}
    for item in differences:
        if item.part != "functions" and (item.part != "reachable functions" or item.name in ran):
            continue
        base, head = ((part or [None, 0, 0, ""]) for part in (item.base, item.head))
        file, line = (head if item.head else base)[:2]
        if not str(file).startswith(("<tree>", "<environment>")):
            continue
        changed = "differs" if base[3] != head[3] else f"runs {base[2]} → {head[2]} times per iteration"
        what = "is new" if not item.base else "is gone" if not item.head else changed
        cause = Cause(kind=CauseKind.FUNCTION, name=item.name, calls=(base[2], head[2]), note=what)
        place = str(file).partition("site-packages/")[2] or str(file).removeprefix("<tree>").lstrip("/")
        yield _place_at(cause, f"{place}:{line}", evidence)


def read_target(line: str) -> str:
    """Read what a line of a graph's code calls: `torch.sin`, `.sin` of a method, `+`; blank where it calls nothing."""
    match = _TARGET.match(line)
    if match is None:
        operator = _OPERATOR.match(line)
        return operator["operator"] if operator else ""
    target = match["target"]
    return target if target.startswith(("torch", "operator", "aten")) else f".{target.rpartition('.')[2]}"


def _list_new_nodes(evidence: Evidence) -> list[tuple[str, Counter[str], Counter[str]]]:
    """List what the graphs call otherwise often, the largest difference first, with how often by place on each side."""
    by_side: list[dict[str, Counter[str]]] = []
    for artefacts in (_first(evidence.base), _first(evidence.head)):
        by_target: dict[str, Counter[str]] = {}
        for line, place in (each for graph in artefacts.graphs for each in graph):
            if target := read_target(line):
                by_target.setdefault(target, Counter())[place] += 1
        by_side.append(by_target)
    mine, theirs = by_side
    differing = []
    for name in sorted({*mine, *theirs}):
        before, after = mine.get(name, Counter()), theirs.get(name, Counter())
        if before.total() != after.total():
            differing.append((name, before, after))
    return sorted(differing, key=lambda each: -abs(each[2].total() - each[1].total()))


def list_graph_diff(evidence: Evidence) -> list[str]:
    """List the unified diff of the graphs that dynamo captured, without what only numbers tell apart."""
    return _list_diff(
        *(
            "\n\n".join("\n".join(line for line, _ in graph) for graph in _first(side).graphs)
            for side in (evidence.base, evidence.head)
        )
    )


def list_code_diff(evidence: Evidence) -> list[str]:
    """List the unified diff of Inductor's generated code."""
    return _list_diff(evidence.base.code, evidence.head.code)


def _list_diff(base: str, head: str) -> list[str]:
    from difflib import unified_diff

    return list(unified_diff(base.splitlines(), head.splitlines(), "base", "head", lineterm=""))
