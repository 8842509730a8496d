"""`torchperf-ci dashboard --issues` and `--webhook` against a GitHub and a receiver on this machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from dashboard_runs import results
from fakes.github_server import REPOSITORY
from fakes.http_server import Asked, FakeServer, Reply
from fakes.issues_server import IssuesGitHub
from report_builders import both, case
from run_builders import a_run
from torchperf_ci.core.records import Record
from torchperf_ci.history.parquet import ParquetHistory
from torchperf_ci.history.storage import LocalFiles

ISSUES = ("--repo", REPOSITORY, "--issues")
HOSTILE = "<img src=x>@everyone `x` | #1 [a](http://b)"
SECRET = "T000/B000/secret"
Night = Sequence[Record]


class Receiver(FakeServer):
    """A chat's webhook; `status` is what it answers."""

    status = 200

    def route(self, _: Asked) -> Reply:
        return Reply(status=self.status)

    @property
    def messages(self) -> list[dict[str, Any]]:
        return [asked.body for asked in self.asked]


@pytest.fixture
def server() -> Iterator[IssuesGitHub]:
    with IssuesGitHub() as running:
        yield running


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    monkeypatch.setattr("torchperf_ci.github.client.FIRST_WAIT_S", 0.0)
    with Receiver() as running:
        yield running


@pytest.fixture
def keep(dashboard: Callable[..., Any], server: IssuesGitHub, tmp_path: Path) -> Callable[..., Any]:
    """Keep nights, numbered on from the last one; show each of the `shown` last ones; what the last one said."""
    history = ParquetHistory(files=LocalFiles(root=tmp_path / "torchperf-history"))
    days = count()

    def call(*nights: Night, arguments: Sequence[str] = ISSUES, shown: int = 1, code: int = 0) -> Any:
        for records in nights[: len(nights) - shown]:
            history.add(a_run(next(days), records), tmp_path)
        for records in nights[len(nights) - shown :]:
            day = next(days)
            folder = results(tmp_path / f"night{day}", day, records)
            done = dashboard(folder, "--no-graphs", *arguments, server=server)
            assert done.returncode == code, done.stderr
        return done

    return call


def night(speed: float = 1.5) -> Night:
    """A model of this speedup, and a steady one."""
    return [*both(case("net"), speed), *both(case("steady"), 1.5)]


def test_owners_are_mentioned_labelled_and_assigned_and_nobody_else(
    keep: Callable[..., Any], server: IssuesGitHub, tmp_path: Path
) -> None:
    """The last rule that fits a case counts; a team and a user who may not be assigned are mentioned only. What a case
    is called mentions nobody, links nothing and is no markup."""
    (tmp_path / "torchperf.toml").write_text(
        "[[owner]]\nowners = ['@somebody']\nlabels = ['performance']\n"
        "[[owner]]\ncase = '*<img*'\nowners = ['@org/kernels', 'ana', '@ben']\n"
    )
    server.assignable = {"ana"}
    nights = [[*both(case(HOSTILE), speed), *both(case("steady"), 1.5)] for speed in [1.5] * 6 + [1.0] * 2]
    keep(*nights)
    (issue,) = server.issues
    assert "Owned by @org/kernels, @ana, @ben" in issue["body"]
    assert issue["assignees"] == [{"login": "ana"}]
    assert [label["name"] for label in issue["labels"]] == ["torchperf", "performance"]
    assert "@everyone" not in issue["title"]
    shown = issue["body"].replace("<sub>", "").partition("~~~sh")[0].partition("```sh")[0]
    assert "<img" not in shown
    assert "@everyone" not in shown
    assert all(line.count("|") == 8 for line in shown.splitlines() if line.startswith("|"))
    comment = (tmp_path / "night7" / "dashboard_float32.md").read_text()
    assert "`@org/kernels`, `@ana`, `@ben`" in comment


def test_a_dry_run_writes_nothing(keep: Callable[..., Any], server: IssuesGitHub, receiver: Receiver) -> None:
    """It says what it would open, send and close."""
    dry = (*ISSUES, "--dry-run", "--no-update-archive", "--webhook", f"{receiver.url}/{SECRET}")
    opening = keep(*[night()] * 6, *[night(1.0)] * 2, arguments=dry)
    assert "Would open an issue: tiny/net with inductor: slower" in opening.stderr
    assert "Would send to the webhook at http://127.0.0.1/…" in opening.stderr
    assert server.count("^(POST|PATCH) /repos") == 0
    assert receiver.messages == []
    assert SECRET not in opening.stderr + opening.stdout


@pytest.mark.parametrize(("pattern", "said"), [("POST .*/labels", "'issues: write'"), ("GET .*/issues$", "refused")])
def test_a_refusal_loses_nothing_else(
    keep: Callable[..., Any], dashboard: Callable[..., Any], server: IssuesGitHub, pattern: str, said: str
) -> None:
    """Exit code 5 with the permission; the run is kept, the comment is posted, and the same command makes up for it."""
    server.fail(pattern, Reply(status=403, body={"message": "No"}), times=99)
    refused = keep(*[night()] * 6, *[night(1.0)] * 2, arguments=(*ISSUES, "--issue", "7"), code=5)
    assert said in refused.stderr
    assert "repeat the command" in refused.stderr
    assert len(server.bodies(7)) == 1
    assert server.issues == []
    server.faults.clear()
    assert dashboard("night7", "--no-graphs", *ISSUES, server=server).returncode == 0
    assert len(server.issues) == 1


def test_a_chat_hears_of_new_and_cured_ones_alone(
    keep: Callable[..., Any], server: IssuesGitHub, receiver: Receiver
) -> None:
    """Once each, with links to the issues; the address is shown nowhere."""
    arguments = (*ISSUES, "--webhook", f"{receiver.url}/{SECRET}")
    keep(*[night()] * 6, *[night(1.0)] * 2, arguments=arguments)
    said = keep(*[night(1.0)] * 2, *[night()] * 2, arguments=arguments, shown=3)
    new, cured = receiver.messages
    assert "❌ 1 new performance problem in octo/project" in new["text"]
    assert "new: `tiny/net inductor`" in new["text"]
    assert new["attachments"][0]["title_link"] == server.issues[0]["html_url"]
    assert {"title": "First bad commit", "value": "06" * 20, "short": True} in new["attachments"][0]["fields"]
    assert "✅ 1 performance problem over" in cured["text"]
    assert {"title": "Well again with", "value": "0a" * 20, "short": True} in cured["attachments"][0]["fields"]
    assert SECRET not in said.stderr + said.stdout


def test_a_chat_hears_without_issues_as_well(keep: Callable[..., Any], receiver: Receiver) -> None:
    """By what the run itself confirmed or showed to be over. Names cannot mention anybody."""
    arguments = ("--webhook", f"{receiver.url}/{SECRET}")
    nights = [both(case("<!channel> @here `x`"), speed) for speed in (*[1.5] * 6, *[1.0] * 2, *[1.5] * 2)]
    keep(*nights, arguments=arguments, shown=4)
    assert ["new" in message["text"] for message in receiver.messages] == [True, False]
    assert "`tiny/&lt;!channel&gt; @here 'x' inductor`" in receiver.messages[0]["text"]


def test_a_refused_webhook_loses_nothing_else(
    keep: Callable[..., Any], server: IssuesGitHub, receiver: Receiver
) -> None:
    """The issue and the comment are there, and the exit code is 5."""
    receiver.status = 403
    arguments = (*ISSUES, "--issue", "7", "--webhook", f"{receiver.url}/{SECRET}")
    done = keep(*[night()] * 6, *[night(1.0)] * 2, arguments=arguments, code=5)
    assert "the webhook at http://127.0.0.1/… answers 403" in done.stderr
    assert SECRET not in done.stderr
    assert (len(server.issues), len(server.bodies(7))) == (1, 1)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--webhook", f"ftp://x/{SECRET}"), "--webhook is no address"),
        (("--webhook", f"http://example.com/{SECRET}"), "unencrypted"),
        (("--webhook", f"http://[x/{SECRET}"), "--webhook is no address"),
        (("--issues",), "--repo"),
        ((*ISSUES, "--suites", "tiny"), "--issues follows all cases"),
        ((*ISSUES, "--issue-label", "a,b"), "cannot be a label"),
        ((*ISSUES, "--no-detect-regressions"), "leaves nothing to judge"),
    ],
)
def test_mistakes_are_said_before_anything_is_done(
    dashboard: Callable[..., Any], tmp_path: Path, arguments: Sequence[str], said: str
) -> None:
    done = dashboard(results(tmp_path / "one", 0), *arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert SECRET not in done.stderr
