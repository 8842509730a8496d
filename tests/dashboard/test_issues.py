"""Issues of incidents: opened once, kept up to date, closed with what cured them, whoever else is at work."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import timedelta

import pytest

from fakes.github_server import REPOSITORY, TOKEN
from fakes.issues_server import IssuesGitHub
from report_builders import accuracy, both, case
from run_builders import FIRST_DAY, a_run, collect_series
from torchperf_ci.core.records import Environment, Record, Status
from torchperf_ci.dashboard.commits import judge_accepted
from torchperf_ci.dashboard.incidents import list_incidents, list_scopes
from torchperf_ci.dashboard.issues import DEFAULT_LABEL, FollowUpOptions, IssueDesk, plan_steps
from torchperf_ci.github.client import Access, Client, Pace
from torchperf_ci.history.acceptances import Acceptance
from torchperf_ci.history.runs import HistoryRun
from torchperf_ci.history.series import make_run_info

Night = Sequence[Record]
Follow = Callable[..., IssueDesk]


@pytest.fixture
def server() -> Iterator[IssuesGitHub]:
    with IssuesGitHub() as running:
        yield running


@pytest.fixture
def follow(client: Client) -> Follow:
    """Add nights to those before, and follow up the last of them, or the `shown` last ones one by one."""
    runs: list[HistoryRun] = []

    def call(*nights: Night, shown: int = 1, acceptances: Sequence[Acceptance] = (), most_new: int = 5) -> IssueDesk:
        for place, records in enumerate(nights):
            runs.append(a_run(len(runs), records))
            if place >= len(nights) - shown:
                desk = open_desk(client, runs, acceptances, most_new=most_new)
        return desk

    return call


def open_desk(
    client: Client,
    runs: Sequence[HistoryRun],
    acceptances: Sequence[Acceptance] = (),
    *,
    most_new: int = 5,
    between: Callable[[], object] = lambda: None,
) -> IssueDesk:
    """The desk after it followed up the last of these runs. between: is called when the plan is made."""
    newest = runs[-1]
    now = make_run_info(newest.key, newest.time, newest.source, Environment())
    options = FollowUpOptions(now=now, most_new=most_new)
    states = judge_accepted(collect_series(runs), acceptances=acceptances)
    desk = IssueDesk(client=client, repository=REPOSITORY, options=options, say=lambda _: None)
    incidents, scopes = list_incidents(states, series="results"), list_scopes(states, series="results")
    steps, _ = plan_steps(incidents, scopes, desk.list_issues(), options)
    between()
    desk.carry_out(steps)
    return desk


def night(speed: float = 1.5, *, others: Sequence[str] = (), fails: bool = False, compiler: str = "inductor") -> Night:
    """A model of this speedup, others as fast, and a steady one that may be wrong."""
    steady = both(case("steady", compiler), 1.5)
    if fails:
        steady[0] = accuracy(case("steady", compiler), Status.FAIL_ACCURACY)
    slower = [record for name in ("net", *others) for record in both(case(name, compiler), speed)]
    return [*slower, *steady]


def test_an_issue_lives_from_its_confirmation_to_its_cure(follow: Follow, server: IssuesGitHub) -> None:
    """Nothing in the first bad night; one issue in the second, for two metrics of two models; edited in the third
    without a comment; closed, with the commit that cured it, when it is back."""
    follow(*[night(others=["other"])] * 6, night(1.0, others=["other"]))
    assert server.issues == []
    desk = follow(night(1.0, others=["other"]))
    (issue,) = server.issues
    assert [url for _, url in desk.opened] == [issue["html_url"]]
    assert issue["title"] == (
        "tiny/net with inductor and 1 more case: slower (+50.0 %) since 2026-10-11, commit 060606060"
    )
    assert [label["name"] for label in issue["labels"]] == [DEFAULT_LABEL]
    assert "[050505050...060606060]" in issue["body"]
    assert issue["body"].count("| open |") == 4
    assert f"torchperf-ci bisect {'05' * 20} {'06' * 20} --case 'tiny/net inductor" in issue["body"]

    issue["body"] += "\nLooking into it"
    issue["body"] = issue["body"].replace("\n", "\r\n")  # as the form in a browser does
    follow(night(1.0, others=["other"]))
    assert "for 3 runs" in issue["body"]
    assert issue["body"].endswith("Looking into it")
    assert server.comments[1] == []

    follow(night(1.5, others=["other"]))
    assert issue["state"] == "open"  # one good night may be chance
    desk = follow(night(1.5, others=["other"]))
    assert (issue["state"], issue["state_reason"]) == ("closed", "completed")
    (comment,) = server.bodies(1)
    assert "well again since commit [090909090]" in comment
    assert "[080808080...090909090]" in comment
    assert [url for _, url in desk.closed] == [issue["html_url"]]
    follow(night(1.5, others=["other"]))
    assert (len(server.issues), len(server.bodies(1))) == (1, 1)


def test_the_same_twice_writes_nothing_twice(follow: Follow, client: Client, server: IssuesGitHub) -> None:
    """Neither an issue nor an edit; and an older night writes nothing over what a newer one said."""
    runs = [a_run(day, night(1.0 if 5 < day < 10 else 1.5)) for day in range(12)]
    open_desk(client, runs[:9])
    writes = server.count("^(POST|PATCH) /repos")
    open_desk(client, runs[:9])
    open_desk(client, runs[:8])
    assert server.count("^(POST|PATCH) /repos") == writes
    open_desk(client, runs)
    open_desk(client, runs[:9])
    assert [issue["state"] for issue in server.issues] == ["closed"]


def test_two_dashboards_at_once_open_one_issue(client: Client, server: IssuesGitHub) -> None:
    """The issue that another one opened between our look and our writing stays, since it is the older one; ours is
    closed and says of which it is a duplicate. The next night knows only one."""
    runs = [a_run(day, night(1.0 if day > 5 else 1.5)) for day in range(9)]
    desk = open_desk(client, runs[:8], between=lambda: open_desk(client, runs[:8]))
    assert [issue["state"] for issue in server.issues] == ["open", "closed"]
    assert "Duplicate of #1" in server.issues[1]["body"]
    assert desk.opened == []
    open_desk(client, runs)
    assert [issue["state"] for issue in server.issues] == ["open", "closed"]
    assert "for 3 runs" in server.issues[0]["body"]


def test_dashboards_that_really_run_at_once(server: IssuesGitHub) -> None:
    """Six threads that all saw no issue: the oldest one of theirs stays open."""
    runs = [a_run(day, night(1.0 if day > 5 else 1.5)) for day in range(8)]
    together = threading.Barrier(6)

    def work() -> None:
        with Client(Access(api_url=server.url, token=TOKEN), pace=Pace(sleep=lambda _: None)) as client:
            assert open_desk(client, runs, between=together.wait).refusals == []

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(server.issues) == 6
    assert [issue["number"] for issue in server.issues if issue["state"] == "open"] == [1]


def test_a_duplicate_that_was_left_is_closed_in_the_next_run(follow: Follow, server: IssuesGitHub) -> None:
    """The run that opened it ended before it could."""
    follow(*[night()] * 6, *[night(1.0)] * 2)
    server.add_issue("again", server.issues[0]["body"], login=server.login, labels=[DEFAULT_LABEL])
    follow(night(1.0))
    assert [issue["state"] for issue in server.issues] == ["open", "closed"]


def test_a_run_opens_so_many_and_the_next_one_the_others(follow: Follow, server: IssuesGitHub) -> None:
    """Three compilers become slower at once: two issues in the first night, the third in the next."""

    def of_all(speed: float) -> Night:
        return [record for compiler in ("inductor", "eager", "aot_eager") for record in night(speed, compiler=compiler)]

    follow(*[of_all(1.5)] * 6, *[of_all(1.0)] * 2, most_new=2)
    assert len(server.issues) == 2
    follow(of_all(1.0), most_new=2)
    assert len({issue["title"] for issue in server.issues}) == 3


def test_what_began_with_another_commit_has_an_issue_of_its_own(follow: Follow, server: IssuesGitHub) -> None:
    """And what joins a night later, by the same commit, does not."""
    follow(*[[*night(), *both(case("late"), 1.5)]] * 6)
    for late in (1.5, 1.2, 1.2):
        follow([*night(1.0), *both(case("late"), late)])
    titles = [issue["title"] for issue in server.issues]
    assert len(titles) == 2
    assert "tiny/net" in titles[0]
    assert "tiny/late" in titles[1]


def test_failures_have_issues_of_their_own(follow: Follow, server: IssuesGitHub) -> None:
    """After two nights; a case that never passed has none."""
    broken = [accuracy(case("never"), Status.FAIL_ACCURACY)]
    follow(*[[*night(), *broken]] * 5, [*night(fails=True), *broken])
    assert server.issues == []
    follow([*night(fails=True), *broken])
    (issue,) = server.issues
    assert issue["title"].startswith("tiny/steady with inductor: failing since 2026-10-10")
    assert "--metric accuracy" in issue["body"]
    follow([*night(), *broken])
    assert issue["state"] == "closed"
    assert "well again since commit [070707070]" in server.bodies(1)[0]


def test_a_case_that_is_gone_closes_its_issue(follow: Follow, server: IssuesGitHub) -> None:
    """As not planned, and says when it was last seen."""
    follow(*[night()] * 6, *[night(1.0)] * 2)
    follow(*[both(case("steady"), 1.5)] * 3)
    (issue,) = server.issues
    assert (issue["state"], issue["state_reason"]) == ("closed", "not_planned")
    assert "gone, last seen 2026-10-12" in server.bodies(1)[0]


def test_an_accepted_change_is_closed_with_who_accepted_it(follow: Follow, server: IssuesGitHub) -> None:
    """As not planned, since nothing was mended. Who reads it is told, and nobody else."""
    follow(*[night()] * 6, *[night(1.0)] * 2)
    time = FIRST_DAY + timedelta(days=7, hours=1)
    accepted = Acceptance(case="tiny/net", name="results", time=time, by="ana", reason="safer @org/all")
    follow(night(1.0), acceptances=[accepted])
    (issue,) = server.issues
    assert (issue["state"], issue["state_reason"]) == ("closed", "not_planned")
    assert "by `ana`: `safer @org/all`" in server.bodies(1)[0]


def test_a_change_that_proves_to_be_none_is_closed(client: Client, follow: Follow, server: IssuesGitHub) -> None:
    """Its history was corrected: no trace of it is left."""
    follow(*[night()] * 6, *[night(1.0)] * 2)
    open_desk(client, [a_run(day, night()) for day in range(9)])
    assert server.issues[0]["state"] == "closed"
    assert "no trace" in server.bodies(1)[0]


def test_what_a_person_did_stays(follow: Follow, server: IssuesGitHub) -> None:
    """An issue that somebody closed is neither opened again nor doubled; one that we closed and somebody opened stays
    open."""
    follow(*[night()] * 6, *[night(1.0)] * 2)
    (issue,) = server.issues
    issue["state"] = "closed"
    follow(night(1.0))
    assert (issue["state"], len(server.issues)) == ("closed", 1)
    issue["state"] = "open"
    follow(*[night()] * 2)
    assert issue["state"] == "closed"
    issue["state"] = "open"
    follow(night())
    assert (issue["state"], len(server.bodies(1))) == ("open", 1)


def test_an_issue_that_was_closed_too_soon_is_opened_again(
    client: Client, follow: Follow, server: IssuesGitHub
) -> None:
    """The good nights were taken out of the history: the same incident goes on."""
    follow(*[night()] * 6, *[night(1.0)] * 2, *[night()] * 2, shown=4)
    assert server.issues[0]["state"] == "closed"
    bad = [replace(a_run(day, night(1.0 if day > 5 else 1.5)), name="results") for day in range(11)]
    desk = open_desk(client, bad)
    assert (server.issues[0]["state"], len(desk.opened), len(server.issues)) == ("open", 1, 1)
    assert "again" in server.bodies(1)[-1]


def test_issues_of_others_are_left_alone(follow: Follow, server: IssuesGitHub) -> None:
    """A stranger's with our mark and label, a pull request, and one of another series."""
    follow(*[night()] * 6, *[night(1.0)] * 2)
    body = server.issues[0]["body"]
    server.issues.clear()
    server.add_issue("forged", body, login="mallory", labels=[DEFAULT_LABEL])
    server.add_issue("pull", body, login=server.login, labels=[DEFAULT_LABEL], is_pull=True)
    server.add_issue("other", body.replace(body[24:40], "0" * 16), login=server.login, labels=[DEFAULT_LABEL])
    follow(night(1.0))
    assert [issue["state"] for issue in server.issues] == ["open"] * 4
    assert [issue["body"] == body for issue in server.issues[:2]] == [True, True]
    follow(*[night()] * 2)
    assert [issue["state"] for issue in server.issues] == ["open", "open", "open", "closed"]


def test_an_answer_that_is_lost_opens_one_issue(follow: Follow, server: IssuesGitHub) -> None:
    """It is looked for before it is sent again."""
    server.lose_answers = 1
    desk = follow(*[night()] * 6, *[night(1.0)] * 2)
    assert (len(server.issues), desk.refusals) == (1, [])


def test_a_label_that_is_dropped_is_a_refusal(follow: Follow, server: IssuesGitHub) -> None:
    """Since the next night would not find the issue."""
    server.drops_labels = True
    desk = follow(*[night()] * 6, *[night(1.0)] * 2)
    assert "without the label torchperf" in desk.refusals[0]
