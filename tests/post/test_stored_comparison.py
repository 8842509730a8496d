"""A stored comparison is read back as what it was, and what nobody's comparison writes is refused."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import pytest

from torchperf_ci.compare.effects import ChangeTolerance, Verdict
from torchperf_ci.compare.model import (
    ACCURACY,
    LATENCY,
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
from torchperf_ci.compare.report import to_json, to_markdown
from torchperf_ci.core.records import Case, Mode, Source
from torchperf_ci.github.checks import Conclusion
from torchperf_ci.post.stored import COMPARISON, Expected, Forged, read_posting

HOSTILE = "x|`<!-- @octocat ![i](http://evil/x.png)\n::error::pwned </details>"


def case(model: str = "mlp") -> Case:
    return Case(suite="tiny", model=model, mode=Mode.INFERENCE, device="cpu", dtype="float32", compiler="inductor")


def findings(*comparisons: Comparison, **header: Any) -> ComparisonFindings:
    known: dict[str, Any] = {
        "base": "merge-base 0123",
        "head": "HEAD",
        "how": "",
        "machine": "a CPU",
        "source": Source(commit="a" * 40),
        "tolerances": ToleranceRules(latency=ChangeTolerance(margin=0.02, threshold=0.05), rules=(Rule(),)),
    }
    return ComparisonFindings(header=Header(**{**known, **header}), comparisons=comparisons)


def compared(verdict: Verdict, model: str = "mlp", **options: Any) -> Comparison:
    known = {"base": 1.0, "head": 1.1, "ratio": 1.1, "low": 1.05, "high": 1.15, "p": 0.001}
    return Comparison(case=case(model), metric=LATENCY, verdict=verdict, **{**known, **options})


def posted(content: str) -> Any:
    return read_posting({COMPARISON: content.encode()}, Expected(commit="a" * 40))


SLOWER = compared(Verdict.REGRESSED, blocks=True, listed=True, confirmed=True, why="slower")
OPEN = compared(Verdict.INCONCLUSIVE, "lstm", more_seconds=90.0, more_launches=3)


@pytest.mark.parametrize(
    ("comparisons", "conclusion"),
    [
        ((SLOWER, OPEN), Conclusion.FAILURE),
        ((OPEN, compared(Verdict.UNCHANGED)), Conclusion.NEUTRAL),
        ((compared(Verdict.UNCHANGED), compared(Verdict.IMPROVED, "lstm")), Conclusion.SUCCESS),
        ((compared(Verdict.REFUSED, why="other GPU"),), Conclusion.ACTION_REQUIRED),
        ((), Conclusion.ACTION_REQUIRED),
    ],
)
def test_what_is_read_is_what_was_written(comparisons: tuple[Comparison, ...], conclusion: Conclusion) -> None:
    """The same Markdown as the comparison's own, and the conclusion that its verdicts make."""
    original = findings(*comparisons)
    posting = posted(to_json(original))
    assert posting.conclusion is conclusion
    assert posting.text == to_markdown(original)
    assert posting.title.startswith(original.sign)


def test_commits_are_linked_where_the_repository_is_the_expected_one() -> None:
    """The subject is text, the second measurement stands beside the first, and nothing is linked elsewhere."""
    sha = "b" * 40
    header = replace(
        findings().header,
        source=Source(repository="octo/project", run_id="7"),
        head_commit=CommitSummary(sha=sha, subject="Fix <b> @octocat"),
        server="https://evil.example",
    )
    twice = replace(SLOWER, again=replace(SLOWER, ratio=1.12))
    content = {COMPARISON: to_json(replace(findings(twice), header=header)).encode()}
    expected = Expected(repository="octo/project", run="7", server="https://github.com")
    text = read_posting(content, expected).text
    assert f"[`{sha[:12]}`](https://github.com/octo/project/commit/{sha})" in text
    assert "+12.0\N{NO-BREAK SPACE}%" in text
    assert ("evil" in text, "<b>" in text) == (False, False)
    assert "](https://github.com/octo" not in read_posting(content, Expected()).text


def test_a_comparison_that_was_interrupted_is_no_success() -> None:
    """Though nothing of what was measured is slower; when something is, it fails all the same."""
    good, bad = (replace(findings(each), unmeasured=3) for each in (compared(Verdict.UNCHANGED), SLOWER))
    posting = posted(to_json(good))
    assert posting.conclusion is Conclusion.ACTION_REQUIRED
    assert posting.title == "⚠️ The only case is unchanged (within 5 %); 3 not measured to the end."
    assert posting.text == to_markdown(good)
    assert posted(to_json(bad)).conclusion is Conclusion.FAILURE


def test_what_is_bad_has_a_note() -> None:
    """Pinned to suite and model, with verdict, change and reason."""
    lost = Comparison(case=case("unet"), metric=ACCURACY, verdict=Verdict.FAILED, why="pass → fail_accuracy")
    notes = posted(to_json(findings(SLOWER, OPEN, lost))).notes
    assert [(note.path, note.title) for note in notes] == [
        ("tiny/mlp", "tiny/mlp inductor latency: slower +10.0 %"),
        ("tiny/unet", "tiny/unet inductor accuracy: failed"),
    ]


def changed(**fields: Any) -> str:
    raw = json.loads(to_json(findings(SLOWER)))
    for path, value in fields.items():
        *parents, last = path.split("__")
        place = raw
        for name in parents:
            place = place[int(name) if name.isdecimal() else name]
        place[last] = value
    return json.dumps(raw)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("[]", "Expected `object`, got `array`"),
        ("{", "Expecting property name"),
        ("[" * 100_000, "too deep"),
        (changed(v=2), "Invalid enum value 2 - at `$.v`"),
        (changed(comparisons=[json.loads(changed())["comparisons"][0]] * 50_001), "length <= 50000"),
        (changed(header=None), "got `null` - at `$.header`"),
        (changed(header__base="x" * 4001), "length <= 4000 - at `$.header.base`"),
        (changed(header__warnings=["x"] * 101), "length <= 100 - at `$.header.warnings`"),
        (changed(header__base_commit="x"), "got `str` - at `$.header.base_commit`"),
        (changed(header__head_commit={"sha": 1, "subject": ""}), "at `$.header.head_commit.sha`"),
        (changed(comparisons__0__again=[1]), "at `$.comparisons[0].again`"),
        (changed(comparisons__0__metric="@octocat"), "metric is none that is compared"),
        (changed(comparisons__0__verdict="great"), "Invalid enum value 'great'"),
        (changed(comparisons__0__ratio="1"), "got `str` - at `$.comparisons[0].ratio`"),
        (changed(comparisons__0__ratio=10**400), "out of range"),
        (changed(comparisons__0__ratio=10**19), "<= 1e+18"),
        (changed(comparisons__0__base=float("nan")), "NaN is not a finite number"),
        (changed(comparisons__0__case__model=7), "got `int` - at `$.comparisons[0].case.model`"),
    ],
)
def test_what_no_comparison_writes_is_refused(content: str, reason: str) -> None:
    """With what is wrong."""
    with pytest.raises(Forged) as refused:
        posted(content)
    assert reason in str(refused.value)


def test_sentences_of_others_are_never_shown_as_ours() -> None:
    """Neither how it was compared nor names, labels, warnings and reasons mean anything."""
    hostile = compared(Verdict.FAILED, HOSTILE, why=HOSTILE, confirmed=True, blocks=True)
    made = findings(hostile, base=HOSTILE, head=HOSTILE, machine=HOSTILE, how=HOSTILE, warnings=(HOSTILE,))
    text = posted(to_json(made)).text
    assert "\n::error" not in text
    assert not any(word in _without_code(text) for word in ("@octocat", "<!--", "![i]", "</details>\n<"))


def _without_code(text: str) -> str:
    import re

    return re.sub(r"<code>[^<]*</code>|`[^`\n]*`", "", text)


def test_explanations_of_another_job_are_shown_in_our_words() -> None:
    """Their names, places and notes are text of others: no mention, link or markup comes of them."""
    cause = Cause(kind=CauseKind.OPERATOR, name=HOSTILE, place=HOSTILE, note=HOSTILE, base=1.0, head=2.0, share=0.9)
    told = (CauseKind.FUNCTION, CauseKind.ENVIRONMENT, CauseKind.GRAPHS, CauseKind.FAILURE, CauseKind.MEMORY)
    facts = tuple(Cause(kind=kind, name=HOSTILE, note=HOSTILE) for kind in told)
    explanations = (
        Explanation(case=case(), metric=LATENCY, base=1.0, head=2.0, causes=(cause,), facts=facts),
        Explanation(case=case("lstm"), metric=LATENCY, problem=HOSTILE),
    )
    original = replace(findings(SLOWER, replace(SLOWER, case=case("lstm"))), explanations=explanations)
    text = posted(to_json(original)).text
    assert text == to_markdown(original)
    assert "1 s more" in text
    outside_code = re.sub(r"(`+)(?!`).*?(?<!`)\1(?!`)", "", text)
    assert ("@octocat" in outside_code, "<!--" in outside_code, "](http://evil" in outside_code) == (False,) * 3
    assert "\n::error" not in text


def test_a_cause_of_no_known_kind_is_refused() -> None:
    """As everything that no comparison writes."""
    cause = Cause(kind=CauseKind.OPERATOR, name="aten::mm")
    explanation = Explanation(case=case(), metric=LATENCY, causes=(cause,))
    content = to_json(replace(findings(SLOWER), explanations=(explanation,)))
    with pytest.raises(Forged, match="explanations"):
        posted(content.replace('"operator"', '"magic"'))
