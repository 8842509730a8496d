"""JSON lines between the controller and one worker: a request a line in, one reply a line out, in order.

Request `{"id": 7, "do": "sample", …}`; reply `{"id": 7, "ok": {…}}` or `{"id": 7, "error": {"status", "reason"}}`,
with `"last": true` when the worker ends itself after it.
Standard library only: the controller imports this module too.
"""

from __future__ import annotations

import json
import os
import re
import traceback
from collections.abc import Callable, Mapping
from typing import IO, Any

Handler = Callable[..., Mapping[str, Any]]

SOCKET_VARIABLE = "TORCHPERF_WORLD_SOCKET"
"""Where the ranks of a case find the path of the controller's socket."""

PROGRESS_VARIABLE = "TORCHPERF_WORLD_PROGRESS"
"""Where the path of the file stands in which every rank counts the barriers that it has come to."""

LOGS_VARIABLE = "TORCHPERF_WORLD_LOGS"
"""The ranks' logs, a JSON list of paths in their order."""

FAILURE_FILE = "failure.json"
"""The file that torchrun leaves in the folder of a case: which rank was the first to fail, and its exit code."""

REASON_LENGTH = 300

SECRET = re.compile(r"TOKEN|SECRET|PASSWORD|CREDENTIAL|(^|_)KEY", re.IGNORECASE)
"""The parts of the names of variables whose values are never recorded."""


class CaseError(Exception):
    """A case cannot go on; `status` is the word its row gets, `reason` the line people read."""

    def __init__(self, status: str, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


def one_line(text: str) -> str:
    """Put `text` into one line of printable characters, at most `REASON_LENGTH` of them."""
    line = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return line if len(line) <= REASON_LENGTH else line[: REASON_LENGTH - 1] + "…"


def describe(error: BaseException) -> str:
    """Describe an exception: its type, the first line of its message that says something, the next after a colon."""
    said = []
    for line in filter(None, map(str.strip, str(error).splitlines())):
        said.append(line)
        if not line.endswith(":"):
            break
    return one_line(": ".join([type(error).__name__, " ".join(said)] if said else [type(error).__name__]))


def serve(
    requests: IO[str], replies: int, handlers: Mapping[str, Handler], *, ends_after: Callable[[BaseException], bool]
) -> None:
    """Answer requests until the end of the input, or until an error that `ends_after` says nothing can follow.

    Writes to the descriptor `replies`, which nobody else knows.
    """
    for line in requests:
        request = json.loads(line)
        number, name = request.pop("id"), request.pop("do")
        try:
            reply = {"id": number, "ok": handlers[name](**request)}
        except BaseException as error:  # noqa: BLE001 - model code may raise anything, SystemExit and the like too
            traceback.print_exception(error)
            if isinstance(error, CaseError):
                report = {"status": error.status, "reason": one_line(error.reason)}
            else:
                report = {"status": "fail_to_run", "reason": describe(error)}
            reply = {"id": number, "error": report, **({"last": True} if ends_after(error) else {})}
        content = (json.dumps(reply) + "\n").encode()
        while content:
            content = content[os.write(replies, content) :]
        if "last" in reply:
            return
