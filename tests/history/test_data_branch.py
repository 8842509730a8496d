"""History and pictures on a branch of the repository, without a checkout."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

import pytest

from fakes.dashboard_server import DashboardGitHub
from fakes.github_server import REPOSITORY, TOKEN
from run_builders import a_run
from torchperf_ci.github.branch import Branch
from torchperf_ci.github.client import Client, GitHubRefused
from torchperf_ci.history.parquet import ParquetHistory, compact
from torchperf_ci.history.runs import RunFilter
from torchperf_ci.history.storage import BranchFiles, picture_path, picture_url, server_of

DATA = Branch(repository=REPOSITORY, name="data")
ALL = RunFilter()


@pytest.fixture
def server() -> Iterator[DashboardGitHub]:
    with DashboardGitHub() as running:
        yield running


@pytest.fixture
def history(client: Client, tmp_path: Path) -> ParquetHistory:
    return ParquetHistory(files=BranchFiles(client=client, branch=DATA, cache=tmp_path / "cache"))


def keys(history: ParquetHistory, count: int = 20) -> list[str]:
    return [run.key for run in history.read_last(count, ALL).runs]


def test_the_branch_is_made_when_it_is_needed(history: ParquetHistory, server: DashboardGitHub, tmp_path: Path):
    """The first run makes the branch, an orphan with nothing else on it; before that the history is empty."""
    server.commit({"README.md": b"code"}, branch="main")
    assert keys(history) == []
    history.add(a_run(0), tmp_path)
    assert [path.partition("/2")[0] for path in server.files("data")] == ["history/month=2026-10"]
    assert server.history("data") == ["Add a run"]
    assert list(server.files("main")) == ["README.md"]
    assert keys(history) == ["octo/project/1000"]


def test_a_run_that_is_there_makes_no_commit(history: ParquetHistory, server: DashboardGitHub, tmp_path: Path):
    """Adding the same run again changes nothing on the branch."""
    history.add(a_run(0), tmp_path)
    assert history.add(a_run(0), tmp_path).sizes == {}
    assert server.history("data") == ["Add a run"]


def test_files_are_fetched_once(history: ParquetHistory, server: DashboardGitHub, tmp_path: Path):
    """What was fetched is kept: asking again costs a listing and no content."""
    for day in range(3):
        history.add(a_run(day), tmp_path)
    assert len(keys(history)) == 3
    assert server.count("GET .*/git/blobs/") == 3
    assert len(keys(history)) == 3
    assert server.count("GET .*/git/blobs/") == 3


def test_a_branch_that_moves_keeps_everything(history: ParquetHistory, server: DashboardGitHub, clock, tmp_path: Path):
    """When somebody else commits in between, the commit is made again on top of theirs, after growing waits."""
    history.add(a_run(0), tmp_path)
    names = iter(["a.txt", "b.txt", "c.txt"])

    def somebody_commits() -> None:
        if name := next(names, ""):
            files = {**server.files("data"), name: b"theirs"}
            server.commit(files, branch="data", parents=[server.refs["data"]])

    server.before_move = somebody_commits
    history.add(a_run(1), tmp_path)
    assert keys(history) == ["octo/project/1000", "octo/project/1001"]
    assert {"a.txt", "b.txt", "c.txt"} <= set(server.files("data"))
    assert clock.slept[-3:] == sorted(clock.slept[-3:])


def test_a_month_is_compacted_on_the_branch(history: ParquetHistory, server: DashboardGitHub, tmp_path: Path):
    """Compacting leaves one file, and the runs as they were."""
    for day in range(3):
        history.add(a_run(day), tmp_path)
    before = history.read_run(name="results", key="octo/project/1001")
    (item,) = compact(history, now=datetime(2026, 12, 1, tzinfo=timezone.utc))
    assert list(server.files("data")) == [f"history/{item.path}"]
    assert history.read_run(name="results", key="octo/project/1001") == before
    assert len(keys(history)) == 3


def test_a_missing_permission_is_named(history: ParquetHistory, server: DashboardGitHub, tmp_path: Path):
    """Without contents: write the refusal names it."""
    server.permissions.remove("contents: write")
    with pytest.raises(GitHubRefused, match="'contents: write'"):
        history.add(a_run(0), tmp_path)


def test_processes_commit_at_the_same_time(server: DashboardGitHub, tmp_path: Path):
    """Two processes that add to one data branch at once both succeed, and nothing is lost."""
    script = (
        "import sys; from pathlib import Path; from run_builders import a_run\n"
        "from torchperf_ci.github.branch import Branch\n"
        "from torchperf_ci.github.client import Access, Client\n"
        "from torchperf_ci.history.storage import BranchFiles\n"
        "from torchperf_ci.github.client import Pace\n"
        "from torchperf_ci.history.parquet import ParquetHistory\n"
        "import time\n"
        "url, first, cache = sys.argv[1:]\n"
        "pace = Pace(sleep=lambda seconds: time.sleep(seconds / 50))\n"
        f"with Client(Access(api_url=url, token={TOKEN!r}), pace=pace) as client:\n"
        f"    branch = Branch(repository={REPOSITORY!r}, name='data')\n"
        "    history = ParquetHistory(files=BranchFiles(client=client, branch=branch, cache=Path(cache)))\n"
        "    for day in range(int(first), int(first) + 5): history.add(a_run(day), Path())\n"
    )
    path = os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])
    running = [
        subprocess.Popen(
            [sys.executable, "-c", script, server.url, first, tmp_path / first],
            env={**os.environ, "PYTHONPATH": path},
        )
        for first in ("0", "5")
    ]
    assert [process.wait(120) for process in running] == [0, 0]
    names = [path.rpartition("_octo-project-")[2][:4] for path in server.files("data")]
    assert names == [str(1000 + day) for day in range(10)]
    assert len(server.history("data")) == 10


def test_every_picture_has_an_address_of_its_own():
    """Another picture, also of the same run and name, has another address, which works in private repositories."""
    time = datetime(2026, 10, 5, 3, 15, tzinfo=timezone.utc)
    one, other = (picture_path(time, "tiny_float32.png", content) for content in (b"one", b"other"))
    assert one == "pictures/2026-10/20261005T031500Z_7692c3ad3540_tiny_float32.png"
    assert one != other
    assert picture_url("https://github.com", Branch(repository="o/r", name="my data"), one) == (
        "https://github.com/o/r/blob/my%20data/" + one + "?raw=true"
    )


@pytest.mark.parametrize(
    ("api", "pages"),
    [
        ("https://api.github.com", "https://github.com"),
        ("https://api.github.com/", "https://github.com"),
        ("https://ghe.example.org/api/v3", "https://ghe.example.org"),
        ("https://ghe.example.org/api/v3/", "https://ghe.example.org"),
    ],
)
def test_pages_are_beside_the_api(api: str, pages: str):
    """Links lead to the pages of the GitHub whose API is used."""
    assert server_of(api) == pages
