"""report.html in a real browser."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from browser import Browser, needs_browser, running_browser
from report_builders import accuracy, both, case, findings, sample_records
from torchperf_ci.core.records import Status
from torchperf_ci.report.charts import draw
from torchperf_ci.report.html import write_page

pytestmark = needs_browser


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with running_browser(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture(scope="module")
def page(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Browser:
    """The browser, with the sample report open, and the log of a case beside it."""
    found = findings([replace(record, log=f"logs/{record.case.model} (1).log") for record in sample_records()])
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(write_page(found, draw(found), files={"logs/unet (1).log"}), encoding="utf-8")
    (path.parent / "logs").mkdir()
    (path.parent / "logs" / "unet (1).log").write_text("what unet printed")
    browser.size(1200, 900)
    browser.open(path)
    return browser


MODELS = "return [...document.querySelectorAll('h2')].find((h) => h.textContent.startsWith('tiny')).parentElement"
SPEEDUPS = f"{MODELS}.querySelector('table')"


def column(page: Browser, place: int) -> list[str]:
    """What stands in a column of the suite's table, from top to bottom, of the rows that are shown."""
    rows = f"[...({SPEEDUPS.removeprefix('return ')}).tBodies[0].rows].filter((row) => !row.hidden)"
    texts: list[str] = page.run(f"return {rows}.map((row) => row.cells[{place}].textContent)")
    return texts


def click(page: Browser, place: int) -> str:
    """Click the title of a column; how it is sorted now."""
    header = f"({SPEEDUPS.removeprefix('return ')}).tHead.rows[0].cells[{place}]"
    sorted_as: str = page.run(f"{header}.querySelector('button').click(); return {header}.getAttribute('aria-sort')")
    return sorted_as


def type_filter(page: Browser, text: str) -> str:
    """Type into the filter; what the page says about the number of rows."""
    shown: str = page.run(
        f"const box = document.getElementById('filter'); box.value = {json.dumps(text)};"
        "box.dispatchEvent(new Event('input')); return document.getElementById('shown').textContent"
    )
    return shown


def test_a_click_sorts_numbers_as_numbers_and_a_second_one_the_other_way(page: Browser):
    """What is no number stands at the end both ways."""
    assert click(page, 3) == "ascending"
    assert [text.split("x")[0] for text in column(page, 3)][:3] == ["0.870", "1.400", "1.520"]
    assert set(column(page, 3)[3:]) == {"missing", "crashed", "model_fail_to_load"}
    assert click(page, 3) == "descending"
    assert [text.split("x")[0] for text in column(page, 3)][:3] == ["1.520", "1.400", "0.870"]
    assert set(column(page, 3)[3:]) == {"missing", "crashed", "model_fail_to_load"}


def test_a_click_sorts_names_by_alphabet(page: Browser):
    """Upper and lower case and numbers in names as people expect it."""
    assert click(page, 0) == "ascending"
    assert column(page, 0) == ["convnet", "lstm", "mlp", "recommender", "resnet18", "unet"]


def test_typing_filters_all_tables_by_every_word(page: Browser):
    """The page says how many rows are left; an empty filter brings all back."""
    assert type_filter(page, "LSTM crash").startswith("3 of ")
    assert column(page, 0) == ["lstm"]
    assert type_filter(page, "no such model").startswith("0 of ")
    assert type_filter(page, "") == ""
    assert len(column(page, 0)) == 6


def test_only_what_failed_can_be_shown(page: Browser):
    """A tick hides what passed."""
    page.run("document.getElementById('failing').click()")
    assert sorted(column(page, 0)) == ["lstm", "recommender", "unet"]
    page.run("document.getElementById('failing').click()")
    assert len(column(page, 0)) == 6


def test_nothing_is_loaded_from_anywhere(page: Browser):
    """The page is complete in itself."""
    assert page.run("return performance.getEntriesByType('resource').length") == 0


@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_fits_its_window(page: Browser, width: int):
    """On a phone tables and charts scroll in their own frame, never the page; on a laptop nothing has to."""
    page.size(width, 900)
    page.run("document.querySelectorAll('details').forEach((fold) => { fold.open = true; })")
    assert page.run("return document.documentElement.scrollWidth") <= width
    assert page.screenshot().shape[1] == width
    frames = "[...document.querySelectorAll('.scroll, .chart')]"
    too_wide = page.run(f"return {frames}.filter((frame) => frame.scrollWidth > frame.clientWidth).length")
    page.run("document.querySelectorAll('details').forEach((fold) => { fold.open = false; })")
    assert (too_wide == 0) == (width == 1280)


def test_a_phone_shows_status_and_reason_first(page: Browser):
    """Beside the model's name, without scrolling."""
    page.size(390, 900)
    titles, right = page.run(
        "const cells = [...document.querySelector('main table').tHead.rows[0].cells];"
        "const seen = cells.filter((cell) => cell.getBoundingClientRect().right <= 390);"
        "return [seen.map((cell) => cell.textContent), cells[2].getBoundingClientRect().right]"
    )
    assert titles[:3] == ["Model", "Status", "Reason"]
    assert right <= 390


def test_links_lead_to_the_files_beside_the_page(page: Browser):
    """A log that is there is a link that opens; one that is not there is named."""
    page.size(1280, 900)
    links = "[...document.querySelector('main table').querySelectorAll('a')]"
    assert page.run(f"return {links}.map((link) => link.textContent)") == ["log"]
    assert page.run("return document.querySelector('main table').textContent").count("logs/") == 1
    page.run(f"{links}[0].click()")
    assert page.run("return [location.protocol, document.body.innerText.trim()]") == ["file:", "what unet printed"]
    page.back()


@pytest.mark.parametrize(("scheme", "bright"), [("light", True), ("dark", False)])
def test_the_page_is_light_or_dark_as_the_reader_likes(page: Browser, scheme: str, *, bright: bool):
    """The background follows, and the charts' text stands out against it."""
    page.scheme(scheme)
    page.size(1200, 900)
    assert (page.screenshot()[..., :3].mean() > 0.5) == bright
    ink = page.run("return getComputedStyle(document.querySelector('figure text')).fill")
    red = int(ink.removeprefix("rgb(").split(",")[0])
    assert (red < 128) == bright


@pytest.mark.parametrize(
    ("reason", "least_width", "most_height"),
    [("killed by signal 11 (SIGSEGV)", 80, 80), ("BackendCompilerFailed: 'View' has no attribute. " * 5, 140, 330)],
)
def test_reasons_can_be_read_on_a_phone(browser: Browser, tmp_path: Path, reason, least_width, most_height):
    """Beside status and model, in lines of some length, so that rows are not too tall."""
    found = findings([accuracy(case(), Status.FAIL_TO_RUN, reason=reason), *both(case("lstm"))])
    path = tmp_path / "report.html"
    path.write_text(write_page(found, draw(found)), encoding="utf-8")
    browser.size(390, 900)
    browser.open(path)
    cell = "document.querySelector('main table').tBodies[0].rows[0].cells[2]"
    text, width, height = browser.run(
        f"const cell = {cell}; return [cell.textContent, cell.clientWidth, cell.clientHeight]"
    )
    assert text == reason.strip()
    assert width >= least_width
    assert height <= most_height
    assert browser.run("return document.documentElement.scrollWidth") <= 390


def test_a_long_word_in_the_verdict_fits_a_phone(browser: Browser, tmp_path: Path):
    """An address in the reason, say."""
    reason = f"download it from https://example.org/{'a/very/long/address/' * 6}"
    found = findings([accuracy(case(), Status.MODEL_FAIL_TO_LOAD, reason=reason)])
    path = tmp_path / "report.html"
    path.write_text(write_page(found, draw(found)), encoding="utf-8")
    browser.size(390, 900)
    browser.open(path)
    assert "example.org" in browser.run("return document.querySelector('h1').textContent")
    assert browser.run("return document.documentElement.scrollWidth") <= 390
