"""`torchperf-ci compare`: base against head, a verdict per case: live on this machine, or from what is recorded."""

from __future__ import annotations

import os
import shlex
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from torchperf_ci.cli.compare_options import CompareOptions
from torchperf_ci.cli.finish import Interrupted, interrupted, signals_interrupt, tell_step, tells_failure
from torchperf_ci.cli.history_options import make_run_of_folder
from torchperf_ci.cli.options import command, declared_parameters, list_given, takes
from torchperf_ci.core.errors import ExitCode, NothingToJudge, UsageProblem
from torchperf_ci.core.frames import CaseSelection
from torchperf_ci.core.records import Source
from torchperf_ci.core.result_files import read_folder
from torchperf_ci.core.results import LOGS, Results, open_folder
from torchperf_ci.core.text import count, one_line
from torchperf_ci.github.job import find_server, read_base_branch, read_event, read_source, stop_commands

if TYPE_CHECKING:
    from torchperf_ci.compare.checkouts import Repository, SideCommit
    from torchperf_ci.compare.model import ComparisonFindings
    from torchperf_ci.compare.session import CompareRequest, SideSpec


_NOT_REPEATED = frozenset(
    {
        "base_ref",
        "head_ref",
        "upstream",
        "output_dir",
        "github_files",
        "accept_label",
        "token_file",
        "api_url",
        "patience_s",
    }
)
"""Options that a command which does the same again is not given: the commits stand in it, the rest is this job's."""


@command(short_help="Compare base with head on this machine, with a verdict per case.")
@takes(CompareOptions)
def compare(options: CompareOptions) -> int:
    """Compare base with head, with a verdict per case.

    Without folders it measures now, on this machine. Base and head run in processes of their own, on the same CPUs or
    the same GPU, and take turns, an iteration or a few each. That is repeated in several pairs of fresh processes,
    because processes of equal code differ a little. What looks slower or faster is measured again. With the compiler
    `eager` the module runs as it is, without torch.compile.

    With two results folders of `run` it compares what is recorded there. With one folder, base comes from GitHub
    (--baseline-artifact), or is what the last 30 runs on such a machine usually gave (--history, --data-branch).
    Another day, and maybe another machine, is then part of the difference, so that only large changes count.

    \b
    Examples:
      torchperf-ci compare --base-ref merge-base --setup "pip install -e ." --suites bench.py --inference
      torchperf-ci compare --base-python old/bin/python --head-python new/bin/python --inference
      torchperf-ci compare --base-compiler eager --head-compiler inductor --inference
      torchperf-ci compare main_logs head_logs
      torchperf-ci compare head_logs --baseline-artifact torchperf-merged-results --repo org/project
      torchperf-ci compare head_logs --history s3://bucket/history

    Exit code 0: nothing is slower; 3: something is; 4: nothing could be compared.
    """
    recorded = options.recorded
    with tells_failure(github_files=options.github_files):
        if options.output_dir.resolve() in [folder.resolve() for folder in options.folders]:
            raise UsageProblem(
                f"{options.output_dir} is one of the folders to compare; choose another with --output-dir"
            )
        with stop_commands(os.environ):
            if options.past.location or options.past.data_branch:
                code = _compare_with_history(options)
            elif options.folders or recorded.baseline_artifact:
                code = _compare_folders(options)
            else:
                code = _compare_live(options)
    tell_step({"exit-code": code}, github_files=options.github_files)
    return code


def _compare_folders(options: CompareOptions) -> int:
    """Compare the two folders given, or the one with an artifact on GitHub; return the exit code."""
    from torchperf_ci.compare.model import LEAST, SPEEDUP
    from torchperf_ci.compare.recorded import compare_results

    folders, recorded = options.folders, options.recorded
    if recorded.baseline_artifact:
        head = _read_one_folder(options, instead="--baseline-artifact has base")
        label, base = _fetch_baseline(head, recorded.baseline_artifact, options)
    elif len(folders) == 2:
        label, base, head = str(folders[0]), _read_results(folders[0]), _read_results(folders[1])
    else:
        raise click.UsageError(
            f"give no folder to measure now, or two to compare: BASE_DIR HEAD_DIR, not {len(folders)}; one needs "
            "--baseline-artifact or --history"
        )
    findings = compare_results(
        (label, base),
        (str(folders[-1]), head),
        options.verdicts.tolerances(LEAST[SPEEDUP]),
        source=_source_of(head),
        same_machine=recorded.same_machine,
    )
    return _write_and_conclude(findings, options)


def _fetch_baseline(head: Results, name: str, options: CompareOptions) -> tuple[str, Results]:
    """Fetch the label and the results of the artifact nearest to where head left its branch."""
    from torchperf_ci.github.artifacts import read_nearest_results

    repository, commit = options.github.require_repository(), _source_of(head).commit
    if not commit:
        raise UsageProblem("the results of head name no commit, so there is none to look for base from")
    with options.github.client(os.environ) as client:
        nearest = read_nearest_results(
            client, repository, name, head=commit, branch=options.recorded.baseline_branch or ""
        )
    before = f", {count(nearest.behind, 'commit')} before head's base" if nearest.behind else ""
    label = f"{name} of {nearest.commit[:12]}{before}"
    options.talk.say(f"Base is {label}")
    return label, nearest.results


def _compare_with_history(options: CompareOptions) -> int:
    """Compare the folder given with what the runs before it usually gave; return the exit code."""
    from torchperf_ci.compare.model import LEAST, SPEEDUP
    from torchperf_ci.compare.recorded import RUNS, compare_with_past
    from torchperf_ci.history.runs import RunFilter
    from torchperf_ci.history.series import find_earlier_runs

    recorded, branch = options.recorded, options.recorded.baseline_branch or ""
    if recorded.baseline_artifact:
        raise click.UsageError("--baseline-artifact and --history are two bases; give one of them")
    results = _read_one_folder(options, instead="the history has base")
    run = make_run_of_folder(options.folders[0], results, name=recorded.name)
    with options.past.open(options.github) as history:
        # Three times as many runs as a band is made of: not all are of a comparable environment.
        past = find_earlier_runs(history, run, 3 * RUNS, RunFilter(name=recorded.name, branch=branch))
        where = history.files.where
    if not past.runs:
        of_branch = f" of the branch {branch}" if branch else ""
        raise NothingToJudge(f"the history {where} holds no runs named {recorded.name!r}{of_branch} before it")
    findings = compare_with_past(
        (str(options.folders[0]), replace(results, records=run.results.records)),
        (f"{count(len(past.runs), 'run')} in {where}", [earlier.results.records for earlier in past.runs]),
        options.verdicts.tolerances(LEAST[SPEEDUP]),
        days=(past.runs[0].time, past.runs[-1].time),
        problems=past.problems,
        source=_source_of(results),
        same_machine=recorded.same_machine,
    )
    return _write_and_conclude(findings, options)


def _read_one_folder(options: CompareOptions, *, instead: str) -> Results:
    if len(options.folders) != 1:
        raise click.UsageError(f"give one folder, HEAD_DIR, not {len(options.folders)}: {instead}")
    return _read_results(options.folders[0])


def _read_results(folder: Path) -> Results:
    results = read_folder(folder, CaseSelection())
    if not results.records:
        raise NothingToJudge(f"{folder} holds no results; make them with `torchperf-ci run --output-dir {folder}`")
    return results


def _source_of(results: Results) -> Source:
    """Say where recorded results come from; what other tools wrote names nothing, so it is of this job or checkout."""
    newest = max((record.source for record in results.records), key=lambda source: source.time)
    return newest if newest.commit else read_source(os.environ, shard="", folder=Path.cwd())


def _accept_changes(findings: ComparisonFindings, options: CompareOptions) -> ComparisonFindings:
    """Let what fails land where comments on this job's pull request accept it. Where they cannot be read it fails."""
    if not findings.blocking or not options.github_files or not options.github.repository:
        return findings
    from torchperf_ci.compare.acceptance import accept_changes
    from torchperf_ci.github.client import GitHubRefused
    from torchperf_ci.post.acceptances import read_acceptances

    pull_request = read_event(os.environ).get("pull_request")
    number = pull_request.get("number") if isinstance(pull_request, dict) else None
    if not isinstance(number, int):
        return findings
    try:
        with options.github.client(os.environ) as client:
            acceptances, refusals = read_acceptances(
                client, options.github.repository, number, label=options.accept_label
            )
    except GitHubRefused as error:
        options.talk.say(f"Warning: whether changes were accepted is not known: {error}")
        return findings
    for refusal in refusals:
        options.talk.say(f"Not accepted: {one_line(refusal, limit=300)}")
    return accept_changes(findings, acceptances)


def _write_and_conclude(findings: ComparisonFindings, options: CompareOptions) -> int:
    from torchperf_ci.compare.report import clear_folder, write_comparison

    findings = _accept_changes(findings, options)
    with open_folder(options.output_dir) as folder:
        clear_folder(folder)
        write_comparison(folder, findings)
    for warning in findings.header.warnings:
        options.talk.say(f"Warning: {warning}")
    return _conclude(findings, options)


def _conclude(findings: ComparisonFindings, options: CompareOptions) -> int:
    """Print what was found, hand it to GitHub; return the exit code."""
    from torchperf_ci.compare.report import to_markdown, to_text

    click.echo(to_text(findings))
    options.talk.say(f"The report is {options.output_dir / 'compare.html'}")
    outputs = {
        "results": options.output_dir,
        "regressed": findings.blocking,
        "inconclusive": findings.inconclusive,
    }
    tell_step(outputs, to_markdown(findings), github_files=options.github_files)
    if findings.blocking:
        return int(ExitCode.FAILED_CHECK)
    if not findings.compared:
        return int(ExitCode.NOTHING_TO_JUDGE)
    return int(ExitCode.FAILED_CHECK if options.verdicts.strict and findings.is_open else ExitCode.OK)


def _compare_live(options: CompareOptions) -> int:
    """Measure and report; return the exit code.

    The report is also written of what is finished when an interrupt or an error ends it.
    """
    from torchperf_ci.compare.model import Measured
    from torchperf_ci.compare.report import (
        clear_folder,
        describe_case,
        judge_cases,
        read_launch_noise,
        write_comparison,
    )
    from torchperf_ci.compare.session import LiveComparison, describe_request, running_sides
    from torchperf_ci.explain.session import add_explanations, choose_comparisons, choose_seconds
    from torchperf_ci.machine.gpu import locked_clocks

    request, clocks = make_request(options), options.cases.machine.lock_clocks
    left = "Nothing was measured yet."

    def tell(number: int, total: int, measured: Measured, again: bool) -> None:  # noqa: FBT001 - a CaseListener
        place = f"[{'again ' if again else ''}{number:>{len(str(total))}}/{total}]"
        options.talk.say(f"{place} {describe_case(measured, request.plan.tolerances)}")

    try:
        with ExitStack() as stack:
            stack.enter_context(signals_interrupt())
            folder = stack.enter_context(open_folder(options.output_dir))
            if options.github_files:
                clear_folder(folder)  # no later step shall take an earlier result for what this one left
                tell_step({"results": options.output_dir}, github_files=True)
            options.talk.say(f"Setting up base ({request.base.label}) and head ({request.head.label}) …")
            if request.repository is not None and not request.setup:
                options.talk.say(
                    "Note: without --setup nothing is installed: each side imports your package from its own tree, and "
                    "all else from the same Python."
                )
            scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="torchperf-compare-")))
            base, head = stack.enter_context(running_sides(request, scratch))
            header = describe_request(request, base, head)
            earlier, left_out = read_launch_noise(options.effort.earlier, header.machine)
            live = LiveComparison(request, base, head, folder, earlier=earlier)
            clear_folder(folder)
            for warning in (*header.warnings, *left_out):
                options.talk.say(f"Warning: {one_line(warning, limit=300)}")
            for side in (base, head):
                options.talk.explain(
                    f"{side.name}: Python {side.environment.python}, torch {side.environment.torch}, "
                    f"{count(side.environment.threads, 'thread')}; logs in {folder.path / LOGS}"
                )
            left = f"The report in {options.output_dir} has the cases that were finished."
            devices = [*head.places, *(planned.device for planned in live.cases)]
            survey = head.survey
            try:
                for note in stack.enter_context(
                    locked_clocks(clocks, devices, survey.accelerators, survey.build.variables)
                ):
                    options.talk.say(f"Note: {note}.")
                live.run(tell)
            except BaseException as error:  # whatever it is, what was measured is kept
                ended = "interrupted" if isinstance(error, Interrupted) else "ended by an error"
                done = f"{ended}: {len(live.measured)} of {len(live.cases)} cases were measured"
                header = replace(header, warnings=(done, *header.warnings))
                write_comparison(
                    folder, judge_cases(header, live.measured, unmeasured=live.unmeasured, earlier=earlier)
                )
                raise
            findings = _accept_changes(judge_cases(header, live.measured, earlier=earlier), options)
            write_comparison(folder, findings)
            seconds = choose_seconds(request.settings.budget, live.measured)
            chosen = choose_comparisons(findings, options.effort.explain)
            left = f"The report in {options.output_dir} is complete but for the explanations."
            findings = add_explanations(
                findings, chosen, request, (base, head), folder, options.talk.say, seconds=seconds
            )
    except Interrupted as error:
        return interrupted(error, left)
    return _conclude(findings, options)


def make_request(options: CompareOptions) -> CompareRequest:
    """Make the request of the options. Raises `click.UsageError` and `UsageProblem` for what cannot be meant."""
    from torchperf_ci.compare.effects import LEAST_PAIRS, ONE_PROCESS, TWO_PROCESSES
    from torchperf_ci.compare.live import ComparePlan, Interleave
    from torchperf_ci.compare.session import CompareRequest, shared_cpus

    sides = options.sides
    if (sides.base_compiler is None) != (sides.head_compiler is None):
        raise click.UsageError("give --base-compiler and --head-compiler together")
    repository, base_commit, head_commit = _choose_commits(options)
    base = _make_side("base", sides.base_python, sides.base_env, sides.base_compiler, base_commit, options)
    head = _make_side("head", sides.head_python, sides.head_env, sides.head_compiler, head_commit, options)
    if base == replace(head, name="base"):
        if sides.base_ref:
            raise click.UsageError(
                f"base and head are the same: {sides.base_ref} is what is checked out, and no tracked file is changed; "
                "give an older commit, for example --base-ref HEAD~1 or merge-base"
            )
        raise click.UsageError(
            "base and head are the same: give --base-ref, --base-python and --head-python, --base-env or --head-env, "
            "--base-compiler and --head-compiler, or two results folders"
        )
    selection, settings = options.cases.selection(), options.cases.settings()
    if sides.head_compiler:
        selection = replace(selection, compilers=(sides.head_compiler,))
    if not options.cases.variants.performance:
        raise click.UsageError("--no-performance leaves no time to compare; `check` compares statuses")
    if settings.rule.repeat is not None and settings.rule.repeat < LEAST_PAIRS:
        raise click.UsageError(
            f"--repeat {settings.rule.repeat}: a launch of a comparison needs at least {LEAST_PAIRS} rounds"
        )
    # Both sides can be arms of one process where one is the plain module, and the other the same module compiled.
    only_compilers_differ = replace(base, compiler=head.compiler, label=head.label, name="head") == head
    one_process = (
        only_compilers_differ
        and base.compiler == "eager" != head.compiler
        and options.effort.interleave in {"auto", "iteration"}
    )
    # Whoever gives the sides other variables, compilers or Pythons wants to see what these do, even if that is nothing.
    only_commits_differ = bool(base.commit) and replace(base, name="head", label=head.label, commit=head.commit) == head
    source = _source_of_head(repository, sides.head_ref)
    return CompareRequest(
        base=base,
        head=head,
        selection=selection,
        settings=replace(settings, cpus=shared_cpus(settings.threads)),
        plan=ComparePlan(
            tolerances=options.verdicts.tolerances(ONE_PROCESS if one_process else TWO_PROCESSES),
            launches=1 if one_process else options.effort.launches,
            seconds=options.effort.budget_per_case,
            interleave=Interleave(options.effort.interleave),
            one_process=one_process,
            spares=only_commits_differ and not options.effort.measure_all,
        ),
        repository=repository,
        setup=sides.setup,
        command=tuple(sys.argv[1:]),
        source=source,
        server=find_server(os.environ, source),
        reproduction=(_write_command(base_commit, head_commit),),
        bisect_options=_list_bisect_options(repository, base_commit, head_commit),
    )


def _make_side(
    name: str,
    own_python: str | None,
    own_env: tuple[tuple[str, str], ...],
    compiler: str | None,
    commit: SideCommit | None,
    options: CompareOptions,
) -> SideSpec:
    from torchperf_ci.compare.session import SideSpec

    python = own_python or options.cases.interpreter.python
    variables = " ".join(f"{key}={value}" for key, value in own_env)
    return SideSpec(
        name=name,
        python=python,
        python_option=f"--{name}-python" if own_python else "--python",
        label=(commit and commit.label) or compiler or own_python or variables or python,
        environ={**options.cases.variables(), **dict(own_env)},
        compiler=compiler,
        commit=commit,
    )


def _choose_commits(options: CompareOptions) -> tuple[Repository | None, SideCommit | None, SideCommit | None]:
    """Choose the repository and both sides' commits; nothing when no ref was given."""
    from torchperf_ci.compare.checkouts import Repository

    sides = options.sides
    if not sides.base_ref:
        if sides.head_ref:
            raise click.UsageError("--head-ref needs --base-ref")
        return None, None, None
    repository = Repository.around(Path.cwd())
    base, head = repository.choose_commits(
        sides.base_ref, sides.head_ref or "", upstream=sides.upstream, base_branch=read_base_branch(os.environ)
    )
    if head.checkout != head.known.sha:
        options.talk.say("The working tree has changes to tracked files: they are part of head.")
    # Benchmarks are those of the working tree, on both sides: whether git knows them does not matter.
    models = options.cases.models
    given = [Path(text.partition("::")[0]).absolute() for text in (*models.suites, *models.pytest, *models.asv)]
    untracked = [] if sides.head_ref else repository.list_untracked()
    untracked = [name for name in untracked if not any((repository.folder / name).is_relative_to(at) for at in given)]
    if untracked:
        names = ", ".join(untracked[:3]) + (" …" if len(untracked) > 3 else "")
        options.talk.say(f"Not tracked, so not part of head unless you `git add` them: {names}")
    return repository, base, head


def _write_command(base: SideCommit | None, head: SideCommit | None) -> str:
    """Write the command that measures the same again: what was given, with commits in place of branches."""
    words = ["torchperf-ci", "compare"]
    if base is not None:
        words += ["--base-ref", base.checkout]
    if head is not None and head.checkout == head.known.sha:
        words += ["--head-ref", head.checkout]
    return shlex.join([*words, *list_given(_NOT_REPEATED)])


def _list_bisect_options(
    repository: Repository | None, base: SideCommit | None, head: SideCommit | None
) -> tuple[str, ...] | None:
    """List the options with which `bisect` looks for what made a change between the sides; None where it cannot:
    without two commits, with less than two commits between them, or with more that differs than commits."""
    from torchperf_ci.cli.bisect import BisectOptions

    if repository is None or base is None or head is None or head.checkout != head.known.sha:
        return None
    given = set(list_given({"base_ref", "head_ref"}))
    of_sides = {f"--{side}-{part}" for side in ("base", "head") for part in ("python", "env", "compiler")}
    if given & of_sides or repository.count_between(base.checkout, head.checkout) < 2:
        return None
    known = {name for name, *_ in declared_parameters(BisectOptions)}
    return tuple(list_given({*_NOT_REPEATED, "filters", "exclude", "quick", "launches"}, known))


def _source_of_head(repository: Repository | None, head_ref: str | None) -> Source:
    """Say where head comes from: the job, or this checkout; but its commit is the one that was asked for.

    What is checked out for a pull request is a merge commit, and stands for the head that GitHub's event names.
    """
    source = read_source(os.environ, shard="", folder=Path.cwd())
    if repository is None or not head_ref:
        return source
    commit = repository.find_commit(head_ref)
    return source if commit == repository.find_commit("HEAD") else replace(source, commit=commit)
