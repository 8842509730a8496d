"""report.md."""

import itertools
import re
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from report_builders import accuracy, blank_charts, both, case, check_golden, findings, performance, sample_records
from torchperf_ci.core.records import Build, Case, Environment, Mode, Record, Status, Testing
from torchperf_ci.core.results import Problem, Results
from torchperf_ci.core.text import code
from torchperf_ci.github.checks import Conclusion
from torchperf_ci.post.stored import review_results
from torchperf_ci.report.gh_parts import case_csvs, render_parts, write_summary_csvs
from torchperf_ci.report.html import write_page
from torchperf_ci.report.markdown import write_markdown
from torchperf_ci.report.model import ReportOptions, collect_findings
from torchperf_ci.report.write import write_terminal

GITHUB = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])


def test_a_report_with_failures_in_full():
    """Verdict, what failed, the summary, problems, warnings, what is left out, detail."""
    problem = Problem(file="records.jsonl", line=7, what="not JSON: Expecting value: line 1 column 1 (char 0)")
    check_golden("report/sample/report.md", write_markdown(findings(sample_records(), problems=[problem])))


def test_a_healthy_report_in_full():
    """No section for what there is nothing of."""
    records = [record for model in ("mlp", "lstm") for record in both(case(model), 1.25, compilation_latency=3.0)]
    check_golden("report/healthy/report.md", write_markdown(findings(records)))


def test_several_sections_in_full():
    """Each has its own summary and detail, and every list says which section it means."""
    records = [
        record
        for suite in ("tiny", "zoo")
        for mode in Mode
        for record in both(case("mlp", suite=suite, mode=mode), 0.9 if mode is Mode.TRAINING else 1.1)
    ]
    records.append(accuracy(case("lstm", suite="zoo", dtype="amp"), Status.OOM, reason="CUDA out of memory"))
    check_golden("report/sections/report.md", write_markdown(findings(records)))


@pytest.mark.parametrize(("latency", "cell"), [(12345.678, "12,346"), (999.6, "1,000"), (5e-5, "0.00005")])
def test_a_latency_has_no_exponent(latency: float, cell: str):
    records = [performance(case(), None, abs_latency=latency, compilation_latency=1234.5)]
    text = write_markdown(findings(records))
    assert f"| {cell} |" in text
    assert "| 1,234 |" in text


def test_what_is_not_known_of_a_machine_is_not_told_as_zero():
    """Files of other tools name a processor or a GPU, and not how many there are."""
    build = Build(environment=Environment(cpu="Intel Xeon", gpu="NVIDIA H100"))
    results = Results(records=(accuracy(case()),), builds=(build,))
    text = write_markdown(collect_findings(results, ReportOptions()))
    assert "`NVIDIA H100` · `Intel Xeon` ·" in text


def test_many_failures_fold_behind_the_first_ones():
    """The summary stays in sight, and every failure is there."""
    records = [accuracy(case(f"model_{number}"), Status.FAIL_ACCURACY) for number in range(40)]
    text = write_markdown(findings(records))
    assert "<summary>15 more that failed</summary>" in text
    assert text.index("Executive summary") < 6000
    assert all(f"`model_{number}`" in text for number in range(40))


def test_the_same_reason_for_many_models_is_one_row():
    """A compiler that is not available does not fill the report."""
    why = "cudagraphs needs a GPU"
    records = [accuracy(case(f"m{n}", "cudagraphs"), Status.COMPILER_NOT_AVAILABLE, reason=why) for n in range(9)]
    text = write_markdown(findings([*records, *both(case("m0", "eager"))]))
    assert "`m0`, `m1`, `m2` and 6 more | `compiler_not_available` | `cudagraphs needs a GPU` |" in text
    assert text.count(why) == 2  # in the verdict as well


@pytest.mark.parametrize(
    ("records", "verdict"),
    [
        (both(case()), "## ✅ 1 case passed"),
        ([*both(case("a")), *both(case("b"))], "## ✅ 2 cases passed"),
        ([accuracy(case(), Status.OOM)], "## ❌ 1 of 1 case failed: `OOM`"),
        ([accuracy(case(), Status.COMPILER_NOT_AVAILABLE)], "## ❌ 1 of 1 case could not run"),
    ],
)
def test_the_verdict_comes_first(records: list[Record], verdict: str):
    """One line says how it went."""
    assert write_markdown(findings(records)).splitlines()[0] == verdict


def test_what_was_not_compiled_passes_with_a_warning():
    """It keeps PyTorch's word, is counted apart, and no drawing of the report is green."""
    eager = [replace(record, not_compiled=True) for record in both(case("a"))]
    found = findings([*eager, *both(case("b"))])
    head = "2 cases passed; 1 not compiled"
    text = write_markdown(found)
    assert text.splitlines()[0] == f"## ⚠️ {head}"
    assert "### Not compiled (1)" in text
    assert "| `inductor` | 100 % (2/2) | 1.00x | 1.00x | 1 |" in text
    assert write_terminal(found).splitlines()[-1] == f"⚠️ {head}"
    assert "tiny/a inductor: not compiled" in write_terminal(found)
    page = write_page(found, blank_charts(found))
    assert head in page
    assert "not compiled: what passed is eager code" in page
    assert '<header class="passed">' not in page
    assert review_results(Results(records=found.records)).conclusion is Conclusion.NEUTRAL


def test_recompiles_and_remarks_stand_beside_their_case():
    """They are counted and said, without being a failure; hostile text in them stays text."""
    record = replace(performance(case("a")), counters={"recompiles": 3}, remarks=("limit reached | @octocat",))
    found = findings([accuracy(case("a")), record])
    text = write_markdown(found)
    assert text.splitlines()[0] == "## ✅ 1 case passed"
    assert "3 recompilations" in text
    assert "<code>limit reached &#124; &#64;\u2060octocat" in text


def test_what_ran_as_it_is_and_is_wrong_has_its_time_and_no_pass():
    """In the table at a terminal, as in the others."""
    wrong = case("a", "none")
    time = replace(
        performance(wrong, None), metrics={"abs_latency": 2.0, "abs_latency_low": 1.9, "abs_latency_high": 2.1}
    )
    text = write_terminal(findings([accuracy(wrong, Status.FAIL_ACCURACY), time]))
    assert "2.0 ms (1.9 ms to 2.1 ms), failed" in text


@pytest.mark.parametrize("status", [Status.MODEL_FAIL_TO_LOAD, Status.EAGER_FAIL_TO_RUN])
def test_models_that_could_not_run_are_no_pass(status: Status):
    """The headline says how many and why, and the reason cannot mean anything in Markdown."""
    broken = [replace(r, status=status, reason="needs @org/x", metrics={}) for m in "ab" for r in both(case(m))]
    found = findings([*broken, *both(case("c"))])
    assert write_markdown(found).splitlines()[0] == "## ❌ 2 of 3 models could not run: `needs @org/x`"
    *lines, headline = write_terminal(found).splitlines()
    assert headline == "❌ 2 of 3 models could not run: needs @org/x"
    assert "needs @org/x" not in "".join(lines)  # once is enough
    posting = review_results(Results(records=found.records))
    assert (posting.conclusion, len(posting.notes)) == (Conclusion.FAILURE, 2)


def test_a_problem_with_the_input_is_no_clean_pass():
    """Results that could be read may all pass; the verdict still says that something is wrong."""
    text = write_markdown(findings(both(case()), problems=[Problem(file="a.csv", line=3, what="has 2 cells")]))
    assert text.splitlines()[0] == "## ⚠️ 1 case passed; 1 problem with the input"
    assert "- `a.csv:3: has 2 cells`" in text


def test_logs_are_links_where_they_lie_beside_the_report():
    """Only what is there is linked, and no path means anything in Markdown; in a comment there is nothing beside it."""
    records = [
        replace(accuracy(case(name), Status.OOM), log=log)
        for name, log in (("a", "logs/a (1).log"), ("b", "logs/b](x).log"), ("c", "../c.log"))
    ]
    found = findings(records)
    text = write_markdown(found, files={"logs/a (1).log", "logs/b](x).log"})
    assert "[log](logs/a%20%281%29.log)" in text
    assert "[log](logs/b%5D%28x%29.log)" in text
    assert "`../c.log`" in text
    assert "](" not in write_markdown(found).replace("`logs/b](x).log`", "")


def test_flags_fold_and_are_left_to_the_files_in_a_comment():
    """There are a hundred of them."""
    found = findings(both(case()))
    assert "torch._dynamo.config.suppress_errors = False" in write_markdown(found, files={"report.html"})
    assert "suppress_errors" not in write_markdown(found)


@pytest.mark.parametrize(
    ("low", "high", "warned"), [(0.90, 1.02, False), (0.90, 0.996, False), (0.88, 0.96, True), (None, None, True)]
)
def test_nobody_is_warned_of_a_slowdown_whose_interval_reaches_1(
    low: float | None, high: float | None, *, warned: bool
):
    """At the digits that are shown; without an interval the limit alone decides. PyTorch's part has all of them."""
    interval = {"speedup_low": low, "speedup_high": high} if low and high else {}
    found = findings(both(case(), speedup=0.93, **interval))
    assert ("1 warning" in write_markdown(found)) == warned
    assert len(found.flags) == 1


def test_what_was_not_looked_at_is_said():
    """A pass without an accuracy check says less."""
    assert "accuracy was not looked at" in write_markdown(findings([performance(case(), 1.1)]))
    assert "performance was not looked at" in write_markdown(findings([accuracy(case())]))


def test_different_batch_sizes_are_said():
    """Their speedups hang on different work."""
    records = [performance(case("mlp", "eager"), batch_size=8), performance(case("mlp", "inductor"), batch_size=16)]
    assert "different batch sizes (performance of mlp)" in write_markdown(findings(records))


def test_hidden_rows_are_counted():
    """The numbers of shown and hidden rows add up."""
    records = [record for number in range(300) for record in both(case(f"model_{number}"), 1.0 + number / 100)]
    text = write_markdown(findings(records, limit=8000))
    assert len(text.encode()) <= 8000
    speedups = text.split("<summary>Speedup over eager")[1].split("</details>")[0]
    shown = len(re.findall(r"^\| `model_", speedups, re.MULTILINE))
    hidden = int(re.search(r"_(\d+) rows are hidden here for length, see report\.html\._", speedups)[1])
    assert shown + hidden == 300
    assert shown > 50


NAMES = st.one_of(
    st.sampled_from(
        ["mlp", "@octocat", "a|b", "x`y", "<script>", "https://x.y", "a\nb", "=1+1", "[a](b)", "\u202e", "$x$"]
    ),
    st.text(st.characters(), min_size=1, max_size=12),
)
CASES = st.builds(
    Case,
    suite=NAMES,
    model=NAMES,
    mode=st.sampled_from(Mode),
    device=st.sampled_from(["cpu", "cuda", "a|b"]),
    dtype=st.sampled_from(["float32", "amp"]),
    compiler=st.sampled_from(["eager", "inductor", "x`|@y"]),
)
WITHOUT_A_NAME = Record(
    case=Case(suite="mlp", model="\r", mode=Mode.INFERENCE, device="cpu", dtype="float32", compiler="eager"),
    testing=Testing.ACCURACY,
    status=Status.FAIL_ACCURACY,
    reason="",
    batch_size=1,
)
"""A name that shows nothing."""
WITHOUT_TIME = performance(case(), 0.5, abs_latency=-2e-309, compilation_latency=1.0)
"""A time next to nothing, which compiling never pays off."""
RECORDS = st.builds(
    Record,
    case=CASES,
    testing=st.sampled_from(Testing),
    status=st.sampled_from(Status),
    reason=st.text(max_size=30),
    batch_size=st.integers(min_value=0, max_value=10**30),
    metrics=st.dictionaries(
        st.sampled_from(["speedup", "abs_latency", "compilation_latency", "compression_ratio", "speedup_low", "other"]),
        st.floats(allow_nan=False, allow_infinity=False),
        max_size=4,
    ),
)


@settings(max_examples=60)
@given(st.lists(RECORDS, min_size=1, max_size=5), st.integers(min_value=0, max_value=4000))
@example([WITHOUT_A_NAME], 955)
@example([WITHOUT_TIME], 4000)
def test_any_records_and_any_limit_make_a_valid_report(records: list[Record], limit: int):
    """Never over the limit, valid UTF-8, no failing row lost before a passing one, nothing from outside is markup."""
    found = findings(records, limit=limit)
    text = write_markdown(found)
    assert len(text.encode("utf-8")) <= limit
    tokens = GITHUB.parse(text)
    tables = list(_tables(tokens))
    failed = sum(rows for head, rows in tables if {"Model", "Status"} <= set(head))
    detail = sum(rows for head, rows in tables if "Batch size" in head)
    assert failed == sum(failure.counts for failure in found.failures) or not detail
    _assert_harmless(tokens)


@settings(max_examples=40)
@given(st.lists(RECORDS, min_size=1, max_size=5))
def test_any_records_can_be_drawn_in_every_form(records: list[Record]):
    """Text, page and parts are valid UTF-8 without control characters; files of data hold what they were given."""
    found = findings(records)
    shown = [write_terminal(found), write_page(found, blank_charts(found)), *render_parts(found).values()]
    assert all(text.encode("utf-8") for text in shown)
    assert not any(control in text for text in shown for control in ("\x1b", "\u202e", "\x07"))
    assert list(write_summary_csvs(found)) == ["passrate.csv", "geomean.csv", "comp_time.csv", "memory.csv"]
    assert all(text.count("\n") > 1 for _, text in case_csvs(found.records))


def _tables(tokens: list[Token]) -> Iterator[tuple[list[str], int]]:
    """Titles and number of rows of every table in a rendered document."""
    head: list[str] = []
    rows = 0
    for before, token in itertools.pairwise(tokens):
        if before.type == "table_open":
            head, rows = [], 0
        elif before.type == "th_open":
            head.append(token.content)
        elif token.type == "tr_close":
            rows += 1
        elif token.type == "table_close":
            yield head, rows - 1


def _assert_harmless(tokens: list[Token]) -> None:
    """What is not code in the rendered document is ours: no links, no markup, no mentions."""
    parts = [part for token in tokens if token.type == "inline" for part in token.children or []]
    plain = {"text", "text_special", "softbreak", "strong_open", "strong_close", "em_open", "em_close"}
    assert {part.type for part in parts} <= {*plain, "code_inline", "html_inline"}
    markup = [part.content for part in parts if part.type == "html_inline"]
    assert set(markup) <= {"<code>", "</code>", "<sub>", "</sub>"}
    inside = False
    for part in parts:
        inside = part.content == "<code>" if part.type == "html_inline" else inside
        assert inside or part.type == "code_inline" or "@" not in part.content
    raw = "".join(token.content for token in tokens if token.type == "html_block")
    ours = {"<details>", "</details>", "<summary>", "</summary>", "<code>", "</code>", "<sub>", "</sub>"}
    assert set(re.findall(r"<[^>]*>", raw)) <= ours


def test_every_failing_row_stands_before_any_passing_row_is_hidden():
    """With a limit in between, all failures are shown and passing rows are what is missing."""
    records = [
        *(accuracy(case(f"bad_{number}"), Status.FAIL_ACCURACY) for number in range(30)),
        *(record for number in range(300) for record in both(case(f"good_{number}"))),
    ]
    text = write_markdown(findings(records, limit=9000))
    assert all(code(f"bad_{number}") in text for number in range(30))
    assert not all(code(f"good_{number}") in text for number in range(300))


def test_what_was_counted_folds_into_a_table_of_its_own() -> None:
    """A line per compiler and a column per count that somebody has; large ones in millions."""
    counted = performance(case("m"), 1.5, operators=3, flops=3e9, allocated_bytes=1500)
    text = write_markdown(findings([counted]))
    assert "| Model | Compiler | Dispatched operators | Floating-point operations | Bytes allocated |" in text
    assert "| 3 | 3,000.00 M | 1.5 kB |" in text
    assert "Counted:" not in write_markdown(findings([performance(case("m"), 1.5)]))
