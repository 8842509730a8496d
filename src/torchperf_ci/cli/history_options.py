"""The options that say where the history of runs is."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torchperf_ci.cli.options import Decorated, GitHubOptions, decorated, option
from torchperf_ci.core.errors import UsageProblem

if TYPE_CHECKING:
    from torchperf_ci.core.results import Results
    from torchperf_ci.github.branch import Branch
    from torchperf_ci.github.client import Client
    from torchperf_ci.history.parquet import ParquetHistory
    from torchperf_ci.history.runs import HistoryRun
    from torchperf_ci.history.storage import Files

DEFAULT_HISTORY = "./torchperf-history"

_NAME = option(
    "--name",
    default="results",
    help="The series of runs, where a history holds several: only runs of one series are compared.",
)


def history_options(function: Decorated) -> Decorated:
    """Where the history is, and which of its series: `history`, `data_branch` and `name`."""
    place = _place(
        "Where runs are kept: a folder, or a URL, say s3://bucket/history.  "
        f"[default: {DEFAULT_HISTORY}, or the data branch if one is given]",
        "A branch of --repo for the history, and for pictures in comments; made when it is not there.",
    )
    return decorated(function, (*place, _NAME))


def past_options(function: Decorated) -> Decorated:
    """Where a history is that may be looked at: `history` and `data_branch`. Without them there is none."""
    return decorated(
        function,
        _place(
            "The runs that `dashboard` keeps: a folder, or a URL, say s3://bucket/history.",
            "The branch of --repo with them.",
        ),
    )


def _place(history: str, branch: str) -> tuple[Callable[[Any], Any], ...]:
    """The options `history` and `data_branch` with these helps."""
    return (
        option("--history", metavar="URI", help=history),
        option("--data-branch", metavar="BRANCH", default="", show_default=False, help=branch),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a history of Parquet files is."""

    location: str | None
    data_branch: str
    github: GitHubOptions

    @classmethod
    def of(cls, options: Mapping[str, Any], github: GitHubOptions) -> Place:
        return cls(location=options["history"], data_branch=options["data_branch"], github=github)

    @property
    def needs_github(self) -> bool:
        return bool(self.data_branch) and not self.location

    def branch(self) -> Branch:
        """The data branch. Raises `UsageProblem` when the repository is not known."""
        from torchperf_ci.github.branch import Branch

        return Branch(repository=repository_of(self.github), name=self.data_branch)

    def files(self, environ: Mapping[str, str], client: Client | None) -> Files:
        """The history's files. `client` is needed when they are on the data branch."""
        from torchperf_ci.history.storage import cache_folder, open_files

        cache = cache_folder(environ)
        if not self.needs_github:
            return open_files(self.location or DEFAULT_HISTORY, cache=cache)
        from torchperf_ci.history.data_branch import BranchFiles

        assert client is not None
        branch = self.branch()
        return BranchFiles(client=client, branch=branch, cache=cache / branch.repository / branch.name)


def run_of_folder(directory: Path, results: Results, *, name: str) -> HistoryRun:
    """The run that a results folder holds. In a GitHub job, what does not say where it comes from is of this job."""
    from torchperf_ci.core.records import Source
    from torchperf_ci.github.context import source_from
    from torchperf_ci.history.runs import make_folder_run

    in_actions = os.environ.get("GITHUB_ACTIONS") == "true"
    source = source_from(os.environ, shard="1-1", folder=directory) if in_actions else Source()
    return make_folder_run(directory, results, name=name, source=source)


@contextmanager
def opened_history(options: Mapping[str, Any], github: GitHubOptions) -> Iterator[ParquetHistory]:
    """The history of Parquet files that the options name."""
    from torchperf_ci.history.parquet import ParquetHistory

    place = Place.of(options, github)
    if not place.needs_github:
        yield ParquetHistory(files=place.files(os.environ, None))
        return
    place.branch()
    with github.client(os.environ) as client:
        yield ParquetHistory(files=place.files(os.environ, client))


def repository_of(github: GitHubOptions) -> str:
    """The repository of --repo. Raises `UsageProblem` when it is not given, or cannot be one."""
    from torchperf_ci.github.runs import checked_repository

    return checked_repository(github.repository)


def parsed_issues(texts: tuple[str, ...]) -> Mapping[str, int]:
    """The issue of every dtype: `N` for all, under the blank name, and `DTYPE=N`. Raises `UsageProblem`."""
    issues: dict[str, int] = {}
    for text in texts:
        dtype, _, number = text.rpartition("=")
        if not number.isdigit() or not int(number) or ("=" in text and not dtype):
            raise UsageProblem(f"--issue {text!r}: expected a number, or DTYPE=NUMBER, say float32=93518")
        if dtype in issues:
            raise UsageProblem(f"--issue names two issues for {dtype or 'all dtypes'}: {issues[dtype]} and {number}")
        issues[dtype] = int(number)
    return issues
