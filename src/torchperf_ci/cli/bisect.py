"""`torchperf-ci bisect`: which commit, or version of a package, made the change between a good and a bad one."""

from __future__ import annotations

import hashlib
import math
import os
import re
import shlex
import sys
import time
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from torchperf_ci.bisect.model import LAUNCHES_PER_STEP
from torchperf_ci.cli.case_options import CaseOptions, TalkOptions
from torchperf_ci.cli.compare_options import BUDGET_PER_CASE, EXPLAIN, INTERLEAVE, SETUP, SHARE
from torchperf_ci.cli.config import tolerance_rules
from torchperf_ci.cli.finish import Interrupted, interrupted, signals_interrupt, tell_step, tells_failure
from torchperf_ci.cli.options import (
    ACCEPT_LABEL,
    GITHUB_FILES,
    argument,
    command,
    command_options,
    list_given,
    option,
    takes,
)
from torchperf_ci.core.errors import ExitCode, TorchperfError
from torchperf_ci.core.results import ResultsFolder, open_folder
from torchperf_ci.core.text import one_line
from torchperf_ci.github.job import find_server, read_source, stop_commands

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torchperf_ci.bisect.commits import Stretch
    from torchperf_ci.bisect.measure import Recipe
    from torchperf_ci.bisect.model import BisectFindings, Question
    from torchperf_ci.bisect.session import Measurer
    from torchperf_ci.compare.checkouts import Repository
    from torchperf_ci.compare.model import Header
    from torchperf_ci.compare.session import CompareRequest


@command_options("What to look for")
class SearchOptions:
    case: str = option(
        metavar="SUITE/MODEL …",
        help="The case: suite and model, and as far as needed compiler, mode, dtype and device, as reports name it.  "
        "[default: the only one there is]",
    )
    metric: str = option(
        default="latency",
        help="What changed: latency, memory, compile-time, accuracy (it fails, or is wrong), or a counter, for example "
        "graph_breaks.",
    )
    margin: float | None = option(
        type=SHARE,
        help="The smallest change that counts: 0.02 is 2 %. Ends that differ by less are not searched.  [default: as "
        "in compare: 0.02 for latency]",
    )
    command: str = option(
        "--run",
        metavar="COMMAND",
        help="Ask this shell command instead of measuring a case. It runs in each commit's worktree: exit code 0 is "
        "good, 125 skips the commit, others up to 127 are bad.",
    )
    setup: str = SETUP
    first_parent: bool = option(help="Follow the first parent of merges alone: a merged branch is one commit.")
    paths: tuple[str, ...] = option(metavar="PATH", help="Only commits that change something there. Repeatable.")
    python_of: str = option(
        metavar="COMMAND",
        help="Search versions of a package, not commits: the shell command that installs one, for example `pip install "
        "torch=={version}`, into an environment made for it.",
    )
    versions: tuple[str, ...] = option(
        metavar="VERSION", help="The versions for --python-of, oldest first. Repeatable."
    )


@command_options("How to measure")
class PaceOptions:
    budget_per_case: float = BUDGET_PER_CASE
    launches: int = option(
        type=click.IntRange(min=2),
        default=LAUNCHES_PER_STEP,
        help="Pairs of fresh processes that a step is measured in, at most.",
    )
    interleave: str = INTERLEAVE
    explain: str = EXPLAIN


@command_options
class BisectOptions:
    good: str = argument(metavar="[GOOD]", required=False, default="", envvar="TORCHPERF_GOOD")
    bad: str = argument(metavar="[BAD]", required=False, default="", envvar="TORCHPERF_BAD")
    output_dir: Path = option(
        type=click.Path(path_type=Path),
        default=Path("bisect_logs"),
        help="The folder for the result. What was measured is kept there: the same command continues from it.",
    )
    restart: bool = option(help="Forget what was measured before.")
    dry_run: bool = option(help="List the commits, and about how many steps it takes.")
    talk: TalkOptions
    search: SearchOptions
    cases: CaseOptions
    pace: PaceOptions
    github_files: bool = GITHUB_FILES
    accept_label: str = ACCEPT_LABEL


@command(short_help="Find the commit that made a case slower, larger or wrong.")
@takes(BisectOptions)
def bisect(options: BisectOptions) -> int:
    """Find the commit between GOOD and BAD that changed a case: made it slower or faster, larger, or wrong.

    First BAD is compared with GOOD: ends that do not differ are not searched. Then commits in the middle are measured
    beside GOOD, as `compare` does it, each in as many pairs of processes as it takes to tell on which side of the
    change it lies. Commits that cannot be set up are skipped. The culprit is held against its parent; of a change that
    several commits made, each is looked for.

    With --run a command of yours decides. With --python-of and --versions versions of a package are searched.

    \b
    Examples:
      torchperf-ci bisect v1.0 main --case bench/decoder --suites bench.py --inference --setup "pip install -e ."
      torchperf-ci bisect HEAD~40 HEAD --case bench/decoder --metric graph_breaks --suites bench.py --inference
      torchperf-ci bisect v1.0 main --run "python -m pytest -q tests/test_one.py" --setup "pip install -e ."
      torchperf-ci bisect --python-of "pip install torch=={version}" --versions 2.12.0,2.13.0 --case tiny/mlp

    Interrupted, it keeps what was measured, and the same command goes on. Exit code 0: found; 4: the ends do not
    differ, or it stayed open; 6: commits that cannot be measured leave several.
    """
    with tells_failure(github_files=options.github_files), stop_commands(os.environ):
        code = _bisect(options)
    tell_step({"exit-code": code}, github_files=options.github_files)
    return code


def _bisect(options: BisectOptions) -> int:
    """List, measure and report; return the exit code.

    The report is also written of what is known when an interrupt or an error ends it.
    """
    from torchperf_ci.bisect.measure import scratch_folder
    from torchperf_ci.bisect.report import describe_plan, describe_step
    from torchperf_ci.bisect.session import Bisection, Terms, note_round, open_journal

    repository, stretch = _list_candidates(options)
    for note in stretch.notes:
        options.talk.say(f"Note: {note}.")
    if options.dry_run:
        click.echo(describe_plan(stretch.candidates, stretch.kind))
        options.talk.say("Nothing was set up, so it is not known yet whether the suite has the case.")
        return int(ExitCode.OK)
    recipe, question = _make_recipe(options, repository, stretch), _make_question(options)
    request = None if options.search.command else _make_request(options, recipe, stretch)
    start, budget = time.monotonic(), options.cases.method.budget
    left = "Nothing was measured yet."
    try:
        with ExitStack() as stack:
            stack.enter_context(signals_interrupt())
            folder = stack.enter_context(open_folder(options.output_dir))
            rounds = open_journal(folder, Terms(parts=_list_terms(options, request)), restart=options.restart)
            tell_step({"results": options.output_dir}, github_files=options.github_files)
            if rounds:
                options.talk.say(f"Going on with {len(rounds)} rounds in {options.output_dir}; --restart forgets them.")
            options.talk.say(f"Setting up {stretch.good.name} and {stretch.bad.name} …")
            if repository is not None and not recipe.setup:
                options.talk.say("Note: without --setup nothing is installed; only the files of the commits differ.")
            scratch = stack.enter_context(scratch_folder())
            opening = _open_measurer(options, request, question, recipe, stretch, folder, scratch)
            measurer, findings = stack.enter_context(opening)
            for warning in findings.header.warnings:
                options.talk.say(f"Warning: {warning}")
            search = Bisection(
                stretch.good,
                stretch.candidates,
                findings.question,
                measurer,
                rounds=rounds,
                note=lambda taken: note_round(folder, taken),
                tell=lambda step: options.talk.say(describe_step(step, question)),
                deadline=math.inf if budget is None else start + budget,
            )
            left = "The same command continues from here."
            try:
                search.run()
            finally:  # whatever ends it, what is known is reported
                findings = _write(folder, replace(findings, progress=search.progress), repository)
            if options.pace.explain != "never" and request is not None:
                findings = _explain_culprits(findings, measurer, repository, folder, options)
    except Interrupted as error:
        return interrupted(error, left)
    return _conclude(findings, options)


@contextmanager
def _open_measurer(
    options: BisectOptions,
    request: CompareRequest | None,
    question: Question,
    recipe: Recipe,
    stretch: Stretch,
    folder: ResultsFolder,
    scratch: Path,
) -> Iterator[tuple[Measurer, BisectFindings]]:
    """Set up both ends; give what measures candidates, and the findings before anything is found."""
    from torchperf_ci.bisect.measure import measuring_case, measuring_command
    from torchperf_ci.bisect.model import BisectFindings, Outcome, Progress

    findings = BisectFindings(
        question=question,
        subject=options.search.command,
        good=stretch.good,
        bad=stretch.bad,
        count=len(stretch.candidates),
        progress=Progress(outcome=Outcome.INTERRUPTED),
        header=_make_header(options, recipe, stretch),
        kind=stretch.kind,
    )
    if request is None:
        ends, timeout = (stretch.good.key, stretch.bad.key), options.cases.method.timeout
        with measuring_command(options.search.command, recipe, ends, folder, scratch, timeout=timeout) as command:
            yield command, findings
        return
    with measuring_case(request, question, recipe, folder, scratch, case=options.search.case) as case:
        header = replace(case.header, warnings=(*stretch.notes, *case.header.warnings))
        if options.search.margin is None:
            margin = request.plan.tolerances.find(case.case, question.metric).margin
            question = replace(question, margin=margin)
        yield case, replace(findings, question=question, subject=str(case.case), header=header)


def _list_candidates(options: BisectOptions) -> tuple[Repository | None, Stretch]:
    """List what lies between the ends, and the repository of commits."""
    from torchperf_ci.bisect.commits import list_commits, list_versions
    from torchperf_ci.compare.checkouts import Repository

    search = options.search
    if bool(search.python_of) != bool(search.versions):
        raise click.UsageError("give --python-of and --versions together")
    if search.python_of:
        if search.setup or search.paths or search.first_parent:
            raise click.UsageError(
                "--setup, --paths and --first-parent are for commits; --python-of installs a version"
            )
        if "{version}" not in search.python_of:
            raise click.UsageError("--python-of needs {version} where the version belongs")
        return None, list_versions(search.versions, options.good, options.bad)
    if not options.good or not options.bad:
        raise click.UsageError("give two commits, GOOD and BAD, say: torchperf-ci bisect v1.0 HEAD --case suite/model")
    repository = Repository.around(Path.cwd())
    return repository, list_commits(
        repository, options.good, options.bad, first_parent=search.first_parent, paths=search.paths
    )


def _make_question(options: BisectOptions) -> Question:
    from torchperf_ci.bisect.model import COMMAND, NAMES, Question

    search = options.search
    if search.command and (search.case or search.metric != "latency"):
        raise click.UsageError("--run decides by itself: it takes neither --case nor --metric")
    metric = COMMAND if search.command else NAMES.get(search.metric, search.metric)
    return Question(metric=metric, launches=options.pace.launches, margin=search.margin or Question().margin)


def _make_recipe(options: BisectOptions, repository: Repository | None, stretch: Stretch) -> Recipe:
    from torchperf_ci.bisect.measure import Recipe

    return Recipe(
        candidates={each.key: each for each in (stretch.good, *stretch.candidates)},
        python=options.cases.interpreter.python,
        setup=options.search.python_of or options.search.setup,
        repository=repository,
        environ=options.cases.variables(),
    )


def _make_request(options: BisectOptions, recipe: Recipe, stretch: Stretch) -> CompareRequest:
    """Make the request of a comparison of both ends. Raises `click.UsageError` for what cannot be meant."""
    from torchperf_ci.compare.effects import LEAST_PAIRS
    from torchperf_ci.compare.live import ComparePlan, Interleave
    from torchperf_ci.compare.model import ToleranceRules
    from torchperf_ci.compare.session import CompareRequest, shared_cpus
    from torchperf_ci.suites.registry import BUILT_IN

    selection, settings = options.cases.selection(), options.cases.settings()
    if settings.rule.repeat is not None and settings.rule.repeat < LEAST_PAIRS:
        raise click.UsageError(f"--repeat {settings.rule.repeat}: a launch needs at least {LEAST_PAIRS} rounds")
    name, *_ = options.search.case.split() or [""]
    suite, slash, _ = name.partition("/")
    if name and not slash:
        raise click.UsageError(f"--case {name!r} is not SUITE/MODEL")
    if name:
        selection = replace(selection, filters=(re.compile(f"^{re.escape(name)}( |$)"),))  # a name may have spaces
    context = click.get_current_context()
    if context.get_parameter_source("suites") is click.core.ParameterSource.DEFAULT and suite in BUILT_IN:
        selection = replace(selection, suites=(suite,))
    source = read_source(os.environ, shard="", folder=Path.cwd())
    return CompareRequest(
        base=recipe.describe(stretch.good.key),
        head=recipe.describe(stretch.bad.key),
        selection=selection,
        settings=replace(settings, cpus=shared_cpus(settings.threads), budget=None),
        plan=ComparePlan(
            tolerances=ToleranceRules(rules=tolerance_rules()),
            launches=options.pace.launches,
            seconds=options.pace.budget_per_case,
            interleave=Interleave(options.pace.interleave),
        ),
        repository=recipe.repository,
        setup=recipe.setup,
        command=tuple(sys.argv[1:]),
        source=source,
        server=find_server(os.environ, source),
        reproduction=(_write_command(stretch),),
    )


def _make_header(options: BisectOptions, recipe: Recipe, stretch: Stretch) -> Header:
    """Make the header of a search that a command decides."""
    from torchperf_ci.compare.model import CommitSummary, Header, ToleranceRules

    source = read_source(os.environ, shard="", folder=Path.cwd())
    good, bad = (CommitSummary(sha=end.key, subject=end.subject) for end in (stretch.good, stretch.bad))
    return Header(
        base=stretch.good.name,
        head=stretch.bad.name,
        how=f"A command ran once at each {stretch.kind}.",
        machine="",
        tolerances=ToleranceRules(),
        source=source,
        server=find_server(os.environ, source),
        base_commit=good if recipe.repository else None,
        head_commit=bad if recipe.repository else None,
        commands=(_write_command(stretch),),
        warnings=()
        if options.search.setup or not recipe.repository
        else ("nothing was installed: there is no --setup",),
    )


def _write_command(stretch: Stretch) -> str:
    """Write the command that searches the same again: what was given, with commits in place of branches."""
    left_out = {"output_dir", "github_files", "restart", "dry_run"}
    return shlex.join(["torchperf-ci", "bisect", stretch.good.key, stretch.bad.key, *list_given(left_out)])


def _list_terms(options: BisectOptions, request: CompareRequest | None) -> Mapping[str, str]:
    """List what must be the same for rounds of an earlier run to be used: values, and digests of what may be secret."""
    search, cases = options.search, options.cases

    def digest(content: bytes) -> str:
        return hashlib.sha256(content).hexdigest()[:16]

    terms = {
        "--run": search.command,
        "--metric": search.metric,
        "--setup": search.setup,
        "--python-of": search.python_of,
        "--python": cases.interpreter.python,
        "--extra-env": digest(repr(sorted(cases.variables().items())).encode()),
    }
    if request is None:
        return terms
    settings = replace(request.settings, cpus=(), timeout=0.0)
    files = [Path(suite) for suite in request.selection.suites if suite.endswith(".py") and Path(suite).is_file()]
    return {
        **terms,
        "--case": search.case,
        "what is measured": digest(repr(request.selection).encode()),
        "how it is measured": digest(repr((settings, request.plan.interleave)).encode()),
        **{f"the suite {path}": digest(path.read_bytes()) for path in files},
    }


def _write(folder: ResultsFolder, findings: BisectFindings, repository: Repository | None) -> BisectFindings:
    """Write the report of what is known by now, with the files that culprits changed; return it."""
    from torchperf_ci.bisect.commits import read_diffstat
    from torchperf_ci.bisect.report import write_bisection

    if repository is not None:
        culprits = tuple(
            replace(each, diffstat=read_diffstat(repository, each.candidate)) for each in findings.progress.culprits
        )
        findings = replace(findings, progress=replace(findings.progress, culprits=culprits))
    write_bisection(folder, findings)
    return findings


def _explain_culprits(
    findings: BisectFindings,
    measurer: Measurer,
    repository: Repository | None,
    folder: ResultsFolder,
    options: BisectOptions,
) -> BisectFindings:
    """Explain what each culprit did, against its parent, and report it. What goes wrong meanwhile is said, no more."""
    from torchperf_ci.bisect.measure import CaseMeasurer
    from torchperf_ci.bisect.model import Outcome
    from torchperf_ci.bisect.report import make_comparison, write_bisection
    from torchperf_ci.compare.checkouts import GitFailed
    from torchperf_ci.explain.model import read_changes
    from torchperf_ci.explain.session import explain_pair
    from torchperf_ci.run.session import WorkerError

    if findings.progress.outcome is not Outcome.FOUND or not isinstance(measurer, CaseMeasurer):
        return findings
    culprits = []
    for culprit in findings.progress.culprits:
        options.talk.say(f"Explaining {culprit.candidate.name}: both sides are profiled in turn …")
        good, bad = culprit.step.against.key, culprit.candidate.key
        try:
            planned, base, head = measurer.find_pair(bad, good)
            changes = None if repository is None else read_changes(repository.folder, good, bad)
            comparison = make_comparison(culprit, findings.question, planned.case)
            why = explain_pair(comparison, planned, base, head, measurer.settings, changes, folder)
            culprits.append(replace(culprit, explanation=why))
        except (TorchperfError, WorkerError, GitFailed, OSError) as error:
            options.talk.say(f"Warning: {culprit.candidate.name} was not explained: {one_line(str(error), limit=300)}")
            culprits.append(culprit)
    findings = replace(findings, progress=replace(findings.progress, culprits=tuple(culprits)))
    write_bisection(folder, findings)
    return findings


def _conclude(findings: BisectFindings, options: BisectOptions) -> int:
    """Print what was found, hand it to GitHub; return the exit code."""
    from torchperf_ci.bisect.model import Outcome
    from torchperf_ci.bisect.report import to_markdown, to_text

    progress = findings.progress
    click.echo(to_text(findings))
    options.talk.say(f"The report is {options.output_dir / 'bisect.md'}")
    culprit = progress.culprits[0].candidate.key if progress.culprits else ""
    outputs = {"outcome": progress.outcome, "culprit": culprit}
    tell_step(outputs, to_markdown(findings), github_files=options.github_files)
    codes = {Outcome.FOUND: ExitCode.OK, Outcome.RANGE: ExitCode.SOME_FAILED}
    return int(codes.get(progress.outcome, ExitCode.NOTHING_TO_JUDGE))
