"""Workers from the controller's side: start the preloaded process, fork workers from it, ask them, kill them.

Whatever ends a worker becomes a `WorkerError` with the status of its row; nothing a model does ends the controller.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import selectors
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any

import psutil

import torchperf_ci
from torchperf_ci.core.errors import UsageProblem
from torchperf_ci.core.records import Status
from torchperf_ci.core.safe_files import open_log, open_plain
from torchperf_ci.worker.protocol import PRELOADED, one_line

_LOOK_EVERY = 0.5
_START_LIMIT = 300.0

LOG_LIMIT = 16 * 2**20
"""Bytes a log may grow to between two looks; then its first and its last part are kept, and it goes on from there."""
LOG_KEPT = 2**20

_LOG_TAIL = 2**16

PRIVATE_VARIABLES = frozenset(
    {
        "GITHUB_TOKEN",
        "GH_TOKEN",
        "GITHUB_ENV",
        "GITHUB_OUTPUT",
        "GITHUB_PATH",
        "GITHUB_STATE",
        "GITHUB_STEP_SUMMARY",
        "ACTIONS_RUNTIME_TOKEN",
        "ACTIONS_ID_TOKEN_REQUEST_TOKEN",
        "ACTIONS_ID_TOKEN_REQUEST_URL",
        "ACTIONS_CACHE_URL",
        "ACTIONS_RESULTS_URL",
        "ACTIONS_RUNTIME_URL",
    }
)
"""The variables that measured code never sees: GitHub's tokens, and the files by which a step changes its job."""


class Stopped(Exception):
    """The run is ended from outside; what was under way is no result."""


class WorkerError(Exception):
    """A command did not succeed. `alive` says whether the worker can be asked something else."""

    def __init__(self, status: Status | str, reason: str, *, alive: bool) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = one_line(reason)
        self.alive = alive


def is_lack_of_room(error: WorkerError) -> bool:
    """Say whether a worker failed for want of memory, or of a device that only one process may use.

    Another process may have taken it. Libraries say it in words of their own, and torch by the step it happens in.
    """
    return (
        str(error.status).endswith(Status.OOM)
        or error.status is Status.KILLED_OOM
        or (_LACK_OF_ROOM.search(error.reason) is not None)
    )


_LACK_OF_ROOM = re.compile(
    r"out of memory|OutOfMemory|MemoryError|can't allocate memory|busy or unavailable|all .*devices are busy|"
    r"STATUS_(?:ALLOC_FAILED|NOT_INITIALIZED|INTERNAL_ERROR_HOST_ALLOCATION_FAILED)|OUT_OF_(?:DEVICE|HOST)_MEMORY|"
    r"out of resources",
    re.IGNORECASE,
)


@contextlib.contextmanager
def package_path(environ: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """Put this package, and nothing else of the controller's environment, first on PYTHONPATH of `environ`."""
    with tempfile.TemporaryDirectory(prefix="torchperf-") as folder:
        (Path(folder) / "torchperf_ci").symlink_to(Path(torchperf_ci.__file__).parent, target_is_directory=True)
        rest = environ.get("PYTHONPATH")
        yield {**environ, "PYTHONPATH": os.pathsep.join([folder, rest] if rest else [folder])}


def worker_environment(environ: Mapping[str, str], *, threads: int | None, extra: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of a worker: the caller's, less secrets, plus OpenMP's settings, plus what was asked for.

    OMP_WAIT_POLICY: on a machine that others share, spinning OpenMP threads make one busy neighbour cost a factor of
    twenty (docs/method.md), so they wait passively there. What the caller has set stays.
    """
    kept = {name: value for name, value in environ.items() if name not in PRIVATE_VARIABLES}
    kept.setdefault("PYTHONUNBUFFERED", "1")
    if is_shared_machine():
        kept.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if threads is not None:
        kept["OMP_NUM_THREADS"] = kept["MKL_NUM_THREADS"] = str(threads)
    if "CUBLAS_WORKSPACE_CONFIG" not in kept:
        kept["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"  # what PyTorch's accuracy runs have; one process has one setting
    return {**kept, **extra}


def is_shared_machine() -> bool:
    """Say whether other work may run on these CPUs: a virtual machine, or a part of a machine's CPUs."""
    with contextlib.suppress(OSError):
        if "hypervisor" in Path("/proc/cpuinfo").read_text():
            return True
    mine = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return mine != os.cpu_count()


@dataclass(frozen=True, slots=True, kw_only=True)
class Python:
    """The Python under test, the variables its processes get, the log of the one that is preloaded.

    cwd: the folder they run in, from which Python imports first of all (None: this one). name: what errors call it,
    where that is not its path. option: the one that chooses it. install: the advice to users whose package it cannot
    import.
    """

    executable: str
    environ: Mapping[str, str]
    log: Path
    cwd: Path | None = None
    name: str = ""
    option: str = "--python"
    install: str = ""

    def start(self, modules: Sequence[str] = PRELOADED) -> Preloaded:
        """Start a preloaded process of it, which imports `modules`."""
        return Preloaded(self, modules=modules)


class Preloaded:
    """The process that has imported torch, from which workers are forked. A context manager: leaving it kills all."""

    def __init__(
        self,
        python: Python,
        *,
        modules: Sequence[str] = PRELOADED,
        under: Sequence[str] = (),
        variables: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """Start it. modules: what it imports. under: the command that runs it, e.g. a tool that counts. variables:
        besides its own."""
        self._name, self._option = python.name or python.executable, python.option
        advice = f"Install it there ({self._name} -m pip install …), or start where this import works"
        self.install = python.install or advice
        self.log = python.log
        self.left_out: dict[str, str] = {}
        self._exits: dict[int, int] = {}
        self._buffer = b""
        self._oom_kills = oom_kills()
        self._control, theirs = socket.socketpair()
        with theirs, open_log(python.log) as stream:
            try:
                start = json.dumps({"modules": modules})
                self._process = subprocess.Popen(
                    [*under, python.executable, "-m", "torchperf_ci.worker.preload", str(theirs.fileno()), start],
                    env={**python.environ, **variables},
                    cwd=python.cwd,
                    stdin=subprocess.DEVNULL,
                    stdout=stream,
                    stderr=stream,
                    pass_fds=[theirs.fileno()],
                    start_new_session=True,
                )
            except OSError as error:
                self._control.close()
                raise UsageProblem(
                    f"cannot start {self._name}: {error.strerror}; give a Python with {self._option}"
                ) from error

    def __enter__(self) -> Preloaded:
        try:
            self.wait_until_ready()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def fork(self, log: Path) -> Worker:
        """Fork a worker whose output goes to `log`. Raises `WorkerError`."""
        request_read, request_write = os.pipe()
        reply_read, reply_write = os.pipe()
        stream = open_plain(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        theirs = [request_read, reply_write, stream]
        try:
            socket.send_fds(self._control, [b'{"do": "fork"}'], theirs)
            message = self._receive(time.monotonic() + _START_LIMIT, "forked")
        except OSError as error:
            os.close(request_write)
            os.close(reply_read)
            raise WorkerError(Status.CRASHED, "the preloaded process has gone", alive=False) from error
        finally:
            for descriptor in theirs:
                os.close(descriptor)
        return Worker(self, message["forked"], request_write, reply_read, log)

    def launch(self, arguments: Mapping[str, Any], environ: Mapping[str, str], log: Path) -> int:
        """Start torchrun (`worker.torchrun.start_ranks`) with these variables besides the usual ones, its output to
        `log`, and return its process id. It can be killed like a worker, with everything below it."""
        with open_log(log) as stream:
            try:
                request = {"do": "launch", "arguments": dict(arguments), "environ": dict(environ)}
                socket.send_fds(self._control, [json.dumps(request).encode()], [stream.fileno()])
                return int(self._receive(time.monotonic() + _START_LIMIT, "forked")["forked"])
            except OSError as error:
                raise WorkerError(Status.CRASHED, "the preloaded process has gone", alive=False) from error

    def preload(self, modules: Sequence[str]) -> None:
        """Import more modules, so that the workers forked from now on have them. Those that touch a device when they
        are imported are then in `left_out`, with the device: every worker imports them for itself."""
        if modules:
            self._control.sendall(json.dumps({"do": "preload", "modules": list(modules)}).encode())
            answer = self._receive(time.monotonic() + _START_LIMIT, "ready", "no_torch")
            self.left_out.update(answer.get("left_out", {}))

    def kill(self, pid: int) -> None:
        """Kill a worker with everything below it, and wait until it has gone."""
        if pid not in self._exits and self.alive:
            with contextlib.suppress(OSError):
                self._control.sendall(json.dumps({"do": "kill", "pid": pid}).encode())
                self.exit_status(pid, time.monotonic() + 5)

    def has_ended(self, pid: int) -> bool:
        """Say whether a worker is known to have ended, or nobody can know any more."""
        return pid in self._exits or not self.alive

    def exit_status(self, pid: int, deadline: float) -> int | None:
        """Return the wait status of a worker, or None when it has not ended by `deadline` (or nobody can know)."""
        with contextlib.suppress(OSError):
            while pid not in self._exits:
                self._receive(deadline, "exited")
        return self._exits.get(pid)

    def poll(self) -> None:
        """Take in what has been said about workers that ended, without waiting."""
        with contextlib.suppress(OSError):
            self._receive(time.monotonic(), "exited")

    def close(self) -> None:
        """End the process and everything below it: politely, by closing the socket, then not."""
        family = _descendants(self._process.pid)
        self._control.close()
        try:
            self._process.wait(timeout=2)
        except subprocess.TimeoutExpired:
            for process in [*family, *_descendants(self._process.pid)]:
                with contextlib.suppress(psutil.Error):
                    process.kill()
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def fileno(self) -> int:
        return self._control.fileno()

    def wait_until_ready(self) -> None:
        try:
            message = self._receive(time.monotonic() + _START_LIMIT, "ready", "no_torch")
        except OSError as error:
            how, said = self._why_silent(error), last_line(self.log)
            raise UsageProblem(
                f"{self._name} {how} while importing torch: {said}; give another with {self._option}"
            ) from error
        if "no_torch" in message:
            raise UsageProblem(
                f"{self._name} (Python {message['python']}) cannot import torch: {one_line(message['no_torch'])}. "
                f"Install torch there, or give the Python that has it with {self._option}"
            )

    def _why_silent(self, error: OSError) -> str:
        if isinstance(error, TimeoutError):
            return f"said nothing for {_START_LIMIT:.0f} s"
        try:
            code = self._process.wait(timeout=5)  # the socket closes a little earlier than the process ends
        except subprocess.TimeoutExpired:
            return "closed its connection"
        return how_it_ended(code, oom_kills_before=self._oom_kills)[1]

    def _receive(self, deadline: float, *wanted: str) -> dict[str, Any]:
        """Return the next message with one of the keys `wanted`; exits are kept as they pass. Raises OSError."""
        while True:
            while b"\n" in self._buffer:
                line, _, self._buffer = self._buffer.partition(b"\n")
                message: dict[str, Any] = json.loads(line)
                if "exited" in message:
                    self._exits[message["exited"]] = message["status"]
                if any(key in message for key in wanted):
                    return message
            self._control.settimeout(max(0.001, deadline - time.monotonic()))
            received = self._control.recv(65536)
            if not received:
                raise ConnectionError("the preloaded process closed its socket")
            self._buffer += received


class Worker:
    """One forked worker. `ask` sends a command and returns its reply; `kill` ends it with everything below it."""

    def __init__(self, parent: Preloaded, pid: int, requests: int, replies: int, log: Path) -> None:
        self._parent = parent
        self.pid = pid
        self._requests: IO[bytes] = os.fdopen(requests, "wb", buffering=0)
        self._replies = replies
        self._log = log
        self._buffer = b""
        self._number = 0
        self._oom_kills = oom_kills()
        self._selector = selectors.DefaultSelector()
        for readable in (replies, parent):
            self._selector.register(readable, selectors.EVENT_READ)

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *exc: object) -> None:
        self.kill()

    def ask(self, do: str, *, deadline: float, **arguments: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON values
        """Return the reply to a command. Raises `WorkerError`.

        The command failed, the worker died, or `deadline` passed (a time of `time.monotonic`); in the last two cases
        the worker is gone, and in the first one where it says so.
        """
        self._number += 1
        line = json.dumps({"id": self._number, "do": do, **arguments}) + "\n"
        try:
            self._requests.write(line.encode())
        except (OSError, ValueError):  # it has gone, or was killed before
            raise self._death() from None
        reply = self._reply(deadline, do)
        if "error" in reply:
            ends = bool(reply.get("last"))
            if ends:  # its device cannot be used any more in that process
                self.kill()
            raise WorkerError(status_word(reply["error"]["status"]), reply["error"]["reason"], alive=not ends)
        answer: dict[str, Any] = reply["ok"]
        return answer

    def kill(self) -> None:
        """End the worker; fine to call twice."""
        self._parent.kill(self.pid)
        with contextlib.suppress(OSError):
            self._requests.close()
        replies, self._replies = self._replies, -1  # before it is closed: a signal may end this, and kill it once more
        if replies >= 0:
            self._selector.close()
            os.close(replies)

    def _reply(self, deadline: float, do: str) -> dict[str, Any]:
        while b"\n" not in self._buffer:
            if (left := deadline - time.monotonic()) <= 0:
                self.kill()
                raise WorkerError(Status.TIMEOUT, f"the time limit passed in its step '{do}'", alive=False)
            ready = {key.fileobj for key, _ in self._selector.select(min(left, _LOOK_EVERY))}
            limit_log(self._log)
            if self._replies in ready:
                received = os.read(self._replies, 1 << 20)
                if not received:
                    raise self._death()
                self._buffer += received
            elif self._parent in ready:
                self._parent.poll()
                if self._parent.has_ended(self.pid):
                    raise self._death()
        line, _, self._buffer = self._buffer.partition(b"\n")
        if (reply := parse_reply(line, self._number)) is not None:
            return reply
        self.kill()
        raise WorkerError(Status.CRASHED, "the worker sent something that is not a reply", alive=False)

    def _death(self) -> WorkerError:
        """Describe how the worker ended, in the words of its row. If it only closed its end and lives, it is killed."""
        status = self._parent.exit_status(self.pid, time.monotonic() + 5)
        self.kill()
        limit_log(self._log)
        if status is None:
            return WorkerError(Status.CRASHED, "the worker stopped answering", alive=False)
        word, reason = how_it_ended(os.waitstatus_to_exitcode(status), oom_kills_before=self._oom_kills)
        return WorkerError(word, reason, alive=False)


def parse_reply(line: bytes, number: int) -> dict[str, Any] | None:
    """Parse a line as the reply to the request of this number; None when it is not that."""
    with contextlib.suppress(ValueError, KeyError, TypeError):
        reply: dict[str, Any] = json.loads(line)
        if reply["id"] == number and ("ok" in reply or "error" in reply):
            return reply
    return None


def status_word(text: str) -> Status | str:
    """Return the status that a worker names, or its word where that is none of ours."""
    return next((status for status in Status if status.value == text), text)


def _descendants(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.Error:
        return []


def how_it_ended(exit_code: int, *, oom_kills_before: int) -> tuple[Status, str]:
    """Return the status and reason of a process that ended by itself.

    exit_code: as `subprocess` gives it: -9 is signal 9.
    """
    if exit_code >= 0:
        return Status.CRASHED, f"ended with exit code {exit_code}"
    if exit_code == -signal.SIGKILL and oom_kills() > oom_kills_before:
        return Status.KILLED_OOM, "killed by the kernel because memory ran out"
    name = next((each.name for each in signal.Signals if each == -exit_code), "a signal without a name")
    return Status.CRASHED, f"ended by signal {-exit_code} ({name})"


def oom_kills() -> int:
    """Count the processes that the kernel has killed for want of memory since it started (0 where it does not say)."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/vmstat").read_text().splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return 0


def limit_log(log: Path) -> None:
    """Cut a stretch out of a log that has grown too long, not its end, which may say why. Its writers must append."""
    with contextlib.suppress(OSError):
        if log.stat().st_size > LOG_LIMIT:
            with log.open("r+b") as stream:
                stream.seek(-_LOG_TAIL, os.SEEK_END)
                tail = stream.read()
                stream.truncate(LOG_KEPT)
            with log.open("ab") as stream:
                stream.write(b"\n[torchperf-ci: a long stretch of output was cut here]\n" + tail)


def last_line(log: Path) -> str:
    """Return the last line of a log that says something."""
    with log.open("rb") as stream:
        stream.seek(max(0, log.stat().st_size - _LOG_TAIL))
        lines = [line for line in stream.read().decode("utf-8", errors="replace").splitlines() if line.strip()]
    return one_line(lines[-1]) if lines else "no output"
