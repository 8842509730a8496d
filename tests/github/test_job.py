"""What a job knows of itself, and how a step speaks to GitHub."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from step_outputs import read_outputs
from torchperf_ci.core.records import Source
from torchperf_ci.github.job import (
    SUMMARY_LIMIT,
    annotate,
    append_summary,
    make_command,
    read_base_branch,
    read_source,
    stop_commands,
    write_outputs,
)

JOB = {
    "GITHUB_ACTIONS": "true",
    "GITHUB_REPOSITORY": "owner/project",
    "GITHUB_SHA": "merge" * 8,
    "GITHUB_REF_NAME": "main",
    "GITHUB_WORKFLOW": "Nightly",
    "GITHUB_RUN_ID": "123",
    "GITHUB_RUN_ATTEMPT": "2",
}
IN_JOB = Source(
    repository="owner/project",
    commit="merge" * 8,
    branch="main",
    workflow="Nightly",
    run_id="123",
    attempt=2,
    shard="1-2",
)


def found(environ: dict[str, str], folder: Path) -> Source:
    return read_source(environ, shard="1-2", folder=folder)


def test_a_push_is_its_commit(tmp_path: Path) -> None:
    """From the variables alone."""
    assert found(JOB, tmp_path) == IN_JOB


@pytest.mark.parametrize(("remote", "is_its_own"), [("owner/project", True), ("other/project", False)])
def test_another_commit_that_was_checked_out_is_the_one(tmp_path: Path, *, remote: str, is_its_own: bool) -> None:
    """A nightly run of an old commit is no run of the branch's head; the checkout of something else says nothing."""
    for arguments in (
        ("init", "--quiet"),
        ("-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "--allow-empty", "-m", "first"),
        ("remote", "add", "origin", f"https://github.com/{remote}"),
    ):
        subprocess.run(["git", *arguments], cwd=tmp_path, check=True, timeout=60)
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=tmp_path, check=True, capture_output=True, text=True)
    assert found(JOB, tmp_path).commit == (head.stdout.strip() if is_its_own else JOB["GITHUB_SHA"])


def test_the_subject_is_that_of_the_commit(tmp_path: Path) -> None:
    """The checkout's where it has the commit, else that of a push's event; another commit's never."""
    event = tmp_path / "event.json"
    pushed = {"id": JOB["GITHUB_SHA"], "message": "Fuse\u202e more\n\nbecause"}
    event.write_text(json.dumps({"head_commit": pushed}))
    job = {**JOB, "GITHUB_EVENT_PATH": str(event)}
    assert found(job, tmp_path).subject == "Fuse\ufffd more"
    assert found({**job, "GITHUB_SHA": "b" * 40}, tmp_path).subject == ""
    checkout = tmp_path / "checkout"
    subprocess.run(["git", "init", "--quiet", str(checkout)], check=True, timeout=60)
    commit = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "--allow-empty", "-m", "<b>"]
    subprocess.run(commit, cwd=checkout, check=True, timeout=60)
    assert found({}, checkout).subject == "<b>"


def test_a_pull_request_is_its_head(tmp_path: Path) -> None:
    """GITHUB_SHA would be a merge commit that nobody wrote."""
    event = tmp_path / "event.json"
    event.write_text(json.dumps({"pull_request": {"head": {"sha": "b" * 40}}}))
    source = found(
        {**JOB, "GITHUB_EVENT_PATH": str(event), "GITHUB_HEAD_REF": "feature", "GITHUB_REF_NAME": "7/merge"}, tmp_path
    )
    assert (source.commit, source.branch) == ("b" * 40, "feature")


@pytest.mark.parametrize("event", ["", "{", "[]", '{"pull_request": null}', '{"pull_request": {"head": null}}'])
def test_an_event_that_says_nothing_changes_nothing(tmp_path: Path, event: str) -> None:
    """The variables count."""
    (tmp_path / "event.json").write_text(event)
    assert found({**JOB, "GITHUB_EVENT_PATH": str(tmp_path / "event.json")}, tmp_path) == IN_JOB


def test_an_attempt_that_is_no_number_is_the_first(tmp_path: Path) -> None:
    """As outside of a run."""
    assert found({**JOB, "GITHUB_RUN_ATTEMPT": ""}, tmp_path).attempt == 1


@pytest.mark.parametrize(
    ("remote", "repository"),
    [
        ("https://user:secret@github.com/owner/project.git", "owner/project"),
        ("git@github.com:owner/project.git", "owner/project"),
        ("https://example.com/group/sub/project/", "sub/project"),
        ("nothing", ""),
    ],
)
def test_at_home_the_checkout_says_it(tmp_path: Path, remote: str, repository: str) -> None:
    """Commit, branch and the remote's name, never what else its address holds."""
    for arguments in (
        ("init", "--quiet", "--initial-branch", "trunk"),
        ("-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "--allow-empty", "-m", "first"),
        ("remote", "add", "origin", remote),
    ):
        subprocess.run(["git", *arguments], cwd=tmp_path, check=True, timeout=60)
    source = found({}, tmp_path)
    assert (source.repository, source.branch, source.shard) == (repository, "trunk", "1-2")
    assert len(source.commit) == 40


def test_outside_of_a_checkout_nothing_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is no error."""
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert found({}, tmp_path) == Source(shard="1-2")


@pytest.mark.parametrize(
    ("variables", "payload", "branch"),
    [
        ({"GITHUB_EVENT_NAME": "pull_request", "GITHUB_BASE_REF": "release/2"}, {}, "release/2"),
        ({"GITHUB_EVENT_NAME": "merge_group"}, {"merge_group": {"base_ref": "refs/heads/trunk"}}, "trunk"),
        (
            {"GITHUB_EVENT_NAME": "workflow_dispatch", "GITHUB_REF_NAME": "side", "GITHUB_BASE_REF": ""},
            {"repository": {"default_branch": "trunk"}},
            "trunk",
        ),
        ({"GITHUB_EVENT_NAME": "workflow_dispatch", "GITHUB_REF_NAME": "side"}, {"inputs": None}, ""),
        ({"GITHUB_EVENT_NAME": "schedule", "GITHUB_REF_NAME": "trunk"}, {"schedule": "0 3 * * *"}, "trunk"),
        ({}, {}, ""),
    ],
)
def test_the_branch_a_commit_is_meant_for(
    tmp_path: Path, variables: dict[str, str], payload: dict[str, object], branch: str
) -> None:
    """Each event says it in its own way, some only by where they run, and some not at all."""
    event = tmp_path / "event.json"
    event.write_text(json.dumps(payload))
    assert read_base_branch({**variables, "GITHUB_EVENT_PATH": str(event)}) == branch


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


def test_an_annotation_is_one_line_with_its_place(capsys: pytest.CaptureFixture[str]) -> None:
    """Title and file are properties; blank ones are left out."""
    annotate("50 %\nworse", title="a, b: c", file="t.csv")
    annotate("hi", title="")
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["::error title=a%2C b%3A c,file=t.csv::50 %25%0Aworse", "::error::hi"]


@given(st.text(alphabet="ab%:,\r\n", max_size=20), st.text(alphabet="ab%:,=\r\n", max_size=20))
def test_text_ends_no_command_and_begins_no_other(message: str, title: str):
    """Whatever the text, the command is one line, and the runner reads back what was meant."""
    line = make_command("error", message, title=title)
    assert "\n" not in line
    assert "\r" not in line
    head, _, data = line.removeprefix("::").partition("::")
    assert data.replace("%0A", "\n").replace("%0D", "\r").replace("%25", "%") == message
    assert head.count(",") == 0
    assert head.count(":") == 0


def test_commands_are_stopped_in_a_job_and_come_back(capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever happens in between, by a word that nobody can guess."""
    words = set()
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), stop_commands({"GITHUB_ACTIONS": "true"}):
            raise ZeroDivisionError
        first, last = capsys.readouterr().err.splitlines()
        words.add(word := first.removeprefix("::stop-commands::"))
        assert last == f"::{word}::"
    assert len(words) == 2
    with stop_commands({}):
        pass
    assert capsys.readouterr().err == ""
