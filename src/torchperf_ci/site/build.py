"""Make a site of a history, or bring one up to date, in a folder or on a branch: months that changed, and the index."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torchperf_ci.compare.model import Rule
from torchperf_ci.core.errors import UsageProblem
from torchperf_ci.core.records import METRICS
from torchperf_ci.core.results import Problem
from torchperf_ci.core.safe_files import delete_below, write_below
from torchperf_ci.core.text import is_repository, one_line
from torchperf_ci.dashboard.commits import AcceptanceSource, Ranges, judge_accepted, read_ranges
from torchperf_ci.dashboard.owners import OwnerRule
from torchperf_ci.dashboard.states import SeriesState
from torchperf_ci.dashboard.words import identify_run
from torchperf_ci.github.branch import Branch, commit_files, read_blob, read_file_sha
from torchperf_ci.github.client import Client
from torchperf_ci.history.acceptances import read_acceptances
from torchperf_ci.history.parquet import ParquetHistory
from torchperf_ci.history.runs import DEFAULT_NAME, RunFilter
from torchperf_ci.history.series import RunInfo
from torchperf_ci.site.data import (
    CASE_FIELDS,
    describe_case,
    describe_metric,
    describe_run,
    encode_data,
    encode_month,
    group_by_case,
)
from torchperf_ci.site.months import (
    FORMAT,
    PATH,
    Manifest,
    ManifestMonth,
    Month,
    MonthRuns,
    digest,
    encode_manifest,
    list_months,
    read_manifest,
    read_month,
)
from torchperf_ci.site.pages import (
    MOST_CHANGES,
    describe_changes,
    describe_standing,
    describe_states,
    read_assets,
    write_feed,
    write_index_page,
)

if TYPE_CHECKING:
    from torchperf_ci.github.client import Client


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SiteSources:
    """A history, the states of its series, the commits in which they became worse as far as they are known, and the
    time of the oldest run that was judged for them."""

    history: ParquetHistory
    states: tuple[SeriesState, ...]
    judged_since: datetime | None
    ranges: Ranges = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()

    @property
    def newest(self) -> RunInfo | None:
        """Return the newest run that was judged."""
        return max((state.newest for state in self.states), key=lambda run: (run.time, run.key), default=None)


def read_sources(
    history: ParquetHistory,
    count: int,
    chosen: RunFilter,
    *,
    rules: Sequence[Rule] = (),
    checkout: Path | None = None,
    client: Client | None = None,
    source: AcceptanceSource | None = None,
) -> SiteSources:
    """Judge the newest `count` runs that are chosen; `rules` are margins that were asked for.

    checkout, client: who may know the commits in which something became worse. source: of acceptances.
    """
    collection = history.read_series(count, chosen)
    series = collection.list_series()
    acceptances, problems = read_acceptances(history.files, chosen.name)
    states = tuple(judge_accepted(series, rules=rules, acceptances=acceptances, source=source))
    return SiteSources(
        history=history,
        states=states,
        ranges=read_ranges(states, checkout, client),
        judged_since=min((each.points[0].run.time for each in series), default=None),
        problems=(*collection.problems, *problems),
    )


DEFAULT_LAST = 1000
DEFAULT_SAMPLES = 50

_OURS = re.compile(r"(data|assets)/[A-Za-z0-9-]+(/[A-Za-z0-9-]+)?(\.min)?\.(js|css)|index\.html|feed\.xml|\.nojekyll")
"""The paths of a site's files, but for the manifest's. Nothing else is ever deleted, whatever a manifest says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteOptions:
    """Say what a site shows.

    last: every run of the months that hold this many of the newest runs is shown; of older ones one a week.
    samples: so many of the newest runs show their samples.
    url: where the site is going to be, for links in its feed; blank: not known.
    server: the address of GitHub's pages. owners: who owns which cases.
    """

    name: str = DEFAULT_NAME
    last: int = DEFAULT_LAST
    samples: int = DEFAULT_SAMPLES
    url: str = ""
    server: str = "https://github.com"
    owners: tuple[OwnerRule, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteUpdate:
    """The files that make a site, which a manifest knows, into one of the history as it is now.

    files: what has to be written, by path below the site, in this order; None: it has to be deleted.
    runs, cases: how many are shown. months_read: of how many months the history was read.
    """

    files: Mapping[str, bytes | None]
    runs: int
    cases: int
    months_read: int
    problems: tuple[Problem, ...]


def make_site(sources: SiteSources, options: SiteOptions, known: Manifest) -> SiteUpdate:
    """Make what a site lacks. known: the site as it is."""
    months: dict[str, ManifestMonth] = {}
    cases: dict[str, Mapping[str, str]] = {}
    contents: dict[str, bytes] = {}
    problems: list[Problem] = []
    counted = shown = 0
    for month in list_months(sources.history):
        is_thinned = counted >= options.last
        sampled = max(0, options.samples - shown)
        signature = month.sign(str(FORMAT), options.name, "thinned" if is_thinned else "whole")
        entry = known.months.get(month.name)
        if entry is None or entry.signature != signature:
            read = read_month(sources.history, month, options.name, is_thinned=is_thinned, sampled=sampled)
            problems += read.problems
            files = encode_month(month.name, read) if read.runs else {}
            entry = _describe_month(signature, read, files)
            cases |= {each["id"]: each for each in map(describe_case, group_by_case(read.series))}
            contents |= files
        else:
            cases |= {each: known.cases[each] for each in entry.cases if each in known.cases}
            entry = _forget_samples(month, entry, sampled)
        counted += entry.counted
        shown += len(entry.runs)
        months[month.name] = entry  # also one without a run of this series: it need not be read again
    months, cases = dict(sorted(months.items())), dict(sorted(cases.items()))
    changes = _join_changes(describe_changes(sources.states), known.changes, sources.judged_since)
    assets = read_assets()
    with_runs = {name: month for name, month in months.items() if month.runs}
    index = _describe_index(with_runs, cases, sources, changes, options, digest(assets["assets/plotly.min.js"]))
    script = encode_data("index", index)
    top = {
        **assets,
        ".nojekyll": b"\n",
        "data/index.js": script,
        "feed.xml": write_feed(index, options.url),
        "index.html": write_index_page(index, assets, script),
    }
    manifest = Manifest(
        months=months,
        cases=cases,
        files={path: digest(content) for path, content in top.items()},
        changes=tuple(changes),
    )
    now, before = manifest.list_files(), known.list_files()
    contents = {path: content for path, content in contents.items() if path in now}
    changed: dict[str, bytes | None] = {
        path: content for path, content in {**contents, **top}.items() if before.get(path) != now[path]
    }
    changed |= {path: None for path in before if path not in now and _OURS.fullmatch(path)}
    encoded = encode_manifest(manifest)
    if encode_manifest(known) != encoded:
        changed[PATH] = encoded  # last: what it says is there then
    return SiteUpdate(
        files=changed,
        runs=shown,
        cases=len(index["cases"]),
        months_read=len({path.split("/")[1] for path in contents}),
        problems=tuple(dict.fromkeys(problems)),
    )


def open_folder_site(folder: Path) -> Manifest:
    """Read what is known of the site in a folder. Months that lack a file are not known.

    Raises `UsageProblem` for a folder with pages that are not ours.
    """
    manifest = folder / PATH
    if not manifest.is_file():
        if (folder / "index.html").exists():
            raise UsageProblem(
                f"{folder} has an index.html that torchperf-ci did not make; choose another folder with --output"
            )
        return Manifest()
    known = read_manifest(manifest.read_bytes())
    months = {
        name: month for name, month in known.months.items() if all((folder / path).is_file() for path in month.files)
    }
    files = {path: each for path, each in known.files.items() if (folder / path).is_file()}
    return replace(known, months=months, files=files)


def write_site(folder: Path, update: SiteUpdate) -> None:
    """Write an update into a folder. Raises `UsageProblem` where it cannot be written."""
    try:
        for path, content in update.files.items():
            if content is None:
                delete_below(folder, path)
            else:
                write_below(folder, path, content)
    except OSError as error:
        raise UsageProblem(f"the site cannot be written into {folder}: {error.strerror or error}") from error


def _describe_month(signature: str, read: MonthRuns, files: Mapping[str, bytes]) -> ManifestMonth:
    return ManifestMonth(
        signature=signature,
        files={path: digest(content) for path, content in files.items()},
        runs=tuple(identify_run(run.key) for run in read.runs),
        counted=read.counted,
        cases=tuple(each["id"] for each in map(describe_case, group_by_case(read.series))),
        metrics={each.metric.name: describe_metric(each.metric) for each in read.series if not each.is_status},
        branches=tuple(sorted({one_line(run.source.branch) for run in read.runs} - {""})),
    )


def _forget_samples(month: Month, entry: ManifestMonth, sampled: int) -> ManifestMonth:
    """Drop the files of samples of runs that are no longer among the newest."""
    kept = {f"data/{month.name}/samples-{run}.js" for run in entry.runs[-sampled:]} if sampled else set()
    files = {path: each for path, each in entry.files.items() if "/samples-" not in path or path in kept}
    return replace(entry, files=files)


def _join_changes(
    shown: Sequence[Mapping[str, Any]], listed: Sequence[Mapping[str, Any]], judged_since: datetime | None
) -> list[Mapping[str, Any]]:
    """Join the changes that the newest runs show with those that were listed before, of runs further back.

    What was listed of the runs that were judged now is not taken over: it may have moved, or proved to be noise.
    """
    ids = {change["id"] for change in shown}
    older = (
        change for change in listed if judged_since and change["since"]["time"] < f"{judged_since:%Y-%m-%dT%H:%M:%S}"
    )
    return [*shown, *(change for change in older if change["id"] not in ids)][:MOST_CHANGES]


def _describe_index(
    months: Mapping[str, ManifestMonth],
    cases: Mapping[str, Mapping[str, str]],
    sources: SiteSources,
    changes: Sequence[Mapping[str, Any]],
    options: SiteOptions,
    plotly: str,
) -> dict[str, Any]:
    states, newest = sources.states, sources.newest
    standing = describe_standing(states)
    metrics = {name: each for month in months.values() for name, each in month.metrics.items()}
    metrics |= {
        state.metric.name: describe_metric(state.metric) for state in states if state.metric.name not in metrics
    }
    names = [*(name for name in METRICS if name in metrics), *sorted(metrics.keys() - METRICS.keys())]
    repository = newest.repository if newest and is_repository(newest.repository) else ""
    series = "" if options.name == DEFAULT_NAME else f", {one_line(options.name, limit=60)}"
    blank = {"state": "not run lately", "sign": "–", "tone": "", "newest": None}
    described = [
        {
            **case,
            **standing.get(each, blank),
            "months": [at for at, month in enumerate(months.values()) if each in month.cases],
        }
        for each, case in sorted(cases.items(), key=lambda item: [item[1][name] for name in CASE_FIELDS])
    ]
    return {
        "title": f"Performance of {repository or 'these runs'}{series}",
        "id": digest(f"{repository}\0{options.name}".encode()),
        "server": options.server,
        "plotly": f"assets/plotly.min.js?v={plotly}",
        "newest": describe_run(newest) if newest else None,
        "cases": described,
        "metrics": metrics,
        "order": names,
        "branches": sorted({branch for month in months.values() for branch in month.branches}),
        "months": [{"name": name, "version": month.version} for name, month in months.items()],
        "sampled": sorted(
            path.rpartition("samples-")[2].removesuffix(".js")
            for month in months.values()
            for path in month.files
            if "/samples-" in path
        ),
        "states": describe_states(states, sources.ranges, options.owners),
        "changes": list(changes),
    }


MOST_BYTES = 4_000_000
"""Of a commit: larger requests take GitHub long, and only a first site is larger."""


def read_branch_site(client: Client, branch: Branch, folder: str) -> Manifest:
    """Read what is known of the site in a folder of a branch; blank is its root.

    Raises `UsageProblem` for pages that are not ours, and `GitHubRefused`.
    """
    path = _below(folder, PATH)
    sha = read_file_sha(client, branch.repository, path, branch=branch.name)
    if sha:
        return read_manifest(read_blob(client, branch, sha, title=path))
    index = _below(folder, "index.html")
    if read_file_sha(client, branch.repository, index, branch=branch.name):
        raise UsageProblem(
            f"the branch {branch.name} of {branch.repository} has a file {index} that torchperf-ci did not make; "
            "choose another folder with --pages-dir, or another branch"
        )
    return Manifest()


def commit_site(client: Client, branch: Branch, folder: str, update: SiteUpdate, *, message: str) -> int:
    """Commit an update to a branch, which is made where there is none; return how many commits it took.

    What the pages are made of comes first, so that they are whole at any time. Raises `GitHubRefused`.
    """
    commits = 0
    for files in _split(update.files):
        below = {_below(folder, path): content for path, content in files.items()}
        commits += bool(commit_files(client, branch, below, message=message))
    return commits


def _split(files: Mapping[str, bytes | None]) -> Iterator[dict[str, bytes | None]]:
    """Split files, in their order, into parts of at most `MOST_BYTES`; a larger file is a part of its own."""
    part: dict[str, bytes | None] = {}
    size = 0
    for path, content in files.items():
        length = len(content or b"")
        if part and size + length > MOST_BYTES:
            yield part
            part, size = {}, 0
        part[path] = content
        size += length
    if part:
        yield part


def _below(folder: str, path: str) -> str:
    return f"{folder.strip('/')}/{path}" if folder.strip("/") else path
