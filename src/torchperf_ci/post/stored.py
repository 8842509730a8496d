"""Read what a job stored as hostile data (anybody who opens a pull request may have written it), and show it on GitHub.

Its compare.json becomes comparisons again, and those are told in our words.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from torchperf_ci.compare.acceptance import ChangeAcceptance, accept_changes
from torchperf_ci.compare.effects import ChangeTolerance, Verdict
from torchperf_ci.compare.model import (
    ACCURACY,
    ALL,
    Cause,
    CauseKind,
    CommitSummary,
    Comparison,
    ComparisonFindings,
    Explanation,
    Header,
    Rule,
    ToleranceRules,
)
from torchperf_ci.compare.report import to_markdown, to_text
from torchperf_ci.compare.words import change, metric_name, name, verdict_of, why
from torchperf_ci.core.errors import NothingToJudge
from torchperf_ci.core.records import Case, Mode, Record, Source, parse_json
from torchperf_ci.core.results import RECORDS, Results, lines_of, parse_results
from torchperf_ci.core.text import LONGEST_NAME, code, one_line, safe_name
from torchperf_ci.github.artifacts import open_store, read_members
from torchperf_ci.github.checks import LIMIT, Conclusion, Note, Posting
from torchperf_ci.github.client import Client
from torchperf_ci.github.runs import list_artifacts
from torchperf_ci.post.origin import Origin
from torchperf_ci.report.markdown import write_markdown
from torchperf_ci.report.model import ReportOptions, RunFindings, RunOutcome
from torchperf_ci.report.words import verdict
from torchperf_ci.report.write import judge_results

TITLE_LENGTH = 200
MOST_NOTES = 500

_CONCLUSIONS = {
    RunOutcome.GOOD: Conclusion.SUCCESS,
    RunOutcome.DOUBTFUL: Conclusion.NEUTRAL,
    RunOutcome.INCOMPLETE: Conclusion.FAILURE,
    RunOutcome.FAILED: Conclusion.FAILURE,
}


def review_results(results: Results) -> Posting:
    """Turn the results of a run into what reviewers see.

    Failure: a case failed, could not run, or a line could not be used. Neutral: something that passed was not compiled.
    """
    try:
        findings = judge_results(results, ReportOptions(limit=LIMIT))
    except NothingToJudge as error:
        return review_problem(str(error))
    sign, sentence = verdict(findings)
    return Posting(
        conclusion=_CONCLUSIONS[findings.outcome],
        title=one_line(f"{sign} {sentence}", limit=TITLE_LENGTH),
        text=write_markdown(findings),
        notes=tuple(_make_notes(findings))[:MOST_NOTES],
    )


def review_problem(reason: str) -> Posting:
    """Say that there is nothing to show, for a reason that may hold text from outside."""
    title = "⚠️ No results to show"
    text = f"## {title}\n\n{code(reason, limit=500)}\n"
    return Posting(conclusion=Conclusion.ACTION_REQUIRED, title=title, text=text)


def explain_refusal(posting: Posting, refused: Mapping[str, str]) -> Posting:
    """Return the posting as the step summary shows it when GitHub refused all of it: posting failed, whatever the
    results say. refused: what was to be posted, and GitHub's reason."""
    said = f"⚠️ Not posted, GitHub refused {' and '.join(refused)}"
    reasons = "".join(f"- {code(reason, limit=500)}\n" for reason in dict.fromkeys(refused.values()))
    sign, _, sentence = posting.title.partition(" ")
    first, _, rest = posting.text.partition("\n")
    return replace(
        posting,
        title=one_line(f"{said}: {sentence}", limit=TITLE_LENGTH),
        text=f"## {said}\n\n{reasons}\n{first.replace(f'## {sign} ', '### ', 1)}\n{rest}",
    )


def add_origin(posting: Posting, sentence: str) -> Posting:
    """Add a last line, Markdown of our own, that says where the posting comes from."""
    return replace(posting, text=f"{posting.text.rstrip()}\n\n<sub>{sentence}</sub>\n")


def _make_notes(findings: RunFindings) -> Iterator[Note]:
    for failure in sorted(findings.failures, key=lambda failure: not failure.counts):
        yield Note(
            path=f"{safe_name(failure.suite)}/{safe_name(failure.model)}",
            title=one_line(f"{failure.model} {failure.compiler}: {failure.status}", limit=TITLE_LENGTH),
            message=one_line(failure.reason, limit=1_000) or f"{failure.testing.value}: {failure.status}",
        )


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


COMPARISON = "compare.json"
LARGEST_FILE = 64 * 1024 * 1024
MOST_LINES = 50_000
LONGEST_REASON = 4_000
LARGEST_NUMBER = 1e18
MOST_SAID = 5
MOST_REMARKS = 100


class Forged(NothingToJudge):
    """The stored files are not those that a run of the commit stores."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """The origin that the results have to have. Blank: not known, and not compared.

    server: where GitHub's pages of the repository are; blank: nothing is linked. list_acceptances: what may be slower;
    asked only where something is.
    """

    repository: str = ""
    commit: str = ""
    run: str = ""
    server: str = ""
    list_acceptances: Callable[[], Sequence[ChangeAcceptance]] = tuple


Reader = Callable[[bytes, Expected], Posting]


def read_posting(files: Mapping[str, bytes], expected: Expected) -> Posting:
    """Read what stored files say. `files` has those of `READERS` that there are.

    Raises `Forged` for what no run writes, and `NothingToJudge` when there is nothing.
    """
    name = next((name for name in READERS if name in files), "")
    if not name:
        raise NothingToJudge(f"there is neither of {', '.join(READERS)}")
    if len(files[name]) > LARGEST_FILE:
        raise Forged(f"{name} is larger than {LARGEST_FILE // 1024**2} MiB")
    return READERS[name](files[name], expected)


def _read_records(content: bytes, expected: Expected) -> Posting:
    lines = content.count(b"\n")
    if lines > MOST_LINES:
        raise Forged(f"{RECORDS} has {lines:,} lines, more than {MOST_LINES:,}")
    results = parse_results(lines_of(content))
    _refuse(f"{RECORDS}: {problem}" for problem in results.problems)
    _refuse(problem for record in results.records for problem in _find_problems(record, expected))
    return review_results(results)


def _read_comparison(content: bytes, expected: Expected) -> Posting:

    findings = read_stored_comparison(content, expected)
    if findings.blocking:
        findings = accept_changes(findings, expected.list_acceptances())
    return review_comparison(findings)


def read_stored_comparison(content: bytes, expected: Expected) -> ComparisonFindings:
    """Read a stored comparison. Raises `Forged` for one that no run of the expected commit writes."""

    try:
        findings = read_comparison(content)
    except ValueError as error:
        raise Forged(f"{COMPARISON}: {error}") from error
    _refuse(_find_strangeness(COMPARISON, findings.header.source, expected))
    _refuse(problem for comparison in findings.comparisons for problem in _find_long_names(comparison.case))
    if expected.repository:  # then the repository is as expected, and its pages may be linked
        findings = replace(findings, header=replace(findings.header, server=expected.server))
    return findings


def download_files(client: Client, origin: Origin, name: str) -> dict[str, bytes]:
    """Read the files that a posting can be made of from the newest artifact of the run with this name.

    Raises `NothingToJudge` where there is none, `ArtifactProblem` and `GitHubRefused`.
    """
    artifacts = [each for each in list_artifacts(client, origin.repository, origin.run) if each.name == name]
    if not artifacts:
        raise NothingToJudge(
            f"the run has no artifact {name}: its job failed, or uploads it under another name; see its log"
        )
    newest = max(artifacts, key=lambda artifact: artifact.id)
    with open_store(connections=1) as session:
        return read_members(
            client,
            origin.repository,
            newest,
            wanted=lambda names: [each for each in READERS if each in names],
            session=session,
            max_member=LARGEST_FILE,
        )


READERS: Mapping[str, Reader] = {COMPARISON: _read_comparison, RECORDS: _read_records}
"""The files that a posting can be made of, the one that says most first, and how each is read."""


def _refuse(problems: Iterator[str]) -> None:
    """Raise `Forged` with the first few problems."""
    first = [problem for problem, _ in zip(problems, range(MOST_SAID), strict=False)]
    if first:
        raise Forged("; ".join(first))


def _find_problems(record: Record, expected: Expected) -> Iterator[str]:
    case = record.case
    yield from _find_long_names(case, *record.metrics, *record.counters)
    if any(len(remark) > LONGEST_REASON for remark in record.remarks) or len(record.remarks) > MOST_REMARKS:
        yield f"the remarks on {case.model} are more than any run's"
    if len(record.reason) > LONGEST_REASON:
        yield f"the reason of {case.model} is longer than {LONGEST_REASON:,} characters"
    sizes = (record.batch_size, record.parameters, record.seconds)
    if any(abs(number) > LARGEST_NUMBER for number in (*sizes, *record.metrics.values(), *record.counters.values())):
        yield f"a number of {case.model} is larger than any run's"
    yield from _find_strangeness(case.model, record.source, expected)


def _find_long_names(case: Case, *others: str) -> Iterator[str]:
    longest = max((case.suite, case.model, case.device, case.dtype, case.compiler, *others), key=len)
    if len(longest) > LONGEST_NAME:
        yield f"a name is longer than {LONGEST_NAME} characters: {longest[:40]}…"


def _find_strangeness(what: str, source: Source, expected: Expected) -> Iterator[str]:
    """Say in how far `what` is of something else than the run."""
    if expected.commit and source.commit != expected.commit:
        yield f"{what} is of commit {source.commit[:12] or 'none'}, while the run is of {expected.commit[:12]}"
    if expected.repository and source.repository != expected.repository:
        theirs = source.repository[:LONGEST_NAME] or "no repository"
        yield f"{what} is of {theirs}, while the run is of {expected.repository}"
    if expected.run and source.run_id != expected.run:
        yield f"{what} is of run {source.run_id[:40] or 'none'}, while this is about run {expected.run}"
