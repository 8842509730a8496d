"""`torchperf-ci dashboard`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from torchperf_ci.cli.dashboard_targets import Targets
from torchperf_ci.cli.history_options import Place, history_options, parsed_issues, repository_of, run_of_folder
from torchperf_ci.cli.options import (
    Decorated,
    GitHubOptions,
    command,
    decorated,
    github_options,
    option,
    results_dir_argument,
)
from torchperf_ci.cli.report_options import refuse_to_overwrite, report_options, report_options_from
from torchperf_ci.core.errors import ExitCode, NothingToJudge, UsageProblem
from torchperf_ci.core.text import one_line

if TYPE_CHECKING:
    from torchperf_ci.dashboard.model import Dashboard, DashboardOptions
    from torchperf_ci.dashboard.run import Comment
    from torchperf_ci.history.store import Run
    from torchperf_ci.report.model import ReportOptions, RunFindings

Options = Mapping[str, Any]

_COMPARING = (
    option(
        "--dashboard-archive-path",
        "archive",
        type=click.Path(file_okay=False, path_type=Path),
        help="Keep runs as folders with lookup.csv here, as PyTorch's dashboard does, instead of --history.",
    ),
    option(
        "--archive-name",
        default="",
        show_default=False,
        help="The new folder there.  [default: day_{%j}_{%d_%m_%y}_performance_{dtype}_{100..999}]",
    ),
    option(
        "--compare-branch",
        default="",
        show_default=False,
        help="Compare with runs of this branch of the repository only.  [default: all]",
    ),
    option("--last", type=click.IntRange(min=1), default=10, help="How many runs to show over time."),
    option(
        "--look-back",
        type=click.IntRange(min=1),
        default=50,
        help="How many earlier runs to look at for lasting changes, and for one to compare with.",
    ),
)
_POSTING = (
    option(
        "--issue",
        "issues",
        multiple=True,
        metavar="[DTYPE=]N",
        help="Post a comment on this issue or pull request of --repo, for one dtype or for all. Repeatable.",
    ),
    option("--sticky", is_flag=True, help="Edit the comment on the run before, instead of one comment for every run."),
    option(
        "--image-uploader",
        "--dashboard-image-uploader",
        metavar="COMMAND",
        default="",
        show_default=False,
        help="A command that gets the path of a picture and prints its URL; started without a shell.",
    ),
    option("--no-graphs", is_flag=True, help="No pictures over time, and none in comments."),
    option("--no-update-archive", is_flag=True, help="Do not keep this run."),
    option("--no-gh-comment", is_flag=True, help="Do not post."),
    option("--no-detect-regressions", is_flag=True, help="Do not look for what changed."),
    option("--update-dashboard-test", is_flag=True, help="--no-graphs, --no-update-archive and --no-gh-comment."),
    option("--dry-run", is_flag=True, help="Write into DIR only; say what else would be written, with sizes."),
    option(
        "--fail-on",
        type=click.Choice(["regressed", "never"]),
        default="never",
        help="regressed: exit with 3 when a case regressed since the run before.",
    ),
    option("--limit", type=click.IntRange(1_000, 65_000), default=60_000, help="Largest size of a comment in bytes."),
    option("--github-files", is_flag=True, help="Write step outputs and the step summary for GitHub Actions."),
)


def _comparing_options(function: Decorated) -> Decorated:
    return decorated(function, _COMPARING)


def _posting_options(function: Decorated) -> Decorated:
    return decorated(function, _POSTING)


@command(short_help="Keep a run, compare it with earlier ones, post the dashboard.")
@results_dir_argument
@report_options
@history_options
@_comparing_options
@github_options
@_posting_options
def dashboard(directory: Path, *, github: GitHubOptions, **options: Any) -> int:  # noqa: ANN401 - click's values
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
    from torchperf_ci.core.results import open_folder
    from torchperf_ci.dashboard.run import before, pictures_of, studied, write_dashboards
    from torchperf_ci.dashboard.terminal import dashboard_text
    from torchperf_ci.history.store import Wanted
    from torchperf_ci.report.charts import draw

    options = _settled(options)
    issues = _checked(options, github)
    wanted = report_options_from(directory, options, limit=options["limit"])
    findings, run = _look(directory, wanted, options)
    with ExitStack() as opened:
        client = opened.enter_context(github.client(os.environ)) if _needs_client(options, issues) else None
        place = Place.of(options, github)
        targets = Targets(options=options, place=place, issues=issues, environ=os.environ, client=client)
        asked = Wanted(name=options["name"], branch=options["compare_branch"], selection=wanted.selection)
        past = before(targets.history(), run, options["look_back"], asked)
        dashboards = studied(findings, run, past, _dashboard_options(options, github))
        findings = replace(findings, regressed=_regressed(dashboards))
        charts = draw(findings)
        pictures = {directory / name: content for name, content in pictures_of(dashboards, charts).items()}
        with open_folder(directory, adopt=True) as folder:
            for path, content in pictures.items():
                folder.write_bytes(path.name, content)
            urls = targets.picture_urls(run, pictures)
            report, comments = write_dashboards(folder, findings, dashboards, charts, urls)
        for problem in (*report.problems, *past.problems):
            click.echo(f"Problem: {one_line(str(problem))}", err=True)
        click.echo("\n\n".join([report.summary, *map(dashboard_text, dashboards)]))
        click.echo(f"The dashboard is in {', '.join(str(comment.path) for comment in comments)}", err=True)
        targets.keep(run, directory, pictures)
        posted = [] if options["no_gh_comment"] or not issues else targets.post(run, comments)
    return _conclude(dashboards, comments, posted, options)


def _settled(options: Options) -> dict[str, Any]:
    """The options, with what the one that stands for several stands for."""
    implied = ("no_graphs", "no_update_archive", "no_gh_comment") if options["update_dashboard_test"] else ()
    return {**options, **dict.fromkeys(implied, True)}


def _checked(options: Options, github: GitHubOptions) -> Mapping[str, int]:
    """The issues to post to. Raises `UsageProblem` for what cannot be done, before anything is."""
    from torchperf_ci.core.errors import require

    issues = parsed_issues(options["issues"])
    if issues or options["data_branch"]:
        repository_of(github)
    if options["archive"] and options["history"]:
        raise UsageProblem("--history and --dashboard-archive-path are two places for the same runs; give one of them")
    if options["archive_name"] and not options["archive"]:
        raise UsageProblem("--archive-name names a folder of --dashboard-archive-path; give that as well")
    if not options["no_detect_regressions"]:
        require("ruptures", extra="history", purpose="finding lasting changes")
    return issues


def _look(directory: Path, wanted: ReportOptions, options: Options) -> tuple[RunFindings, Run]:
    """What there is to report, and the run it is of."""
    from torchperf_ci.core.result_files import read_folder
    from torchperf_ci.report.write import look

    refuse_to_overwrite(directory, instead="copy the results to another folder")
    results = read_folder(directory, wanted.selection)
    findings = look(results, wanted)
    if not findings.tables:
        raise NothingToJudge(f"there is nothing to show in {directory}: {findings.problems[0]}")
    return findings, run_of_folder(directory, results, name=options["name"])


def _needs_client(options: Options, issues: Mapping[str, int]) -> bool:
    posts = bool(issues) and not options["no_gh_comment"] and not options["dry_run"]
    return posts or bool(options["data_branch"])


def _dashboard_options(options: Options, github: GitHubOptions) -> DashboardOptions:
    from torchperf_ci.dashboard.model import DashboardOptions
    from torchperf_ci.history.data_branch import server_of

    return DashboardOptions(
        last=options["last"],
        detect=not options["no_detect_regressions"],
        graphs=not options["no_graphs"],
        server=server_of(github.api_url),
        limit=options["limit"],
    )


def _conclude(
    dashboards: Sequence[Dashboard], comments: Sequence[Comment], posted: Sequence[str], options: Options
) -> int:
    """Print where the comments are, hand outputs to GitHub; the exit code."""
    from torchperf_ci.github.step_files import append_summary, write_outputs

    for url in posted:
        click.echo(url)
    regressed = _regressed(dashboards)
    if options["github_files"]:
        outputs = {"comment": str(comments[0].path), "comment-url": posted[0] if posted else ""}
        write_outputs(os.environ, {**outputs, "regressed": str(regressed)})
        append_summary(os.environ, "\n".join(comment.text for comment in comments))
    return int(ExitCode.FAILED_CHECK if regressed and options["fail_on"] == "regressed" else ExitCode.OK)


def _regressed(dashboards: Sequence[Dashboard]) -> int:
    """The cases that got worse since the run before."""
    from torchperf_ci.dashboard.changes import by_case
    from torchperf_ci.dashboard.regressions import Kind

    return sum(len(by_case(item.changes(Kind.REGRESSED))) for item in dashboards)
