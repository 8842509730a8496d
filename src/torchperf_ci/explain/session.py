"""Explain what a comparison has found: while its sides are still set up, or from its folder."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import msgspec

from torchperf_ci.compare.checkouts import GitFailed
from torchperf_ci.compare.effects import Verdict
from torchperf_ci.compare.model import (
    ACCURACY,
    LATENCY,
    SPEEDUP,
    Comparison,
    ComparisonFindings,
    Explanation,
    Measured,
    write_explanation,
)
from torchperf_ci.compare.report import to_plain, write_comparison
from torchperf_ci.compare.session import CompareRequest, LiveSide, collect_cases
from torchperf_ci.compare.words import is_change, metric_name, name, ordered
from torchperf_ci.core.errors import NothingToJudge, TorchperfError, UsageProblem
from torchperf_ci.core.records import Case
from torchperf_ci.core.results import ResultsFolder
from torchperf_ci.core.text import count, one_line, safe_name, some_of, unique
from torchperf_ci.explain.causes import explain_change
from torchperf_ci.explain.measure import CaseExplainer
from torchperf_ci.explain.model import LineChanges, read_changes
from torchperf_ci.explain.report import write_files
from torchperf_ci.run.case_worker import CaseSettings
from torchperf_ci.run.plan import PlannedCase
from torchperf_ci.run.session import WorkerError

FOLDER = "explain"

EXPLAIN_SHARE = 0.5
"""The seconds that explanations may take, as a share of the budget, or of what the measurement took without one."""

LEAST_EXPLAIN_SECONDS = 180.0

CASE_SECONDS = 45.0
"""A case gets no further pair of processes after so long."""

_CONFIRMED = frozenset({Verdict.REGRESSED, Verdict.FAILED})


def choose_seconds(budget: float | None, measured: Sequence[Measured]) -> float:
    """Choose the seconds for all explanations. budget: that of the measurement, in seconds; None without one."""
    if budget is not None:
        return EXPLAIN_SHARE * budget
    return max(LEAST_EXPLAIN_SECONDS, EXPLAIN_SHARE * sum(each.wall_seconds for each in measured))


def choose_comparisons(findings: ComparisonFindings, which: str) -> list[Comparison]:
    """Choose what is explained, the most urgent first: what is worse for certain (`confirmed`), all that changed
    (`all`), or nothing (`never`)."""
    if which == "never":
        return []
    chosen = [
        c
        for c in ordered(findings.comparisons)
        if c.metric not in {ACCURACY, SPEEDUP} and c.verdict not in {Verdict.MISSING, Verdict.NEW, Verdict.REFUSED}
    ]
    if which == "all":
        return [c for c in chosen if is_change(c) or c.verdict is Verdict.CHANGED]
    return [c for c in chosen if c.verdict in _CONFIRMED and c.confirmed is not False and not c.fails_on_both]


def explain_comparisons(
    comparisons: Sequence[Comparison],
    request: CompareRequest,
    base: LiveSide,
    head: LiveSide,
    folder: ResultsFolder,
    listener: Callable[[int, int, Explanation], None],
    *,
    seconds: float,
) -> Iterator[Explanation]:
    """Explain comparisons, and write the files of each case as it is done. listener: hears of each explanation, with
    the number of its case from 1 and how many there are. seconds: for all of them."""
    changes = _read_changes(request)
    planned = {each.case: each for each in collect_cases(base, head, request.selection)}
    by_case: dict[Case, list[Comparison]] = {}
    for comparison in comparisons:
        if comparison.case in planned:
            by_case.setdefault(comparison.case, []).append(comparison)
    explainer = CaseExplainer(base, head, request.settings, folder)
    end, taken = time.monotonic() + seconds, set[str]()
    for number, (case, of_case) in enumerate(by_case.items(), start=1):
        at = f"{FOLDER}/{unique(safe_name(f'{case.suite}_{case.model}_{case.compiler}_{case.dtype}'), taken)}"
        if (now := time.monotonic()) >= end:
            late = "there was no time left to explain it"
            explanations = [Explanation(case=case, metric=c.metric, problem=late) for c in of_case]
        else:
            until = min(end, now + CASE_SECONDS)
            explanations = _explain_case(explainer, planned[case], of_case, changes, folder, at, until=until)
        for explanation in explanations:
            listener(number, len(by_case), explanation)
            yield explanation


def _explain_case(
    explainer: CaseExplainer,
    planned: PlannedCase,
    comparisons: Sequence[Comparison],
    changes: LineChanges | None,
    folder: ResultsFolder,
    at: str,
    *,
    until: float,
) -> list[Explanation]:
    """Explain comparisons of one case, and write its files into the folder `at`."""
    evidence = replace(explainer.take(planned, at, until=until), changes=changes)
    explanations = [explain_change(c, evidence, folder=at) for c in comparisons]
    write_files(folder, at, explanations, evidence)
    return explanations


def explain_pair(
    comparison: Comparison,
    planned: PlannedCase,
    base: LiveSide,
    head: LiveSide,
    settings: CaseSettings,
    changes: LineChanges | None,
    folder: ResultsFolder,
) -> Explanation:
    """Explain a change of one case between two sides, say a commit and its parent."""
    at, until = f"{FOLDER}/{safe_name(head.name[:12])}", time.monotonic() + CASE_SECONDS
    explainer = CaseExplainer(base, head, settings, folder)
    return _explain_case(explainer, planned, [comparison], changes, folder, at, until=until)[0]


def add_explanations(
    findings: ComparisonFindings,
    comparisons: Sequence[Comparison],
    request: CompareRequest,
    sides: tuple[LiveSide, LiveSide],
    folder: ResultsFolder,
    say: Callable[[str], None],
    *,
    seconds: float,
) -> ComparisonFindings:
    """Explain comparisons; put that into the findings, and into the folder, also what is explained before an interrupt.

    seconds: for all of them. What goes wrong meanwhile is said, and takes nothing from what was measured."""
    new = {(c.case, c.metric) for c in comparisons}
    kept = [each for each in findings.explanations if (each.case, each.metric) not in new]

    def tell(number: int, total: int, explanation: Explanation) -> None:
        title = f"{name(explanation.case)} {metric_name(explanation.metric)}"
        say(f"[why {number}/{total}] {title}: {write_explanation(explanation)}")

    if not comparisons:
        return findings
    say(f"Explaining {count(len({c.case for c in comparisons}), 'case')}: both sides are profiled in turn …")
    try:
        # One by one: an error leaves the rest.
        kept.extend(explain_comparisons(comparisons, request, *sides, folder, tell, seconds=seconds))
    except (WorkerError, TorchperfError, OSError) as error:
        say(f"Warning: not all was explained: {one_line(str(error), limit=300)}")
    finally:
        findings = replace(findings, explanations=tuple(kept))
        write_comparison(folder, findings)
    return findings


def _read_changes(request: CompareRequest) -> LineChanges | None:
    """Read what differs between the commits; None without two, or where git cannot say."""
    repository, base, head = request.repository, request.base.commit, request.head.commit
    if repository is None or base is None or head is None:
        return None
    with suppress(GitFailed):
        return read_changes(repository.folder, base.checkout, head.checkout)
    return None


_FILE = "compare.json"


class _Header(msgspec.Struct):
    commands: list[str] = []


class StoredComparison(msgspec.Struct, frozen=True):
    """The verdicts of a comparison, the commands that measure it again (in its header), and the explanations that it
    has."""

    header: _Header
    comparisons: list[Comparison]
    explanations: list[Explanation] = []


def read_stored(folder: Path) -> StoredComparison:
    """Read the comparison in a folder. Raises `UsageProblem` for one that has none that can be read."""
    path = folder / _FILE
    try:
        return msgspec.json.decode(path.read_bytes(), type=StoredComparison)
    except (OSError, ValueError) as error:
        why = "there is none" if isinstance(error, FileNotFoundError) else one_line(str(error), limit=200)
        advice = "name the --output-dir of a comparison"
        if (folder / "records.jsonl").is_file():
            advice = f"{folder} is a folder of `run`; explain needs one of `compare`"
        raise UsageProblem(f"{path} cannot be read: {why}; {advice}") from error


def choose_stored(stored: StoredComparison, name: str) -> list[Comparison]:
    """Choose what is explained: everything of the cases of this name that changed, the most urgent first, or of these
    cases the times if nothing did. name: `suite/model`, then, as far as needed, what tells cases apart; blank for all
    cases, of which those that changed are chosen.

    Raises `UsageProblem` when no case is called so, and `NothingToJudge` when nothing changed.
    """
    cases = {c.case for c in stored.comparisons if c.case.has_words(name)}
    if not cases:
        names = sorted({str(c.case) for c in stored.comparisons})
        raise UsageProblem(f"there is no case {one_line(name)!r} in it. There are: {some_of(names, 20)}")
    of_cases = [c for c in ordered(stored.comparisons) if c.case in cases and c.metric != ACCURACY]
    chosen = [
        c
        for c in of_cases
        if (is_change(c) or c.verdict is Verdict.CHANGED)
        and c.verdict not in {Verdict.MISSING, Verdict.NEW, Verdict.REFUSED}
    ]
    if not chosen and not name:
        raise NothingToJudge("nothing changed in this comparison; name a case to profile it anyway")
    return chosen or [c for c in of_cases if c.metric == LATENCY]


def add_to_stored(folder: ResultsFolder, explanations: Sequence[Explanation]) -> None:
    """Put explanations into the folder's compare.json, in place of earlier ones of the same cases and metrics."""
    document = json.loads((folder.path / _FILE).read_bytes())
    new = to_plain(explanations)
    keys = [(each["case"], each["metric"]) for each in new]
    kept = [each for each in document.get("explanations", []) if (each["case"], each["metric"]) not in keys]
    content = json.dumps({**document, "explanations": [*kept, *new]}, ensure_ascii=False, allow_nan=False)
    folder.write_text(_FILE, content)
