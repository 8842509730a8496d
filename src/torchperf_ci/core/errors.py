"""Errors that a user can mend, each with its exit code. Messages tell what failed, where, and what to do next."""

from __future__ import annotations

import importlib.util
import sys
from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of every command (docs/cli.md lists them for users)."""

    OK = 0
    UNEXPECTED = 1
    USAGE = 2
    FAILED_CHECK = 3
    NOTHING_TO_JUDGE = 4
    REFUSED = 5
    SOME_FAILED = 6


class TorchperfError(Exception):
    """Base of the errors that end a command with a message instead of a traceback."""

    exit_code = ExitCode.UNEXPECTED


class UsageProblem(TorchperfError):
    """The request cannot be carried out as it stands: unknown name, unusable folder, wrong Python."""

    exit_code = ExitCode.USAGE


class NothingToJudge(TorchperfError):
    """There is no data, or what there is may not be compared."""

    exit_code = ExitCode.NOTHING_TO_JUDGE


class Refused(TorchperfError):
    """GitHub, an upload endpoint or the network said no."""

    exit_code = ExitCode.REFUSED


def require(module: str, *, purpose: str, extra: str = "", otherwise: str = "") -> None:
    """Raise `UsageProblem` with the pip command when `module` is not installed.

    extra: the extra that has it; blank for what every installation has, unless it was cut down. otherwise: what can be
    done without it.
    """
    if importlib.util.find_spec(module) is None:
        package = f"'torchperf-ci[{extra}]'" if extra else module
        raise UsageProblem(
            f"{purpose} needs {module}, which is not installed. Install it: {sys.executable} -m pip install {package}"
            + (f". {otherwise}" if otherwise else "")
        )
