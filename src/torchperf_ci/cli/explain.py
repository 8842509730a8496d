"""`torchperf-ci explain`: why a comparison says what it says, from its folder, or measured once more."""

from __future__ import annotations

import shlex
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from torchperf_ci.cli.case_options import TalkOptions
from torchperf_ci.cli.compare import compare, make_request
from torchperf_ci.cli.compare_options import CompareOptions
from torchperf_ci.cli.finish import signals_interrupt
from torchperf_ci.cli.options import Number, argument, build, command, command_options, option, takes
from torchperf_ci.core.errors import ExitCode, UsageProblem
from torchperf_ci.core.results import open_folder
from torchperf_ci.core.text import one_line

if TYPE_CHECKING:
    from torchperf_ci.compare.model import Comparison, Explanation
    from torchperf_ci.compare.session import CompareRequest
    from torchperf_ci.explain.session import StoredComparison

_MOST_CAUSES = 12


@command_options("How to measure")
class AgainOptions:
    again: bool = option(help="Measure cases again that the folder explains already.")
    seconds: float = option(
        type=Number(min=1), default=300, help="Seconds for all cases; the first one is always explained."
    )


@command_options
class ExplainOptions:
    folder: Path = argument(
        metavar="[COMPARE_DIR]",
        type=click.Path(file_okay=False, path_type=Path),
        default=Path("compare_logs"),
        envvar="TORCHPERF_RESULTS",
    )
    case: str = argument(metavar="[CASE]", default="")
    again: AgainOptions
    talk: TalkOptions


@command(short_help="Say why a case of a comparison is slower, larger or fails.")
@takes(ExplainOptions)
def explain(options: ExplainOptions) -> int:
    """Say why a case of a comparison is slower, larger or fails: its operators, Python functions, graphs and lines.

    `compare` explains what is worse for certain by itself. This command prints that, or measures for it: with a CASE
    (`suite/model`, then, as far as needed, compiler, mode, dtype, device), or for all that changed. Both sides are set
    up as the comparison did it, so run it in the same repository; the set-up command that the folder names is run.
    Both are profiled in turn, in a few pairs of fresh processes, so that noise is not taken for a cause.

    The page of a case, with a flame graph, diffs of graphs and generated code, and traces for Perfetto, is in
    COMPARE_DIR/explain.

    \b
    Examples:
      torchperf-ci explain
      torchperf-ci explain compare_logs
      torchperf-ci explain compare_logs "bench/net inductor"

    Exit code 0: there is an explanation; 4: there is nothing to explain, or nothing was found.
    """
    from torchperf_ci.explain.session import choose_stored, read_stored

    if not options.folder.exists():
        raise click.UsageError(
            f"there is no folder {str(options.folder)!r}; give that of a comparison first, then the case: torchperf-ci "
            'explain compare_logs "suite/model"'
        )
    stored = read_stored(options.folder)
    chosen = choose_stored(stored, options.case)
    known = [] if options.again.again else [each for each in stored.explanations if each.folder]
    missing = [c for c in chosen if c.case not in {each.case for each in known}]
    explanations = [each for each in known if each.case in {c.case for c in chosen}]
    if missing:
        explanations += _measure(stored, missing, options)
    for explanation in explanations:
        _print(explanation, options.folder)
    return int(ExitCode.OK if any(e.causes or e.facts for e in explanations) else ExitCode.NOTHING_TO_JUDGE)


def _measure(stored: StoredComparison, missing: Sequence[Comparison], options: ExplainOptions) -> list[Explanation]:
    """Set up both sides as the comparison did, and explain what is missing; return that.

    What is explained before an interrupt or an error is in the folder.
    """
    from torchperf_ci.compare.session import running_sides
    from torchperf_ci.explain.session import add_to_stored, explain_comparisons

    explained: list[Explanation] = []
    with ExitStack() as stack:
        stack.enter_context(signals_interrupt())
        request = _read_request(stored, stack)
        folder = stack.enter_context(open_folder(options.folder, option="COMPARE_DIR"))
        options.talk.say(f"Measuring as {one_line(stored.header.commands[0], limit=1000)}")
        options.talk.say(f"Setting up base ({request.base.label}) and head ({request.head.label}) …")
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="torchperf-explain-")))
        base, head = stack.enter_context(running_sides(request, scratch))

        def tell(number: int, total: int, explanation: Explanation) -> None:
            if explanation.metric == next(c.metric for c in missing if c.case == explanation.case):
                options.talk.say(f"[{number}/{total}] {explanation.case}")

        seconds = options.again.seconds
        try:
            explained.extend(explain_comparisons(missing, request, base, head, folder, tell, seconds=seconds))
        finally:
            add_to_stored(folder, explained)
    return explained


def _read_request(stored: StoredComparison, stack: ExitStack) -> CompareRequest:
    """Make the request of the command that the comparison was made with. Raises `UsageProblem` where there is none."""
    words = shlex.split(stored.header.commands[0]) if stored.header.commands else []
    if words[:2] != ["torchperf-ci", "compare"]:
        raise UsageProblem(
            "compare.json does not say how it was measured: only what `torchperf-ci compare` measured live can be "
            "measured again"
        )
    context = stack.enter_context(compare.make_context("compare", words[2:], parent=click.get_current_context().parent))
    compared = build(CompareOptions, context.params)
    if compared.folders:
        raise UsageProblem("these are recorded runs; only what is measured live can be explained")
    return replace(make_request(compared), command=tuple(words[1:]))


def _print(explanation: Explanation, folder: Path) -> None:
    """Print an explanation: its sentence, then its causes."""
    from torchperf_ci.compare.model import write_cause, write_explanation
    from torchperf_ci.compare.words import metric_name, name, percent

    click.echo(f"{name(explanation.case)}, {metric_name(explanation.metric)}: {write_explanation(explanation)}")
    for cause in (*explanation.causes, *explanation.facts)[:_MOST_CAUSES]:
        share = "" if cause.share is None else percent(round(cause.share, 2))
        click.echo(f"  {share:>6}  {write_cause(cause, explanation)}")
    if explanation.folder:
        click.echo(f"  Page: {folder / explanation.folder / 'index.html'}")
