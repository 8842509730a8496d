"""The report of a bisection as Markdown, text and JSON: the culprit, what it changed, and every step."""

from __future__ import annotations

import math
from collections.abc import Callable

from torchperf_ci.bisect.model import COMMAND, BisectFindings, Candidate, Culprit, Outcome, Question, Step, StepAnswer
from torchperf_ci.bisect.session import estimate_steps
from torchperf_ci.compare.effects import Verdict
from torchperf_ci.compare.model import ACCURACY, Comparison, write_explanation
from torchperf_ci.compare.report import to_json
from torchperf_ci.compare.words import LONGEST_NAME, amount, change, link_to_commit, link_to_run, metric_name, percent
from torchperf_ci.core.records import Case
from torchperf_ci.core.results import ResultsFolder
from torchperf_ci.core.text import code, count, duration, fenced, html, one_line
from torchperf_ci.report.document import Block, MarkdownTable, fit, markdown_table

LIMIT = 60_000
METHOD = "https://github.com/org/torchperf-ci/blob/v1/docs/bisect.md"
_MOST_SUSPECTS = 50
_LONGEST_REASON = 200
_NO_BREAK = "\N{NO-BREAK SPACE}"

ANSWERS = {
    StepAnswer.DIFFERS: "the ends differ",
    StepAnswer.SAME: "the ends do not differ",
    StepAnswer.GOOD: "like the good end",
    StepAnswer.BAD: "like the bad end",
    StepAnswer.BETWEEN: "between the ends",
    StepAnswer.CONFIRMED: "differs from its parent",
    StepAnswer.REFUTED: "does not differ from its parent",
    StepAnswer.OPEN: "not decided",
    StepAnswer.SKIPPED: "skipped",
}

Quote = Callable[[str], str]


def write_bisection(folder: ResultsFolder, findings: BisectFindings) -> None:
    """Write bisect.md and bisect.json."""
    folder.write_text("bisect.md", to_markdown(findings))
    folder.write_text("bisect.json", to_json(findings))


def choose_sign(findings: BisectFindings) -> str:
    """Say in one sign whether what was looked for is known."""
    return "✅" if findings.progress.outcome is Outcome.FOUND else "⚠️"


def write_headline(findings: BisectFindings, quote: Quote = one_line) -> str:
    """Write how it ended in one sentence, without a full stop. Text from outside in it goes through `quote`."""
    progress, kind = findings.progress, findings.kind
    subject, ends = quote(findings.subject), f"{quote(findings.good.name)} and {quote(findings.bad.name)}"
    effect = describe_change(progress.whole, findings.question, quote) if progress.whole else ""
    match progress.outcome:
        case Outcome.FOUND:
            return _name_culprits(findings, quote)
        case Outcome.RANGE:
            number = count(len(progress.suspects), kind)
            return f"One of {number} changed {subject} ({effect}); some of them could not be measured or decided"
        case Outcome.REFUTED:
            return f"No single {kind} was found that changed {subject}, though {ends} differ ({effect})"
        case Outcome.SAME:
            return f"{ends} do not differ in {subject} ({effect}), so there is nothing to look for"
        case Outcome.OPEN if progress.whole and progress.whole.answer is StepAnswer.SKIPPED:
            return f"{ends} cannot be compared: {quote(one_line(progress.whole.why, limit=_LONGEST_REASON))}"
        case Outcome.OPEN if progress.whole and progress.whole.answer is StepAnswer.OPEN:
            return f"It is not decided whether {ends} differ in {subject} ({effect}); --launches and time may decide it"
        case Outcome.OPEN:
            name = ", ".join(quote(culprit.candidate.name) for culprit in progress.culprits) or f"no {kind}"
            return f"The steps lead to {name}, but against its parent it is not decided whether it changed {subject}"
        case Outcome.OUT_OF_TIME | Outcome.INTERRUPTED:
            end = "The budget is spent" if progress.outcome is Outcome.OUT_OF_TIME else "Interrupted"
            left = (
                f"one of {count(len(progress.suspects), kind)} changed {subject}" if effect else "nothing is known yet"
            )
            return f"{end}: {left}; the same command continues from here"


def _name_culprits(findings: BisectFindings, quote: Quote) -> str:
    """Name the candidates that made the change, the largest part first."""
    progress, question = findings.progress, findings.question
    first, *others = progress.culprits
    what = f"{metric_name(question.metric)} of {quote(findings.subject)}"
    if question.metric == COMMAND:
        what = quote(findings.subject)
    if not others and not progress.unsearched:
        title = f" ({quote(first.candidate.subject)})" if first.candidate.subject else ""
        return f"{quote(first.candidate.name)}{title} changed {what}: {describe_change(first.step, question, quote)}"
    parts = ", ".join(
        f"{quote(each.candidate.name)} ({describe_change(each.step, question, quote)}, "
        f"{percent(round(each.share, 2))} of it)"
        for each in progress.culprits
    )
    rest = f"; {percent(round(sum(progress.unsearched), 2))} of it was not located" if progress.unsearched else ""
    number = count(len(progress.culprits), findings.kind)
    return f"The change of {what} is spread over more than one {findings.kind}; {number} found: {parts}{rest}"


def describe_change(step: Step, question: Question, quote: Quote = one_line) -> str:
    """Write by how much a step's candidate differs: a change with its interval, two counts, or what they say, which
    goes through `quote`."""
    if step.value is None:
        return ""
    if question.is_yes_or_no:
        return quote(one_line(step.why, limit=_LONGEST_REASON))
    if question.is_ratio:
        span = ""
        if step.low is not None and step.high is not None and step.low < step.high:
            span = f" ({change(math.exp(step.low))} to {change(math.exp(step.high))})"
        return change(math.exp(step.value)) + span
    return f"{amount(question.metric, step.base)} → {amount(question.metric, step.head)}"


def describe_step(step: Step, question: Question) -> str:
    """Describe a step in one line, as it is finished."""
    numbers = describe_change(step, question)
    parts = [ANSWERS[step.answer], numbers, step.why if step.why != numbers else ""]
    subject = f" {one_line(step.candidate.subject, limit=60)}" if step.candidate.subject else ""
    left = f" [{step.left:,} left]" if step.left is not None else ""
    text = "; ".join(part for part in parts if part)
    return f"{step.candidate.name}{subject}, against {step.against.name}: {one_line(text)}{left}"


def to_text(findings: BisectFindings) -> str:
    """Write how it ended, and who and what the culprits are, for a terminal."""
    lines = [f"{choose_sign(findings)} {write_headline(findings)}."]
    for culprit in findings.progress.culprits:
        who = ", ".join(filter(None, (culprit.candidate.author, culprit.candidate.date)))
        told = (culprit.candidate.key, one_line(culprit.candidate.subject), f"({one_line(who)})" if who else "")
        lines.append(f"  {' '.join(filter(None, told))}")
        lines.append(f"    against its parent: {describe_change(culprit.step, findings.question)}")
        lines += [f"    {one_line(line)}" for line in culprit.diffstat.splitlines()]
        if culprit.explanation is not None:
            lines.append(f"    why: {write_explanation(culprit.explanation)}")
    if findings.progress.outcome in {Outcome.RANGE, Outcome.OUT_OF_TIME, Outcome.INTERRUPTED}:
        skipped = _list_reasons(findings)
        for suspect in findings.progress.suspects[:_MOST_SUSPECTS]:
            why = f" – {one_line(skipped[suspect.key], limit=_LONGEST_REASON)}" if suspect.key in skipped else ""
            lines.append(f"  {suspect.name} {one_line(suspect.subject)}{why}")
    return "\n".join(lines)


def _list_reasons(findings: BisectFindings) -> dict[str, str]:
    """List by candidate why it was skipped or stayed open."""
    return {
        step.candidate.key: step.why or ANSWERS[step.answer]
        for step in findings.progress.steps
        if step.answer in {StepAnswer.SKIPPED, StepAnswer.OPEN}
    }


def to_markdown(findings: BisectFindings) -> str:
    """Write bisect.md, at most `LIMIT` bytes."""
    progress, header = findings.progress, findings.header
    run = link_to_run(header)
    ends = f"- Good: {_link(findings.good, findings)}\n- Bad: {_link(findings.bad, findings)}\n"
    place = f"- On {code(header.machine)}" + (f", in [this run]({run})" if run else "") if header.machine else ""
    notes = "".join(f"\n> ⚠️ {html(one_line(warning, limit=1000))}\n" for warning in header.warnings)
    total = f"- {count(findings.count, findings.kind)} between them, {count(len(progress.steps), 'step')}\n"
    head = (
        f"## {choose_sign(findings)} {write_headline(findings, code)}\n\n{ends}{total}{place}\n\n{header.how}\n{notes}"
    )
    blocks = [Block(before=head, rank=0)]
    blocks += [Block(before=_write_culprit(culprit, findings), rank=1) for culprit in progress.culprits]
    if progress.outcome in {Outcome.RANGE, Outcome.OUT_OF_TIME, Outcome.INTERRUPTED} and progress.suspects:
        blocks.append(Block(before=f"\n### Still in question\n\n{_list_suspects(findings)}", rank=2))
    if progress.steps:
        blocks.append(Block(before="\n### Steps\n", tables=(_make_table(findings),), rank=3))
    again = fenced("\n".join(header.commands), language="shell")
    end = f"\n<details>\n<summary>Do it again</summary>\n\n{again}\n\n</details>\n" if header.commands else ""
    place = f"the artifact of [this run]({run}#artifacts)" if run else "the folder of this report"
    end += f"\nLogs (`logs/`) and every raw time (`rounds.jsonl`) are in {place}.\n"
    end += f"\n<sub>[How it is searched and decided]({METHOD})</sub>\n"
    return fit([*blocks, Block(before=end, rank=4)], LIMIT, where="bisect.json")


def _link(candidate: Candidate, findings: BisectFindings) -> str:
    """Name a candidate with a link to its commit, and its subject."""
    name, link = code(candidate.name, limit=LONGEST_NAME), link_to_commit(findings.header, candidate.key)
    subject = f" {html(one_line(candidate.subject, limit=LONGEST_NAME))}" if candidate.subject else ""
    return (f"[{name}]({link})" if link else name) + subject


def _write_culprit(culprit: Culprit, findings: BisectFindings) -> str:
    candidate, step = culprit.candidate, culprit.step
    who = ", ".join(html(one_line(part, limit=LONGEST_NAME)) for part in (candidate.author, candidate.date) if part)
    seen = f"{ANSWERS[step.answer]}: {html(describe_change(step, findings.question))}"
    share = "" if findings.question.is_yes_or_no else f", {percent(round(culprit.share, 2))} of the whole change"
    lines = [f"- {who}\n" if who else "", f"- Against {code(step.against.name)} it {seen}{share}\n"]
    files = f"\n{fenced(culprit.diffstat)}\n" if culprit.diffstat else ""
    return f"\n### {_link(candidate, findings)}\n\n{''.join(lines)}{files}{_write_why(culprit)}"


def _write_why(culprit: Culprit) -> str:
    """Write why a culprit made the change, and where all of it is."""
    explanation = culprit.explanation
    if explanation is None:
        return ""
    where = f" The page is `{explanation.folder}/index.html`." if explanation.folder else ""
    return f"\n{write_explanation(explanation, code, html)}{where}\n"


def _list_suspects(findings: BisectFindings) -> str:
    skipped = _list_reasons(findings)
    suspects = findings.progress.suspects
    lines = []
    for suspect in suspects[:_MOST_SUSPECTS]:
        why = f": {html(one_line(skipped[suspect.key], limit=_LONGEST_REASON))}" if suspect.key in skipped else ""
        lines.append(f"- {_link(suspect, findings)}{why}\n")
    hidden = len(suspects) - _MOST_SUSPECTS
    return "".join(lines) + (f"- and {hidden:,} more\n" if hidden > 0 else "")


def _make_table(findings: BisectFindings) -> MarkdownTable:
    columns = ("", findings.kind.title(), "Against", "Result", "Change", "Launches", "Left", "Time", "Remarks")
    changes = [describe_change(step, findings.question) for step in findings.progress.steps]
    rows = [
        (
            str(number),
            _link(step.candidate, findings),
            code(step.against.name, limit=LONGEST_NAME),
            ANSWERS[step.answer],
            html(numbers).replace(" %", f"{_NO_BREAK}%"),
            str(step.launches or ""),
            "" if step.left is None else f"{step.left:,}",
            duration(step.seconds),
            html(one_line(step.why, limit=_LONGEST_REASON)) if step.why != numbers else "",
        )
        for number, (step, numbers) in enumerate(zip(findings.progress.steps, changes, strict=True), start=1)
    ]
    return markdown_table(columns, rows, rank=5, where="bisect.json", keep_empty=True)


def describe_plan(candidates: tuple[Candidate, ...], kind: str) -> str:
    """List what lies between the ends, the newest last, and how many steps it takes, for a dry run."""
    lines = [f"  {each.name} {one_line(each.subject, limit=100)}".rstrip() for each in candidates]
    steps = count(estimate_steps(len(candidates)), "step")
    total = f"{count(len(candidates), kind)} may have made the change: about {steps}, with the ends and the last check."
    return "\n".join([*lines, total])


def make_comparison(culprit: Culprit, question: Question, case: Case) -> Comparison:
    """Make a comparison of a culprit with its parent, as far as it is needed to explain it."""
    step = culprit.step
    ratio = math.exp(step.value) if question.is_ratio and step.value is not None else None
    failed = question.metric == ACCURACY
    return Comparison(
        case=case,
        metric=question.metric,
        verdict=Verdict.FAILED if failed else Verdict.REGRESSED,
        base=step.base,
        head=step.head,
        ratio=ratio,
    )
