"""compare.json read as hostile data: what it says becomes comparisons again, and those are told in our words."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from torchperf_ci.compare.effects import ChangeTolerance, Verdict
from torchperf_ci.compare.explanation import Cause, CauseKind, Explanation
from torchperf_ci.compare.model import (
    ACCURACY,
    ALL,
    CommitSummary,
    Comparison,
    ComparisonFindings,
    Header,
    Rule,
    ToleranceRules,
)
from torchperf_ci.compare.report import to_markdown, to_text
from torchperf_ci.compare.words import change, metric_name, name, verdict_of, why
from torchperf_ci.core.records import Case, Mode, Source
from torchperf_ci.core.strict_json import parse_json
from torchperf_ci.core.text import one_line, safe_name
from torchperf_ci.github.checks import Conclusion, Note, Posting
from torchperf_ci.post.review import MOST_NOTES, TITLE_LENGTH

_BAD = frozenset({Verdict.REGRESSED, Verdict.FAILED, Verdict.MISSING})

Text = Annotated[str, Meta(max_length=4_000)]
Number = Annotated[float, Meta(ge=-1e18, le=1e18)]
Count = Annotated[int, Meta(ge=0, le=10**18)]


class StoredCase(msgspec.Struct):
    suite: Text
    model: Text
    mode: Mode
    device: Text
    dtype: Text
    compiler: Text


class StoredVerdict(msgspec.Struct):
    case: StoredCase
    metric: Text
    verdict: Verdict
    why: Text
    base: Number | None = None
    head: Number | None = None
    ratio: Number | None = None
    low: Number | None = None
    high: Number | None = None
    p: Number | None = None
    listed: bool = False
    blocks: bool = False
    fails_on_both: bool = False
    confirmed: bool | None = None
    more_seconds: Number | None = None
    more_launches: Count | None = None
    spared: bool = False
    again: StoredSecond | None = None


class StoredSecond(msgspec.Struct):
    """The second measurement of a metric, as far as it is shown."""

    verdict: Verdict
    ratio: Number | None = None
    low: Number | None = None
    high: Number | None = None


class StoredCommit(msgspec.Struct):
    sha: Text
    subject: Text = ""


class StoredSource(msgspec.Struct):
    """Where head comes from. What is absent is blank, which is no run's."""

    repository: Text = ""
    commit: Text = ""
    run_id: Text = ""


class StoredTolerance(msgspec.Struct):
    margin: Number
    threshold: Number


class StoredTolerances(msgspec.Struct):
    latency: StoredTolerance
    rules: list[Any] = []


class StoredHeader(msgspec.Struct):
    base: Text
    head: Text
    machine: Text
    tolerances: StoredTolerances
    warnings: Annotated[list[Text], Meta(max_length=100)] = []
    source: StoredSource = msgspec.field(default_factory=StoredSource)
    base_commit: StoredCommit | None = None
    head_commit: StoredCommit | None = None


Part = Annotated[str, Meta(max_length=400)]


class StoredCause(msgspec.Struct):
    kind: CauseKind
    name: Part
    base: Number | None = None
    head: Number | None = None
    low: Number | None = None
    high: Number | None = None
    calls: tuple[Number, Number] | None = None
    inputs: tuple[Text, Text] | None = None
    place: Part = ""
    is_changed: bool = False
    share: Number | None = None
    note: Text = ""


Causes = Annotated[list[StoredCause], Meta(max_length=500)]


class StoredExplanation(msgspec.Struct):
    """An explanation, as far as it is shown: its folder is the other job's."""

    case: StoredCase
    metric: Text
    unit: Literal["s", "B", ""] = "s"
    base: Number | None = None
    head: Number | None = None
    causes: Causes = []
    facts: Causes = []
    problem: Part = ""


class StoredFindings(msgspec.Struct):
    """The content of compare.json, as far as it is read."""

    v: Literal[1]
    header: StoredHeader
    comparisons: Annotated[list[StoredVerdict], Meta(max_length=50_000)]
    unmeasured: Count = 0
    not_compiled: Count = 0
    saved_seconds: Annotated[float, Meta(ge=0, le=1e9)] = 0.0
    explanations: Annotated[list[StoredExplanation], Meta(max_length=1_000)] = []


def read_comparison(content: bytes) -> ComparisonFindings:
    """Read a stored comparison. Raises `ValueError` naming what in it no comparison writes."""
    try:
        # Parsed apart: msgspec passes over numbers without end where nobody reads them.
        stored = msgspec.convert(parse_json(content.decode("utf-8")), type=StoredFindings)
    except msgspec.MsgspecError as error:
        raise ValueError(one_line(str(error), limit=300)) from error
    for each in stored.comparisons:
        if each.metric not in (*ALL, ACCURACY):
            raise ValueError("metric is none that is compared")
    header, latency = stored.header, stored.header.tolerances.latency
    tolerances = ToleranceRules(
        latency=ChangeTolerance(margin=latency.margin, threshold=latency.threshold),
        rules=(Rule(),) if header.tolerances.rules else (),
    )
    return ComparisonFindings(
        header=Header(
            base=header.base,
            head=header.head,
            how="",  # a sentence of ours that is shown as it is: not one that others wrote
            machine=header.machine,
            tolerances=tolerances,
            warnings=tuple(header.warnings),
            source=Source(**msgspec.structs.asdict(header.source)),
            base_commit=_read_commit(header.base_commit),
            head_commit=_read_commit(header.head_commit),
        ),
        comparisons=tuple(map(_read_verdict, stored.comparisons)),
        unmeasured=stored.unmeasured,
        not_compiled=stored.not_compiled,
        saved_seconds=stored.saved_seconds,
        explanations=tuple(map(_read_explanation, stored.explanations)),
    )


def _read_explanation(stored: StoredExplanation) -> Explanation:
    causes, facts = (
        tuple(Cause(**msgspec.structs.asdict(cause)) for cause in causes) for causes in (stored.causes, stored.facts)
    )
    case = Case(**msgspec.structs.asdict(stored.case))
    return Explanation(**{**msgspec.structs.asdict(stored), "case": case, "causes": causes, "facts": facts})


def _read_commit(stored: StoredCommit | None) -> CommitSummary | None:
    return None if stored is None else CommitSummary(sha=stored.sha, subject=stored.subject)


def _read_verdict(stored: StoredVerdict) -> Comparison:
    case = Case(**msgspec.structs.asdict(stored.case))
    again = stored.again and Comparison(case=case, metric=stored.metric, **msgspec.structs.asdict(stored.again))
    return Comparison(**{**msgspec.structs.asdict(stored), "case": case, "again": again})


def review_comparison(findings: ComparisonFindings) -> Posting:
    """Turn a comparison into what reviewers see.

    Failure: something is slower, fails or went missing. Neutral: something is inconclusive or refused. Action required:
    nothing could be compared, or not all that was asked for.
    """
    if findings.blocking:
        conclusion = Conclusion.FAILURE
    elif not findings.compared or findings.unmeasured:
        conclusion = Conclusion.ACTION_REQUIRED
    else:
        conclusion = Conclusion.SUCCESS if findings.sign == "✅" else Conclusion.NEUTRAL
    return Posting(
        conclusion=conclusion,
        title=one_line(to_text(findings).partition("\n")[0], limit=TITLE_LENGTH),
        text=to_markdown(findings),
        notes=tuple(_make_note(each) for each in findings.comparisons if each.verdict in _BAD)[:MOST_NOTES],
    )


def _make_note(comparison: Comparison) -> Note:
    case = comparison.case
    ratio = f" {change(comparison.ratio)}" if comparison.ratio else ""
    title = f"{name(case)} {metric_name(comparison.metric)}: {verdict_of(comparison)}{ratio}"
    return Note(
        path=f"{safe_name(case.suite)}/{safe_name(case.model)}",
        title=one_line(title, limit=TITLE_LENGTH),
        message=one_line(why(comparison), limit=1_000) or str(case),
    )
