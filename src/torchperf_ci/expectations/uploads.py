"""The tables of a commit from GitHub: its runs, their jobs and artifacts, and the files out of the artifacts."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from torchperf_ci.core.errors import NothingToJudge
from torchperf_ci.core.text import search
from torchperf_ci.expectations.collect import ConfigRun, Files, assemble, wanted_files
from torchperf_ci.github.artifacts import read_members
from torchperf_ci.github.blob import ArtifactProblem, store_session
from torchperf_ci.github.client import Client
from torchperf_ci.github.runs import Artifact, Job, Run, artifacts_of, jobs_of, runs_of
from torchperf_ci.shards.uploads import (
    Attempt,
    Choice,
    Config,
    Layout,
    State,
    choose,
    is_suite_config,
    parse_own_artifact,
    parse_test_job,
    parse_test_reports,
)

DEFAULT_WORKFLOWS: Mapping[Layout, tuple[str, ...]] = {
    Layout.PYTORCH: ("inductor", "inductor-periodic"),
    Layout.TORCHPERF: (),
}
"""The workflows that are looked at unless others are named; none: all of them."""

UNRELATED_EVENTS: Mapping[Layout, frozenset[str]] = {
    Layout.PYTORCH: frozenset({"workflow_run", "repository_dispatch"}),
    Layout.TORCHPERF: frozenset(),
}
"""Events whose runs carry the commit's SHA there without having tested it."""

_RAN = frozenset({"success", "failure", "neutral"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What to collect. Empty `workflows` and `configs`: the layout's default, and all that is found.

    exclude_jobs: patterns of names of jobs to leave out.
    """

    layout: Layout = Layout.TORCHPERF
    workflows: tuple[str, ...] = ()
    configs: tuple[str, ...] = ()
    exclude_jobs: tuple[re.Pattern[str], ...] = ()

    def takes(self, config: Config) -> bool:
        if self.configs:
            return config.name in self.configs or str(config) in self.configs
        return self.layout is Layout.TORCHPERF or is_suite_config(config.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
    """What a commit's runs have. gaps: what is not there at all, or still to come, beyond single configurations."""

    configs: tuple[ConfigRun, ...]
    gaps: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _RunDetail:
    run: Run
    jobs: tuple[Job, ...]
    artifacts: tuple[Artifact, ...]


@dataclass(slots=True)
class _Offer:
    """Every attempt at a shard, the artifacts that attempts name, and what is still going on."""

    attempts: list[Attempt] = field(default_factory=list)
    artifacts: dict[int, Artifact] = field(default_factory=dict)
    going: list[str] = field(default_factory=list)


def collect(
    client: Client, repository: str, sha: str, wish: Wish, *, threads: int, say: Callable[[str], None]
) -> Collected:
    """The tables of all wished configurations of the commit with this whole SHA.

    Raises `NothingToJudge` when the commit has no run, or none with such artifacts, and `GitHubRefused`.
    """
    runs = _wished_runs(client, repository, sha, wish)
    with ThreadPoolExecutor(max_workers=threads) as pool:
        details = list(pool.map(lambda run: _detail(client, repository, run), runs))
    offer = _Offer()
    for detail in details:
        _offer_run(offer, detail, wish)
    choices = choose(offer.attempts)
    if not choices and not offer.going:
        raise NothingToJudge(_why_nothing(details, wish))
    uploads = _download(client, repository, offer, choices, wish, threads=threads, say=say)
    found = {name for choice in choices for name in (choice.config.name, str(choice.config))}
    absent = [f"{name}: no run of this commit has it" for name in wish.configs if name not in found]
    configs = tuple(assemble(wish.layout, choice, uploads) for choice in choices)
    return Collected(configs=configs, gaps=(*absent, *offer.going))


def _wished_runs(client: Client, repository: str, sha: str, wish: Wish) -> list[Run]:
    runs = list(runs_of(client, repository, sha))
    if not runs:
        raise NothingToJudge(
            f"{repository} has no workflow run of the commit {sha}; is it the head of a push or of a pull request?"
        )
    names = wish.workflows or DEFAULT_WORKFLOWS[wish.layout]
    wished = [run for run in runs if (not names or run.workflow in names)]
    if not wished:
        there = ", ".join(sorted({run.workflow for run in runs}))
        raise NothingToJudge(f"no run of {sha} belongs to the workflow {' or '.join(names)}; there are: {there}")
    return [run for run in wished if run.event not in UNRELATED_EVENTS[wish.layout]]


def _detail(client: Client, repository: str, run: Run) -> _RunDetail:
    return _RunDetail(
        run=run,
        jobs=tuple(jobs_of(client, repository, run)),
        artifacts=tuple(artifacts_of(client, repository, run.id)),
    )


def _offer_run(offer: _Offer, detail: _RunDetail, wish: Wish) -> None:
    offer.artifacts.update({artifact.id: artifact for artifact in detail.artifacts})
    jobs = [job for job in detail.jobs if not any(search(pattern, job.name) for pattern in wish.exclude_jobs)]
    waiting = [job.name for job in jobs if not job.finished]
    if wish.layout is Layout.PYTORCH:
        attempts = list(_test_attempts(detail, jobs))
        waiting = [name for name in waiting if parse_test_job(name) is None]  # the others are attempts that are running
    else:
        attempts = list(_own_attempts(detail))
    offer.attempts += [attempt for attempt in attempts if wish.takes(attempt.shard.config)]
    if not detail.run.finished and (waiting or not detail.jobs):
        what = f"jobs {', '.join(sorted(waiting))}" if waiting else "no job has started"
        offer.going.append(f"run {detail.run.id} of {detail.run.workflow} is still going: {what}")


def _test_attempts(detail: _RunDetail, jobs: Iterable[Job]) -> Iterable[Attempt]:
    """One attempt for every test job; its artifact carries the job's id."""
    reports = {name.job: artifact for artifact in detail.artifacts if (name := parse_test_reports(artifact.name))}
    for job in jobs:
        parsed = parse_test_job(job.name)
        if parsed is None or job.conclusion == "skipped":
            continue
        shard, build = parsed
        artifact = reports.get(job.id)
        yield Attempt(
            shard=shard,
            age=(detail.run.id, job.attempt, job.id),
            state=_state_of(job, artifact),
            label=f"job {job.id} (attempt {job.attempt} of run {detail.run.id})",
            build=build,
            upload=artifact.id if artifact else 0,
        )


def _state_of(job: Job, artifact: Artifact | None) -> State:
    if not job.finished:
        return State.RUNNING
    if job.conclusion not in _RAN:
        return State.STOPPED
    if artifact is None:
        return State.NO_ARTIFACT
    return State.EXPIRED if artifact.expired else State.UPLOADED


def _own_attempts(detail: _RunDetail) -> Iterable[Attempt]:
    """One attempt for every artifact of the `run` action, and one for shards that the run's newest attempt lacks."""
    newest: dict[object, Attempt] = {}
    for artifact in detail.artifacts:
        if (parsed := parse_own_artifact(artifact.name)) is None:
            continue
        shard, number = parsed
        attempt = Attempt(
            shard=shard,
            age=(detail.run.id, number, artifact.id),
            state=State.EXPIRED if artifact.expired else State.UPLOADED,
            label=f"attempt {number} of run {detail.run.id}",
            upload=artifact.id,
        )
        newest[shard] = max(newest.get(shard, attempt), attempt, key=lambda each: each.age)
        yield attempt
    for attempt in newest.values():
        if attempt.age[1] < detail.run.attempt:
            yield Attempt(
                shard=attempt.shard,
                age=(detail.run.id, detail.run.attempt, 0),
                state=State.NO_ARTIFACT if detail.run.finished else State.RUNNING,
                label=f"attempt {detail.run.attempt} of run {detail.run.id}",
            )


def _download(
    client: Client,
    repository: str,
    offer: _Offer,
    choices: Sequence[Choice],
    wish: Wish,
    *,
    threads: int,
    say: Callable[[str], None],
) -> dict[int, Files | str]:
    """The wanted files of every chosen upload, or why there are none."""
    chosen = [attempt for choice in choices for attempt in choice.chosen]
    say(f"Reading {len(chosen)} artifacts of {len(choices)} configurations …")
    with store_session(connections=threads) as session, ThreadPoolExecutor(max_workers=threads) as pool:

        def read(attempt: Attempt) -> Files | str:
            try:
                members = read_members(
                    client,
                    repository,
                    offer.artifacts[attempt.upload],
                    wanted=wanted_files(wish.layout, attempt.shard.config),
                    session=session,
                )
            except ArtifactProblem as error:
                return str(error)
            return {member.name: member.content for member in members}

        return dict(zip((attempt.upload for attempt in chosen), pool.map(read, chosen), strict=True))


def _why_nothing(details: Sequence[_RunDetail], wish: Wish) -> str:
    what = "test reports of a test job" if wish.layout is Layout.PYTORCH else "results of torchperf-ci run"
    wished = f" of {', '.join(wish.configs)}" if wish.configs else ""
    runs = ", ".join(f"{detail.run.id} ({detail.run.workflow})" for detail in details[:5])
    return (
        f"no artifact holds {what}{wished} in {len(details)} runs: {runs or 'none of them tested this commit'}; "
        "is --layout right?"
    )
