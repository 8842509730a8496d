"""Let SIGINT and SIGTERM raise `Interrupted` while the block runs; further ones are ignored after the first."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

import click


class Interrupted(BaseException):
    """A signal asked us to stop. Not an Exception: nothing on the way may take it for a failure of its own."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextmanager
def signals_interrupt() -> Iterator[None]:
    """Let SIGINT and SIGTERM raise `Interrupted` while the block runs; after the first one they are ignored."""

    def interrupt(number: int, frame: object) -> None:  # noqa: ARG001 - the signature of a handler
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, signal.SIG_IGN)
        raise Interrupted(number)

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def interrupted(error: Interrupted, what_is_left: str) -> int:
    """Say what happened and what is left; return the exit code."""
    click.echo(f"\nInterrupted by {signal.Signals(error.number).name}. {what_is_left}", err=True)
    return 128 + error.number
