"""Checks and updates as Markdown: hostile text, and limits."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torchperf_ci.expectations.check import CheckOutcome, ModelCheck, TableCheck
from torchperf_ci.expectations.collect import ConfigRun
from torchperf_ci.expectations.report import (
    write_check_markdown,
    write_check_text,
    write_update_markdown,
    write_update_text,
)
from torchperf_ci.expectations.table import CheckKind, ExpectationTable
from torchperf_ci.expectations.update import plan_update
from torchperf_ci.shards.uploads import Configuration

TEXT = st.text(alphabet="ab|`@#<>&*_[]()!\n\r\x1b\u202eé😀", max_size=30)


def checked(fails, passes) -> TableCheck:
    lines = [
        ModelCheck(name=f"fails{n}", outcome=CheckOutcome.FAIL, fails=True, detail=text) for n, text in enumerate(fails)
    ] + [
        ModelCheck(name=f"flaky{n}", outcome=CheckOutcome.FAIL_BUT_FLAKY, fails=False, detail=text or "x")
        for n, text in enumerate(passes)
    ]  # fmt: skip
    return TableCheck(kind=CheckKind.ACCURACY, table="t", lines=tuple(lines))


@given(st.lists(TEXT, max_size=8), st.lists(TEXT, max_size=8), st.integers(400, 4_000))
def test_a_check_fits_and_hides_no_failure_before_anything_else(fails, passes, limit):
    """Whatever the text: under the limit, whole lines, and a failing model goes last."""
    markdown = write_check_markdown([checked(fails, passes)], "torchperf-ci update-expected x", limit=limit)
    assert len(markdown.encode()) <= limit
    shown_failures = [n for n in range(len(fails)) if f"`fails{n}`" in markdown]
    if "`flaky0`" in markdown:
        assert len(shown_failures) == len(fails)
    rows = [line for line in markdown.splitlines() if line.startswith(("| `fails", "| `flaky"))]
    assert len(rows) >= len(shown_failures)
    assert all(line.endswith(" |") and line.count(" | ") == 1 for line in rows)
    assert "\x1b" not in markdown
    assert "\u202e" not in markdown


@given(st.lists(TEXT, min_size=1, max_size=4))
def test_a_check_is_one_line_a_model(fails):
    """A reason cannot begin a line of its own, where it might be a command."""
    text = write_check_text([checked(fails, [])], "")
    assert sum(line.startswith("fails") for line in text.splitlines()) == len(fails)
    assert "\x1b" not in text


def test_an_update_without_changes_says_so(tmp_path: Path):
    """Nothing to write is a result, too."""
    update = plan_update(tmp_path, [])
    assert write_update_markdown(update) == "## Expectations: nothing changes\n"
    assert write_update_text(update, dry_run=False) == ""


@pytest.mark.parametrize("limit", [300, 2_000, 60_000])
def test_an_update_of_many_models_fits(tmp_path: Path, limit: int):
    """The summary stays under the limit and says how much is hidden, and where it is."""
    rows = tuple((f"model{number}", "pass", str(number)) for number in range(3_000))
    tables = {"t.csv": ExpectationTable(columns=("name", "accuracy", "graph_breaks"), rows=rows)}
    run = ConfigRun(config=Configuration("x"), tables=tables, notes=("`hi` @all",))
    markdown = write_update_markdown(plan_update(tmp_path, [run]), sha="a" * 40, limit=limit)
    assert len(markdown.encode()) <= limit
    assert markdown.startswith("## Expectations: 3,000 changes in 1 table from commit")
    assert "the diff" in markdown
