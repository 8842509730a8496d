"""`python -m torchperf_ci.run.supervisor`: run one command and leave nothing of it behind.

On stdin comes one line, `{"argv": […], "cwd": …, "env": {…}}`, and then silence. The command's output goes to this
process's stderr. When it has ended, whatever it started is killed, and `{"exit_code": …}` goes to stdout (or
`{"error": …}` when it could not start). When stdin closes first, the caller wants no more of it, or has died: the
command is killed with everything below it, also what has made sessions of its own.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading

from torchperf_ci.worker.processes import adopt_orphans, kill_group, kill_orphans


def main() -> None:
    """Carry out the request on stdin."""
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
