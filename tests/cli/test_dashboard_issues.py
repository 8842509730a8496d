"""`torchperf-ci dashboard --issues` and `--webhook` against a GitHub and a receiver on this machine."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from dashboard_runs import results
from fakes.github_server import REPOSITORY
from fakes.http_server import Asked, FakeServer, Reply
from fakes.issues_server import IssuesGitHub
from report_builders import accuracy, both, case
from run_builders import a_run
from torchperf_ci.core.records import Record, Status
from torchperf_ci.history.parquet import ParquetHistory
from torchperf_ci.history.storage import LocalFiles

ISSUES = ("--repo", REPOSITORY, "--issues")
HOSTILE = "<img src=x>@everyone `x` | #1 [a](http://b)"
SECRET = "T000/B000/secret"
Night = Sequence[Record]


class Receiver(FakeServer):
    """A chat's webhook; `status` is what it answers."""

    status = 200

    def route(self, asked: Asked) -> Reply:
        return Reply(status=self.status, headers={"Location": f"{self.url}/elsewhere"})

    @property
    def messages(self) -> list[dict[str, Any]]:
        return [asked.body for asked in self.asked]


@pytest.fixture
def server() -> Iterator[IssuesGitHub]:
    with IssuesGitHub() as running:
        yield running


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    monkeypatch.setattr("torchperf_ci.github.webhooks.FIRST_WAIT_S", 0.0)
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


def night(speed: float = 1.5, *, others: Sequence[str] = (), fails: bool = False, compiler: str = "inductor") -> Night:
    """A model of this speedup, others as fast, and a steady one that may be wrong."""
    steady = both(case("steady", compiler), 1.5)
    if fails:
        steady[0] = accuracy(case("steady", compiler), Status.FAIL_ACCURACY)
    slower = [record for name in ("net", *others) for record in both(case(name, compiler), speed)]
    return [*slower, *steady]


def test_an_issue_lives_from_its_confirmation_to_its_cure(keep: Callable[..., Any], server: IssuesGitHub) -> None:
    """Nothing in the first bad night; one issue in the second, for two metrics of two models; edited in the third without a
    comment; closed, with the commit that cured it, when it is back."""
    keep(*[night(others=["other"])] * 6, night(1.0, others=["other"]))
    assert server.issues == []
    opened = keep(night(1.0, others=["other"]))
    (issue,) = server.issues
    assert opened.stdout.endswith(f"{issue['html_url']}\n")
    assert issue["title"] == (
        "tiny/net with inductor and 1 more case: slower (+50.0 %) since 2026-10-11, commit 060606060"
    )
    assert [label["name"] for label in issue["labels"]] == ["torchperf"]
    assert "[050505050...060606060]" in issue["body"]
    assert issue["body"].count("| open |") == 4
    assert f"torchperf-ci bisect {'05' * 20} {'06' * 20} --case 'tiny/net inductor" in issue["body"]

    issue["body"] += "\nLooking into it"
    issue["body"] = issue["body"].replace("\n", "\r\n")  # as the form in a browser does
    keep(night(1.0, others=["other"]))
    assert "for 3 runs" in issue["body"]
    assert issue["body"].endswith("Looking into it")
    assert server.comments[1] == []

    keep(night(1.5, others=["other"]))
    assert issue["state"] == "open"  # one good night may be chance
    closed = keep(night(1.5, others=["other"]))
    assert (issue["state"], issue["state_reason"]) == ("closed", "completed")
    (comment,) = server.bodies(1)
    assert "well again since commit [090909090]" in comment
    assert "[080808080...090909090]" in comment
    assert f"Closed {issue['html_url']}" in closed.stderr
    keep(night(1.5, others=["other"]))
    assert (len(server.issues), len(server.bodies(1))) == (1, 1)


def test_the_same_command_twice_writes_nothing_twice(
    keep: Callable[..., Any], dashboard: Callable[..., Any], server: IssuesGitHub
) -> None:
    """Neither an issue nor an edit."""
    keep(*[night()] * 6, *[night(1.0)] * 2)
    writes = server.count("^(POST|PATCH)")
    again = dashboard("night7", "--no-graphs", *ISSUES, server=server)
    assert again.returncode == 0
    assert server.count("^(POST|PATCH)") == writes


def test_two_dashboards_at_once_open_one_issue(
    keep: Callable[..., Any], server: IssuesGitHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The issue that another one opened between our look and our writing stays, since it is the older one; ours is
    closed and says of which it is a duplicate. The next night knows only one."""
    keep(*[night()] * 6, night(1.0))
    from torchperf_ci.github.issues import NewIssue

    texts = []
    real = NewIssue.__init__

    def remember(self: NewIssue, **fields: Any) -> None:
        real(self, **fields)
        texts.append(self)

    monkeypatch.setattr(NewIssue, "__init__", remember)
    server.before_opening = lambda: server.add_issue(
        texts[-1].title, texts[-1].body, login=server.login, labels=["torchperf"]
    )
    done = keep(night(1.0))
    assert [issue["state"] for issue in server.issues] == ["open", "closed"]
    assert "Duplicate of #1" in server.issues[1]["body"]
    assert server.issues[1]["html_url"] not in done.stdout
    keep(night(1.0))
    assert [issue["state"] for issue in server.issues] == ["open", "closed"]
    assert "for 3 runs" in server.issues[0]["body"]


def test_dashboards_that_really_run_at_once(keep: Callable[..., Any], server: IssuesGitHub) -> None:
    """Eight threads with what the same night says: one issue stays open."""
    from torchperf_ci.core.records import Environment
    from torchperf_ci.dashboard.incidents import list_incidents, list_scopes
    from torchperf_ci.dashboard.issues import FollowUpOptions, IssueDesk, plan_steps
    from torchperf_ci.dashboard.states import judge
    from torchperf_ci.github.client import Access, Client
    from torchperf_ci.history.series import collect_series, make_run_info

    runs = [a_run(day, night(1.0 if day > 5 else 1.5)) for day in range(8)]
    states = judge(collect_series(runs))
    incidents, scopes = list_incidents(states, series="results"), list_scopes(states, series="results")
    newest = runs[-1]
    options = FollowUpOptions(now=make_run_info(newest.key, newest.time, newest.source, Environment()))
    together = threading.Barrier(8)

    def work() -> None:
        with Client(Access(api_url=server.url, token="secret-token")) as client:
            desk = IssueDesk(client=client, repository=REPOSITORY, options=options, say=lambda _: None)
            steps, _ = plan_steps(incidents, scopes, desk.list_issues(), options)
            together.wait()
            desk.carry_out(steps)
            assert desk.refusals == []

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(server.issues) == 8
    assert [issue["number"] for issue in server.issues if issue["state"] == "open"] == [1]


def test_a_run_opens_so_many_and_the_next_one_the_others(keep: Callable[..., Any], server: IssuesGitHub) -> None:
    """Three compilers become slower at once: two issues in the first night, the third in the next."""

    def of_all(speed: float) -> Night:
        return [record for compiler in ("inductor", "eager", "aot_eager") for record in night(speed, compiler=compiler)]

    limited = (*ISSUES, "--most-issues", "2")
    first = keep(*[of_all(1.5)] * 6, *[of_all(1.0)] * 2, arguments=limited)
    assert len(server.issues) == 2
    assert "1 change for the worse have no issue yet" in first.stderr
    keep(of_all(1.0), arguments=limited)
    assert len({issue["title"] for issue in server.issues}) == 3


def test_failures_have_issues_of_their_own(keep: Callable[..., Any], server: IssuesGitHub) -> None:
    """After two nights; a case that never passed has none."""
    broken = [accuracy(case("never"), Status.FAIL_ACCURACY)]
    keep(*[[*night(), *broken]] * 5, [*night(fails=True), *broken])
    assert server.issues == []
    keep([*night(fails=True), *broken])
    (issue,) = server.issues
    assert issue["title"].startswith("tiny/steady with inductor: failing since 2026-10-10")
    assert "--metric accuracy" in issue["body"]
    keep([*night(), *broken])
    assert issue["state"] == "closed"
    assert "well again since commit [070707070]" in server.bodies(1)[0]


def test_an_accepted_change_is_closed_with_who_accepted_it(
    keep: Callable[..., Any], in_process: Callable[..., Any], server: IssuesGitHub, tmp_path: Path
) -> None:
    """As not planned, since nothing was mended."""
    keep(*[night()] * 6, *[night(1.0)] * 2)
    done = in_process("history", "accept", "tiny/net", "--reason", "safer @org/all", "--by", "ana", cwd=tmp_path)
    assert done.returncode == 0
    keep(night(1.0))
    (issue,) = server.issues
    assert (issue["state"], issue["state_reason"]) == ("closed", "not_planned")
    assert "by `ana`: `safer @org/all`" in server.bodies(1)[0]


def test_what_a_person_did_stays(keep: Callable[..., Any], server: IssuesGitHub) -> None:
    """An issue that somebody closed is neither opened again nor doubled; one that we closed and somebody opened stays
    open."""
    keep(*[night()] * 6, *[night(1.0)] * 2)
    (issue,) = server.issues
    issue["state"] = "closed"
    keep(night(1.0))
    assert (issue["state"], len(server.issues)) == ("closed", 1)
    issue["state"] = "open"
    keep(*[night()] * 2)
    assert issue["state"] == "closed"
    issue["state"] = "open"
    keep(night())
    assert (issue["state"], len(server.bodies(1))) == ("open", 1)


def test_issues_of_others_are_left_alone(keep: Callable[..., Any], server: IssuesGitHub, tmp_path: Path) -> None:
    """A stranger's with our mark and label, a pull request, and one of another series."""
    keep(*[night()] * 6, *[night(1.0)] * 2)
    body = server.issues[0]["body"]
    server.issues.clear()
    server.add_issue("forged", body, login="mallory", labels=["torchperf"])
    server.add_issue("pull", body, login=server.login, labels=["torchperf"], is_pull=True)
    server.add_issue("other", body.replace(body[24:40], "0" * 16), login=server.login, labels=["torchperf"])
    keep(night(1.0))
    assert [issue["state"] for issue in server.issues] == ["open"] * 4
    assert [issue["body"] == body for issue in server.issues[:2]] == [True, True]
    keep(*[night()] * 2)
    assert [issue["state"] for issue in server.issues] == ["open", "open", "open", "closed"]


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
    keep(*[night()] * 6, night(1.0))
    opening = keep(night(1.0), arguments=dry)
    assert "Would open an issue: tiny/net with inductor: slower" in opening.stderr
    assert "Would send to the webhook at http://127.0.0.1/…" in opening.stderr
    assert server.count("^(POST|PATCH) /repos") == 0
    assert receiver.messages == []
    assert SECRET not in opening.stderr + opening.stdout


@pytest.mark.parametrize(
    ("pattern", "said"),
    [("POST .*/issues$", "'issues: write'"), ("POST .*/labels", "'issues: write'"), ("GET .*/issues$", "refused")],
)
def test_a_refusal_loses_nothing_else(
    keep: Callable[..., Any], dashboard: Callable[..., Any], server: IssuesGitHub, pattern: str, said: str
) -> None:
    """Exit code 5 with the permission; the run is kept, the comment is posted, and the same command makes up for it."""
    keep(*[night()] * 6, night(1.0), arguments=())
    server.fail(pattern, Reply(status=403, body={"message": "No"}), times=99)
    refused = keep(night(1.0), arguments=(*ISSUES, "--issue", "7"), code=5)
    assert said in refused.stderr
    assert "repeat the command" in refused.stderr
    assert len(server.bodies(7)) == 1
    assert server.issues == []
    server.faults.clear()
    assert dashboard("night7", "--no-graphs", *ISSUES, server=server).returncode == 0
    assert len(server.issues) == 1


def test_an_answer_that_is_lost_opens_one_issue(keep: Callable[..., Any], server: IssuesGitHub) -> None:
    """It is looked for before it is sent again."""
    server.lose_answers = 1
    keep(*[night()] * 6, *[night(1.0)] * 2)
    assert len(server.issues) == 1


def test_a_label_that_is_dropped_is_a_refusal(keep: Callable[..., Any], server: IssuesGitHub) -> None:
    """Since the next night would not find the issue."""
    server.drops_labels = True
    done = keep(*[night()] * 6, *[night(1.0)] * 2, code=5)
    assert "without the label torchperf" in done.stderr


def test_a_chat_hears_of_new_and_cured_ones_alone(
    keep: Callable[..., Any], server: IssuesGitHub, receiver: Receiver
) -> None:
    """Once each, with links to the issues; the address is shown nowhere."""
    arguments = (*ISSUES, "--webhook", f"{receiver.url}/{SECRET}")
    said = keep(*[night()] * 6, *[night(1.0)] * 4, *[night()] * 3, arguments=arguments, shown=7)
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
    nights = [both(case("<!channel> @here `x`"), speed) for speed in (*[1.5] * 6, *[1.0] * 3, *[1.5] * 3)]
    keep(*nights, arguments=arguments, shown=7)
    assert ["new" in message["text"] for message in receiver.messages] == [True, False]
    assert "`tiny/&lt;!channel&gt; @here 'x' inductor`" in receiver.messages[0]["text"]


@pytest.mark.parametrize("status", [403, 302, 500])
def test_a_refused_webhook_loses_nothing_else(
    keep: Callable[..., Any], server: IssuesGitHub, receiver: Receiver, status: int
) -> None:
    """The issue is there, and the exit code is 5; a redirect is not followed."""
    receiver.status = status
    arguments = (*ISSUES, "--issue", "7", "--webhook", f"{receiver.url}/{SECRET}")
    keep(*[night()] * 6, night(1.0))
    done = keep(night(1.0), arguments=arguments, code=5)
    assert f"the webhook at http://127.0.0.1/… answers {status}" in done.stderr
    assert SECRET not in done.stderr
    assert (len(server.issues), len(server.bodies(7))) == (1, 1)
    assert receiver.count("elsewhere") == 0


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
