"""JSON lines between the controller and one worker: a request a line in, one reply a line out, in order.

Request `{"id": 7, "do": "sample", …}`; reply `{"id": 7, "ok": {…}}` or `{"id": 7, "error": {"status", "reason"}}`,
with `"last": true` when the worker ends itself after it.
Standard library only: the controller imports this module too.
"""

from __future__ import annotations

import contextlib
import difflib
import json
import os
import pkgutil
import re
import sys
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

PYTEST_SPEC = "pytest:"
"""Begins a suite that is the tests of a path with pytest-benchmark's fixture."""

ASV_SPEC = "asv:"
"""Begins a suite that is the asv benchmarks of a path."""

EXISTING_SPECS = (PYTEST_SPEC, ASV_SPEC)
"""The beginnings of suites that are another tool's benchmarks."""

MISSING_MODULE = "missing_module"
"""The status of a suite that needs a package which is not there, and which is no misspelt one that is."""

PRELOADED = ("torch", "torch._dynamo", "torch._inductor.compile_fx")
"""The modules that a preloaded process imports before anything is measured."""

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


def read_message(error: BaseException) -> str:
    """Return what an exception says; empty where it cannot say it, since its own `__str__` raises."""
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - an exception of the suite's may be anything
        return ""


def describe(error: BaseException) -> str:
    """Describe an exception: its type, the first line of its message that says something, the next after a colon."""
    said = []
    for line in filter(None, map(str.strip, read_message(error).splitlines())):
        said.append(line)
        if not line.endswith(":"):
            break
    return one_line(
        ": ".join([type(error).__name__, " ".join(said)] if said else [type(error).__name__]) + hint_at(error)
    )


def hint_at(error: BaseException) -> str:
    """Suggest the attribute or the module of a package that may be meant, as Python does it below a traceback."""
    near: list[str] = []
    if isinstance(error, AttributeError) and error.name and error.obj is not None:
        with contextlib.suppress(Exception):  # whatever an object of the suite does when it is asked
            near = difflib.get_close_matches(error.name, dir(error.obj), n=1)
    if isinstance(error, ModuleNotFoundError) and error.name:
        package, dot, _ = error.name.rpartition(".")
        path = getattr(sys.modules.get(package), "__path__", ())
        modules = [f"{package}{dot}{module.name}" for module in pkgutil.iter_modules(path)]
        near = difflib.get_close_matches(error.name, modules, n=1)
    return f". Did you mean {near[0]}?" if near else ""


class Channel:
    """The worker's end of the two pipes. Replies go to the descriptor `replies`, which nobody else knows."""

    def __init__(self, requests: IO[str], replies: int) -> None:
        self._requests, self._replies = requests, replies
        self._pending = 0
        self._is_open = True

    def receive(self) -> dict[str, Any] | None:
        """Wait for the next request; None when there will be none."""
        line = self._requests.readline() if self._is_open else ""
        if not line:
            self._is_open = False
            return None
        request: dict[str, Any] = json.loads(line)
        self._pending = request.pop("id")
        return request

    def answer(self, reply: Mapping[str, Any]) -> None:
        """Reply to the request that came last. After a reply with `last` nothing more comes or goes."""
        if not self._is_open:
            return
        content = (json.dumps({"id": self._pending, **reply}) + "\n").encode()
        while content:
            content = content[os.write(self._replies, content) :]
        self._is_open = "last" not in reply


def serve(
    channel: Channel,
    handlers: Mapping[str, Handler],
    *,
    ends_after: Callable[[BaseException], bool],
    until: str = "",
) -> None:
    """Answer requests until the end of the input, or until an error that `ends_after` says nothing can follow.

    until: a command that ends it as well, and is not answered: whoever serves further out replies to it. So a command
    may call this itself while it is carried out, after it has answered its own request.
    """
    while (request := channel.receive()) is not None:
        name = request.pop("do")
        if name == until:
            return
        reply: dict[str, Any]
        try:
            reply = {"ok": handlers[name](**request)}
        except BaseException as error:  # noqa: BLE001 - model code may raise anything, SystemExit and the like too
            traceback.print_exception(error)
            if isinstance(error, CaseError):
                report = {"status": error.status, "reason": one_line(error.reason)}
            else:
                report = {"status": "fail_to_run", "reason": describe(error)}
            reply = {"error": report, **({"last": True} if ends_after(error) else {})}
        channel.answer(reply)
