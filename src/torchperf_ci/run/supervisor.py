"""Run one command under the eyes of a supervisor: its log, its time limit, how it ended, nothing left of it.

`python -m torchperf_ci.run.supervisor` is the supervisor. On stdin comes one line, `{"argv": […], "cwd": …,
"env": {…}}`, and then silence. The command's output goes to its stderr. When the command has ended, whatever it started
is killed, and `{"exit_code": …}` goes to stdout (or `{"error": …}` when it could not start). When stdin closes first,
the caller wants no more of it, or has died: the command is killed with everything below it, also what has made sessions
of its own.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torchperf_ci.core.records import Status
from torchperf_ci.core.safe_files import open_log
from torchperf_ci.run.session import PRIVATE_VARIABLES, how_it_ended, last_line, limit_log, oom_kills, package_path
from torchperf_ci.worker.processes import adopt_orphans, kill_group, kill_orphans

_LOOK_EVERY = 0.5
_KILL_LIMIT = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """The end of a command: `pass` is exit code 0. `reason` is one line, empty for `pass`; `seconds` of wall time."""

    status: Status
    reason: str = ""
    seconds: float


def command_environment(
    environ: Mapping[str, str], *, extra: Mapping[str, str], module_paths: Sequence[str] = ()
) -> dict[str, str]:
    """Return the variables of a command that is run as it is: the caller's, less secrets, plus what was asked for.

    module_paths: folders to put before what is in PYTHONPATH.
    """
    kept = {name: value for name, value in environ.items() if name not in PRIVATE_VARIABLES}
    kept.setdefault("PYTHONUNBUFFERED", "1")  # the log of a command that is killed should hold what it said
    asked = {**kept, **extra}
    paths = [*module_paths, *([asked["PYTHONPATH"]] if asked.get("PYTHONPATH") else [])]
    return {**asked, "PYTHONPATH": os.pathsep.join(paths)} if paths else asked


def run_supervised(argv: Sequence[str], *, cwd: Path, environ: Mapping[str, str], log: Path, limit: float) -> Ending:
    """Run `argv` until it ends or `limit` seconds have passed. Its output is appended to `log`.

    However this is left, also by an exception, the command and everything it started is gone.
    """
    began, kills = time.monotonic(), oom_kills()
    with _supervisor(log) as supervisor:
        request = {"argv": list(argv), "cwd": str(cwd), "env": dict(environ)}
        reply = _ask(supervisor, request, log, deadline=began + limit)
    seconds = time.monotonic() - began
    if reply is None:
        return Ending(status=Status.TIMEOUT, reason=f"not done within {limit:g} s", seconds=seconds)
    if "error" in reply:
        return Ending(
            status=Status.FAIL_TO_RUN, reason=f"{argv[0]} cannot be started: {reply['error']}", seconds=seconds
        )
    if reply["exit_code"] == 0:
        return Ending(status=Status.PASS, seconds=seconds)
    status, how = how_it_ended(reply["exit_code"], oom_kills_before=kills)
    return Ending(status=status, reason=f"{how}: {last_line(log)}", seconds=seconds)


@contextmanager
def _supervisor(log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Start a supervisor, without a command yet; leaving the block ends it and what it started."""
    with package_path(command_environment(os.environ, extra={})) as environ, open_log(log) as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "torchperf_ci.run.supervisor"],
            cwd="/",  # `-m` puts the working folder on the module path: it must not be one that others write to
            env=environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stream,
            bufsize=0,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            try:
                process.communicate(timeout=_KILL_LIMIT)
            except subprocess.TimeoutExpired:  # something below it is stuck in the kernel
                process.kill()
                process.communicate()


def _ask(
    supervisor: subprocess.Popen[bytes], request: Mapping[str, Any], log: Path, *, deadline: float
) -> dict[str, Any] | None:
    """Return the supervisor's reply, or None when there is none by `deadline` (a time of `time.monotonic`)."""
    assert supervisor.stdin is not None
    assert supervisor.stdout is not None
    with contextlib.suppress(BrokenPipeError):  # it has gone, and says so below
        supervisor.stdin.write((json.dumps(request) + "\n").encode())
    while (left := deadline - time.monotonic()) > 0:
        limit_log(log)
        if select.select([supervisor.stdout], [], [], min(left, _LOOK_EVERY))[0]:
            line = supervisor.stdout.readline()
            return json.loads(line) if line else {"exit_code": supervisor.wait()}
    return None


def main() -> None:
    adopt_orphans()
    for number in (signal.SIGINT, signal.SIGTERM):
        # The caller decides when the command goes. A handler, since what is ignored would be so in the command too.
        signal.signal(number, lambda *_: None)
    request = json.loads(sys.stdin.buffer.readline())
    try:
        command = subprocess.Popen(
            request["argv"],
            cwd=request["cwd"],
            env=request["env"],
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr.fileno(),
            start_new_session=True,
        )
    except OSError as error:
        _reply({"error": error.strerror or type(error).__name__})
        return
    threading.Thread(target=_kill_when_left, args=(command.pid,), daemon=True).start()
    exit_code = command.wait()
    kill_group(command.pid)
    kill_orphans(keep=set())
    _reply({"exit_code": exit_code})


def _kill_when_left(pid: int) -> None:
    while os.read(sys.stdin.fileno(), 4096):
        pass
    kill_group(pid)


def _reply(message: dict[str, object]) -> None:
    with contextlib.suppress(OSError):  # the caller has gone
        os.write(sys.stdout.fileno(), (json.dumps(message) + "\n").encode())


if __name__ == "__main__":
    main()
