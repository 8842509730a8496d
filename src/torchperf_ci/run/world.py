"""A case that runs in several processes, from the controller's side: torchrun's ranks, asked as one worker.

Every rank answers on a socket of its own, so that the one that failed, died or is late can be named. Their replies
become one: the slowest rank's times, the largest one's memory, the worst outcome.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import socket
import struct
import tempfile
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torchperf_ci.core.records import Status
from torchperf_ci.core.results import LOGS, ResultsFolder
from torchperf_ci.core.safe_files import open_log
from torchperf_ci.core.text import safe_name
from torchperf_ci.run.case_worker import CaseSettings, CaseWorker
from torchperf_ci.run.lanes import my_cpus
from torchperf_ci.run.plan import PlannedCase
from torchperf_ci.run.session import (
    Preloaded,
    WorkerError,
    how_it_ended,
    last_line,
    limit_log,
    oom_kills,
    parse_reply,
    status_word,
)
from torchperf_ci.worker.protocol import FAILURE_FILE, LOGS_VARIABLE, PROGRESS_VARIABLE, SOCKET_VARIABLE

_LOOK_EVERY = 0.5
_GRACE = 1.0
"""Seconds after a rank's error in which the end of another one, which may have caused it, comes to light."""

_END_LIMIT = 5.0
"""Seconds in which torchrun has noticed the end of a rank, and ended the others."""

_STACK_SECONDS = 0.3
"""Seconds in which a rank has written its stack to its log."""

_TORCHRUN = -1

_OUTCOMES = ("pass", "not_judged", "eager_two_runs_differ")
"""Outcomes of the accuracy check from the best on; every other one is worse."""


@contextmanager
def start_case(
    preloaded: Preloaded, planned: PlannedCase, settings: CaseSettings, logs: Sequence[Path], *, deadline: float
) -> Iterator[CaseWorker]:
    """Start a worker for a case: a fork, or the ranks that torchrun starts. `logs`: its own, then one per rank."""
    with (
        preloaded.fork(logs[0])
        if planned.world == 1
        else WorldWorker(preloaded, planned.world, logs, cpus=settings.cpus or my_cpus(), deadline=deadline)
    ) as worker:
        yield CaseWorker(worker, planned, settings, deadline=deadline)


def name_log(*parts: str) -> str:
    """Name the log of a case, in a results folder, by what tells it from others."""
    return f"{LOGS}/{safe_name('_'.join(map(safe_name, parts)))}.log"


def log_names(name: str, world: int) -> list[str]:
    """Name the logs of a case: `x.log`; of several processes also `x_rank0.log` and so on."""
    return [name, *(f"{name.removesuffix('.log')}_rank{rank}.log" for rank in range(world) if world > 1)]


def claim_logs(folder: ResultsFolder, planned: PlannedCase, start: str) -> list[Path]:
    """Claim the logs of a case in a results folder; their names begin with `start`."""
    case = planned.case
    name = name_log(start, case.suite, case.model, case.compiler, case.dtype)
    return [folder.claim(one) for one in log_names(name, planned.world)]


class WorldWorker:
    """The ranks of one case, with the methods of a `Worker`. An error of one rank ends them all."""

    def __init__(
        self, parent: Preloaded, size: int, logs: Sequence[Path], *, cpus: Sequence[int], deadline: float
    ) -> None:
        """Start the ranks. Raises `WorkerError` when they are not there by `deadline`, a time of `time.monotonic`."""
        self._parent, self._logs, self._size = parent, tuple(logs), size
        self._folder = tempfile.TemporaryDirectory(prefix="torchperf-world-", ignore_cleanup_errors=True)
        self._ranks: dict[int, socket.socket] = {}
        self._pids: dict[int, int] = {}
        self._buffers = dict.fromkeys(range(size), b"")
        self._number = 0
        self._oom_kills = oom_kills()
        folder = Path(self._folder.name)
        (folder / "progress").write_bytes(bytes(8 * size))
        for log in logs:
            open_log(log).close()
        environ = {
            SOCKET_VARIABLE: str(folder / "socket"),
            PROGRESS_VARIABLE: str(folder / "progress"),
            LOGS_VARIABLE: json.dumps([str(log.absolute()) for log in logs[1:]]),
        }
        threads = max(1, (len(cpus) or os.cpu_count() or 1) // size)
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(folder / "socket"))
            listener.listen(size)
            arguments = {"size": size, "folder": str(folder), "threads": threads}
            self.pid = parent.launch(arguments, environ, logs[0])
            try:
                self._welcome(listener, deadline)
            except BaseException:
                self.kill()
                raise

    def __enter__(self) -> WorldWorker:
        return self

    def __exit__(self, *exc: object) -> None:
        self.kill()

    def ask(self, do: str, *, deadline: float, **arguments: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON values
        """Return the replies of all ranks as one.

        Raises `WorkerError` like a `Worker`, naming the rank; all ranks are gone then.
        """
        self._number += 1
        line = json.dumps({"id": self._number, "do": do, **arguments}) + "\n"
        for rank in range(self._size):
            try:
                self._ranks[rank].sendall(line.encode())
            except (OSError, KeyError):  # it has gone, or all were killed before
                raise self._death(rank) from None
        replies: dict[int, dict[str, Any]] = {}
        while waiting := self._ranks.keys() - replies.keys():
            reply = self._next_reply(waiting, deadline)
            if reply is None:
                raise self._too_late(waiting, do)
            rank, replies[rank] = reply
            if "error" in replies[rank]:
                raise self._failure(rank, replies)
        return merge_replies([replies[rank]["ok"] for rank in range(self._size)])

    def kill(self) -> None:
        """End torchrun and every rank; fine to call twice."""
        self._parent.kill(self.pid)
        for connection in self._ranks.values():
            connection.close()
        self._ranks.clear()
        self._folder.cleanup()

    def _welcome(self, listener: socket.socket, deadline: float) -> None:
        listener.settimeout(_LOOK_EVERY)
        while len(self._ranks) < self._size:
            if deadline <= time.monotonic():
                raise WorkerError(Status.TIMEOUT, "the time limit passed while torchrun started", alive=False)
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                self._parent.poll()
                if self._parent.has_ended(self.pid):
                    raise self._death(None) from None
                continue
            connection.settimeout(max(0.001, deadline - time.monotonic()))
            hello = b""
            with contextlib.suppress(OSError):  # the rank has ended; torchrun will say so
                while not hello.endswith(b"\n") and (received := connection.recv(1)):
                    hello += received
            if hello.endswith(b"\n"):
                greeting = json.loads(hello)
                self._ranks[greeting["rank"]], self._pids[greeting["rank"]] = connection, greeting["pid"]

    def _next_reply(self, waiting: Collection[int], deadline: float) -> tuple[int, dict[str, Any]] | None:
        """Return the next reply of one of these ranks; None when there is none by `deadline`.

        Raises `WorkerError` when any rank has ended.
        """
        with selectors.DefaultSelector() as selector:
            for rank, connection in self._ranks.items():
                selector.register(connection, selectors.EVENT_READ, rank)
            selector.register(self._parent, selectors.EVENT_READ, _TORCHRUN)
            while True:
                for rank in waiting:
                    if b"\n" in self._buffers[rank]:
                        line, _, self._buffers[rank] = self._buffers[rank].partition(b"\n")
                        return rank, self._parsed(rank, line)
                left = deadline - time.monotonic()
                if left <= 0:
                    return None
                self._take_in({key.data for key, _ in selector.select(min(left, _LOOK_EVERY))})

    def _take_in(self, ready: set[int]) -> None:
        """Read what these ranks have sent, and what has been said about torchrun."""
        for log in self._logs:
            limit_log(log)
        for rank in sorted(ready - {_TORCHRUN}):
            received = b""
            with contextlib.suppress(ConnectionError):
                received = self._ranks[rank].recv(1 << 20)
            if not received:
                raise self._death(rank)
            self._buffers[rank] += received
        if ready == {_TORCHRUN}:
            self._parent.poll()
            if self._parent.has_ended(self.pid):
                raise self._death(None)

    def _parsed(self, rank: int, line: bytes) -> dict[str, Any]:
        if (reply := parse_reply(line, self._number)) is not None:
            return reply
        self.kill()
        raise WorkerError(Status.CRASHED, f"rank {rank} sent something that is not a reply", alive=False)

    def _failure(self, first: int, replies: dict[int, dict[str, Any]]) -> WorkerError:
        """Return the error that a rank reported.

        Raises `WorkerError` when another one ends a moment later: a rank that dies breaks the collectives of the
        others, which may be heard of first.
        """
        error, until = replies[first]["error"], time.monotonic() + _GRACE
        while (waiting := self._ranks.keys() - replies.keys()) and (reply := self._next_reply(waiting, until)):
            rank, replies[rank] = reply
        same = min(rank for rank, reply in replies.items() if reply.get("error") == error)
        self.kill()
        reason = f"rank {same}: {error['reason']} (see {self._log_of(same)})"
        return WorkerError(status_word(error["status"]), reason, alive=False)

    def _too_late(self, waiting: Collection[int], do: str) -> WorkerError:
        """Name the ranks that the others wait for: those that have come to fewer barriers, else all without a reply.
        Their logs get the stack of every rank."""
        content = Path(self._folder.name, "progress").read_bytes()  # `worker.world` counts barriers in it
        counts = [count for (count,) in struct.iter_unpack("=q", content)]
        late = [rank for rank in sorted(waiting) if counts[rank] == min(counts[other] for other in waiting)]
        for rank in waiting:
            with contextlib.suppress(OSError):
                os.kill(self._pids[rank], signal.SIGUSR1)
        time.sleep(_STACK_SECONDS)
        self.kill()
        who = f"rank {late[0]}" if len(late) == 1 else f"ranks {', '.join(map(str, late))}"
        logs = ", ".join(self._log_of(rank) for rank in late)
        reason = f"the time limit passed in its step '{do}', waiting for {who} (see {logs})"
        return WorkerError(Status.TIMEOUT, reason, alive=False)

    def _death(self, rank: int | None) -> WorkerError:
        """Describe how the first rank to fail ended, as torchrun reports it; all are gone then.

        rank: the one that was seen to have gone, None where it is torchrun that ended.
        """
        status = self._parent.exit_status(self.pid, time.monotonic() + _END_LIMIT)
        failure: dict[str, int] = {}
        with contextlib.suppress(OSError, ValueError):
            failure = json.loads(Path(self._folder.name, FAILURE_FILE).read_text())
        self.kill()
        if failure:
            word, reason = how_it_ended(failure["exit_code"], oom_kills_before=self._oom_kills)
            return WorkerError(
                word, f"rank {failure['rank']} {reason} (see {self._log_of(failure['rank'])})", alive=False
            )
        if rank is not None:
            return WorkerError(Status.CRASHED, f"rank {rank} ended (see {self._log_of(rank)})", alive=False)
        if status is None:
            return WorkerError(Status.CRASHED, "torchrun stopped answering", alive=False)
        word, reason = how_it_ended(os.waitstatus_to_exitcode(status), oom_kills_before=self._oom_kills)
        return WorkerError(word, f"torchrun {reason}: {last_line(self._logs[0])}", alive=False)

    def _log_of(self, rank: int) -> str:
        return self._logs[1 + rank].name


def merge_replies(replies: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Merge the replies of all ranks into one.

    Numbers are the largest, flags are true if one is, and so for what is in lists and mappings; None where one does not
    know. Outcomes of the accuracy check are the worst, with its rank. What is not measured (text, graph breaks) is the
    first rank's; remarks are everybody's.
    """

    def badness(status: str) -> int:
        return _OUTCOMES.index(status) if status in _OUTCOMES else len(_OUTCOMES)

    if "status" in replies[0]:
        worst = max(range(len(replies)), key=lambda rank: (badness(replies[rank]["status"]), -rank))
        merged = dict(replies[worst])
        if merged["reason"]:
            merged["reason"] = f"rank {worst}: {merged['reason']}"
    else:
        merged = {name: _merge([reply[name] for reply in replies]) for name in replies[0]}
    if "remarks" in merged:
        merged["remarks"] = list(dict.fromkeys(remark for reply in replies for remark in reply["remarks"]))
    return merged


def _merge(values: Sequence[Any]) -> Any:  # noqa: ANN401 - JSON values
    if any(value is None for value in values):
        return None
    match values[0]:
        case int() | float():
            return max(values)
        case dict():
            return {name: _merge([value.get(name) for value in values]) for name in values[0]}
        case [int() | float(), *_]:
            return [max(items) for items in zip(*values, strict=True)]
        case _:
            return values[0]
