"""Write results for a reviewer on GitHub."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from torchperf_ci.core.errors import NothingToJudge
from torchperf_ci.core.results import Results
from torchperf_ci.core.text import code, one_line, safe_name
from torchperf_ci.github.checks import LIMIT, Conclusion, Note, Posting
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
