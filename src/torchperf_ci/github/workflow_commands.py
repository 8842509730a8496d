"""Lines by which a step speaks to GitHub's runner; text from outside cannot end one or begin another."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum

from torchperf_ci.core.text import break_commands, terminal, write_unguarded


class Level(str, Enum):
    """How serious an annotation is."""

    ERROR = "error"
    WARNING = "warning"
    NOTICE = "notice"

    __str__ = str.__str__


@dataclass(frozen=True, slots=True, kw_only=True)
class Annotation:
    """A message that GitHub shows beside the workflow run, and at a file's line where it has one."""

    level: Level
    message: str
    title: str = ""
    file: str = ""
    line: int = 0

    def __str__(self) -> str:
        properties = {"title": self.title, "file": self.file, "line": str(self.line) if self.line else ""}
        return command(self.level.value, self.message, **properties)


def command(name: str, message: str = "", **properties: str) -> str:
    """One workflow command, without the line end; blank properties are left out."""
    given = ",".join(f"{key}={escape_property(value)}" for key, value in properties.items() if value)
    return f"::{name}{' ' + given if given else ''}::{escape_message(message)}"


def escape_message(text: str) -> str:
    """`text` as a command's message."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def escape_property(text: str) -> str:
    """`text` as the value of one of a command's properties."""
    return escape_message(text).replace(":", "%3A").replace(",", "%2C")


def annotate(annotation: Annotation) -> None:
    """Print an annotation, which is obeyed, and nothing else of what its text may hold."""
    told = str(annotation).removeprefix("::")
    write_unguarded(f"::{break_commands(terminal(told))}", sys.stdout)


@contextmanager
def commands_stopped(environ: Mapping[str, str]) -> Iterator[None]:
    """In a GitHub job, what reaches standard error while the block runs is shown and not obeyed.

    The runner may handle a batch of standard error before one of standard output, so that the words that stop and
    resume protect their own stream alone. Nobody else's code writes to our standard output.
    """
    if environ.get("GITHUB_ACTIONS") != "true":
        yield
        return
    token = secrets.token_hex(16)
    write_unguarded(command("stop-commands", token), sys.stderr)
    try:
        yield
    finally:
        write_unguarded(command(token), sys.stderr)
