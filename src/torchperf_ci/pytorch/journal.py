"""Remembers on disk which messages an endpoint has accepted, so that a repeated upload sends only the rest.

Lines are written around every request: `sending` before it, `accepted` or `refused` after it. What stands as `sending`
without an outcome was on its way when the program ended or the connection broke; nobody can know whether it arrived.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import IO

from torchperf_ci.core.errors import UsageProblem


class State(str, Enum):
    """How far a message came."""

    SENDING = "sending"
    ACCEPTED = "accepted"
    REFUSED = "refused"

    __str__ = str.__str__


@dataclass(slots=True)
class Journal:
    """What is known about messages, by their id, at one endpoint. Without a file it forgets when the program ends."""

    endpoint: str
    states: dict[str, State] = field(default_factory=dict)
    _stream: IO[bytes] | None = field(default=None, repr=False)

    def is_accepted(self, message: str) -> bool:
        return self.states.get(message) is State.ACCEPTED

    def count(self, state: State, messages: Sequence[str]) -> int:
        """How many of these messages are in this state."""
        return sum(self.states.get(message) is state for message in messages)

    def note(self, state: State, messages: Sequence[str]) -> None:
        """Write that `messages` are in `state`; it is on the disk when this returns."""
        self.states.update(dict.fromkeys(messages, state))
        if self._stream is not None:
            line = json.dumps({"v": 1, "to": self.endpoint, "state": state.value, "messages": list(messages)})
            self._stream.write(line.encode() + b"\n")
            self._stream.flush()
            os.fsync(self._stream.fileno())


@contextmanager
def open_journal(path: Path | None, *, endpoint: str) -> Iterator[Journal]:
    """The journal in the file `path`, which is made if there is none; locked while the block runs.

    Raises `UsageProblem` when it cannot be written, is in use, or is not a journal: then it is not touched.
    """
    if path is None:
        yield Journal(endpoint)
        return
    try:
        stream = path.open("a+b")
    except OSError as error:
        raise UsageProblem(f"the journal {path} cannot be written ({error.strerror})") from error
    with stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UsageProblem(f"another upload is using the journal {path}; wait for it") from error
        yield Journal(endpoint, _read(stream, path, endpoint), stream)


def read_journal(path: Path | None, *, endpoint: str) -> Journal:
    """What the journal says, without touching it; an empty one when there is no such file."""
    if path is None or not path.exists():
        return Journal(endpoint)
    with path.open("rb") as stream:
        states, _ = _states(stream.read(), path, endpoint)
    return Journal(endpoint, states)


def _read(stream: IO[bytes], path: Path, endpoint: str) -> dict[str, State]:
    stream.seek(0)
    states, complete = _states(stream.read(), path, endpoint)
    stream.truncate(complete)  # a line that a crash cut off
    return states


def _states(content: bytes, path: Path, endpoint: str) -> tuple[dict[str, State], int]:
    """The newest state of every message at `endpoint`, and how many bytes are complete lines."""
    complete = content.rfind(b"\n") + 1
    if content and not content.startswith(b'{"v": 1, "to": '[: len(content)]):
        raise UsageProblem(
            f"{path} is not a journal of uploads; it was left as it is. Name another file with --journal"
        )
    states: dict[str, State] = {}
    for number, line in enumerate(content[:complete].splitlines(), start=1):
        try:
            entry = json.loads(line)
            noted = dict.fromkeys(entry["messages"], State(entry["state"]))
            if entry["to"] == endpoint:
                states.update(noted)
        except (ValueError, KeyError, TypeError) as error:
            raise UsageProblem(f"{path}:{number} is not a line of a journal; it was left as it is") from error
    return states, complete
