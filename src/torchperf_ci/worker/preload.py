"""`python -m torchperf_ci.worker.preload CONTROL_FD`: the process from which workers are forked.

It imports what takes long once, touches no device, and forks one worker per case. Standard library only, until it
imports torch.

On its control socket it receives `{"do": "fork"}` with three descriptors (the worker's stdin, stdout and stderr) and
answers `{"forked": pid}`; `{"do": "launch", "arguments": {…}, "environ": {…}}` with one (where its output goes),
answered likewise, for torchrun and the processes of a case (`worker.torchrun`); `{"do": "kill", "pid": …}`;
`{"do": "preload", "modules": […]}`, answered as at the start; and tells `{"exited": pid, "status": wait status}`
whenever a worker ends. When the socket closes, the controller is gone: everything below this process is killed, and it
exits.
"""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import importlib
import json
import os
import selectors
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NoReturn

from torchperf_ci.worker.processes import adopt_orphans, die_with_parent, kill_group, kill_orphans
from torchperf_ci.worker.protocol import PRELOADED, Channel, describe, serve


def main(control_fd: int, start: str) -> None:
    """Serve the control socket until it closes. `start`: in JSON what to import, and what not to when this process
    replaces one that had touched a device (`_start_again`)."""
    control = socket.socket(fileno=control_fd)
    control.set_inheritable(False)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the controller decides when we go
    adopt_orphans()
    os.environ.setdefault("KINETO_LOG_LEVEL", "5")  # else the profiler writes into the logs of cases
    wake_read, wake_write = os.pipe()  # pipe2 is missing on macOS
    os.set_blocking(wake_read, False)
    os.set_blocking(wake_write, False)
    signal.set_wakeup_fd(wake_write)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    _send(control, _preload(control, **json.loads(start)))
    workers: set[int] = set()
    with selectors.DefaultSelector() as selector:
        selector.register(control, selectors.EVENT_READ)
        selector.register(wake_read, selectors.EVENT_READ)
        while True:
            ready = {key.fileobj for key, _ in selector.select()}
            if wake_read in ready:
                os.read(wake_read, 4096)
            _reap(control, workers)
            if control in ready and not _obey(control, workers):
                break
    for pid in workers:
        kill_group(pid)
    kill_orphans(keep=set())


def _preload(
    control: socket.socket, modules: Sequence[str], left_out: Mapping[str, str] = MappingProxyType({})
) -> dict[str, object]:
    """Import torch and `modules`. Modules besides torch that fail are left to the cases that need them.

    left_out: modules that touch a device when they are imported, by name, with the device: no fork could use it
    afterwards. The one that does so here is found by a fork, and this process starts anew without it.
    """
    try:
        importlib.import_module("torch")
    except Exception as error:  # noqa: BLE001 - a broken torch may raise anything
        return {"no_torch": describe(error), "python": sys.version.split()[0]}
    for name in modules:
        if name in left_out:
            continue
        try:
            importlib.import_module(name)
        except Exception as error:  # noqa: BLE001 - as above
            print(f"torchperf-ci: {name} could not be preloaded: {describe(error)}", file=sys.stderr)  # noqa: T201
        if name not in PRELOADED and (device := _device_touched()):
            _start_again(control, modules, {**left_out, name: device})
    gc.collect()
    gc.freeze()  # else every collection in a worker visits, and so copies, all that was imported here
    tasks = Path("/proc/self/task")  # with more than one thread, a fork may inherit a lock that nobody will release
    threads = len(list(tasks.iterdir())) if tasks.is_dir() else 1
    return {"ready": os.getpid(), "os_threads": threads, "left_out": dict(left_out)}


def _device_touched() -> str:
    """Return the device that this process has initialised, as a fork of it sees it; empty for none."""
    from torchperf_ci.worker.accelerators import touched_device

    reader_end, writer_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(writer_end, touched_device().encode())
        finally:
            os._exit(0)
    os.close(writer_end)
    os.waitpid(pid, 0)
    with os.fdopen(reader_end, "rb") as reader:
        return reader.read().decode()


def _start_again(control: socket.socket, modules: Sequence[str], left_out: Mapping[str, str]) -> NoReturn:
    """Become a fresh process with the same control socket that imports `modules` but those left out, and answers."""
    control.set_inheritable(True)
    start = json.dumps({"modules": [*PRELOADED, *modules], "left_out": dict(left_out)})
    command = [sys.executable, "-m", "torchperf_ci.worker.preload", str(control.fileno()), start]
    os.execv(sys.executable, command)  # noqa: S606 - this very program


def _obey(control: socket.socket, workers: set[int]) -> bool:
    """Carry out one command. False when the controller has gone."""
    try:
        message, descriptors, _, _ = socket.recv_fds(control, 65536, 3)
    except OSError:
        return False
    if not message:
        return False
    request = json.loads(message)
    if request["do"] in {"fork", "launch"}:
        pid = os.fork()
        if pid == 0:
            control.close()
            if request["do"] == "launch":
                _become_torchrun(request["arguments"], request["environ"], descriptors[0])
            _become_worker(descriptors)
        for descriptor in descriptors:
            os.close(descriptor)
        workers.add(pid)
        _send(control, {"forked": pid})
    elif request["do"] == "preload":
        _send(control, _preload(control, request["modules"]))
    elif request["pid"] in workers:
        kill_group(request["pid"])
    return True


def _become_worker(descriptors: Sequence[int]) -> NoReturn:
    """Become a worker, in the child: own session, own descriptors; answer requests until they end."""
    status = 1
    try:
        _leave_parent()
        replies = _own_descriptors(*descriptors)
        faulthandler.enable()
        from torchperf_ci.worker.commands import Bench

        with os.fdopen(os.dup(0), "r", encoding="utf-8") as requests:
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)  # a model that reads stdin gets an end of file
            channel = Channel(requests, replies)
            bench = Bench(channel=channel)
            serve(channel, bench.handlers(), ends_after=bench.ends_after)
        status = 0
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _become_torchrun(arguments: Mapping[str, Any], environ: Mapping[str, str], output: int) -> NoReturn:
    """Become torchrun, in the child, with these variables besides the usual ones."""
    status = 1
    try:
        _leave_parent()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        _own_descriptors(os.open(os.devnull, os.O_RDONLY), os.dup(output), output)
        os.environ.update(environ)
        from torchperf_ci.worker.torchrun import start_ranks

        status = start_ranks(**arguments)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _leave_parent() -> None:
    """Begin as a process of its own, in the child: a session, signals as ever, and an end with the parent."""
    os.setsid()
    die_with_parent()
    _volunteer_for_oom_killer()
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGCHLD, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)


def _own_descriptors(stdin: int, stdout: int, stderr: int) -> int:
    """Move the given descriptors into place. What the model prints goes to stderr; replies have a copy of their own."""
    os.dup2(stdin, 0)
    os.dup2(stderr, 1)
    os.dup2(stderr, 2)
    for descriptor in (stdin, stderr):
        os.close(descriptor)
    os.set_inheritable(stdout, False)  # noqa: FBT003 - the standard library's signature
    sys.stdout = os.fdopen(1, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False)
    sys.stderr = os.fdopen(2, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False)
    return stdout


def _volunteer_for_oom_killer() -> None:
    """Let the kernel kill the worker when memory runs out, not the controller that keeps the results."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


def _reap(control: socket.socket, workers: set[int]) -> None:
    """Tell the controller which workers ended, and end what they left behind."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        if pid in workers:
            workers.discard(pid)
            kill_group(pid)
            kill_orphans(keep=workers)
            _send(control, {"exited": pid, "status": status})


def _send(control: socket.socket, message: dict[str, object]) -> None:
    with contextlib.suppress(OSError):  # the controller has gone; the loop will see it
        control.sendall(json.dumps(message).encode() + b"\n")


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
