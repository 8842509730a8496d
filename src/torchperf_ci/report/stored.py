"""What a job stored, read as hostile data: anybody who opens a pull request may have written it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from torchperf_ci.errors import NothingToJudge
from torchperf_ci.posting import Posting
from torchperf_ci.records import Record
from torchperf_ci.report.review import posting_of_results
from torchperf_ci.results import RECORDS, parse_results

COMPARISON = "compare.json"
LARGEST_FILE = 64 * 1024 * 1024
MOST_LINES = 50_000
LONGEST_NAME = 200
LONGEST_REASON = 4_000
LARGEST_NUMBER = 1e18
MOST_SAID = 5
MOST_REMARKS = 100


class Forged(NothingToJudge):
    """What is stored is not what a run of the commit stores."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What the results have to be of. Blank: not known, and not compared."""

    repository: str = ""
    commit: str = ""


Reader = Callable[[bytes, Expected], Posting]


def read_posting(files: Mapping[str, bytes], expected: Expected) -> Posting:
    """What the stored files say. `files` has those of `READERS` that there are.

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
    _refuse(problem for record in results.records for problem in _problems(record, expected))
    return posting_of_results(results)


def _read_comparison(content: bytes, _: Expected) -> Posting:
    """A comparison names its sides in words alone, so there is nothing in it to hold against the run."""
    from torchperf_ci.report.stored_compare import posting_of_comparison

    try:
        return posting_of_comparison(content)
    except ValueError as error:
        raise Forged(f"{COMPARISON}: {error}") from error


READERS: Mapping[str, Reader] = {COMPARISON: _read_comparison, RECORDS: _read_records}
"""The files that a posting can be made of, the one that says most first, and how each is read."""


def _refuse(problems: Iterator[str]) -> None:
    """Raise `Forged` with the first few problems."""
    first = [problem for problem, _ in zip(problems, range(MOST_SAID), strict=False)]
    if first:
        raise Forged("; ".join(first))


def _problems(record: Record, expected: Expected) -> Iterator[str]:
    case, source = record.case, record.source
    names = (case.suite, case.model, case.device, case.dtype, case.compiler, *record.metrics, *record.counters)
    if any(len(name) > LONGEST_NAME for name in names):
        yield f"a name is longer than {LONGEST_NAME} characters: {max(names, key=len)[:40]}…"
    if any(len(remark) > LONGEST_REASON for remark in record.remarks) or len(record.remarks) > MOST_REMARKS:
        yield f"the remarks on {case.model} are more than any run's"
    if len(record.reason) > LONGEST_REASON:
        yield f"the reason of {case.model} is longer than {LONGEST_REASON:,} characters"
    sizes = (record.batch_size, record.parameters, record.seconds)
    if any(abs(number) > LARGEST_NUMBER for number in (*sizes, *record.metrics.values(), *record.counters.values())):
        yield f"a number of {case.model} is larger than any run's"
    if expected.commit and source.commit != expected.commit:
        yield f"{case.model} is of commit {source.commit[:12] or 'none'}, while the run is of {expected.commit[:12]}"
    if expected.repository and source.repository != expected.repository:
        theirs = source.repository[:LONGEST_NAME] or "no repository"
        yield f"{case.model} is of {theirs}, while the run is of {expected.repository}"
