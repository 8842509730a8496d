"""compare.json read as hostile data: what it says becomes comparisons again, and those are told in our words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torchperf_ci.compare.effects import ChangeTolerance, Verdict
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
from torchperf_ci.compare.words import change, metric_name, name, why
from torchperf_ci.core.records import Case, Mode, Source
from torchperf_ci.core.strict_json import parse_json
from torchperf_ci.core.text import one_line, safe_name
from torchperf_ci.post.posting import Conclusion, Note, Posting
from torchperf_ci.post.review import MOST_NOTES, TITLE_LENGTH

MOST_COMPARISONS = 50_000
LONGEST_TEXT = 4_000
LARGEST_NUMBER = 1e18
_BAD = frozenset({Verdict.REGRESSED, Verdict.FAILED, Verdict.MISSING})


def read_comparison(content: bytes) -> ComparisonFindings:
    """Read a stored comparison. Raises `ValueError` naming what in it no comparison writes."""
    return _findings(_parsed(content))


def posting_of_comparison(findings: ComparisonFindings) -> Posting:
    """Turn a comparison into what reviewers see.

    Failure: something is slower, fails or went missing. Neutral: something is inconclusive or refused. Action required:
    nothing could be compared, or not all that was asked for.
    """
    return Posting(
        conclusion=_conclusion(findings),
        title=one_line(to_text(findings).partition("\n")[0], limit=TITLE_LENGTH),
        text=to_markdown(findings),
        notes=tuple(_note(c) for c in findings.comparisons if c.verdict in _BAD)[:MOST_NOTES],
    )


def _conclusion(findings: ComparisonFindings) -> Conclusion:
    if findings.blocking:
        return Conclusion.FAILURE
    if not findings.compared or findings.unmeasured:
        return Conclusion.ACTION_REQUIRED
    return Conclusion.SUCCESS if findings.sign == "✅" else Conclusion.NEUTRAL


def _note(comparison: Comparison) -> Note:
    case = comparison.case
    number = f" {change(comparison.ratio)}" if comparison.ratio else ""
    title = f"{name(case)} {metric_name(comparison.metric)}: {comparison.verdict}{number}"
    return Note(
        path=f"{safe_name(case.suite)}/{safe_name(case.model)}",
        title=one_line(title, limit=TITLE_LENGTH),
        message=one_line(why(comparison), limit=1_000) or str(case),
    )


def _parsed(content: bytes) -> Mapping[str, Any]:
    return _mapping(parse_json(content.decode("utf-8")), "compare.json")


def _findings(raw: Mapping[str, Any]) -> ComparisonFindings:
    listed = raw.get("comparisons")
    if raw.get("v") != 1 or not isinstance(listed, list):
        raise ValueError("it is no comparison of this version")
    if len(listed) > MOST_COMPARISONS:
        raise ValueError(f"it has {len(listed):,} comparisons, more than {MOST_COMPARISONS:,}")
    header = _header(_mapping(raw.get("header"), "header"))
    return ComparisonFindings(
        header=header,
        comparisons=tuple(_comparison(_mapping(item, "comparison")) for item in listed),
        unmeasured=max(0, int(_number(raw, "unmeasured") or 0)),
        not_compiled=max(0, int(_number(raw, "not_compiled") or 0)),
    )


def _header(raw: Mapping[str, Any]) -> Header:
    tolerances = _mapping(raw.get("tolerances"), "tolerances")
    return Header(
        base=_text(raw, "base"),
        head=_text(raw, "head"),
        how="",  # a sentence of ours that is shown as it is: not one that others wrote
        machine=_text(raw, "machine"),
        tolerances=ToleranceRules(
            latency=_tolerance(_mapping(tolerances.get("latency"), "latency")),
            rules=(Rule(),) if tolerances.get("rules") else (),
        ),
        warnings=tuple(_text({"warning": item}, "warning") for item in _short_list(raw, "warnings")),
        source=_source(_mapping(raw.get("source", {}), "source")),
        base_commit=_commit(raw, "base_commit"),
        head_commit=_commit(raw, "head_commit"),
    )


def _commit(raw: Mapping[str, Any], what: str) -> CommitSummary | None:
    if raw.get(what) is None:
        return None
    commit = _mapping(raw[what], what)
    return CommitSummary(sha=_text(commit, "sha"), subject=_text(commit, "subject"))


def _source(raw: Mapping[str, Any]) -> Source:
    """What is absent is blank, which is no run's."""
    repository, commit, run = (_text({name: raw.get(name, "")}, name) for name in ("repository", "commit", "run_id"))
    return Source(repository=repository, commit=commit, run_id=run)


def _tolerance(raw: Mapping[str, Any]) -> ChangeTolerance:
    return ChangeTolerance(margin=_number(raw, "margin") or 0.0, threshold=_number(raw, "threshold") or 0.0)


def _comparison(raw: Mapping[str, Any], *, depth: int = 0) -> Comparison:
    case = _mapping(raw.get("case"), "case")
    launches = _number(raw, "more_launches")
    if raw.get("metric") not in (*ALL, ACCURACY):
        raise ValueError("metric is none that is compared")
    return Comparison(
        case=Case(
            suite=_text(case, "suite"),
            model=_text(case, "model"),
            mode=Mode(case.get("mode")),
            device=_text(case, "device"),
            dtype=_text(case, "dtype"),
            compiler=_text(case, "compiler"),
        ),
        metric=_text(raw, "metric"),
        verdict=Verdict(raw.get("verdict")),
        base=_number(raw, "base"),
        head=_number(raw, "head"),
        ratio=_number(raw, "ratio"),
        low=_number(raw, "low"),
        high=_number(raw, "high"),
        p=_number(raw, "p"),
        listed=raw.get("listed") is True,
        blocks=raw.get("blocks") is True,
        fails_on_both=raw.get("fails_on_both") is True,
        confirmed=raw["confirmed"] if isinstance(raw.get("confirmed"), bool) else None,
        more_seconds=_number(raw, "more_seconds"),
        more_launches=None if launches is None else int(launches),
        why=_text(raw, "why"),
        again=_comparison(_mapping(raw["again"], "again"), depth=1) if raw.get("again") and not depth else None,
    )


def _mapping(value: object, what: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{what} is no object")
    return value


def _short_list(raw: Mapping[str, Any], what: str) -> list[Any]:
    value = raw.get(what, [])
    if not isinstance(value, list) or len(value) > 100:
        raise ValueError(f"{what} is no list of at most 100")
    return value


def _text(raw: Mapping[str, Any], what: str) -> str:
    value = raw.get(what)
    if not isinstance(value, str) or len(value) > LONGEST_TEXT:
        raise ValueError(f"{what} is no text of at most {LONGEST_TEXT:,} characters")
    return value


def _number(raw: Mapping[str, Any], what: str) -> float | None:
    value = raw.get(what)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) <= LARGEST_NUMBER:
        raise ValueError(f"{what} is no number of a comparison")
    return float(value)
