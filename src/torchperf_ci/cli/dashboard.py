"""`torchperf-ci dashboard`: keep a run, compare it with earlier ones, post what became of it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from torchperf_ci.cli.config import owner_rules, tolerance_rules
from torchperf_ci.cli.files import tell_problems
from torchperf_ci.cli.finish import ContentOptions, refuse_to_overwrite, tell_step
from torchperf_ci.cli.follow_options import FollowOptions, follow_up
from torchperf_ci.cli.history_options import (
    DEFAULT_HISTORY,
    HistoryOptions,
    JudgingOptions,
    PagesOptions,
    find_acceptance_source,
    make_run_of_folder,
    publish_pages,
    read_site,
)
from torchperf_ci.cli.options import (
    ACCEPT_LABEL,
    GITHUB_FILES,
    RESULTS_DIR,
    GitHubOptions,
    command,
    command_options,
    option,
    takes,
)
from torchperf_ci.core.errors import ExitCode, NothingToJudge, Refused, UsageProblem, require
from torchperf_ci.core.frames import CaseSelection
from torchperf_ci.core.result_files import read_folder
from torchperf_ci.core.results import Problem, open_folder
from torchperf_ci.core.safe_files import write_below
from torchperf_ci.core.text import count, one_line

if TYPE_CHECKING:
    from torchperf_ci.dashboard.comment import Comment
    from torchperf_ci.dashboard.commits import AcceptanceSource
    from torchperf_ci.dashboard.states import SeriesState
    from torchperf_ci.github.client import Client
    from torchperf_ci.history.parquet import ParquetHistory
    from torchperf_ci.history.runs import HistoryRun, RunFilter
    from torchperf_ci.history.series import History


@command_options
class ComparingOptions(HistoryOptions):
    archive: Path | None = option(
        "--dashboard-archive-path",
        type=click.Path(file_okay=False, path_type=Path),
        help="Keep runs as folders with lookup.csv here, as PyTorch's dashboard does, instead of --history.",
    )
    archive_name: str = option(
        help="The new folder there.  [default: day_{%j}_{%d_%m_%y}_performance_{dtype}_{100..999}]"
    )
    last: int = option(type=click.IntRange(min=1), default=10, help="How many runs to show over time.")

    def refuse_unwritable(self) -> None:
        """Raise `UsageProblem` where runs are kept in a folder that cannot be written, before a verdict is told."""
        from torchperf_ci.core.file_systems import is_url
        from torchperf_ci.core.safe_files import find_write_problem

        place = str(self.archive or self.location or DEFAULT_HISTORY)
        if (self.is_on_branch and not self.archive) or is_url(place):
            return
        if problem := find_write_problem(Path(place)):
            option = "--dashboard-archive-path" if self.archive else "--history"
            raise UsageProblem(f"runs cannot be kept in {place} ({problem}); choose another folder with {option}")


@command_options("Comment")
class PostingOptions:
    issues: tuple[str, ...] = option(
        "--issue",
        metavar="[DTYPE=]N",
        help="Post a comment on this issue or pull request of --repo, for one dtype or for all. Repeatable.",
    )
    sticky: bool = option(help="Edit the comment on the run before, instead of one comment for every run.")
    site_url: str = option(metavar="URL", help="Where a site of this history is; the comment links to its pages.")
    image_uploader: str = option(
        "--image-uploader",
        "--dashboard-image-uploader",
        metavar="COMMAND",
        help="A command that gets the path of a picture and prints its URL; started without a shell.",
    )
    limit: int = option(type=click.IntRange(1_000, 65_000), default=60_000, help="Largest size of a comment in bytes.")


@command_options
class DashboardCommandOptions:
    directory: Path = RESULTS_DIR
    fail_on: str = option(
        type=click.Choice(["new", "open", "never"]),
        default="never",
        help="new: exit with 3 when a case became worse, or began to fail, in this run; open: when any is, since "
        "whenever.",
    )
    confirm: Path | None = option(
        metavar="FILE",
        type=click.Path(dir_okay=False, path_type=Path),
        help="Only judge: write the cases that are worse in this run alone into FILE, for `run --cases-from FILE`. "
        "Nothing is kept, drawn or posted.",
    )
    dry_run: bool = option(help="Write into DIR only; say what else would be written, with sizes.")
    no_graphs: bool = option(help="No pictures over time, and none in comments.")
    no_update_archive: bool = option(help="Do not keep this run.")
    no_gh_comment: bool = option(help="Do not post.")
    no_detect_regressions: bool = option(help="Do not look for what changed.")
    update_dashboard_test: bool = option(help="--no-graphs, --no-update-archive and --no-gh-comment.")
    accept_label: str = ACCEPT_LABEL
    github_files: bool = GITHUB_FILES
    history: ComparingOptions
    judging: JudgingOptions
    posting: PostingOptions
    pages: PagesOptions
    follow: FollowOptions
    content: ContentOptions
    github: GitHubOptions

    @property
    def keeps_run(self) -> bool:
        return not (self.no_update_archive or self.update_dashboard_test)

    @property
    def follows_up(self) -> bool:
        asked = self.follow.opens_issues or self.follow.webhook
        return bool(asked) and not (self.update_dashboard_test or self.confirm)

    def issues(self) -> Mapping[str, int]:
        """Return the issue of every dtype, under the blank name the one for all others; none when nothing is posted.

        Raises `UsageProblem` for what is neither `N` nor `DTYPE=N`.
        """
        issues: dict[str, int] = {}
        for text in self.posting.issues:
            dtype, _, number = text.rpartition("=")
            if not number.isdigit() or not int(number) or ("=" in text and not dtype):
                raise UsageProblem(f"--issue {text!r}: expected a number, or DTYPE=NUMBER, for example float32=93518")
            if dtype in issues:
                raise UsageProblem(
                    f"--issue names two issues for {dtype or 'all dtypes'}: {issues[dtype]} and {number}"
                )
            issues[dtype] = int(number)
        return {} if self.no_gh_comment or self.update_dashboard_test else issues

    def check(self) -> None:
        """Raise `UsageProblem` for what cannot be done, before anything is."""
        self.issues()
        if self.posting.issues or self.history.data_branch:
            self.github.require_repository()
        if self.history.archive and self.history.location:
            raise UsageProblem(
                "--history and --dashboard-archive-path are two places for the same runs; give one of them"
            )
        if self.keeps_run and not (self.dry_run or self.confirm):
            self.history.refuse_unwritable()
        self.pages.check(self.github)
        if self.pages.pages_branch and (self.history.archive or self.no_detect_regressions):
            raise UsageProblem(
                "--pages-branch shows what --history keeps, judged: without an archive of folders, and "
                "without --no-detect-regressions"
            )
        if self.history.archive_name and not self.history.archive:
            raise UsageProblem("--archive-name names a folder of --dashboard-archive-path; give that as well")
        if not self.no_detect_regressions:
            require(
                "ruptures",
                purpose="finding lasting changes",
                otherwise="--no-detect-regressions leaves them out",
            )
        elif self.fail_on != "never" or self.confirm or self.follows_up:
            raise UsageProblem(
                "--no-detect-regressions leaves nothing to judge for --fail-on, --confirm, --issues and --webhook"
            )
        self.follow.check(self.github)
        if self.follow.opens_issues and self.content.selection() != CaseSelection():
            raise UsageProblem(
                "--issues follows all cases of a history: it goes with none of --suites, --devices, --dtypes, "
                "--compilers and the modes"
            )
        if self.posting.site_url and not self.posting.site_url.startswith(("https://", "http://")):
            raise UsageProblem(
                f"--site-url {self.posting.site_url!r} is no address: it begins with https:// or http://"
            )


@command(short_help="Keep a run, compare it with earlier ones, post the dashboard.")
@takes(DashboardCommandOptions)
def dashboard(options: DashboardCommandOptions) -> int:
    """Compare the results in DIR with earlier runs, keep them, and post the dashboard.

    Everything is written into DIR: the report, the parts gh_*.txt, pictures over time, and a comment for every dtype,
    dashboard_DTYPE.md. Nothing leaves this machine unless --issue, --data-branch or a --history elsewhere asks for it.
    The run is kept before anything is posted. Repeating the command keeps it and posts it once.

    Every metric of every case has a state: fine, worse in the newest run alone, changed since a run (open until it is
    back or accepted), failing, new, gone. docs/dashboard.md has the rules; `history accept` closes what may be so.

    \b
    Examples:
      torchperf-ci dashboard benchmark_logs
      torchperf-ci dashboard benchmark_logs --repo org/project --issue 7 --data-branch torchperf-data
      torchperf-ci dashboard benchmark_logs --history s3://bucket/history --issue float32=7 --issue amp=8 --sticky
    """
    from torchperf_ci.dashboard.charts import draw_pictures
    from torchperf_ci.dashboard.comment import write_dashboards
    from torchperf_ci.dashboard.commits import read_ranges
    from torchperf_ci.dashboard.model import DashboardOptions, name_cases, study_run
    from torchperf_ci.dashboard.states import State
    from torchperf_ci.dashboard.words import list_suites, write_terminal_text
    from torchperf_ci.history.runs import RunFilter
    from torchperf_ci.history.series import find_earlier_runs
    from torchperf_ci.history.storage import server_of
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
        site=options.posting.site_url,
        owners=owner_rules(),
        limit=options.posting.limit,
    )
    with ExitStack() as opened:
        needs_client = bool(asked.data_branch or options.pages.pages_branch) or (bool(issues) and not options.dry_run)
        needs_client |= options.follows_up and options.follow.opens_issues
        needs_client |= shown.detect and options.github.can_ask(os.environ)  # what was accepted on pull requests
        client = opened.enter_context(options.github.client(os.environ)) if needs_client else None
        source = find_acceptance_source(options.github, client, options.accept_label)
        targets = Targets(options=options, run=run, client=client, source=source)
        chosen = RunFilter(name=asked.name, branch=options.judging.compare_branch, selection=report_options.selection)
        states, problems = targets.judge(chosen) if shown.detect else ([], [])
        if options.confirm:
            return _write_cases_to_confirm(options, run, states)
        past = find_earlier_runs(targets.history(), run, max(asked.last, EARLIER_RUNS), chosen)
        past = replace(past, problems=tuple(dict.fromkeys((*past.problems, *problems))))
        ranges = read_ranges(states, Path.cwd(), client)
        dashboards = study_run(findings, run, past, shown, states, ranges=ranges)
        still_open = name_cases(item for each in dashboards for item in each.states if item.is_open)
        new = name_cases(item for each in dashboards for item in each.events.new)
        worse = name_cases(item for each in dashboards for item in each.in_state(State.CHANGED, State.DROPPED))
        findings = replace(findings, regressed=len(worse))
        charts = draw(findings)
        pictures = {directory / name: content for name, content in draw_pictures(dashboards, charts).items()}
        with open_folder(directory, adopt=True, option="") as folder:
            for path, content in pictures.items():
                folder.write_bytes(path.name, content)
            summary, comments = write_dashboards(folder, findings, dashboards, charts, targets.host_pictures(pictures))
        tell_problems((*findings.problems, *past.problems), word="Problem")
        click.echo("\n\n".join([summary, *map(write_terminal_text, dashboards)]))
        click.echo(one_line(f"The dashboard is in {', '.join(str(comment.path) for comment in comments)}"), err=True)
        targets.keep_run(pictures)
        if options.pages.pages_branch:
            targets.publish_pages()
        opened_issues: Sequence[str] = ()
        closed_issues: Sequence[str] = ()
        refusals: Sequence[str] = ()
        if options.follows_up:
            opened_issues, closed_issues, refusals = follow_up(
                options.follow,
                options.github,
                client,
                run=run,
                states=states,
                branch=options.judging.compare_branch,
                site=options.posting.site_url,
                suites=list_suites(findings),
                dry_run=options.dry_run,
            )
        posted, unposted = targets.post_comments(comments, issues) if issues else ([], [])
        if refusals or unposted:
            raise Refused("\n".join((*refusals, *unposted)))
    for url in (*opened_issues, *posted):
        click.echo(url)
    outputs = {
        "comment": comments[0].path,
        "comment-url": posted[0] if posted else "",
        "issues-opened": len(opened_issues),
        "issues-closed": len(closed_issues),
        "new": len(new),
        "open": len(still_open),
    }
    tell_step(outputs, "\n".join(comment.text for comment in comments), github_files=options.github_files)
    failing = {"new": new, "open": still_open}.get(options.fail_on, [])
    if failing:
        done = "became worse or failed in this run" if options.fail_on == "new" else "worse or failing"
        click.echo(f"Failed: {count(len(failing), 'case')} {done}, and --fail-on is {options.fail_on}", err=True)
        return int(ExitCode.FAILED_CHECK)
    return int(ExitCode.OK)


EARLIER_RUNS = 50
"""So many earlier runs, at least, are looked through for one that tested the same."""


def _write_cases_to_confirm(options: DashboardCommandOptions, run: HistoryRun, states: Sequence[SeriesState]) -> int:
    """Write the cases that are off in this run alone, a line of JSON each."""
    from torchperf_ci.dashboard.model import name_cases
    from torchperf_ci.dashboard.states import State
    from torchperf_ci.run.plan import write_case_list

    assert options.confirm is not None
    dropped = [item for item in states if item.state is State.DROPPED and item.since and item.since.key == run.key]
    cases = name_cases(dropped)
    target = options.confirm.absolute()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        write_below(target.parent, target.name, write_case_list(cases).encode("utf-8", errors="replace"))
    except OSError as error:
        raise UsageProblem(f"{options.confirm} cannot be written ({error.strerror}); name another --confirm") from error
    for case in cases:
        metrics = ", ".join(item.metric.name for item in dropped if item.case == case)
        click.echo(one_line(f"{case}: {metrics}", limit=300))
    click.echo(one_line(f"Wrote {count(len(cases), 'case')} to be confirmed to {options.confirm}"), err=True)
    tell_step({"confirm": len(cases), "confirm-file": options.confirm}, github_files=options.github_files)
    return int(ExitCode.OK)


@dataclass(frozen=True, slots=True, kw_only=True)
class Targets:
    """Everything outside of the results folder that a dashboard reads or writes; `client` where that is on GitHub.

    source: of changes that were accepted on pull requests.
    """

    options: DashboardCommandOptions
    run: HistoryRun
    client: Client | None
    source: AcceptanceSource | None

    def history(self) -> History:
        """Open the history to compare with and to add to."""
        from torchperf_ci.history.archive import ArchiveHistory

        asked = self.options.history
        if asked.archive:
            return ArchiveHistory(root=asked.archive, read=read_folder, archive_name=asked.archive_name)
        return self._parquet()

    def judge(self, chosen: RunFilter) -> tuple[list[SeriesState], list[Problem]]:
        """Judge the run by the history; name what of that could not be read."""
        from torchperf_ci.dashboard.commits import judge_accepted
        from torchperf_ci.history.acceptances import Acceptance, read_acceptances
        from torchperf_ci.history.series import find_earlier_series

        asked = self.options.history
        collection = find_earlier_series(self.history(), self.run, self.options.judging.look_back, chosen)
        collection.add_run(self.run)
        acceptances: list[Acceptance] = []
        problems = list(collection.problems)
        if not asked.archive:
            acceptances, unreadable = read_acceptances(self._parquet().files, asked.name)
            problems += unreadable
        series, rules = collection.list_series(), tolerance_rules()
        return judge_accepted(series, rules=rules, acceptances=acceptances, source=self.source), problems

    def host_pictures(self, pictures: Mapping[Path, bytes]) -> Mapping[str, str]:
        """Return where the pictures, given by their path in the results folder, can be seen: by file name.

        On the data branch that is known before they are there; a command uploads them now.
        """
        from torchperf_ci.dashboard.charts import upload_by_command
        from torchperf_ci.history.storage import picture_path, picture_url, server_of

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
        from torchperf_ci.history.storage import HISTORY, picture_path

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
                click.echo(one_line(f"{done} {added.where}/{path} ({size:,} bytes)"), err=True)
            if not added.sizes:
                click.echo(one_line(f"{added.where} has this run already"), err=True)
        if files:
            self._commit(files)

    def publish_pages(self) -> None:
        """Bring the pages of the whole history up to date, this run among them if it was kept."""
        options, asked, pages = self.options, self.options.history, self.options.pages
        assert self.client is not None
        sources = read_site(self._parquet(), asked, options.judging, self.client, self.source)
        shown = pages.site_options(options.github, name=asked.name, url=options.posting.site_url)
        target = pages.target(options.github)
        publish_pages(sources, shown, target, pages.pages_dir, self.client, dry_run=options.dry_run)

    def post_comments(self, comments: Sequence[Comment], issues: Mapping[str, int]) -> tuple[list[str], list[str]]:
        """Post the comments that have an issue; return their addresses, and what was refused."""
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
        return urls, failures

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
        done = f"Committed {count(len(files), 'file')} ({size:,} bytes) to" if commit else "Everything is already on"
        click.echo(f"{done} {where}", err=True)

    def _post(self, comment: Comment, issue: int) -> list[str]:
        options = self.options
        repository = options.github.require_repository()
        if options.dry_run:
            how = "edit the earlier comment on, or post one to," if options.posting.sticky else "post a comment to"
            size = len(comment.text.encode())
            click.echo(f"Would {how} {repository}#{issue} ({size:,} bytes, {comment.path})", err=True)
            return []
        from torchperf_ci.github.issues import Marker, post_comment

        assert self.client is not None
        marker = Marker(subject=f"dashboard {self.run.name} {comment.dtype}", run=self.run.key, time=self.run.time)
        sticky = options.posting.sticky
        url, is_new = post_comment(self.client, repository, issue, comment.text, marker, sticky=sticky)
        click.echo(f"{'Posted' if is_new else 'Updated'} {url}", err=True)
        return [url]
