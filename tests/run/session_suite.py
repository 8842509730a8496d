"""A suite file whose models tell about, or strain, the process they are loaded in. They have nothing to measure."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path


def _tell(name, what):
    print("TOLD", json.dumps(what(name)), file=sys.stderr)
    raise RuntimeError("it is told")


def _names(folder):
    return [path.name for path in Path(folder).iterdir()]


def _prints(megabytes):
    for _ in range(megabytes):
        sys.stdout.write("x" * 1_048_575 + "\n")
        sys.stdout.flush()
        time.sleep(0.02)
    raise RuntimeError("printed")


def _started_child():
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"], start_new_session=True)
    print(f"CHILD {child.pid}", file=sys.stderr, flush=True)


def _hangs():
    _started_child()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(1000)


def _closes_its_end():
    for descriptor in range(3, 64):
        with contextlib.suppress(OSError):
            os.close(descriptor)
    time.sleep(1000)


def _answers_for_the_worker():
    for descriptor in range(3, 64):
        with contextlib.suppress(OSError):
            os.write(descriptor, b"not a reply\n")
    time.sleep(1000)


MODELS = {
    "path": lambda batch_size: _tell("path", lambda _: sys.path),
    "variables": lambda batch_size: _tell("variables", lambda _: dict(os.environ)),
    "threads": lambda batch_size: _tell("threads", lambda _: len(_names("/proc/self/task"))),
    "stdin": lambda batch_size: _tell("stdin", lambda _: sys.stdin.read()),
    "descriptors": lambda batch_size: _tell("descriptors", lambda _: sorted(map(int, _names("/proc/self/fd")))),
    "prints": lambda batch_size: _prints(24),
    "hangs": lambda batch_size: _hangs(),
    "exits_0": lambda batch_size: os._exit(0),
    "exits_7": lambda batch_size: os._exit(7),
    "leaves_a_child": lambda batch_size: (_started_child(), os._exit(3)),
    "killed": lambda batch_size: os.kill(os.getpid(), signal.SIGKILL),
    "aborts": lambda batch_size: os.abort(),
    "system_exit": lambda batch_size: sys.exit("bye"),
    "thread_exits": lambda batch_size: (threading.Thread(target=os._exit, args=(9,)).start(), time.sleep(1000)),
    "closes_its_end": lambda batch_size: _closes_its_end(),
    "answers_for_the_worker": lambda batch_size: _answers_for_the_worker(),
    "kills_its_parent": lambda batch_size: (os.kill(os.getppid(), signal.SIGKILL), time.sleep(1000)),
}
