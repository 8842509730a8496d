"""`torchperf-ci dashboard`: on this machine alone, and against a GitHub on this machine."""

from __future__ import annotations

import re
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from fakes.dashboard_server import DashboardGitHub
from fakes.github_server import REPOSITORY, TOKEN
from fakes.http_server import Reply
from report_builders import GOLDEN, accuracy, both, case
from run_builders import a_run
from torchperf_ci.history.files import LocalFiles
from torchperf_ci.history.parquet import ParquetHistory
from torchperf_ci.history.store import Wanted
from torchperf_ci.records import Record, Status
from torchperf_ci.results import open_folder

GOOD = both(case("mlp"), 1.5)
BAD = [accuracy(case("mlp"), Status.FAIL_ACCURACY), *both(case("mlp"), 1.5)[1:]]
GITHUB = ("--repo", REPOSITORY)
PICTURE = b"\x89PNG"

Dashboard = Callable[..., object]


@pytest.fixture
def server() -> Iterator[DashboardGitHub]:
    with DashboardGitHub() as running:
        yield running


@pytest.fixture
def dashboard(in_process, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Dashboard:
    """The command in a folder of its own; GitHub's waits and drawing take no time, and what is fetched stays there."""
    monkeypatch.setattr("torchperf_ci.report.plots_style.saved", lambda _: {"svg": b"<svg/>", "png": PICTURE})
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("BETWEEN_WRITES_S", "FIRST_WAIT_S"):
        monkeypatch.setattr(f"torchperf_ci.github.patience.{name}", 0.0)
    monkeypatch.setattr("torchperf_ci.github.comments.FIRST_WAIT_S", 0.0)

    def call(directory: str, *arguments: str, server: DashboardGitHub | None = None, env: dict[str, str] | None = None):
        there = {"GITHUB_TOKEN": TOKEN, "GITHUB_API_URL": server.url} if server else {}
        return in_process("dashboard", directory, *arguments, cwd=tmp_path, env={**there, **(env or {})})

    return call


def results(folder: Path, day: int = 0, records: Sequence[Record] = GOOD, **source) -> str:
    with open_folder(folder) as opened:
        opened.append(*a_run(day, records, **source).results.records)
    return folder.name


def kept(folder: Path) -> list[str]:
    runs = ParquetHistory(files=LocalFiles(root=folder)).last(50, Wanted()).runs
    return [run.key for run in runs]


def bodies(server: DashboardGitHub, issue: int = 7) -> list[str]:
    return [comment["body"].partition("\n")[2] for comment in server.comments[issue]]


def test_by_default_everything_stays_on_this_machine(cli, tmp_path: Path):
    """Two runs: both are kept in ./torchperf-history, and the second says what changed; nobody is asked for a token."""
    first = cli("dashboard", results(tmp_path / "one", 0), cwd=tmp_path)
    second = cli("dashboard", results(tmp_path / "two", 1, BAD), cwd=tmp_path)
    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    assert "float32: ℹ️ There is no earlier run to compare with" in first.stdout
    assert (
        "float32: ❌ 1 case regressed since the run of 2026-10-05 03:15 UTC\n  tiny/mlp inductor: Accuracy"
        in second.stdout
    )
    assert kept(tmp_path / "torchperf-history") == ["octo/project/1000", "octo/project/1001"]
    made = {path.name for path in (tmp_path / "two").iterdir()}
    assert {"dashboard_float32.md", "gh_summary_diff.txt", "gh_regression.txt", "gh_graphs.txt", "report.md"} <= made
    assert {"gh_metric_regression.txt", "geomean_over_time.png", "passrate_over_time.png"} <= made
    assert (tmp_path / "two" / "geomean_over_time.png").read_bytes().startswith(b"\x89PNG\r\n")


def test_doing_it_again_keeps_the_run_once(dashboard, tmp_path: Path):
    """The same folder again adds nothing to the history, and the run is not compared with itself."""
    folder = results(tmp_path / "one")
    dashboard(folder)
    again = dashboard(folder)
    assert "torchperf-history has this run already" in again.stderr
    assert "There is no earlier run" in again.stdout
    assert kept(tmp_path / "torchperf-history") == ["octo/project/1000"]


def test_a_comment_is_posted_once_for_every_run(dashboard, server, tmp_path: Path):
    """What is posted is the file in the results folder; the address is printed; a second time posts nothing new."""
    one = dashboard(results(tmp_path / "one", 0), *GITHUB, "--issue", "7", server=server)
    assert one.returncode == 0, one.stderr
    assert one.stdout.endswith(f"{server.comments[7][0]['html_url']}\n")
    assert bodies(server) == [(tmp_path / "one" / "dashboard_float32.md").read_text()]
    dashboard("one", *GITHUB, "--issue", "7", server=server)
    assert len(bodies(server)) == 1
    dashboard(results(tmp_path / "two", 1), *GITHUB, "--issue", "7", server=server)
    assert len(bodies(server)) == 2


def test_a_sticky_comment_is_edited(dashboard, server, tmp_path: Path):
    """With --sticky the second run's dashboard takes the place of the first one's."""
    for day, name in enumerate(("one", "two")):
        dashboard(results(tmp_path / name, day), *GITHUB, "--issue", "7", "--sticky", server=server)
    assert bodies(server) == [(tmp_path / "two" / "dashboard_float32.md").read_text()]


def test_every_dtype_goes_to_its_issue(dashboard, server, tmp_path: Path):
    """--issue DTYPE=N for one, --issue N for the others; without an issue a dtype is only written."""
    records = [*GOOD, *both(case("mlp", dtype="amp"), 2.0)]
    folder = results(tmp_path / "one", 0, records)
    done = dashboard(folder, *GITHUB, "--issue", "float32=7", "--issue", "8", server=server)
    assert done.returncode == 0, done.stderr
    assert [body.splitlines()[1] for body in bodies(server, 7)] == ["# Performance Dashboard for float32 precision ##"]
    assert [body.splitlines()[1] for body in bodies(server, 8)] == ["# Performance Dashboard for amp precision ##"]
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
    shown = re.findall(r"!\[[^]]*\]\(([^)]*)\)", bodies(server)[0])
    base = f"{server.url}/{REPOSITORY}/blob/torchperf-data/"
    assert sorted(shown) == [f"{base}{path}?raw=true" for path in paths if path.startswith("pictures/")]
    two = dashboard(results(tmp_path / "two", 1, BAD), *arguments, server=server)
    assert "1 case regressed since the run of 2026-10-05" in two.stdout
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
    assert bodies(server) == []
    server.permissions.add("issues: write")
    for _ in range(2):
        assert dashboard(*arguments, server=server).returncode == 0
    assert len(bodies(server)) == 1
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
    assert bodies(server) == [(tmp_path / "one" / "dashboard_float32.md").read_text()]
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
    assert bodies(server) == []
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
    assert (sent, server.refs, bodies(server)) == ([], {}, [])
    assert not (tmp_path / "torchperf-history").exists()
    assert (tmp_path / "one" / "dashboard_float32.md").is_file()


def test_pictures_can_go_through_a_command(dashboard, tmp_path: Path):
    """The command gets every picture's path as one argument and prints its address; without a shell nothing expands."""
    uploader = tmp_path / "up load.py"
    uploader.write_text(
        f"#!{sys.executable}\nimport sys\nprint('https://example.org/' + sys.argv[-1].rpartition('/')[2])\n"
    )
    uploader.chmod(uploader.stat().st_mode | stat.S_IXUSR)
    done = dashboard(results(tmp_path / "one", 0), "--image-uploader", f"'{uploader}' '$HOME;ls'")
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "one" / "dashboard_float32.md").read_text()
    assert "geomean_over_time.png : ![geomean_over_time.png](https://example.org/geomean_over_time.png)" in text
    assert "tiny_float32.png : ![tiny_float32.png](https://example.org/tiny_float32.png)" in text


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("import sys; sys.exit('no room')", "the command ended with 1: no room"),
        ("print('one'); print('two')", "the command printed 'one two', expected one line with a URL"),
        ("print('javascript:x')", "the command printed 'javascript:x', expected one line with a URL"),
        ("pass", "the command printed '', expected one line with a URL"),
    ],
)
def test_a_command_that_fails_costs_the_picture_only(dashboard, tmp_path: Path, script: str, said: str):
    """A picture without an address is named with the reason, and the dashboard is made all the same."""
    uploader = tmp_path / "uploader.py"
    uploader.write_text(f"#!{sys.executable}\n{script}\n")
    uploader.chmod(0o755)
    done = dashboard(results(tmp_path / "one", 0), "--dashboard-image-uploader", str(uploader))
    assert done.returncode == 0
    assert f"Warning: --image-uploader: geomean_over_time.png has no address: {said}" in done.stderr
    assert (
        "Drawn in the results folder: `geomean_over_time.png`"
        in (tmp_path / "one" / "dashboard_float32.md").read_text()
    )


def test_the_test_of_a_dashboard_leaves_nothing_behind(dashboard, server, tmp_path: Path):
    """--update-dashboard-test draws no graphs, keeps no run and posts nothing; underscores work as well."""
    done = dashboard(results(tmp_path / "one", 0), "--update_dashboard_test", *GITHUB, "--issue", "7", server=server)
    assert done.returncode == 0, done.stderr
    assert server.asked == []
    assert not (tmp_path / "torchperf-history").exists()
    assert not list((tmp_path / "one").glob("*over_time.png"))


def test_without_detection_nothing_is_compared(dashboard, tmp_path: Path):
    """--no-detect-regressions leaves out what changed, also where an earlier dashboard wrote it."""
    folder = results(tmp_path / "one", 0)
    dashboard(folder)
    assert (tmp_path / "one" / "gh_summary_diff.txt").exists()
    dashboard(folder, "--no-detect-regressions")
    assert not (tmp_path / "one" / "gh_summary_diff.txt").exists()
    assert "Recent Regressions" not in (tmp_path / "one" / "dashboard_float32.md").read_text()


def test_an_archive_with_an_index_is_kept_up(dashboard, tmp_path: Path):
    """--dashboard-archive-path reads and extends lookup.csv."""
    for day, (name, records) in enumerate({"one": GOOD, "two": BAD}.items()):
        done = dashboard(results(tmp_path / name, day, records), "--dashboard-archive-path", "archive")
        assert done.returncode == 0, done.stderr
    assert "1 case regressed since the run of 2026-10-05" in done.stdout
    lines = (tmp_path / "archive" / "lookup.csv").read_text().splitlines()
    assert [line.rpartition("_")[0] for line in lines] == [
        "278,performance,float32,day_278_05_10_26_performance_float32",
        "279,performance,float32,day_279_06_10_26_performance_float32",
    ]
    assert not (tmp_path / "torchperf-history").exists()


def test_pytorchs_own_folder_will_do(dashboard, tmp_path: Path):
    """A folder of CSV files has a dashboard too; in a GitHub job it gets the job's commit."""
    folder = tmp_path / "logs"
    folder.mkdir()
    for path in (GOLDEN / "pytorch_folder" / "input").iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    env = {
        "GITHUB_ACTIONS": "true", "GITHUB_REPOSITORY": "octo/project", "GITHUB_SHA": "c0ffee" * 6 + "c0de",
        "GITHUB_RUN_ID": "4711", "GITHUB_WORKFLOW": "nightly", "GITHUB_REF_NAME": "main",
    }  # fmt: skip
    done = dashboard("logs", env=env)
    assert done.returncode == 0, done.stderr
    (run,) = ParquetHistory(files=LocalFiles(root=tmp_path / "torchperf-history")).last(5, Wanted()).runs
    assert (run.key, run.source.commit, run.source.branch) == ("octo/project/4711", env["GITHUB_SHA"], "main")
    assert (folder / "gh_training.txt").read_text() == (GOLDEN / "pytorch_folder" / "gh_training.txt").read_text()


def test_series_and_branches_are_kept_apart(dashboard, tmp_path: Path):
    """--name tells series apart, --compare-branch leaves other branches out."""
    dashboard(results(tmp_path / "one", 0), "--name", "a100")
    other = dashboard(results(tmp_path / "two", 1, BAD), "--name", "h200")
    assert "There is no earlier run" in other.stdout
    dashboard(results(tmp_path / "three", 2, branch="topic"), "--name", "a100")
    found = dashboard(results(tmp_path / "four", 3, BAD), "--name", "a100", "--compare-branch", "main")
    assert "1 case regressed since the run of 2026-10-05" in found.stdout


def test_a_regression_can_fail_the_step(dashboard, tmp_path: Path):
    """--fail-on regressed: exit code 3, after everything was kept; GitHub gets outputs and the step summary."""
    dashboard(results(tmp_path / "one", 0))
    files = {"GITHUB_OUTPUT": str(tmp_path / "output"), "GITHUB_STEP_SUMMARY": str(tmp_path / "summary.md")}
    folder = results(tmp_path / "two", 1, BAD)
    done = dashboard(folder, "--fail-on", "regressed", "--github-files", env=files)
    assert done.returncode == 3
    assert len(kept(tmp_path / "torchperf-history")) == 2
    lines = (tmp_path / "output").read_text().splitlines()
    assert [lines[1], lines[4], lines[7]] == ["two/dashboard_float32.md", "", "1"]
    assert (tmp_path / "summary.md").read_text().rstrip() == (
        tmp_path / "two" / "dashboard_float32.md"
    ).read_text().rstrip()


def test_an_unreadable_file_of_the_history_is_told(dashboard, tmp_path: Path):
    """A broken file is named on stderr and in the comment; the run is compared with what is left."""
    dashboard(results(tmp_path / "one", 0))
    dashboard(results(tmp_path / "two", 1))
    (broken,) = (tmp_path / "torchperf-history").glob("*/*-1001_*")
    broken.write_bytes(b"PAR1")
    done = dashboard(results(tmp_path / "three", 2, BAD))
    assert done.returncode == 0
    assert f"Problem: {broken.name}: cannot be read and was left out" in done.stderr
    assert "1 case regressed since the run of 2026-10-05" in done.stdout
    assert broken.name in (tmp_path / "three" / "dashboard_float32.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--issue", "seven", *GITHUB), "--issue 'seven': expected a number, or DTYPE=NUMBER, say float32=93518"),
        (("--issue", "=7", *GITHUB), "--issue '=7': expected a number"),
        (("--issue", "7", "--issue", "8", *GITHUB), "--issue names two issues for all dtypes: 7 and 8"),
        (("--issue", "7"), "which repository? use --repo owner/name"),
        (("--data-branch", "data", "--repo", "nonsense"), "--repo is 'nonsense', expected owner/name"),
        (("--history", "h", "--dashboard-archive-path", "a"), "give one of them"),
        (("--archive-name", "a"), "--archive-name names a folder of --dashboard-archive-path"),
        (("--image-uploader", "'unbalanced"), "cannot be split into words"),
        (("--image-uploader", "/no/such/program"), "/no/such/program cannot be started"),
        (("--history", "nosuch://x"), "nosuch://x cannot be used"),
    ],
)
def test_what_cannot_be_done_is_said_before_anything_is(dashboard, tmp_path: Path, arguments, said: str):
    """Exit code 2 and a sentence; no run is kept."""
    done = dashboard(results(tmp_path / "one", 0), *arguments)
    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    assert not (tmp_path / "torchperf-history").exists()


def test_an_empty_folder_has_no_dashboard(dashboard, tmp_path: Path):
    """Exit code 4 when there is nothing to show."""
    (tmp_path / "empty").mkdir()
    done = dashboard("empty")
    assert done.returncode == 4
    assert "there are no results to report" in done.stderr


@pytest.mark.parametrize(
    ("module", "purpose"), [("duckdb", "the history of runs"), ("ruptures", "finding lasting changes")]
)
def test_a_missing_library_is_named_with_the_way_to_get_it(dashboard, tmp_path: Path, monkeypatch, module, purpose):
    """Without the extra the message says which command installs it."""
    import importlib.util

    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == module else found(name, *rest))
    dashboard(results(tmp_path / "one", 0), "--no-detect-regressions", "--history", "memory://x")
    done = dashboard(results(tmp_path / "two", 1))
    assert done.returncode == 2
    assert f"{purpose} needs {module}, which is not installed; pip install 'torchperf-ci[history]'" in done.stderr
