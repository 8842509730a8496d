"""The commits in which a change came: from a real checkout, and from GitHub."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from fakes.github_server import REPOSITORY, FakeGitHub
from report_builders import both, case
from run_builders import a_run, collect_series
from torchperf_ci.dashboard.commits import MOST_COMMITS, judge_accepted, read_ranges
from torchperf_ci.dashboard.states import SeriesState
from torchperf_ci.github.branch import Branch, commit_files
from torchperf_ci.github.client import Client


def make_open_states(good: str, bad: str) -> list[SeriesState]:
    """The states of a case that is slower since a commit."""
    runs = [
        a_run(day, both(case("mlp"), 1.5 if day < 8 else 1.0), commit=good if day < 8 else bad, repository=REPOSITORY)
        for day in range(12)
    ]
    return judge_accepted(collect_series(runs))


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True, timeout=60)
    return tmp_path


def commit(folder: Path, message: str) -> str:
    author = ("-c", "user.name=a", "-c", "user.email=a@b")
    subprocess.run(["git", *author, "commit", "-q", "--allow-empty", "-m", message], cwd=folder, check=True, timeout=60)
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=folder, check=True, capture_output=True, text=True)
    return head.stdout.strip()


def test_a_checkout_lists_them_oldest_first(checkout: Path):
    """Without the good one, with the bad one."""
    good, *others = [commit(checkout, message) for message in ("good", "Teach <b>\n\nwhy", "break it")]
    states = make_open_states(good, others[-1])
    ((ends, known),) = read_ranges(states, checkout, None).items()
    assert ends == (good, others[-1])
    assert [each.sha for each in known.commits] == others
    assert [each.subject for each in known.commits] == ["Teach <b>", "break it"]
    assert known.count == 2


def test_many_are_counted(checkout: Path):
    """A list that nobody reads is not kept."""
    made = [commit(checkout, str(number)) for number in range(MOST_COMMITS + 2)]
    (known,) = read_ranges(make_open_states(made[0], made[-1]), checkout, None).values()
    assert (known.commits, known.count) == ((), MOST_COMMITS + 1)


def test_a_checkout_without_them_and_nobody_else_to_ask_say_nothing(checkout: Path):
    """Nor do a range of one commit, and a commit that is none."""
    commit(checkout, "other")
    assert read_ranges(make_open_states("a" * 40, "b" * 40), checkout, None) == {}
    assert read_ranges(make_open_states("a" * 40, "a" * 40), checkout, None) == {}
    assert read_ranges(make_open_states("--help", "-x"), checkout, None) == {}


def test_github_is_asked_for_what_the_checkout_lacks(server: FakeGitHub, client: Client, checkout: Path):
    """What it refuses is left out."""
    branch = Branch(repository=REPOSITORY, name="feature")
    good, middle, bad = [
        commit_files(client, branch, {"file": message.encode()}, message=message)
        for message in ("good", "middle\n\nbody", "bad")
    ]
    (known,) = read_ranges(make_open_states(good, bad), checkout, client).values()
    assert [(each.sha, each.subject) for each in known.commits] == [(middle, "middle"), (bad, "bad")]
    assert read_ranges(make_open_states(good, "b" * 40), None, client) == {}


def test_what_is_fine_needs_no_cause(checkout: Path):
    """Only what is worse is looked into."""
    good, bad = commit(checkout, "one"), commit(checkout, "two")
    states = make_open_states(good, bad)
    assert read_ranges([replace(each, last_good=None) for each in states], checkout, None) == {}
