"""How a step talks to GitHub: values cannot say more than they are, and a summary that does not fit is not lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from step_outputs import read_outputs
from torchperf_ci.github.step_files import SUMMARY_LIMIT, append_summary, write_outputs


def test_outputs_come_back_as_they_were(tmp_path: Path) -> None:
    """Also a value that tries to end early and to set another output; what was there stays."""
    target = tmp_path / "output"
    target.write_text("earlier=1\n")
    hostile = "a\nEOF\nfailed=0\nname<<x\ny\nx"
    write_outputs({"GITHUB_OUTPUT": str(target)}, {"results": hostile, "empty": ""})
    write_outputs({"GITHUB_OUTPUT": str(target)}, {"failed": "3"})
    earlier, _, rest = target.read_text().partition("\n")
    assert earlier == "earlier=1"
    assert read_outputs(rest) == {"results": hostile, "empty": "", "failed": "3"}


def test_without_github_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At home there are no such files."""
    monkeypatch.chdir(tmp_path)
    write_outputs({}, {"a": "1"})
    append_summary({"GITHUB_STEP_SUMMARY": ""}, "text")
    assert list(tmp_path.iterdir()) == []


def test_summaries_follow_one_another_until_they_do_not_fit(tmp_path: Path) -> None:
    """Over the limit GitHub would drop the whole of it, so that a sentence stands in for the report."""
    target = tmp_path / "summary.md"
    environ = {"GITHUB_STEP_SUMMARY": str(target)}
    append_summary(environ, "# One")
    append_summary(environ, "ü" * (SUMMARY_LIMIT // 2))
    assert target.read_text() == ("# One\n\n_The report does not fit into this step summary; it is in the artifact._\n")
    append_summary(environ, "# Two")
    assert target.read_text().endswith("artifact._\n# Two\n")
