"""compare.html: what it says, what outsiders cannot do to it, and how it looks in a real browser."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from browser import Browser, needs_browser, running_browser
from compare_builders import HEADER, case, findings, measured
from torchperf_ci.compare.charts import draw_charts
from torchperf_ci.compare.model import CommitSummary
from torchperf_ci.compare.report import judge_cases, render_comparison
from torchperf_ci.core.records import Source

SHA = "0123456789abcdef0123456789abcdef01234567"


def test_the_page_has_both_commits_every_case_and_the_command() -> None:
    """Commits are linked where the repository's pages are."""
    header = replace(
        HEADER,
        source=Source(repository="org/project", run_id="7"),
        server="https://github.com",
        head_commit=CommitSummary(sha=SHA, subject="Make it <b>fast</b>"),
        commands=("torchperf-ci compare --base-ref main",),
    )
    page = render_comparison(replace(findings(), header=header), []).replace("<wbr>", "")
    assert f'<a href="https://github.com/org/project/commit/{SHA}">0123456789ab</a> Make it &lt;b&gt;fast' in page
    assert '<a href="https://github.com/org/project/actions/runs/7">' in page
    assert "torchperf-ci compare --base-ref main" in page
    assert all(f"tiny/{each.case.model} inductor" in page.replace("<wbr>", "") for each in findings().comparisons)


def test_a_repository_that_is_no_name_is_not_linked() -> None:
    """Nor is what is no commit."""
    header = replace(HEADER, source=Source(repository="javascript:alert(1)"), server="https://github.com")
    for sha in (SHA, "x"):
        page = render_comparison(replace(findings(), header=replace(header, head_commit=CommitSummary(sha=sha))), [])
        assert "/commit/" not in page


def test_hostile_names_are_text() -> None:
    """A model's name, a label and a warning."""
    evil = replace(measured("x", 1.5), case=replace(case("x"), model="<img src=x onerror=alert(1)>"))
    page = render_comparison(judge_cases(replace(HEADER, base="<script>", warnings=("<b>",)), [evil]), [])
    assert "<img" not in page
    assert (page.count("<script>"), "<b>" in page) == (1, False)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """The browser, with the page of every verdict open."""
    folder = tmp_path_factory.mktemp("page")
    (folder / "compare.html").write_text(render_comparison(findings(), draw_charts(findings())), encoding="utf-8")
    with running_browser(folder / "profile") as browser:
        browser.open(folder / "compare.html")
        yield browser


@needs_browser
@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_fits_its_window(browser: Browser, width: int) -> None:
    """Nothing but tables and large charts scrolls sideways, and the picture of all changes is whole."""
    browser.size(width, 900)
    assert browser.run("return document.documentElement.scrollWidth") <= width
    assert browser.run("return document.querySelector('.chart.fits svg').getBoundingClientRect().right") <= width


@needs_browser
@pytest.mark.parametrize(("scheme", "bright"), [("light", True), ("dark", False)])
def test_the_page_is_light_or_dark_as_the_reader_likes(browser: Browser, scheme: str, *, bright: bool) -> None:
    """The background follows, and the picture has none of its own."""
    browser.scheme(scheme)
    browser.run("document.querySelector('.chart.fits').scrollIntoView()")
    pixels = browser.screenshot()
    assert (pixels[:, :, :3].mean() > 0.5) == bright


@needs_browser
def test_only_what_is_bad_can_be_shown(browser: Browser) -> None:
    """Of the table of changes: slower, failed and missing cases."""
    browser.run("document.getElementById('failing').click()")
    rows = "[...document.querySelectorAll('tbody')][0].rows"
    shown = browser.run(f"return [...{rows}].filter((row) => !row.hidden).map((row) => row.cells[0].textContent)")
    assert set(shown) == {"slower", "worse", "failed", "missing"}
