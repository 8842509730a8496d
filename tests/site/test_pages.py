"""The pages of a site in a real browser, opened from the disk."""

from __future__ import annotations

import http.server
import json
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from browser import Browser, needs_browser, running_browser
from site_builders import (
    CASES,
    FAILING,
    FAMILY,
    HOSTILE,
    SLOWER,
    a_history,
    a_night,
    comparison_address,
    make_folder,
)
from torchperf_ci.dashboard.words import case_address, identify_case, identify_run

pytestmark = needs_browser

CHART = "document.querySelector('.chart[data-drawn]')"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    make_folder(a_history(folder / "history"), folder / "site")
    return folder / "site"


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with running_browser(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture
def browser(opened: Browser, site: Path) -> Iterator[Browser]:
    """The browser at the width of a laptop; whatever a test does, the console stays empty, and all is from the site."""
    opened.size(1280, 1000)
    opened.scheme("light")
    yield opened
    addresses = opened.run("return performance.getEntriesByType('resource').map((each) => each.name)")
    home = opened.run("return location.href.split('index.html')[0]")
    assert [address for address in addresses if not address.startswith((home, "data:"))] == []
    assert opened.console() == []


def show(browser: Browser, site: Path, address: str = "#/") -> None:
    """Open a page and wait until it is there; the site is loaded once, since that takes a while."""
    home = (site / "index.html").as_uri()
    if not browser.run(f"return location.href.startsWith({json.dumps(home)})"):
        browser.open(home + address)
    else:
        browser.run(
            f"document.getElementById('main').dataset.old = true; const to = {json.dumps(address)};"
            "if (location.hash === to) pages.show(); else location.hash = to"
        )
    main = "document.querySelector('main[data-ready]:not([data-old])')"
    browser.wait(f"{main} && !{main}.textContent.includes('Loading')")
    browser.run("picks.clear(); scrollTo(0, 0)")


def click(browser: Browser, element: str) -> None:
    browser.run(f"({element}).click()")


def text(browser: Browser, element: str = "document.getElementById('main')") -> str:
    shown: str = browser.run(f"return ({element}).innerText")
    return shown


def link(name: str, within: str = "document.getElementById('main')") -> str:
    return f"[...({within}).querySelectorAll('a')].find((link) => link.textContent === {json.dumps(name)})"


def place_of(browser: Browser, number: int, trace: str = "scatter") -> tuple[float, float]:
    """Where the marker of a point of the first chart is, in the window; the chart is scrolled into it."""
    browser.run(f"{CHART}.scrollIntoView({{block: 'center'}})")
    x, y = browser.run(
        f"const box = {CHART}.querySelectorAll('.{trace}layer .trace .point')[{number}].getBoundingClientRect();"
        "return [box.x + box.width / 2, box.y + box.height / 2]"
    )
    return x, y


def shown_range(browser: Browser) -> list[str]:
    dates: list[str] = browser.run(f"return {CHART}.layout.xaxis.range.map(String)")
    return dates


def test_since_when_and_which_commit_takes_two_clicks(browser: Browser, site: Path):
    """A newcomer opens the site, clicks the case, reads since when, and clicks the commit."""
    show(browser, site)
    click(browser, link("tiny/mlp", "document.getElementById('open')"))
    browser.wait("document.querySelector('#states .since')")
    since = text(browser, "document.querySelector('#states .since')")
    assert "Since 2026-10-30 03:15 UTC, commit 1919191919 “Fuse <b>25</b> & more”" in since
    assert "Last good: 2026-10-29" in since
    click(browser, "document.querySelector('#states .commits summary')")
    assert "2 commits between them\naaaaaaaaaa <i>a</i>\nbbbbbbbbbb <i>b</i>" in text(
        browser, "document.querySelector('#states .commits')"
    )
    target = browser.run(f"return ({link('1919191919', '''document.getElementById('states')''')}).href")
    assert target == f"https://github.com/octo/project/commit/{'19' * 20}"
    between = browser.run(f"return ({link('the commits between them')}).href")
    assert between == f"https://github.com/octo/project/compare/{'18' * 20}...{'19' * 20}"


def test_the_first_page_says_what_is_open_and_how_it_stands(browser: Browser, site: Path):
    """Cases with their size, commit and commands; four charts with a line per suite and compiler; a search."""
    show(browser, site)
    assert text(browser, "document.querySelector('h1')") == "✗ 1 case failing, 1 case worse"
    opened = text(browser, "document.getElementById('open')")
    assert "failing Performance run: crashed: killed by signal 11 <b>(SIGSEGV)</b>" in opened
    assert "worse Performance speedup: 1.58" in opened
    assert opened.count("Owner: @org/models") == 2
    compare = f"--base-ref {'18' * 20} --head-ref {'19' * 20}"
    browser.run("document.querySelectorAll('#open details').forEach((each) => { each.open = true; })")
    commands = text(browser, "document.getElementById('open')")
    assert compare in commands
    assert "--explain all" in commands
    browser.run("document.querySelector('.charts').scrollIntoView()")
    browser.wait("document.querySelectorAll('.chart[data-drawn]').length === 4")
    names = browser.run(f"return {CHART}.data.map((trace) => trace.name)")
    assert "tiny · float32 · inductor" in names
    assert len(names) == 5
    dashes = browser.run(f"return {CHART}.data.map((trace) => [trace.line.dash, trace.marker.symbol].join())")
    assert len(set(dashes)) == 5, "lines can be told apart without colour"


def test_filters_are_in_the_address(browser: Browser, site: Path):
    """What is chosen changes the address, and the address shows what was chosen."""
    show(browser, site)
    browser.run(
        "const select = document.querySelector('select[name=suite]'); select.value = 'huggingface';"
        "select.dispatchEvent(new Event('change'))"
    )
    browser.wait("location.hash === '#/?suite=huggingface'")
    assert text(browser, "document.querySelector('#open h2')") == "Nothing is open"
    show(browser, site, "#/?suite=tiny&compiler=inductor&q=mlp&branch=main")
    assert browser.run("return document.querySelector('select[name=compiler]').value") == "inductor"
    assert browser.run("return document.querySelector('select[name=branch]').value") == "main"
    rows = browser.run("return [...document.querySelectorAll('#cases tbody tr')].map((row) => row.cells[0].innerText)")
    assert rows == ["tiny/mlp"]
    browser.wait("document.querySelectorAll('.chart[data-drawn]').length >= 1")
    assert len(browser.run(f"return {CHART}.data")) == 1
    assert len(browser.run(f"return {CHART}.data[0].x")) == sum(
        a_night(each).source.branch == "main" for each in range(40)
    )


def test_search_finds_cases_by_every_word(browser: Browser, site: Path):
    """Of name, compiler and state; the words stand in the address."""
    show(browser, site)
    for words, found in (
        ("matmul 256", 1),
        ("inductor worse", 1),
        ("onerror", 1),
        ("no such case", 0),
        ("", len(CASES)),
    ):
        browser.run(
            f"const box = document.getElementById('search'); box.value = {json.dumps(words)};"
            "box.dispatchEvent(new Event('input'))"
        )
        assert len(browser.run("return [...document.querySelectorAll('#cases tbody tr')]")) == found
        assert browser.run("return new URLSearchParams(location.hash.split('?')[1]).get('q') ?? ''") == words


def test_a_case_has_a_chart_of_every_metric(browser: Browser, site: Path):
    """The interval as a band, a line per machine that is told apart without colour, and the change as a mark."""
    show(browser, site, case_address("", SLOWER))
    browser.wait(CHART)
    lines = browser.run(
        f"return {CHART}.data.filter((trace) => trace.customdata)"
        ".map((trace) => [trace.name, trace.x.length, trace.marker.symbol, trace.line.dash])"
    )
    assert lines == [
        ["EPYC, 4 CPUs", 30, "circle", "solid"],
        ["AMD EPYC 9534 64-Core Processor, 64 CPUs", 10, "square", "dash"],
    ]
    assert len(browser.run(f"return {CHART}.data.filter((trace) => trace.fill === 'toself')")) == 2
    assert browser.run(f"return {CHART}.layout.annotations.map((mark) => mark.text)")[0].startswith("✗ −3")
    assert browser.run(f"return {CHART}.layout.shapes[0].x0") == "2026-10-30T03:15:00"
    titles = browser.run("return [...document.querySelectorAll('figcaption')].map((each) => each.innerText)")
    assert titles[0] == "Performance speedup higher is better"
    assert any(title.startswith("Peak memory, compiled") for title in titles)
    show(browser, site, case_address("", SLOWER, "abs_latency"))
    browser.wait(CHART)
    assert text(browser, "document.querySelector('figcaption')") == "Absolute latency lower is better"


def test_the_mouse_shows_a_run_and_two_clicks_compare_two_runs(browser: Browser, site: Path):
    """Value, interval, commit, day, machine and run of the point; then the page with both runs side by side."""
    show(browser, site, case_address("", SLOWER))
    browser.wait(CHART)
    browser.move(*place_of(browser, 24))
    browser.wait("document.querySelector('.detail').innerText.includes('1818181818')")
    detail = text(browser, "document.querySelector('.detail')")
    assert detail.startswith("1.5")
    assert "2026-10-29 03:15 UTC" in detail
    assert "EPYC, 4 CPUs" in detail
    assert a_night(24).key in detail
    assert "x (1.5" in detail, "the interval"
    browser.wait(f"{CHART}.querySelector('.hoverlayer .hovertext')")
    for number in (24, 25):
        at = place_of(browser, number)
        browser.drag(at, at)
        browser.wait(f"document.getElementById('picks').innerText.includes('{a_night(number).source.commit[:10]}')")
        time.sleep(0.4)  # two clicks at once are a double click, which ends a zoom
    browser.wait("document.getElementById('picks').innerText.includes('Compare these two runs')")
    click(browser, link("Compare these two runs", "document.getElementById('picks')"))
    browser.wait("document.getElementById('comparison')")
    address = browser.run("return location.hash")
    assert address == comparison_address(a_night(24).key, a_night(25).key)


def test_a_drag_zooms_and_the_range_is_in_the_address(browser: Browser, site: Path):
    """All charts follow; the same address shows the same range; a button goes back to everything."""
    show(browser, site, case_address("", SLOWER))
    browser.wait(CHART)
    whole = shown_range(browser)
    (left, y), (right, _) = place_of(browser, 10), place_of(browser, 20)
    browser.drag((left, y + 30), (right, y + 30))
    browser.wait("location.hash.includes('from=')")
    zoomed = shown_range(browser)
    assert whole[0] < zoomed[0] < zoomed[1] < whole[1]
    assert zoomed[0].startswith("2026-10-1")
    address = browser.run("return location.hash")
    show(browser, site, address)
    browser.wait(CHART)
    assert shown_range(browser) == zoomed
    click(browser, "[...document.querySelectorAll('.ranges button')].find((each) => each.innerText === 'All')")
    browser.wait("!location.hash.includes('from=')")
    browser.wait(f"{CHART}.layout.xaxis.range[0] < '2026-10-06'")


def test_the_keyboard_goes_from_run_to_run(browser: Browser, site: Path):
    """Arrow keys along a line and to the other machine, Enter chooses; the point is said in words."""
    show(browser, site, case_address("", SLOWER))
    browser.wait(CHART)
    browser.run(f"{CHART}.focus()")
    browser.press("End")
    browser.wait("document.querySelector('.detail').innerText.includes('2026-11-03')")
    browser.press("ArrowLeft")
    browser.wait("document.querySelector('.detail').innerText.includes('2026-11-02')")
    browser.press("Enter")
    browser.wait("document.getElementById('picks').innerText.includes('2026-11-02')")
    browser.press("ArrowDown")
    browser.wait("document.querySelector('.detail').innerText.includes('64 CPUs')")
    browser.press("Enter")
    browser.wait("document.getElementById('picks').innerText.includes('Compare these two runs')")


def test_failures_are_marks_with_their_reason(browser: Browser, site: Path):
    """At the foot of every chart, and in the table of all values."""
    show(browser, site, case_address("", FAILING))
    browser.wait(CHART)
    failed = browser.run(f"return {CHART}.data.find((trace) => trace.name === 'failed').x")
    assert [each[:10] for each in failed] == ["2026-11-10", "2026-11-11", "2026-11-12", "2026-11-13"]
    browser.run(f"{CHART}.focus()")
    for key in ("ArrowUp", "End"):
        browser.press(key)
    browser.wait("document.querySelector('.detail').innerText.includes('performance crashed: killed by signal 11')")
    click(browser, "document.querySelector('#values summary')")
    row = browser.wait("document.querySelector('#values tbody tr')?.innerText")
    assert "✗ performance crashed killed by signal 11 <b>(SIGSEGV)</b>" in row


def test_the_samples_of_two_runs_stand_beside_each_other(browser: Browser, site: Path):
    """A box per run and arm, in ms, loaded when they are asked for."""
    show(browser, site, case_address("", SLOWER))
    loaded = "performance.getEntriesByType('resource').filter((each) => each.name.includes('/samples-')).length"
    assert browser.run(f"return {loaded}") == 0
    click(browser, "document.querySelector('#samples summary')")
    browser.wait("document.getElementById('samples-chart').dataset.drawn")
    assert len(browser.run("return document.getElementById('samples-chart').data")) == 2
    browser.run(
        "const other = document.querySelectorAll('#samples select')[1]; other.value = other.options[20].value;"
        "other.dispatchEvent(new Event('change'))"
    )
    browser.wait("document.getElementById('samples-chart').data.length === 4")
    assert "12 samples" in text(browser, "document.getElementById('samples')")


def test_parameters_are_a_family_of_lines(browser: Browser, site: Path):
    """Models that differ in their parameters alone; each links to its page."""
    show(browser, site, case_address("", FAMILY[1]))
    browser.run("document.getElementById('family').scrollIntoView()")
    chart = "document.querySelector('#family .chart[data-drawn]')"
    browser.wait(chart)
    names = browser.run(f"return {chart}.data.map((trace) => trace.name)")
    assert names == [f"n={size},dtype=float32" for size in (128, 256, 512)]
    click(browser, link("n=512,dtype=float32", "document.getElementById('family')"))
    browser.wait(f"location.hash.includes('{identify_case(FAMILY[2])}')")


def test_two_runs_side_by_side(browser: Browser, site: Path):
    """What differs in their environments, and every case: what changed stands on top; any two can be chosen."""
    show(browser, site, comparison_address(a_night(20).key, a_night(39).key))
    environment = text(browser, "document.getElementById('environment')")
    for part in ("cpu_count\t4\t64", "torch\t2.13.0\t2.14.0"):
        assert part in environment
    rows = browser.run("return [...document.querySelectorAll('#comparison tbody tr')].map((row) => row.innerText)")
    assert rows[0].startswith("tiny/lstm inductor")
    assert "accuracy pass, performance pass → accuracy pass, performance crashed" in rows[0]
    assert rows[1].startswith("tiny/mlp inductor")
    assert "✗ −3" in rows[1]
    browser.run(
        f"const select = document.querySelector('select[name=head]'); select.value = '{identify_run(a_night(21).key)}';"
        "select.dispatchEvent(new Event('change'))"
    )
    browser.wait("document.getElementById('environment')?.innerText.includes('Nothing differs')")
    assert identify_run(a_night(21).key) in browser.run("return location.hash")
    show(browser, site, comparison_address("gone", a_night(39).key))
    assert "is not among the runs that are shown" in text(browser)


def test_hostile_names_are_text(browser: Browser, site: Path):
    """On every page: as a case, a metric, a suite and in a chart."""
    show(browser, site, case_address("", HOSTILE))
    browser.wait(CHART)
    assert text(browser, "document.querySelector('h2')").startswith(f"{HOSTILE.suite}/{HOSTILE.model}")
    titles = browser.run("return [...document.querySelectorAll('figcaption')].map((each) => each.innerText)")
    assert {"</script><b> & %{y} higher is better", "__proto__ higher is better"} <= {
        title.replace(" (1/s)", "") for title in titles
    }
    for address in (
        "#/",
        "#/?suite=%3Cimg%20src%3Dx%20onerror%3Dalert(1)%3E&q=%3Cb%3E",
        "#/runs",
        case_address("", HOSTILE, "</script><b> & %{y}"),
    ):
        show(browser, site, address)
        assert browser.run("return document.querySelectorAll('#main img, #main b img, #main script').length") == 0


def test_a_wrong_address_says_so(browser: Browser, site: Path):
    """A case that is not there links to all that are."""
    show(browser, site, "#/case/000000000000?metric=x")
    assert "No such case" in text(browser)
    click(browser, link("All cases"))
    browser.wait("document.getElementById('cases')")


def test_back_goes_to_the_page_before(browser: Browser, site: Path):
    """With the filters it had."""
    show(browser, site, "#/?suite=tiny")
    click(browser, link("tiny/mlp", "document.getElementById('open')"))
    browser.wait("document.getElementById('states')")
    browser.back()
    browser.wait("document.querySelector('select[name=suite]')?.value === 'tiny'")


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("address", ["#/", case_address("", SLOWER), case_address("", HOSTILE), "#/runs"])
def test_pages_fit_a_phone_and_a_laptop(browser: Browser, site: Path, address: str, width: int):
    """Tables scroll in a frame of their own, never the page."""
    browser.size(width, 900)
    show(browser, site, address)
    browser.wait(f"{CHART} || location.hash.startsWith('#/runs') || document.querySelector('.charts .chart')")
    assert browser.run("return document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize(("scheme", "bright"), [("light", True), ("dark", False)])
def test_pages_and_charts_are_light_or_dark_as_the_reader_likes(
    browser: Browser, site: Path, scheme: str, *, bright: bool
):
    """Also when that changes while a page is open."""
    browser.scheme("dark" if bright else "light")
    show(browser, site, case_address("", SLOWER))
    browser.wait(CHART)
    browser.scheme(scheme)
    ink = f"getComputedStyle({CHART}.querySelector('.xtick text')).fill"
    browser.wait(f"(Number({ink}.split('(')[1].split(',')[0]) < 128) === {json.dumps(bright)}")
    assert (browser.screenshot()[..., :3].mean() > 0.5) == bright


def test_a_web_server_shows_the_same(browser: Browser, site: Path):
    """Below any path, as an artifact host has it."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=site.parent))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        browser.open(f"http://127.0.0.1:{server.server_port}/site/index.html{case_address('', SLOWER)}")
        browser.wait(CHART)
        assert "commit 1919191919" in text(browser)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
