"""`torchperf-ci suites`: what there is to measure."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from torchperf_ci.cli.case_options import PythonOptions, complete_suites, refuse_missing_files
from torchperf_ci.cli.options import Group, argument, command_options, takes
from torchperf_ci.core.text import draw_table, one_line

if TYPE_CHECKING:
    from torchperf_ci.run.session import Preloaded


@click.group(cls=Group)
def suites() -> None:
    """Show the suites and models that can be measured.

    \b
    Examples:
      torchperf-ci suites list
      torchperf-ci suites list tiny
    """


@command_options
class SuitesOptions:
    suite: str | None = argument(required=False, shell_complete=complete_suites)
    interpreter: PythonOptions


@suites.command("list")
@takes(SuitesOptions)
def list_suites(options: SuitesOptions) -> None:
    """List the suites of the Python under test, or the models of SUITE.

    SUITE is a name, a path to a .py file, or a module. A suite or a model that cannot run here says why, and what to
    type. The column quick marks the models that `run --quick` measures.

    \b
    Examples:
      torchperf-ci suites list
      torchperf-ci suites list huggingface
      torchperf-ci suites list bench.py
    """
    from torchperf_ci.run.survey import describe_known, describe_suite

    if options.suite is not None:
        refuse_missing_files([options.suite])
    with preloaded_python(options.interpreter.python, options.interpreter.variables()) as preloaded:
        if options.suite is None:
            rows = [entry.row for entry in describe_known(preloaded)]
            click.echo(_write_table(("suite", "models", "quick", "state"), rows))
            return
        suite = describe_suite(preloaded, options.suite)
        table = _write_table(("model", "description", "quick", "state"), suite.models)
        click.echo(f"{suite.name}: {suite.missing}\n\n{table}" if suite.missing else table)


@contextmanager
def preloaded_python(python: str, extra: dict[str, str]) -> Iterator[Preloaded]:
    """Start the Python under test, to ask it something."""
    from torchperf_ci.run.survey import python_under_test

    with (
        python_under_test(python, os.environ, threads=None, extra=extra) as prepared,
        prepared.start(modules=["torch"]) as preloaded,  # to list models needs no compiler
    ):
        yield preloaded


def _write_table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Lay out columns of text, harmless for a terminal: what a suite says about itself comes from outside."""
    return draw_table(headers, [[one_line(cell) for cell in row] for row in rows])
