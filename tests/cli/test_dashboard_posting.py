"""`torchperf-ci dashboard` against a GitHub on this machine: comments, the data branch, and what goes wrong there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from dashboard_runs import BAD, GOOD, kept, results
from fakes.dashboard_server import DashboardGitHub
from fakes.github_server import REPOSITORY, TOKEN
from fakes.http_server import Reply
from report_builders import both, case

GITHUB = ("--repo", REPOSITORY)


@pytest.fixture
def server() -> Iterator[DashboardGitHub]:
    with DashboardGitHub() as running:
        yield running


def test_a_comment_is_posted_once_for_every_run(dashboard, server, tmp_path: Path):
    """What is posted is the file in the results folder; the address is printed; a second time posts nothing new."""
    one = dashboard(results(tmp_path / "one", 0), *GITHUB, "--issue", "7", server=server)
    assert one.returncode == 0, one.stderr
    assert one.stdout.endswith(f"{server.comments[7][0]['html_url']}\n")
    assert server.bodies() == [(tmp_path / "one" / "dashboard_float32.md").read_text()]
    dashboard("one", *GITHUB, "--issue", "7", server=server)
    assert len(server.bodies()) == 1
    dashboard(results(tmp_path / "two", 1), *GITHUB, "--issue", "7", server=server)
    assert len(server.bodies()) == 2


def test_a_sticky_comment_is_edited(dashboard, server, tmp_path: Path):
    """With --sticky the second run's dashboard takes the place of the first one's."""
    for day, name in enumerate(("one", "two")):
        dashboard(results(tmp_path / name, day), *GITHUB, "--issue", "7", "--sticky", server=server)
    assert server.bodies() == [(tmp_path / "two" / "dashboard_float32.md").read_text()]


def test_every_dtype_goes_to_its_issue(dashboard, server, tmp_path: Path):
    """--issue DTYPE=N for one, --issue N for the others; without an issue a dtype is only written."""
    records = [*GOOD, *both(case("mlp", dtype="amp"), 2.0)]
    folder = results(tmp_path / "one", 0, records)
    done = dashboard(folder, *GITHUB, "--issue", "float32=7", "--issue", "8", server=server)
    assert done.returncode == 0, done.stderr
    assert ["## ✅ float32: " in body.splitlines()[0] for body in server.bodies(7)] == [True]
    assert ["## ✅ amp: " in body.splitlines()[0] for body in server.bodies(8)] == [True]
    done = dashboard(folder, *GITHUB, "--issue", "amp=8", server=server)
    assert "No --issue is named for float32: its comment is in one/dashboard_float32.md" in done.stderr
    assert (tmp_path / "one" / "geomean_over_time_amp.png").is_file()


def test_history_and_pictures_on_a_data_branch_are_one_commit(dashboard, server, tmp_path: Path):
    """The branch is made; the comment shows the pictures by links; the next run is compared with what is there."""
    server.commit({"README.md": b"code"}, branch="main")
    arguments = (*GITHUB, "--data-branch", "torchperf-data", "--issue", "7")
    one = dashboard(results(tmp_path / "one", 0), *arguments, server=server)
    assert one.returncode == 0, one.stderr
    assert server.history("torchperf-data") == ["Add the run of 2026-10-05 03:15 UTC"]
    paths = list(server.files("torchperf-data"))
    assert sorted(path.partition("/")[0] for path in paths) == ["history", *["pictures"] * 5]
    shown = re.findall(r'<img alt="[^"]*" src="([^"]*)"', server.bodies()[0])
    base = f"{server.url}/{REPOSITORY}/blob/torchperf-data/"
    assert sorted(shown) == [f"{base}{path}?raw=true" for path in paths if path.startswith("pictures/")]
    two = dashboard(results(tmp_path / "two", 1, BAD), *arguments, server=server)
    assert "since 2026-10-06 (000000000...010101010)" in two.stdout
    assert len(server.history("torchperf-data")) == 2
    assert not (tmp_path / "torchperf-history").exists()


def test_pictures_on_a_branch_and_history_elsewhere(dashboard, server, tmp_path: Path):
    """With --history the data branch holds the pictures only; with --no-graphs not even those, and no commit is."""
    folder = results(tmp_path / "one", 0)
    arguments = (*GITHUB, "--data-branch", "data", "--history", "memory://pictures-only")
    dashboard(folder, *arguments, "--no-graphs", server=server)
    assert "data" not in server.refs
    dashboard(folder, *arguments, server=server)
    assert {path.partition("/")[0] for path in server.files("data")} == {"pictures"}


def test_a_refusal_leaves_the_comment_and_can_be_repeated(dashboard, server, tmp_path: Path):
    """Without the permission: exit code 5, its name, the file; the run is kept. With it the same command posts once."""
    server.permissions.remove("issues: write")
    arguments = (results(tmp_path / "one", 0), *GITHUB, "--issue", "7")
    refused = dashboard(*arguments, server=server)
    assert refused.returncode == 5
    assert "the token needs the permission 'issues: write'" in refused.stderr
    assert "The comment is in one/dashboard_float32.md; repeat the command to post it" in refused.stderr
    assert kept(tmp_path / "torchperf-history") == ["octo/project/1000"]
    assert server.bodies() == []
    server.permissions.add("issues: write")
    for _ in range(2):
        assert dashboard(*arguments, server=server).returncode == 0
    assert len(server.bodies()) == 1
    assert kept(tmp_path / "torchperf-history") == ["octo/project/1000"]


@pytest.mark.parametrize(
    ("pattern", "reply", "said"),
    [
        ("GET .*/issues", Reply(status=404, body={"message": "Not Found"}), "there is no such thing"),
        ("POST .*/issues", Reply(status=422, body={"message": "Validation Failed"}), "Validation Failed"),
        ("POST .*/issues", Reply(status=502), "try again later"),
        ("POST .*/issues", Reply(status=403, body={"message": "No"}), "needs the permission 'issues: write'"),
        (
            "GET .*/issues",
            Reply(body=[{"body": "x"}], cut=5),
            "cannot read the comments of issue 7: the connection failed",
        ),
    ],
)
def test_whatever_refuses_the_comment_the_run_is_kept(dashboard, server, tmp_path: Path, pattern, reply, said):
    """Not found, not valid, not answering, broken off: exit code 5, and the history has the run. Once it is over, the
    same command posts once, however often it is given."""
    server.fail(pattern, reply, times=1000)
    arguments = (results(tmp_path / "one", 0), *GITHUB, "--issue", "7")
    done = dashboard(*arguments, server=server)
    assert done.returncode == 5
    assert said in done.stderr
    assert "The comment is in one/dashboard_float32.md; repeat the command to post it" in done.stderr
    assert kept(tmp_path / "torchperf-history") == ["octo/project/1000"]
    server.faults.clear()
    for _ in range(2):
        assert dashboard(*arguments, server=server).returncode == 0
    assert server.bodies() == [(tmp_path / "one" / "dashboard_float32.md").read_text()]
    assert kept(tmp_path / "torchperf-history") == ["octo/project/1000"]


def test_without_a_network_the_run_is_kept(dashboard, tmp_path: Path):
    """Nobody answers at the address: exit code 5, the run is kept, the comment is in the folder."""
    env = {"GITHUB_TOKEN": TOKEN, "GITHUB_API_URL": "http://127.0.0.1:9"}
    done = dashboard(results(tmp_path / "one", 0), *GITHUB, "--issue", "7", env=env)
    assert done.returncode == 5
    assert "cannot read the comments of issue 7: the connection failed" in done.stderr
    assert "The comment is in one/dashboard_float32.md; repeat the command to post it" in done.stderr
    assert (tmp_path / "one" / "dashboard_float32.md").is_file()
    assert kept(tmp_path / "torchperf-history") == ["octo/project/1000"]


def test_a_branch_that_cannot_be_written_stops_before_posting(dashboard, server, tmp_path: Path):
    """The history comes first: when the commit is refused nothing is posted, and the message names the permission."""
    server.permissions.remove("contents: write")
    done = dashboard(results(tmp_path / "one", 0), *GITHUB, "--data-branch", "data", "--issue", "7", server=server)
    assert done.returncode == 5
    assert "'contents: write'" in done.stderr
    assert server.bodies() == []
    assert (tmp_path / "one" / "dashboard_float32.md").is_file()


def test_the_token_is_shown_nowhere(dashboard, server, tmp_path: Path):
    """No output and no file has the token in it; it may come from a file."""
    (tmp_path / "token.txt").write_text(f"{TOKEN}\n")
    arguments = (*GITHUB, "--issue", "7", "--data-branch", "data", "--api-url", server.url)
    done = dashboard(results(tmp_path / "one", 0), *arguments, "--token-file", "token.txt")
    assert done.returncode == 0, done.stderr
    assert TOKEN not in done.stdout + done.stderr
    written = [path for path in (tmp_path / "one").rglob("*") if path.is_file()]
    assert not [path for path in written if TOKEN.encode() in path.read_bytes()]
    assert not [path for path, content in server.files("data").items() if TOKEN.encode() in content]


def test_a_dry_run_writes_into_the_folder_only(dashboard, server, tmp_path: Path):
    """It names every file, commit and comment there would be, with its size, and makes none of them."""
    folder = results(tmp_path / "one", 0)
    arguments = ("--dry-run", *GITHUB, "--issue", "7")
    there = dashboard(folder, *arguments, "--data-branch", "data", server=server)
    assert re.search(
        r"Would commit history/month=2026-10/\S+ \([\d,]+ bytes\) to the branch data of org/project", there.stderr
    )
    assert re.search(r"Would commit pictures/\S+ \([\d,]+ bytes\)", there.stderr)
    assert re.search(r"Would post a comment to org/project#7 \([\d,]+ bytes, one/dashboard_float32.md\)", there.stderr)
    here = dashboard(folder, *arguments, server=server)
    assert re.search(r"Would write torchperf-history/month=2026-10/\S+ \([\d,]+ bytes\)", here.stderr)
    sent = [asked for asked in server.asked if asked.method != "GET"]
    assert (sent, server.refs, server.bodies()) == ([], {}, [])
    assert not (tmp_path / "torchperf-history").exists()
    assert (tmp_path / "one" / "dashboard_float32.md").is_file()


def test_the_test_of_a_dashboard_leaves_nothing_behind(dashboard, server, tmp_path: Path):
    """--update-dashboard-test draws no graphs, keeps no run and posts nothing; underscores work as well."""
    done = dashboard(results(tmp_path / "one", 0), "--update_dashboard_test", *GITHUB, "--issue", "7", server=server)
    assert done.returncode == 0, done.stderr
    assert server.asked == []
    assert not (tmp_path / "torchperf-history").exists()
    assert not list((tmp_path / "one").glob("*over_time.png"))
