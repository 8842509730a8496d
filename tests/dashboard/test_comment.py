"""The dashboard: PyTorch's parts in PyTorch's order, with an earlier run beside them, in a comment that fits."""

from __future__ import annotations

import random
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache

import pytest

from report_builders import BUILD, accuracy, blank_charts, both, case, check_golden, performance
from run_builders import MACHINE, a_run, collect_series
from torchperf_ci.cli.options import split_list
from torchperf_ci.core.frames import CaseSelection
from torchperf_ci.core.records import Mode, Record, Status
from torchperf_ci.core.results import Problem, Results
from torchperf_ci.dashboard.charts import draw_pictures, draw_trends, name_trend_charts
from torchperf_ci.dashboard.comment import make_comment, make_parts
from torchperf_ci.dashboard.commits import judge_accepted
from torchperf_ci.dashboard.model import Dashboard, DashboardOptions, study
from torchperf_ci.dashboard.regressions import sparkline
from torchperf_ci.dashboard.words import case_address, write_rerun, write_state, write_terminal_text
from torchperf_ci.report.charts import Charts
from torchperf_ci.report.document import whole
from torchperf_ci.report.model import ReportOptions, collect_findings

USUAL = DashboardOptions()
NO_CHARTS = Charts(overviews=(), speedups={}, parameters={}, samples=())
TEN = range(10)


def dashboard(
    runs: Sequence[Sequence[Record]],
    *,
    options: DashboardOptions = USUAL,
    problems: Sequence[Problem] = (),
    **source,
) -> Dashboard:
    """The dashboard of the last of these runs, a day apart."""
    made = [a_run(day, records, **source) for day, records in enumerate(runs)]
    findings = collect_findings(Results(records=made[-1].results.records, builds=(BUILD,)), ReportOptions())
    *past, now = made
    return study(findings, now, past, options, states=judge_accepted(collect_series(made)), problems=problems)


def parts_of(made: Dashboard, pictures: Mapping[str, str] | None = None) -> dict[str, str]:
    return {name: whole([block]) for name, block in make_parts(made, NO_CHARTS, pictures or {}).items()}


def comment_of(made: Dashboard) -> str:
    return make_comment(made, NO_CHARTS, {})


def nightly(day: int) -> list[Record]:
    """Two suites, two compilers: one model gets slower on day 5; on day 9 one fails, one is fixed and one is new."""
    chance = random.Random(day)
    records = []
    for suite in ("huggingface", "tiny"):
        for model in ("Albert", "Bert", "Camembert", *(["Distil"] if day == 9 else [])):
            for compiler in ("eager", "inductor"):
                of = case(model, compiler, suite=suite, mode=Mode.TRAINING, device="cuda")
                usual = 1.0 if compiler == "eager" else 1.6
                slower = 0.9 if (suite, model, compiler) == ("tiny", "Bert", "inductor") and day >= 5 else 1.0
                speedup = usual * slower * chance.lognormvariate(0, 0.002)
                if (suite, model, compiler) == ("huggingface", "Camembert", "inductor"):
                    speedup = 0.8 if day < 9 else 1.2
                fails = (suite, model, compiler, day) == ("huggingface", "Bert", "inductor", 9)
                records.append(accuracy(of, Status.FAIL_ACCURACY if fails else Status.PASS))
                records.append(performance(of, speedup, compilation_latency=20.0, compression_ratio=0.95))
    return records


@cache
def nightly_dashboard() -> Dashboard:
    return dashboard([nightly(day) for day in TEN])


@pytest.mark.parametrize(
    "name", ["gh_summary_diff.txt", "gh_metric_regression.txt", "gh_regression.txt", "gh_graphs.txt"]
)
def test_the_parts_with_history_in_full(name: str):
    """Diff, regressions, trends and graphs of ten nights in which something happened."""
    urls = {
        "geomean_over_time.png": "https://example.org/geomean.png",
        "tiny_float32.png": "https://example.org/tiny.png",
    }
    check_golden(f"dashboard/{name}", parts_of(nightly_dashboard(), urls)[name])


def test_the_comment_in_full():
    """The state, what is new, open and well again; the report's parts and numbers over time in folds."""
    urls = {"geomean_over_time.png": "https://example.org/geomean.png?raw=true&x=1"}
    check_golden("dashboard/comment.md", make_comment(nightly_dashboard(), NO_CHARTS, urls))


def test_the_comment_has_no_boxes_and_says_what_is_in_its_folds():
    """Tables are Markdown's, and every fold has a title of its own."""
    text = comment_of(nightly_dashboard())
    assert "+---" not in text
    titles = re.findall("<summary>(.*)</summary>", text)
    assert len(titles) == len(set(titles)) > 4
    assert "see more" not in titles


def test_what_changed_on_a_terminal():
    """The state in a sentence, and what is new and open as plain text."""
    check_golden("dashboard/terminal.txt", write_terminal_text(nightly_dashboard()))


@pytest.mark.parametrize(
    ("now", "sign"),
    [
        (both(case(), 1.5), "✅"),
        (both(case(), 0.5), "⚠️"),
        ([accuracy(case(), Status.FAIL_ACCURACY), *both(case(), 1.5)[1:]], "❌"),
        ([accuracy(case(), Status.FAIL_ACCURACY), *both(case("other"), 1.5)], "❌"),
        (both(case("other"), 1.5), "✅"),
    ],
)
def test_no_green_beside_what_is_bad(now: Sequence[Record], sign: str):
    """A case beyond a limit, or a failing one: the heading and the terminal say it with their sign. Of one case alone
    nobody knows whether it is gone."""
    made = dashboard([both(case(), 1.5), now])
    assert comment_of(made).startswith(f"## {sign} float32: ")
    assert write_state(made)[0] == sign


def test_a_failing_model_is_red_though_nothing_changed():
    """It failed in the run before as well: no regression, and no success."""
    bad = [accuracy(case(), Status.FAIL_ACCURACY), *both(case(), 1.5)[1:]]
    made = dashboard([bad, bad])
    assert write_state(made)[0] == "❌"
    first, second, *_ = write_terminal_text(made).splitlines()
    assert first == "❌ float32: 1 of 1 case failed: fail_accuracy"
    assert second == (
        "  still open: tiny/mlp inductor: Accuracy check fails, fail_accuracy, since 2026-10-05 (000000000), 2 runs"
    )


def test_the_first_run_has_nothing_to_compare_with():
    """Without history every part is there and says so; no part fails."""
    made = dashboard([nightly(0)])
    texts = parts_of(made)
    assert "There is no earlier run to compare with." in texts["gh_summary_diff.txt"]
    assert "1 run, 2026-10-05 to 2026-10-05 UTC." in texts["gh_regression.txt"]
    assert comment_of(made).startswith("## ✅ float32: 12 cases passed")
    assert "Not judged yet: 48 metrics of 12 cases, 48 with 1 of 5 runs." in comment_of(made)


def test_parts_that_are_not_asked_for_are_left_out():
    """Without detection there is no comparison, without graphs no pictures and no word of them."""
    options = DashboardOptions(detect=False, graphs=False)
    made = dashboard([nightly(0), nightly(9)], options=options)
    assert set(parts_of(made)) == {"gh_regression.txt"}
    assert ".png" not in comment_of(made)
    assert "egressed" not in comment_of(made)
    assert draw_pictures([made], NO_CHARTS) == {}


def test_unreadable_history_is_named_in_the_comment():
    """A reader learns which runs the comparison does not know."""
    made = dashboard([nightly(0)], problems=[Problem(file="x.parquet", what="cannot be read and was left out")])
    text = comment_of(made)
    assert "1 problem with the history" in text
    assert text.startswith("## ⚠️ ")
    assert "`x.parquet: cannot be read and was left out`" in text


def test_another_machine_is_told():
    """When the run before comes from another machine, the comment says it beside PyTorch's limits."""
    runs = [a_run(0, nightly(0), machine=replace(MACHINE, cpu="Xeon")), a_run(1, nightly(1))]
    findings = collect_findings(Results(records=runs[1].results.records), ReportOptions())
    made = study(findings, runs[1], [runs[0]], DashboardOptions())
    assert (
        "⚠️ `tiny` with `inductor` was measured under other conditions before: `CPU differs: Xeon against EPYC`"
        in comment_of(made)
    )


def test_regressions_name_the_command_that_runs_them_again():
    """On GitHub a dispatch of the run's workflow; elsewhere the command itself. Quotes and patterns are escaped."""
    odd = case("it's.a[model]")
    runs = [both(odd, 1.5), both(odd, 0.5)]
    there = parts_of(dashboard(runs))["gh_metric_regression.txt"]
    assert (
        "gh workflow run nightly --repo octo/project --ref main -f suites=tiny "
        "-f 'filter=^(it'\"'\"'s\\.a\\[model\\])$'"
    ) in there
    here = parts_of(dashboard(runs, workflow="", run_id=""))["gh_metric_regression.txt"]
    assert "torchperf-ci run --suites tiny --inference --devices cpu --dtypes float32 --compilers inductor" in here


@pytest.mark.parametrize(
    "model", ["a/b", "two words", "conv[1, 3]", "tab\there", "x.y|z", "{a,b}", "ünïcode\u2003space"]
)
def test_the_command_fits_its_model_alone(model: str):
    """What the input `filter` gets is one word of a list, without a `/`, and fits this model only."""
    command = write_rerun(case(model), "tiny", a_run(0).source)
    (pattern,) = [word.removeprefix("filter=") for word in shlex.split(command) if word.startswith("filter=")]
    assert split_list(pattern) == [pattern]
    assert "/" not in pattern
    assert re.search(pattern, model)
    assert not re.search(pattern, f"{model}2")


def test_a_suite_is_named_as_it_was_asked_for():
    """A suite of one's own is a file or a module: the command has that, not the suite's name in the tables."""
    runs = [a_run(day, both(case(suite="models"), speedup)) for day, speedup in enumerate((1.5, 0.5))]
    build = replace(BUILD, suites={"models": "bench marks/models.py"})
    findings = collect_findings(Results(records=runs[1].results.records, builds=(build,)), ReportOptions())
    made = study(findings, runs[1], [runs[0]], USUAL)
    text = parts_of(made)["gh_metric_regression.txt"]
    assert "--ref main -f 'suites=bench marks/models.py' -f 'filter=^(mlp)$'" in text


def test_a_workflow_without_a_name_is_its_file():
    """GitHub then calls it by its path; gh wants the file's name."""
    source = replace(a_run(0).source, workflow=".github/workflows/perf nightly.yml")
    command = write_rerun(case("mlp"), "tiny", source)
    assert command.startswith("gh workflow run 'perf nightly.yml' --repo octo/project --ref main -f suites=tiny -f ")


def test_the_worst_changes_are_named_first():
    """What fails comes before what got slower, a large change before a small one."""
    names = ("slightly", "much", "fails", "fine")
    usual = [record for model in names for record in both(case(model), 1.5)]
    bad = [
        *both(case("slightly"), 1.4),
        *both(case("much"), 0.75),
        accuracy(case("fails")),
        performance(case("fails"), None, Status.CRASHED),
        *both(case("fine"), 1.5),
    ]
    made = dashboard([*[usual] * 6, bad, bad])
    lines = [line for line in comment_of(made).splitlines() if line.startswith("- `tiny")]
    assert [line.partition("`")[2].partition("`")[0] for line in lines[:3]] == [
        "tiny/much", "tiny/slightly", "tiny/fails",
    ]  # fmt: skip
    assert "Performance speedup -50.0 % (1.5 → 0.75), since [050505050...060606060](" in lines[0]
    assert [line.partition(" (")[0] for line in write_terminal_text(made).splitlines()[1:]] == [
        "  new: tiny/much inductor: Absolute latency",
        "  new: tiny/slightly inductor: Absolute latency",
        "  still open: tiny/fails inductor: Performance run fails, crashed, since 2026-10-11",
    ]


def test_cases_link_to_the_site():
    """Where there is one, a case leads to its history in one click."""
    runs = [both(case(), 1.5)] * 6 + [both(case(), 1.0)] * 2
    text = comment_of(dashboard(runs, options=DashboardOptions(site="https://octo.github.io/project")))
    assert f"([history]({case_address('https://octo.github.io/project', case())}))" in text
    assert "[all runs and cases](https://octo.github.io/project)" in text
    assert "github.io" not in comment_of(dashboard(runs))


def test_models_that_are_gone_are_not_hidden():
    """However long the comment, a model that disappeared is in it."""
    gone = "timm_models_ForSequenceClassification_9"
    runs = [a_run(8, large(8)), a_run(9, [record for record in large(9) if record.case.model != gone])]
    runs[1] = replace(runs[1], results=replace(runs[1].results, builds=(BUILD,)))
    findings = collect_findings(runs[1].results, ReportOptions())
    options = DashboardOptions(limit=16_000)
    made = study(findings, runs[1], runs[:1], options, states=judge_accepted(collect_series(runs)))
    text = comment_of(made)
    assert "left out for length" in text
    assert "### Gone (4)" in text
    assert len(re.findall(rf"- `timm_models/{gone}` with `\w*`: last seen 2026-10-13", text)) == 4


def test_markdown_in_folds_is_markdown():
    """GitHub takes what follows a fold's title for HTML up to the first blank line: no code or picture stands there."""
    made = dashboard([nightly(day) for day in range(2)])
    charts = blank_charts(made.findings)
    for pictures in ({}, {f"{name}.png": "https://example.org/x.png" for name in ("chart", "geomean_over_time")}):
        text = make_comment(made, charts, pictures)
        assert re.findall(r"</summary>\n(?:[^\n]+\n)*[^\n]*[`!*][^\n]*", text) == []


def test_hostile_names_stay_names():
    """Markup, fences and mentions in names of models, suites, commits and runs mean nothing in the comment."""
    bad = "</details>~~~\n@all | <script> `x` ![x](http://evil) "
    of = case(bad, suite=f"suite {bad}", dtype="float32")
    made = dashboard(
        [both(of, 1.5)] * 6 + [both(of, 0.5)] * 2, commit=bad, repository=bad, run_id=bad, workflow=bad, branch=bad
    )
    text = comment_of(made)
    outside = re.sub(r"^~~~sh\n.*?^~~~$", "", text, flags=re.S | re.M)
    outside = re.sub(r"<code>.*?</code>", "", re.sub(r"`[^`\n]*`", "", outside))
    assert "<script>" not in outside
    assert "@all" not in outside
    assert "![x]" not in outside
    assert outside.count("<details>") == outside.count("</details>")


def test_sections_have_tables_and_pictures_of_their_own():
    """With several modes or devices every table says which, and no picture overwrites another."""
    runs = [
        [record for mode in Mode for record in both(case(mode=mode), 1.0 + day / 10, compilation_latency=3.0)]
        for day in range(3)
    ]
    made = dashboard(runs)
    assert len(name_trend_charts(made)) == 8
    assert "geomean_over_time_float32_training_cpu.png" in name_trend_charts(made)
    texts = parts_of(made)
    for name in ("gh_summary_diff.txt", "gh_regression.txt"):
        assert "`inference, float32, cpu`" in texts[name]
        assert "`training, float32, cpu`" in texts[name]


def test_charts_over_time_are_drawn_for_any_number_of_runs_and_suites():
    """One run or ten, one suite or five, with gaps: every chart is a picture."""
    one = dashboard([both(case())])
    five = dashboard(
        [
            [record for number in range(5) if (day + number) % 3 for record in both(case(suite=f"s{number}"), 1.5)]
            for day in range(10)
        ]
    )
    for made in (one, five):
        pictures = draw_trends(made)
        assert sorted(pictures) == [f"{name}_over_time.png" for name in ("comp_time", "geomean", "memory", "passrate")]
        assert all(content.startswith(b"\x89PNG") for content in pictures.values())


def test_only_the_last_runs_are_shown_and_all_are_compared():
    """--last shortens what is shown; a compiler whose last run is longer ago is compared with that."""
    runs = [both(case(), 1.5), *([both(case("mlp", "eager"), 1.0)] * 8), both(case(), 0.5)]
    made = dashboard(runs, options=DashboardOptions(last=3))
    assert [look.run.time.day for look in made.summaries] == [12, 13, 14]
    assert made.comparisons[0].before.time.day == 5
    assert [change.metric for change in made.comparisons[0].changes] == ["speedup"]


@pytest.mark.parametrize(
    ("values", "bars"),
    [
        ([1.0, 1.0, 1.0], "▅▅▅"),
        ([1.0, 2.0], "▁█"),
        ([1.0, None, 2.0], "▁·█"),
        ([1.0, 1.01, 1.0], "▄▅▄"),
        ([0.0, 0.0], "▅▅"),
        ([None], "·"),
        ([], ""),
    ],
)
def test_sparklines_show_changes_and_not_noise(values: list[float | None], bars: str):
    """Bars go from the lowest to the highest value, but a hundredth is never the whole height."""
    assert sparkline(values) == bars


def test_a_large_dashboard_fits_and_keeps_what_matters():
    """3 suites, 4 compilers, 60 models and 10 runs stay below the limit; what is open and what failed is
    whole, and what is hidden is counted."""
    made = dashboard([large(day) for day in TEN])
    text = comment_of(made)
    assert 50_000 < len(text.encode()) <= 60_000
    for title, number in (("Worse in the newest run alone", 3), ("Still open", 36)):
        assert f"### {title} ({number})" in text
    assert "<summary>Failed (24)</summary>" in text
    assert len(re.findall(r"^- `\w+/\w+_6` with `inductor`: Absolute latency", text, flags=re.M)) == 3
    assert len(re.findall(r"^- `\w+/\w+_7` with ", text, flags=re.M)) == 12
    assert text.count("<details>") == text.count("</details>")
    assert re.search(r"rows are hidden here for length, see report.html._|left out for length", text)


def large(day: int) -> list[Record]:
    chance = random.Random(day)
    records = []
    for suite in ("torchbench", "huggingface", "timm_models"):
        for number in range(60):
            for place, compiler in enumerate(("eager", "aot_eager", "inductor", "inductor_no_cudagraphs")):
                of = case(
                    f"{suite}_ForSequenceClassification_{number}",
                    compiler,
                    suite=suite,
                    mode=Mode.TRAINING,
                    device="cuda",
                )
                slower = 0.9 if number == 7 and day >= 6 else 1.0
                speedup = 0.5 if (number, day, place) == (6, 9, 2) else (1 + 0.2 * place) * slower
                fails = number % 17 == 3 and place > 1
                records.append(accuracy(of, Status.FAIL_ACCURACY if fails else Status.PASS))
                noise = chance.lognormvariate(0, 0.004)
                records.append(
                    performance(of, speedup * noise, compilation_latency=30 * noise, compression_ratio=0.95 * noise)
                )
    return records


def test_every_selection_of_the_report_holds_for_the_past():
    """Suites that are not asked for are not compared either."""
    runs = [a_run(day, [*both(case(suite="one"), 1.5 - day), *both(case(suite="two"), 1.5 - day)]) for day in range(2)]
    options = ReportOptions(selection=CaseSelection(suites=("two",)))
    made = study(collect_findings(runs[1].results, options), runs[1], [runs[0]], DashboardOptions())
    assert {change.case.suite for item in made.comparisons for change in item.changes} == {"two"}
