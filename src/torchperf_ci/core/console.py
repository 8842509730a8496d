"""Standard output and standard error, made safe for text from outside: every command prints through here.

A model's name, an exception's message or what GitHub answers may hold what a terminal or a workflow's runner would
obey. The streams are guarded as a whole, since a place that prints is soon forgotten.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO, cast

from torchperf_ci.core.escape import break_commands, terminal


class GuardedStream:
    """A text stream that shows control characters and workflow commands instead of having them obeyed."""

    def __init__(self, stream: TextIO) -> None:
        self.unguarded = stream
        self._line = ""
        """The end of the current line, as far as a command could go on from it."""

    def write(self, text: str) -> int:
        shown = break_commands(self._line + terminal(text))[len(self._line) :]
        self.unguarded.write(shown)
        line = re.split(r"[\r\n]", self._line + shown)[-1]
        has_words = bool(line.strip().strip(":"))
        self._line = f"x{line[-2:]}" if has_words else line[-3:]
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the stream has
        return getattr(self.unguarded, name)


@contextmanager
def guarded_streams() -> Iterator[None]:
    """Guard standard output and standard error while the block runs."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (cast("TextIO", GuardedStream(stream)) for stream in before)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def write_unguarded(line: str, stream: TextIO) -> None:
    """Write a line of ours that the runner is to obey."""
    print(line, file=getattr(stream, "unguarded", stream), flush=True)
