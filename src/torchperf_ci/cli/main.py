"""The entry point: the table of commands, loaded one at a time so that `--help` imports none of their libraries."""

from __future__ import annotations

import errno
import importlib
import os
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path

import click

from torchperf_ci import __version__
from torchperf_ci.cli.config import use_config
from torchperf_ci.cli.options import Group, shell_words
from torchperf_ci.core.errors import ExitCode, TorchperfError
from torchperf_ci.core.text import guarded_streams, one_line

COMMANDS: Mapping[str, tuple[str, str]] = {
    "run": ("torchperf_ci.cli.run:run", "Measure eager against compiled models on this machine."),
    "compare": ("torchperf_ci.cli.compare:compare", "Compare base with head on this machine, with a verdict per case."),
    "explain": ("torchperf_ci.cli.explain:explain", "Say why a case of a comparison is slower, larger or fails."),
    "bisect": ("torchperf_ci.cli.bisect:bisect", "Find the commit that made a case slower, larger or wrong."),
    "time": ("torchperf_ci.cli.time:time_function", "Say in one sentence whether torch.compile helps a function."),
    "doctor": ("torchperf_ci.cli.doctor:doctor", "Say how noisy and how ready this machine is."),
    "fastrnns": ("torchperf_ci.cli.fastrnns:fastrnns", "Measure LSTMs in many forms, and ResNets."),
    "suites": ("torchperf_ci.cli.suites:suites", "Show the suites and models that can be measured."),
    "report": ("torchperf_ci.cli.report:report", "Make tables, charts and the report from a results folder."),
    "plan": ("torchperf_ci.cli.plan:plan", "Share models out over runners: a matrix for GitHub Actions."),
    "merge": ("torchperf_ci.cli.merge:merge", "Join the results of several runners into one folder."),
    "check": ("torchperf_ci.cli.check:check", "Hold a run's results against expectation tables."),
    "update-expected": (
        "torchperf_ci.cli.update_expected:update_expected",
        "Rewrite expectation tables from a commit's runs on GitHub.",
    ),
    "upload": ("torchperf_ci.cli.upload:upload", "Send results to Scribe and to PyTorch's benchmark database."),
    "export": ("torchperf_ci.cli.export:export", "Write results in the formats that other dashboards read."),
    "ingest": ("torchperf_ci.cli.ingest:ingest", "Turn results of other benchmark tools into a results folder."),
    "post": ("torchperf_ci.cli.post:post", "Post a stored report: check, comment and step summary."),
    "accept": ("torchperf_ci.cli.accept:accept", "Let an intended slowdown land, by a comment on the pull request."),
    "dashboard": (
        "torchperf_ci.cli.dashboard:dashboard",
        "Keep a run, compare it with earlier ones, post the dashboard.",
    ),
    "site": ("torchperf_ci.cli.site:site", "Make pages of the kept runs, to be browsed without a server."),
    "history": ("torchperf_ci.cli.history:history", "Import, list, ask and compact the kept runs."),
}
"""Every command: where it is, and its line in `--help`."""


_OF_THE_MACHINE = frozenset({errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EIO})
"""Errors of a disk or of permissions, which are no fault of this program and have no use for a traceback."""


class LazyGroup(Group):
    """A group that knows its commands' names and one-liners, and imports a command only when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


EXIT_CODES = """\b
Exit codes:
  0  good
  1  unexpected error
  2  wrong usage
  3  a regression or a failed check
  4  nothing to judge: empty, or not comparable
  5  GitHub or the network refused
  6  some benchmarks could not run, or with --strict were not compiled"""


@click.group(cls=LazyGroup, epilog=EXIT_CODES, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, "-V", "--version", prog_name="torchperf-ci")
@click.option(
    "--config",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    envvar="TORCHPERF_CONFIG",
    help="Options per command, and what change counts.  [default: torchperf.toml, if there is one]",
)
@click.pass_context
def cli(ctx: click.Context, config: Path | None) -> None:
    """Performance CI for PyTorch projects.

    Measures eager against torch.compile and base against head, and says what changed, with statistics that can be
    trusted. Results go to stdout, talk and progress to stderr.
    """
    use_config(ctx, config, COMMANDS)


def main() -> None:
    """Run the command line and exit. Errors we know end with a message; others with a traceback and exit code 1.

    What is printed, a traceback included, comes from guarded streams. TORCHPERF_ARGS holds more arguments, quoted as in
    a shell: the actions' `extra-args`.
    """
    with guarded_streams():
        sys.exit(_run_command_line())


def _run_command_line() -> int:
    try:
        code = cli.main([*sys.argv[1:], *_more_arguments(os.environ)], prog_name="torchperf-ci", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort:
        click.echo("Interrupted.", err=True)
        return 130
    except TorchperfError as error:
        click.echo(f"Error: {error}", err=True)
        return int(error.exit_code)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what reads us has gone: not an error
        return int(ExitCode.OK)
    except OSError as error:
        if error.errno not in _OF_THE_MACHINE:
            traceback.print_exc()
            return int(ExitCode.UNEXPECTED)
        try:
            sys.stdout.flush()
        except OSError:  # what it still holds would fail once more when Python ends
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        place = "a file, or what is printed," if error.filename is None else one_line(str(error.filename))
        click.echo(f"Error: {place} cannot be read or written ({error.strerror}); nothing more was done", err=True)
        return int(ExitCode.USAGE)
    except Exception:  # noqa: BLE001 - whatever it is, its message may hold text from outside
        traceback.print_exc()
        return int(ExitCode.UNEXPECTED)
    return code if isinstance(code, int) else 0


def _more_arguments(environ: Mapping[str, str]) -> list[str]:
    text = environ.get("TORCHPERF_ARGS", "").strip()
    return shell_words(text, name="TORCHPERF_ARGS (extra-args)") if text else []
