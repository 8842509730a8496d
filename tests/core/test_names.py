"""Names that can be kept apart, shown and written, and those that cannot."""

from __future__ import annotations

import re
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torchperf_ci.core.errors import UsageProblem
from torchperf_ci.core.escape import one_line
from torchperf_ci.core.file_systems import open_file_system
from torchperf_ci.core.names import name_problem
from torchperf_ci.core.records import Mode
from torchperf_ci.core.results import safe_name
from torchperf_ci.run.plan import Selection, SuiteListing, chosen_models

Cli = Callable[..., subprocess.CompletedProcess[str]]
ABSURD = ("", " ", ".", "..", "...", "/etc/passwd", "../up", "a/../b", "a//b", "a/", "~/x", "a\\b", "a\nb", "a\x00b",
          "a\x1b[31m", "a\u202eb", "a\u200bb", " a", "a ", "m" * 10_000)  # fmt: skip


@pytest.mark.parametrize("name", ABSURD, ids=lambda name: repr(name[:12]))
def test_absurd_names_have_a_problem(name: str) -> None:
    """Of a suite as well as of a model."""
    assert name_problem(name, may_have_folders=True)
    assert name_problem(name)


@pytest.mark.parametrize(
    "name", ["mlp", "BERT_pytorch", "google-bert/bert-base.v1", "naïve model (2)", "…", "a.b", ".hidden"]
)
def test_names_that_people_use_have_none(name: str) -> None:
    """Those of model hubs with a folder included."""
    assert name_problem(name, may_have_folders=True) == ""
    assert ("/" in name) == bool(name_problem(name))


@given(st.text(max_size=300))
def test_a_name_without_a_problem_is_shown_as_it_is(name: str) -> None:
    """In one line, and as part of a file's name."""
    if not name_problem(name, may_have_folders=True):
        assert one_line(name) == name
        assert safe_name(name) not in {"", ".", ".."}


def test_a_suite_with_absurd_names_is_refused_before_anything_runs(cli: Cli, tmp_path: Path) -> None:
    """With the suite, each name and what is wrong with it."""
    suite = tmp_path / "bench.py"
    suite.write_text(
        "def make(batch_size):\n    raise SystemExit('it ran')\n"
        "MODELS = {name: make for name in ('good', '', '../up', 'a\\n::error::b', 'm' * 10_000)}\n"
    )
    done = cli("run", "--suites", str(suite), "--inference", "--devices", "cpu", "--output-dir", "out")
    assert done.returncode == 2, done.stderr
    assert "it ran" not in done.stderr
    for said in (str(suite), "is blank", "'../up' is no name but a path", "10,000 characters"):
        assert said in done.stderr
    assert not list(tmp_path.glob("cwd/out/records.jsonl"))


@pytest.mark.parametrize("pattern", ["(a+)+$", "(a|aa)*$", "(a*)*b", "([a-z]+)*/x$"])
def test_a_filter_that_backtracks_without_end_is_refused(pattern: str) -> None:
    """With the pattern, instead of a job that hangs until somebody kills it."""
    selection = Selection(suites=("s",), mode=Mode.INFERENCE, filters=(re.compile(pattern),))
    suite = SuiteListing(spec="s", name="s", models=("a" * 60 + "!",))
    with pytest.raises(UsageProblem, match="repetition inside of a repetition"):
        chosen_models(selection, suite)
    assert signal.getsignal(signal.SIGVTALRM) is signal.SIG_DFL


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("simplecache::s3://user:password@bucket/x", "::"),
        ("filecache::file:///tmp/x", "::"),
        ("zip://*.csv::file:///tmp/x.zip", "::"),
        ("reference://x", "'reference'"),
        ("local:///tmp/x", "'local'"),
        ("python://os", "'python'"),
        ("dir://x", "'dir'"),
        ("github://org:repo@main/x", "'github'"),
        ("s3://bucket/x?endpoint_url=http://evil", "options"),
        ("memory://x#y", "options"),
    ],
)
def test_urls_that_are_no_plain_folder_are_refused(url: str, said: str) -> None:
    """Before anything of them is opened, and without the secrets they may hold."""
    with pytest.raises(UsageProblem, match="cannot be used") as refused:
        open_file_system(url, extra="history", purpose="the history")
    assert said in str(refused.value)
    assert "password" not in str(refused.value)
