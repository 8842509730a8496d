"""`torchperf-ci dashboard`: keep a run, compare it with earlier ones, post what became of it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import click

from torchperf_ci.cli.history_options import HistoryOptions, make_run_of_folder, repository_of
from torchperf_ci.cli.options import GITHUB_FILES, RESULTS_DIR, GitHubOptions, command, command_options, option, takes
from torchperf_ci.cli.report_options import ContentOptions, refuse_to_overwrite
from torchperf_ci.core.errors import ExitCode, NothingToJudge, Refused, UsageProblem
from torchperf_ci.core.text import count, one_line

if TYPE_CHECKING:
    from torchperf_ci.dashboard.comment import Comment
    from torchperf_ci.github.client import Client
    from torchperf_ci.history.parquet import ParquetHistory
    from torchperf_ci.history.runs import History, HistoryRun


@command_options
class ComparingOptions(HistoryOptions):
    """Say where runs are kept, and which of them the run is compared with."""

    archive: Path | None = option(
        "--dashboard-archive-path",
        type=click.Path(file_okay=False, path_type=Path),
        help="Keep runs as folders with lookup.csv here, as PyTorch's dashboard does, instead of --history.",
    )
    archive_name: str = option(
        "--archive-name",
        default="",
        show_default=False,
        help="The new folder there.  [default: day_{%j}_{%d_%m_%y}_performance_{dtype}_{100..999}]",
    )
    compare_branch: str = option(
        "--compare-branch",
        default="",
        show_default=False,
        help="Compare with runs of this branch of the repository only.  [default: all]",
    )
    last: int = option("--last", type=click.IntRange(min=1), default=10, help="How many runs to show over time.")
    look_back: int = option(
        "--look-back",
        type=click.IntRange(min=1),
        default=50,
        help="How many earlier runs to look at for lasting changes, and for one to compare with.",
    )


@command_options
class PostingOptions:
    """Say what leaves this machine as a comment."""

    SECTION: ClassVar[str] = "Comment"

    issues: tuple[str, ...] = option(
        "--issue",
        multiple=True,
        metavar="[DTYPE=]N",
        help="Post a comment on this issue or pull request of --repo, for one dtype or for all. Repeatable.",
    )
    sticky: bool = option(
        "--sticky", is_flag=True, help="Edit the comment on the run before, instead of one comment for every run."
    )
    image_uploader: str = option(
        "--image-uploader",
        "--dashboard-image-uploader",
        metavar="COMMAND",
        default="",
        show_default=False,
        help="A command that gets the path of a picture and prints its URL; started without a shell.",
    )
    limit: int = option(
        "--limit",
        type=click.IntRange(1_000, 65_000),
        default=60_000,
        help="Largest size of a comment in bytes.",
    )


@command_options
class DashboardCommandOptions:
    """Say which run is shown, what it is compared with, and where it goes."""

    directory: Path = RESULTS_DIR
    fail_on: str = option(
        "--fail-on",
        type=click.Choice(["regressed", "never"]),
        default="never",
        help="regressed: exit with 3 when a case regressed since the run before.",
    )
    dry_run: bool = option(
        "--dry-run", is_flag=True, help="Write into DIR only; say what else would be written, with sizes."
    )
    no_graphs: bool = option("--no-graphs", is_flag=True, help="No pictures over time, and none in comments.")
    no_update_archive: bool = option("--no-update-archive", is_flag=True, help="Do not keep this run.")
    no_gh_comment: bool = option("--no-gh-comment", is_flag=True, help="Do not post.")
    no_detect_regressions: bool = option("--no-detect-regressions", is_flag=True, help="Do not look for what changed.")
    update_dashboard_test: bool = option(
        "--update-dashboard-test",
        is_flag=True,
        help="--no-graphs, --no-update-archive and --no-gh-comment.",
    )
    github_files: bool = GITHUB_FILES
    history: ComparingOptions
    posting: PostingOptions
    content: ContentOptions
    github: GitHubOptions

    @property
    def keeps_run(self) -> bool:
        return not (self.no_update_archive or self.update_dashboard_test)

    def issues(self) -> Mapping[str, int]:
        """Return the issue of every dtype, under the blank name the one for all others; none when nothing is posted.

        Raises `UsageProblem` for what is neither `N` nor `DTYPE=N`.
        """
        issues: dict[str, int] = {}
        for text in self.posting.issues:
            dtype, _, number = text.rpartition("=")
            if not number.isdigit() or not int(number) or ("=" in text and not dtype):
                raise UsageProblem(f"--issue {text!r}: expected a number, or DTYPE=NUMBER, say float32=93518")
            if dtype in issues:
                raise UsageProblem(
                    f"--issue names two issues for {dtype or 'all dtypes'}: {issues[dtype]} and {number}"
                )
            issues[dtype] = int(number)
        return {} if self.no_gh_comment or self.update_dashboard_test else issues

    def check(self) -> None:
        """Raise `UsageProblem` for what cannot be done, before anything is."""
        from torchperf_ci.core.errors import require

        self.issues()
        if self.posting.issues or self.history.data_branch:
            repository_of(self.github)
        if self.history.archive and self.history.location:
            raise UsageProblem(
                "--history and --dashboard-archive-path are two places for the same runs; give one of them"
            )
        if self.history.archive_name and not self.history.archive:
            raise UsageProblem("--archive-name names a folder of --dashboard-archive-path; give that as well")
        if not self.no_detect_regressions:
            require(
                "ruptures",
                purpose="finding lasting changes",
                otherwise="--no-detect-regressions leaves them out, and regressions with them",
            )


@command(short_help="Keep a run, compare it with earlier ones, post the dashboard.")
@takes(DashboardCommandOptions)
def dashboard(options: DashboardCommandOptions) -> int:
    """Compare the results in DIR with earlier runs, keep them, and post the dashboard.

    Everything is written into DIR: the report, the parts gh_*.txt, pictures over time, and a comment for every dtype,
    dashboard_DTYPE.md. Nothing leaves this machine unless --issue, --data-branch or a --history elsewhere asks for it.
    The run is kept before anything is posted. Repeating the command keeps it and posts it once.

    \b
    Examples:
      torchperf-ci dashboard benchmark_logs
      torchperf-ci dashboard benchmark_logs --repo org/project --issue 7 --data-branch torchperf-data
      torchperf-ci dashboard benchmark_logs --history s3://bucket/history --issue float32=7 --issue amp=8 --sticky
    """
    from torchperf_ci.core.result_files import read_folder
    from torchperf_ci.core.results import open_folder
    from torchperf_ci.dashboard.charts import draw_pictures
    from torchperf_ci.dashboard.comment import write_dashboards
    from torchperf_ci.dashboard.model import DashboardOptions, study_run
    from torchperf_ci.dashboard.words import write_terminal_text
    from torchperf_ci.github.job import append_summary, write_outputs
    from torchperf_ci.history.data_branch import server_of
    from torchperf_ci.history.runs import RunFilter, find_earlier_runs
    from torchperf_ci.report.charts import draw
    from torchperf_ci.report.write import judge_results

    options.check()
    directory, asked, issues = options.directory, options.history, options.issues()
    report_options = options.content.report_options(directory, limit=options.posting.limit)
    refuse_to_overwrite(directory, instead="copy the results to another folder")
    results = read_folder(directory, report_options.selection)
    findings = judge_results(results, report_options)
    if not findings.tables:
        raise NothingToJudge(f"there is nothing to show in {directory}: {findings.problems[0]}")
    run = make_run_of_folder(directory, results, name=asked.name)
    shown = DashboardOptions(
        last=asked.last,
        detect=not options.no_detect_regressions,
        graphs=not (options.no_graphs or options.update_dashboard_test),
        server=server_of(options.github.api_url),
        limit=options.posting.limit,
    )
    with ExitStack() as opened:
        needs_client = bool(asked.data_branch) or (bool(issues) and not options.dry_run)
        client = opened.enter_context(options.github.client(os.environ)) if needs_client else None
        targets = Targets(options=options, run=run, client=client)
        chosen = RunFilter(name=asked.name, branch=asked.compare_branch, selection=report_options.selection)
        past = find_earlier_runs(targets.history(), run, asked.look_back, chosen)
        dashboards = study_run(findings, run, past, shown)
        regressed = sum(len(item.regressed_cases()) for item in dashboards)
        findings = replace(findings, regressed=regressed)
        charts = draw(findings)
        pictures = {directory / name: content for name, content in draw_pictures(dashboards, charts).items()}
        with open_folder(directory, adopt=True, option="") as folder:
            for path, content in pictures.items():
                folder.write_bytes(path.name, content)
            report, comments = write_dashboards(folder, findings, dashboards, charts, targets.host_pictures(pictures))
        for problem in (*report.problems, *past.problems):
            click.echo(f"Problem: {one_line(str(problem))}", err=True)
        click.echo("\n\n".join([report.summary, *map(write_terminal_text, dashboards)]))
        click.echo(f"The dashboard is in {', '.join(str(comment.path) for comment in comments)}", err=True)
        targets.keep_run(pictures)
        posted = targets.post_comments(comments, issues) if issues else []
    for url in posted:
        click.echo(url)
    if options.github_files:
        outputs = {"comment": str(comments[0].path), "comment-url": posted[0] if posted else ""}
        write_outputs(os.environ, {**outputs, "regressed": str(regressed)})
        append_summary(os.environ, "\n".join(comment.text for comment in comments))
    if regressed and options.fail_on == "regressed":
        click.echo(f"Failed: {count(regressed, 'case')} regressed, and --fail-on is regressed", err=True)
        return int(ExitCode.FAILED_CHECK)
    return int(ExitCode.OK)


@dataclass(frozen=True, slots=True, kw_only=True)
class Targets:
    """Everything outside of the results folder that a dashboard reads or writes; `client` where that is on GitHub."""

    options: DashboardCommandOptions
    run: HistoryRun
    client: Client | None

    def history(self) -> History:
        """Open the history to compare with and to add to."""
        from torchperf_ci.core.result_files import read_folder
        from torchperf_ci.history.archive import ArchiveHistory

        asked = self.options.history
        if asked.archive:
            return ArchiveHistory(root=asked.archive, read=read_folder, archive_name=asked.archive_name)
        return self._parquet()

    def host_pictures(self, pictures: Mapping[Path, bytes]) -> Mapping[str, str]:
        """Return where the pictures, given by their path in the results folder, can be seen: by file name.

        On the data branch that is known before they are there; a command uploads them now.
        """
        from torchperf_ci.dashboard.pictures import upload_by_command
        from torchperf_ci.history.data_branch import picture_path, picture_url, server_of

        options = self.options
        if uploader := options.posting.image_uploader:
            if options.dry_run:
                for path, content in pictures.items():
                    click.echo(f"Would run: {uploader} {path} ({len(content):,} bytes)", err=True)
                return {}
            urls, problems = upload_by_command(uploader, list(pictures))
            for problem in problems:
                click.echo(f"Warning: {problem}", err=True)
            return urls
        if not options.history.data_branch:
            return {}
        server, branch = server_of(options.github.api_url), options.history.branch(options.github)
        return {
            path.name: picture_url(server, branch, picture_path(self.run.time, path.name, content))
            for path, content in pictures.items()
        }

    def keep_run(self, pictures: Mapping[Path, bytes]) -> None:
        """Add the run to the history, and the pictures to the data branch: in one commit where both are there."""
        from torchperf_ci.history.data_branch import HISTORY, picture_path

        options = self.options
        files: dict[str, bytes] = {}
        if options.history.data_branch and not options.posting.image_uploader:
            files = {picture_path(self.run.time, path.name, content): content for path, content in pictures.items()}
        if options.keeps_run and options.history.is_on_branch and not options.history.archive:
            files |= {f"{HISTORY}/{path}": content for path, content in self._parquet().encode(self.run).items()}
        elif options.keeps_run:
            added = self.history().add(self.run, options.directory, dry_run=options.dry_run)
            for path, size in added.sizes.items():
                done = "Would write" if options.dry_run else "Wrote"
                click.echo(f"{done} {added.where}/{path} ({size:,} bytes)", err=True)
            if not added.sizes:
                click.echo(f"{added.where} has this run already", err=True)
        if files:
            self._commit(files)

    def post_comments(self, comments: Sequence[Comment], issues: Mapping[str, int]) -> list[str]:
        """Post the comments that have an issue; return their addresses. Raises `Refused` after all were tried."""
        urls: list[str] = []
        failures: list[str] = []
        for comment in comments:
            issue = issues.get(comment.dtype, issues.get(""))
            if issue is None:
                click.echo(f"No --issue is named for {comment.dtype}: its comment is in {comment.path}", err=True)
                continue
            try:
                urls += self._post(comment, issue)
            except Refused as error:
                failures.append(f"{error}. The comment is in {comment.path}; repeat the command to post it")
        if failures:
            raise Refused("\n".join(failures))
        return urls

    def _parquet(self) -> ParquetHistory:
        return self.options.history.parquet(self.options.github, self.client)

    def _commit(self, files: Mapping[str, bytes]) -> None:
        branch = self.options.history.branch(self.options.github)
        where = f"the branch {branch.name} of {branch.repository}"
        if self.options.dry_run:
            for path, content in files.items():
                click.echo(f"Would commit {path} ({len(content):,} bytes) to {where}", err=True)
            return
        from torchperf_ci.github.branch import commit_files

        assert self.client is not None
        message = f"Add the run of {self.run.time:%Y-%m-%d %H:%M} UTC"
        commit = commit_files(self.client, branch, files, message=message)
        size = sum(map(len, files.values()))
        done = (
            f"Committed {count(len(files), 'file')} ({size:,} bytes) to" if commit.made else "Everything is already on"
        )
        click.echo(f"{done} {where}", err=True)

    def _post(self, comment: Comment, issue: int) -> list[str]:
        options = self.options
        repository = repository_of(options.github)
        if options.dry_run:
            how = "edit the earlier comment on, or post one to," if options.posting.sticky else "post a comment to"
            size = len(comment.text.encode())
            click.echo(f"Would {how} {repository}#{issue} ({size:,} bytes, {comment.path})", err=True)
            return []
        from torchperf_ci.github.comments import Marker, post_comment

        assert self.client is not None
        marker = Marker(subject=f"dashboard {self.run.name} {comment.dtype}", run=self.run.key, time=self.run.time)
        posted = post_comment(self.client, repository, issue, comment.text, marker, sticky=options.posting.sticky)
        click.echo(f"{'Posted' if posted.was_new else 'Updated'} {posted.url}", err=True)
        return [posted.url]
