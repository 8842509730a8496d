"""Read what a job stored as hostile data: anybody who opens a pull request may have written it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from torchperf_ci.compare.acceptance import ChangeAcceptance, accept_changes
from torchperf_ci.compare.model import ComparisonFindings
from torchperf_ci.core.errors import NothingToJudge
from torchperf_ci.core.records import Case, Record, Source
from torchperf_ci.core.results import RECORDS, parse_results
from torchperf_ci.core.text import LONGEST_NAME
from torchperf_ci.github.artifacts import Limits, open_store, read_members
from torchperf_ci.github.checks import Posting
from torchperf_ci.github.client import Client
from torchperf_ci.github.runs import list_artifacts
from torchperf_ci.post.origin import Origin
from torchperf_ci.post.review import review_results

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
    results = parse_results(content)
    _refuse(f"{RECORDS}: {problem}" for problem in results.problems)
    _refuse(problem for record in results.records for problem in _find_problems(record, expected))
    return review_results(results)


def _read_comparison(content: bytes, expected: Expected) -> Posting:
    from torchperf_ci.post.stored_comparison import review_comparison

    findings = read_stored_comparison(content, expected)
    if findings.blocking:
        findings = accept_changes(findings, expected.list_acceptances())
    return review_comparison(findings)


def read_stored_comparison(content: bytes, expected: Expected) -> ComparisonFindings:
    """Read a stored comparison. Raises `Forged` for one that no run of the expected commit writes."""
    from torchperf_ci.post.stored_comparison import read_comparison

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
            limits=Limits(member=LARGEST_FILE),
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
