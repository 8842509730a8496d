"""Remember on disk which messages an endpoint has accepted, so that a repeated upload sends only the rest.

Lines are written around every request: `sending` before it, `accepted` or `refused` after it. What stands as `sending`
without an outcome was on its way when the program ended or the connection broke; nobody can know whether it arrived.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import IO

import msgspec

from torchperf_ci.core.errors import UsageProblem


class DeliveryState(str, Enum):
    """The states of a message on its way."""

    SENDING = "sending"
    ACCEPTED = "accepted"
    REFUSED = "refused"

    __str__ = str.__str__


class _Line(msgspec.Struct):
    v: int
    to: str
    state: DeliveryState
    messages: list[str]


@dataclass(slots=True)
class Journal:
    """A memory of messages, by their id, at one endpoint. Without a file it forgets when the program ends."""

    endpoint: str
    states: dict[str, DeliveryState] = field(default_factory=dict)
    _stream: IO[bytes] | None = field(default=None, repr=False)

    @property
    def advice(self) -> str:
        """Say how an upload that failed is taken up again."""
        if self._stream is None:
            return "With --journal FILE another try would send only the rest"
        return "Run the same command again: it sends only the rest"

    def is_accepted(self, message: str) -> bool:
        return self.states.get(message) is DeliveryState.ACCEPTED

    def count(self, state: DeliveryState, messages: Sequence[str]) -> int:
        """Count those of these messages that are in this state."""
        return sum(self.states.get(message) is state for message in messages)

    def note(self, state: DeliveryState, messages: Sequence[str]) -> None:
        """Write that `messages` are in `state`; it is on the disk when this returns."""
        self.states.update(dict.fromkeys(messages, state))
        if self._stream is not None:
            line = _Line(v=1, to=self.endpoint, state=state, messages=list(messages))
            self._stream.write(msgspec.json.encode(line) + b"\n")
            self._stream.flush()
            os.fsync(self._stream.fileno())


@contextmanager
def open_journal(path: Path | None, *, endpoint: str) -> Iterator[Journal]:
    """Open the journal in the file `path`, which is made if there is none; locked while the block runs.

    Raises `UsageProblem` when it cannot be written, is in use, or is not a journal: then it is not touched.
    """
    if path is None:
        yield Journal(endpoint)
        return
    try:
        stream = path.open("a+b")
    except OSError as error:
        raise UsageProblem(
            f"the journal {path} cannot be written ({error.strerror}); name another file with --journal"
        ) from error
    with stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UsageProblem(f"another upload is using the journal {path}; wait for it") from error
        stream.seek(0)
        states, complete = _read_states(stream.read(), path, endpoint)
        stream.truncate(complete)  # a line that a crash cut off
        yield Journal(endpoint, states, stream)


def read_journal(path: Path | None, *, endpoint: str) -> Journal:
    """Read the journal without touching it; an empty one when there is no such file."""
    if path is None or not path.exists():
        return Journal(endpoint)
    states, _ = _read_states(path.read_bytes(), path, endpoint)
    return Journal(endpoint, states)


def _read_states(content: bytes, path: Path, endpoint: str) -> tuple[dict[str, DeliveryState], int]:
    """Read the newest state of every message at `endpoint`, and how many bytes are complete lines."""
    complete = content.rfind(b"\n") + 1
    start = content[:40].replace(b" ", b"")  # before, lines were written with spaces
    if not start.startswith(_START[: len(start)]):
        raise UsageProblem(f"{path} is not a journal of uploads; it was not changed. Name another file with --journal")
    states: dict[str, DeliveryState] = {}
    for number, line in enumerate(content[:complete].splitlines(), start=1):
        try:
            entry = msgspec.json.decode(line, type=_Line)
        except (msgspec.MsgspecError, ValueError) as error:
            raise UsageProblem(f"{path}:{number} is not a line of a journal; it was not changed") from error
        if entry.to == endpoint:
            states.update(dict.fromkeys(entry.messages, entry.state))
    return states, complete


_START = b'{"v":1,"to":'
