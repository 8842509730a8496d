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

COMMANDS: Mapping[str, str] = {
    "run": "Measure eager against compiled models on this machine.",
    "compare": "Compare base with head on this machine, with a verdict per case.",
    "explain": "Say why a case of a comparison is slower, larger or fails.",
    "bisect": "Find the commit that made a case slower, larger or wrong.",
    "time": "Say in one sentence whether torch.compile helps a function.",
    "doctor": "Say how noisy and how ready this machine is.",
    "fastrnns": "Measure LSTMs in many forms, and ResNets.",
    "suites": "Show the suites and models that can be measured.",
    "report": "Make tables, charts and the report from a results folder.",
    "plan": "Share models out over runners: a matrix for GitHub Actions.",
    "merge": "Join the results of several runners into one folder.",
    "check": "Hold a run's results against expectation tables.",
    "update-expected": "Rewrite expectation tables from a commit's runs on GitHub.",
    "upload": "Send results to Scribe and to PyTorch's benchmark database.",
    "export": "Write results in the formats that other dashboards read.",
    "ingest": "Turn results of other benchmark tools into a results folder.",
    "post": "Post a stored report: check, comment and step summary.",
    "accept": "Let an intended slowdown land, by a comment on the pull request.",
    "dashboard": "Keep a run, compare it with earlier ones, post the dashboard.",
    "site": "Make pages of the kept runs, to be browsed without a server.",
    "history": "Import, list, ask and compact the kept runs.",
}
"""Every command and its line in `--help`. It is in the module of its name, under its name."""


_OF_THE_MACHINE = frozenset({errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EIO})
"""Errors of a disk or of permissions, which are no fault of this program and have no use for a traceback."""


class LazyGroup(Group):
    """A group that knows its commands' names and one-liners, and imports a command only when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        name = cmd_name.replace("-", "_")
        command: click.Command = getattr(importlib.import_module(f"torchperf_ci.cli.{name}"), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


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
        more = shell_words(os.environ.get("TORCHPERF_ARGS", ""), name="TORCHPERF_ARGS (extra-args)")
        code = cli.main([*sys.argv[1:], *more], prog_name="torchperf-ci", standalone_mode=False)
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
