"""From a commit's uploads to the rows of every expectation table of a configuration.

The uploads are folders on disk, or artifacts on GitHub, of which only the files that are needed are read.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from torchperf_ci.core.errors import NothingToJudge, UsageProblem
from torchperf_ci.core.records import Mode
from torchperf_ci.core.result_files import holds_results, read_file, result_files
from torchperf_ci.core.results import RECORDS, read_results
from torchperf_ci.core.text import count, search
from torchperf_ci.expectations.rows import join_shards, read_run_csv, read_run_tables, strip_testing
from torchperf_ci.expectations.table import ExpectationTable, TableProblem
from torchperf_ci.github.artifacts import ArtifactProblem, open_store, read_members
from torchperf_ci.github.client import Client
from torchperf_ci.github.runs import Artifact, Job, WorkflowRun, list_artifacts, list_jobs, list_runs
from torchperf_ci.shards.uploads import (
    Attempt,
    AttemptState,
    ChosenUploads,
    Configuration,
    Layout,
    Shard,
    choose,
    find_suite,
    identify_folder,
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
_REPORT_FOLDERS = ("test/test-reports/", "test-reports/")

Files = Mapping[str, bytes]
"""An upload's wanted files by name."""

Part = tuple[str, str, ExpectationTable]
"""A table's file name, which shard it comes from, and the shard's rows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigRun:
    """The tables of a commit's runs for one configuration.

    tables: by path below the expected folder. gaps: what keeps it from being complete. notes: what else to know.
    """

    config: Configuration
    tables: Mapping[str, ExpectationTable]
    gaps: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """A choice of what to collect. Empty `workflows` and `configs`: the layout's default, and all that is found.

    exclude_jobs: patterns of names of jobs to leave out.
    """

    layout: Layout = Layout.TORCHPERF
    workflows: tuple[str, ...] = ()
    configs: tuple[str, ...] = ()
    exclude_jobs: tuple[re.Pattern[str], ...] = ()

    def takes(self, config: Configuration) -> bool:
        if self.configs:
            return config.name in self.configs or str(config) in self.configs
        return self.layout is Layout.TORCHPERF or is_suite_config(config.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
    """The tables of a commit's runs. gaps: what is not there at all, or still to come, beyond single configurations."""

    configs: tuple[ConfigRun, ...]
    gaps: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _RunDetail:
    run: WorkflowRun
    jobs: tuple[Job, ...]
    artifacts: tuple[Artifact, ...]


def collect(
    client: Client, repository: str, sha: str, wish: Wish, *, threads: int, say: Callable[[str], None]
) -> Collected:
    """Collect the tables of all wished configurations of the commit with this whole SHA from GitHub.

    Raises `NothingToJudge` when the commit has no run, or none with such artifacts, and `GitHubRefused`.
    """
    runs = list_runs(client, repository, sha)
    if not runs:
        raise NothingToJudge(
            f"{repository} has no workflow run of the commit {sha}; is it the head of a push or of a pull request?"
        )
    names = wish.workflows or DEFAULT_WORKFLOWS[wish.layout]
    if names and not any(run.workflow in names for run in runs):
        there = ", ".join(sorted({run.workflow for run in runs}))
        raise NothingToJudge(f"no run of {sha} belongs to the workflow {' or '.join(names)}; there are: {there}")
    unrelated = UNRELATED_EVENTS[wish.layout]
    wished = [run for run in runs if (not names or run.workflow in names) and run.event not in unrelated]

    def detail(run: WorkflowRun) -> _RunDetail:
        jobs, artifacts = list_jobs(client, repository, run.id), list_artifacts(client, repository, run.id)
        return _RunDetail(run=run, jobs=tuple(jobs), artifacts=tuple(artifacts))

    with ThreadPoolExecutor(max_workers=threads) as pool:
        details = list(pool.map(detail, wished))
    going_on: list[str] = []
    attempts: list[Attempt] = []
    for each in details:
        attempts += _list_attempts(each, wish, going_on)
    choices = choose(attempt for attempt in attempts if wish.takes(attempt.shard.config))
    if not choices and not going_on:
        what = "test reports of a test job" if wish.layout is Layout.PYTORCH else "results of torchperf-ci run"
        wished_configs = f" of {', '.join(wish.configs)}" if wish.configs else ""
        tested = ", ".join(f"{each.run.id} ({each.run.workflow})" for each in details[:5])
        raise NothingToJudge(
            f"no artifact of {count(len(details), 'workflow run')} holds {what}{wished_configs} "
            f"({tested or 'none of them tested this commit'}); is --layout right?"
        )
    artifacts = {artifact.id: artifact for each in details for artifact in each.artifacts}
    chosen = [attempt for choice in choices for attempt in choice.attempts]
    say(f"Reading {count(len(chosen), 'artifact')} of {count(len(choices), 'configuration')} …")
    with open_store(connections=threads) as session, ThreadPoolExecutor(max_workers=threads) as pool:

        def read(attempt: Attempt) -> Files | str:
            wanted = choose_files(wish.layout, attempt.shard.config)
            try:
                return read_members(client, repository, artifacts[attempt.upload], wanted=wanted, session=session)
            except ArtifactProblem as error:
                return str(error)

        uploads = dict(zip((attempt.upload for attempt in chosen), pool.map(read, chosen), strict=True))
    present = {name for choice in choices for name in (choice.config.name, str(choice.config))}
    absent = [f"{name}: no run of this commit has it" for name in wish.configs if name not in present]
    configs = tuple(assemble(wish.layout, choice, uploads) for choice in choices)
    return Collected(configs=configs, gaps=(*absent, *going_on))


def _list_attempts(detail: _RunDetail, wish: Wish, going_on: list[str]) -> list[Attempt]:
    """List the attempts at shards of a run; `going_on` takes a sentence when more of them are to come."""
    jobs = [job for job in detail.jobs if not any(search(pattern, job.name) for pattern in wish.exclude_jobs)]
    waiting = [job.name for job in jobs if not job.finished]
    if wish.layout is Layout.PYTORCH:
        attempts = list(_list_test_attempts(detail, jobs))
        waiting = [name for name in waiting if parse_test_job(name) is None]  # the others are attempts that are running
    else:
        attempts = list(_list_own_attempts(detail))
    if not detail.run.finished and (waiting or not detail.jobs):
        what = f"jobs {', '.join(sorted(waiting))}" if waiting else "no job has started"
        going_on.append(f"run {detail.run.id} of {detail.run.workflow} is still going: {what}")
    return attempts


def _list_test_attempts(detail: _RunDetail, jobs: Iterable[Job]) -> Iterator[Attempt]:
    """Yield one attempt for every test job of PyTorch's; its artifact carries the job's id."""
    reports = {name.job: artifact for artifact in detail.artifacts if (name := parse_test_reports(artifact.name))}
    for job in jobs:
        parsed = parse_test_job(job.name)
        if parsed is None or job.conclusion == "skipped":
            continue
        shard, build = parsed
        artifact = reports.get(job.id)
        if not job.finished:
            state = AttemptState.RUNNING
        elif job.conclusion not in _RAN:
            state = AttemptState.STOPPED
        elif artifact is None:
            state = AttemptState.NO_ARTIFACT
        else:
            state = AttemptState.EXPIRED if artifact.expired else AttemptState.UPLOADED
        yield Attempt(
            shard=shard,
            age=(detail.run.id, job.attempt, job.id),
            state=state,
            label=f"job {job.id} (attempt {job.attempt} of run {detail.run.id})",
            build=build,
            upload=artifact.id if artifact else 0,
        )


def _list_own_attempts(detail: _RunDetail) -> Iterator[Attempt]:
    """Yield one attempt for every artifact of the `run` action, and one for shards that the newest attempt lacks."""
    newest: dict[Shard, int] = {}
    for artifact in detail.artifacts:
        if (parsed := parse_own_artifact(artifact.name)) is None:
            continue
        shard, number = parsed
        newest[shard] = max(newest.get(shard, 0), number)
        yield Attempt(
            shard=shard,
            age=(detail.run.id, number, artifact.id),
            state=AttemptState.EXPIRED if artifact.expired else AttemptState.UPLOADED,
            label=f"attempt {number} of run {detail.run.id}",
            upload=artifact.id,
        )
    for shard, number in newest.items():
        if number < detail.run.attempt:
            yield Attempt(
                shard=shard,
                age=(detail.run.id, detail.run.attempt, 0),
                state=AttemptState.NO_ARTIFACT if detail.run.finished else AttemptState.RUNNING,
                label=f"attempt {detail.run.attempt} of run {detail.run.id}",
            )


def collect_from_disk(path: Path, layout: Layout, configs: Sequence[str] = ()) -> tuple[ConfigRun, ...]:
    """Collect the tables of results folders: `path` itself, or the folders in it (artifacts as they were downloaded).

    A CSV of a run is read as well, for the table of its name, or of the one configuration that is asked for. Raises
    `NothingToJudge` when there is none, and `UsageProblem` when one cannot be read.
    """
    if path.is_file():
        content = read_file(path)
        table = read_run_csv(content, source=path.name) if isinstance(content, bytes) else None
        if table is None:
            raise UsageProblem(f"{path} holds no results: a CSV of a run has a column 'name' and one of its numbers")
        if len(configs) > 1:
            raise UsageProblem(f"{path} is for one table; give one --config, not {len(configs)}")
        name = configs[0] if configs else strip_testing(path.stem)
        tables = {f"{name}.csv": table.whole_rows()}
        return (ConfigRun(config=Configuration(name), tables=tables, gaps=table.problems),)
    if not path.is_dir():
        raise UsageProblem(f"there is no folder {path}")
    folders: dict[int, Path] = {}
    attempts: list[Attempt] = []
    for folder in (path, *sorted(below for below in path.iterdir() if below.is_dir())):
        if parsed := _parse_folder(folder, layout):
            shard, age = parsed
            number = len(folders) + 1
            folders[number] = folder
            attempts.append(
                Attempt(shard=shard, age=(*age, number), state=AttemptState.UPLOADED, label=str(folder), upload=number)
            )
    choices = [
        choice
        for choice in choose(attempts)
        if not configs or choice.config.name in configs or str(choice.config) in configs
    ]
    if not choices:
        what = f"{RECORDS} or CSV file of results" if layout is Layout.TORCHPERF else "a folder named test-reports-…"
        raise NothingToJudge(f"{path} holds no {what}{' of ' + ', '.join(configs) if configs else ''}")
    uploads = {
        each.upload: _read_folder(folders[each.upload], layout, choice.config)
        for choice in choices
        for each in choice.attempts
    }
    return tuple(assemble(layout, choice, uploads) for choice in choices)


def _parse_folder(folder: Path, layout: Layout) -> tuple[Shard, tuple[int, ...]] | None:
    """Tell which attempt at which shard a folder is; None when it holds no results."""
    if layout is Layout.PYTORCH:
        reports = parse_test_reports(folder.resolve().name)
        return (reports.shard, (reports.attempt, reports.job)) if reports else None
    if not holds_results(folder):
        return None
    shard, attempt = identify_folder(folder, lambda: read_results(folder).records)
    return shard, (attempt,)


def _read_folder(folder: Path, layout: Layout, config: Configuration) -> Files:
    below = folder.rglob("*") if layout is Layout.PYTORCH else folder.iterdir()
    names = [path.relative_to(folder).as_posix() for path in below if path.is_file()]
    try:
        return {name: (folder / name).read_bytes() for name in choose_files(layout, config)(names)}
    except OSError as error:
        raise UsageProblem(f"{error.filename} cannot be read ({error.strerror})") from error


def choose_files(layout: Layout, config: Configuration) -> Callable[[Sequence[str]], Sequence[str]]:
    """Return what chooses, of an upload's files, those that the tables of a configuration are made of."""

    def reports(names: Sequence[str]) -> Sequence[str]:
        return [name for mode in Mode if (name := _find_report(names, config, mode))]

    return reports if layout is Layout.PYTORCH else result_files


def _find_report(names: Sequence[str], config: Configuration, mode: Mode) -> str:
    """Return the file that holds a mode's rows in a test job's reports, or nothing."""
    candidates = [f"{folder}{mode.value}_{find_suite(config.name)}.csv" for folder in _REPORT_FOLDERS]
    return next((name for name in candidates if name in names), "")


def assemble(layout: Layout, choice: ChosenUploads, uploads: Mapping[int, Files | str]) -> ConfigRun:
    """Make the tables of a configuration from the files of its chosen uploads; a text in place of files says why there
    are none. What cannot be used becomes a gap."""
    config = choice.config
    parts: list[Part] = []
    gaps = list(choice.gaps)
    for attempt in choice.attempts:
        title = attempt.shard.title
        files = uploads[attempt.upload]
        if isinstance(files, str):
            gaps.append(f"{title}: the artifact of {attempt.label} {files}")
            continue
        try:
            read = _read_reports if layout is Layout.PYTORCH else _read_records
            shard_parts, problems = read(config, files, title)
        except TableProblem as error:
            shard_parts, problems = [], [str(error)]
        parts += shard_parts
        gaps += [f"{title}: {problem}" for problem in problems]
    names = dict.fromkeys(name for name, _, _ in parts)
    if layout is Layout.PYTORCH:  # shards share the models out, not the modes
        shards = {title for _, title, _ in parts}
        for name in names:
            for title in sorted(shards - {shard for other, shard, _ in parts if other == name}):
                gaps.append(f"{title}: has no rows for {name}, while other shards have")
    tables: dict[str, ExpectationTable] = {}
    for name in names:
        try:
            table = join_shards([(title, table) for other, title, table in parts if other == name])
            tables[f"{config.folder}/{name}" if config.folder else name] = table
        except TableProblem as error:
            gaps.append(f"{name}: {error}")
    return ConfigRun(config=config, tables=tables, gaps=tuple(gaps), notes=choice.notes)


def _read_reports(config: Configuration, files: Files, title: str) -> tuple[list[Part], list[str]]:
    parts: list[Part] = []
    problems: list[str] = []
    for mode in Mode:
        if name := _find_report(list(files), config, mode):
            table = read_run_csv(files[name], source=name)
            if table is None:
                problems.append(f"{name}: holds no results")
                continue
            problems += table.problems
            parts.append((f"{config.name}_{mode.value}.csv", title, table.whole_rows()))
    suite = find_suite(config.name)
    if not parts and not problems:
        problems.append(f"holds neither inference_{suite}.csv nor training_{suite}.csv")
    return parts, problems


def _read_records(_: Configuration, files: Files, title: str) -> tuple[list[Part], list[str]]:
    if not files:
        return [], [f"holds neither {RECORDS} nor a CSV file of results"]
    contents = {PurePosixPath(path).name: content for path, content in files.items()}
    run = read_run_tables(contents, contents.__getitem__)
    problems = [*run.problems, *([] if run.tables else ["holds no results"])]
    problems += [f"{name}: {problem}" for name, table in run.tables.items() for problem in table.problems]
    return [(name, title, table.whole_rows()) for name, table in run.tables.items()], problems
