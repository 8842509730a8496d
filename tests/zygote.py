"""Processes for tests that have imported torch before they begin: forks of one that is kept for the whole session.

A preloaded process imports torch for four seconds of a CPU before its first worker is forked, and a comparison starts
several. Here the same program runs in a fork of a process that has imported torch already, with the variables, the
folder and the path it would have had. What torch reads when it is imported is part of the choice of that process, and
a Python, or a path, that could import something else is started as ever.

`python tests/zygote.py CONTROL_FD` is that process.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import re
import runpy
import socket
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

MODULE = "torchperf_ci.worker.preload"
_READ_AT_IMPORT = re.compile(
    r"(?!TORCHINDUCTOR_CACHE_DIR|TRITON_CACHE_DIR)(OMP|MKL|KMP|GOMP|LD|DYLD|TORCH(?!PERF)|PYTORCH|CUDA|CUBLAS|NVIDIA|HIP|ROCR|KINETO|TRITON|PYTHON(?!PATH)|XDG|LC|LANG|"
    r"MALLOC|FAKE)"
)


class Zygote:
    """The process that has imported torch under these variables, from which programs are forked."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._lock = threading.Lock()
        self._control, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, __file__, str(theirs.fileno())],
                env=dict(environ),
                cwd="/",
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        self.loaded = frozenset(self._read()["loaded"])

    def _read(self) -> dict[str, Any]:
        received = b""
        while not received.endswith(b"\n"):
            part = self._control.recv(1 << 20)
            assert part, "the process that has imported torch is gone"
            received += part
        answer: dict[str, Any] = json.loads(received)
        return answer

    def ask(self, request: Mapping[str, Any], descriptors: Sequence[int] = ()) -> dict[str, Any]:
        with self._lock:
            socket.send_fds(self._control, [json.dumps(request).encode() + b"\n"], descriptors)
            return self._read()


class Forked:
    """A fork, with what is used of `subprocess.Popen`."""

    def __init__(self, zygote: Zygote, pid: int) -> None:
        self._zygote, self.pid, self._code = zygote, pid, None

    def poll(self) -> int | None:
        if self._code is None:
            self._code = self._zygote.ask({"do": "poll", "pid": self.pid})["code"]
        return self._code

    def wait(self, timeout: float | None = None) -> int:
        until = time.monotonic() + (3600 if timeout is None else timeout)
        while (code := self.poll()) is None:
            if time.monotonic() > until:
                raise subprocess.TimeoutExpired(MODULE, timeout or 0)
            time.sleep(0.005)
        return code


class Zygotes:
    """The processes of this session, by the variables that count."""

    def __init__(self) -> None:
        self._kept: dict[frozenset[tuple[str, str]], Zygote] = {}

    def of(self, environ: Mapping[str, str], installed: Sequence[str]) -> Zygote:
        """The process for these variables, and for these folders with packages, some of which torch imports."""
        read = {name: value for name, value in environ.items() if _READ_AT_IMPORT.match(name)}
        key = frozenset({**read, **({"PYTHONPATH": os.pathsep.join(installed)} if installed else {})}.items())
        if key not in self._kept:
            self._kept[key] = Zygote({"PATH": os.environ["PATH"], **dict(key)})
        return self._kept[key]

    def start(self, command: Sequence[str], **settings: Any) -> Forked | subprocess.Popen[bytes]:
        """Start a program as `subprocess.Popen` does: in a fork where it would be the same."""
        environ, folder = settings["env"], settings.get("cwd") or Path.cwd()
        own = _packages_above_ours(command[0])
        if own is not None and [*command[1:3]] == ["-m", MODULE]:
            path = [str(folder), *filter(None, environ.get("PYTHONPATH", "").split(os.pathsep))]
            installed = [each for each in path[1:] if _has_packages(each)]
            zygote = self.of(environ, installed)
            if _is_forkable([each for each in (*path, *own) if each not in installed], zygote.loaded):
                request = {"do": "fork", "environ": environ, "folder": str(folder), "path": path}
                request |= {"python": command[0], "own": own, "start": command[4]}
                answer = zygote.ask(request, [settings["pass_fds"][0], settings["stdout"].fileno()])
                return Forked(zygote, answer["pid"])
        return subprocess.Popen(command, **settings)


def _packages_above_ours(python: str) -> list[str] | None:
    """List the folders of packages that a Python has above those of this one: its own, if it is an environment that a
    comparison made for a side. None for any other Python."""
    if python == sys.executable:
        return []
    files = Path(python).parent.parent.glob("lib/python*/site-packages/torchperf-packages-under-test.pth")
    ours = repr(sysconfig.get_path("purelib"))
    return next(([str(file.parent)] for file in files if ours in file.read_text()), None)


def _is_forkable(path: Sequence[str], loaded: AbstractSet[str]) -> bool:
    """Say whether a Python with these folders first on its path would have imported the same: nothing in them has the
    name of what is loaded, and no package is installed there, which torch could look for."""
    names = {name.partition(".")[0] for each in path if Path(each).is_dir() for name in os.listdir(each)}  # noqa: PTH208
    return loaded.isdisjoint(names) and not any(_has_packages(each) for each in path)


def _has_packages(folder: str) -> bool:
    return any(True for kind in ("dist", "egg") for _ in Path(folder).glob(f"*.{kind}-info"))


ZYGOTES = Zygotes()


@contextmanager
def forked_pythons() -> Iterator[None]:
    """Let preloaded processes be forks while the block runs."""
    from torchperf_ci.run import session

    real = session.subprocess
    session.subprocess = SimpleNamespace(  # type: ignore[assignment]
        Popen=ZYGOTES.start, DEVNULL=real.DEVNULL, TimeoutExpired=real.TimeoutExpired
    )
    try:
        yield
    finally:
        session.subprocess = real


def main(control: socket.socket) -> None:
    """Import torch, and fork for as long as the other end lives."""
    os.environ.setdefault("KINETO_LOG_LEVEL", "5")
    for name in ("torch", "torch._dynamo", "torch._inductor.compile_fx"):
        importlib.import_module(name)
    with suppress(Exception):  # what `torchperf_ci.worker.cpp_compiler` does
        sys.modules["torch._inductor.cpu_vec_isa"].valid_vec_isa_list.__wrapped__()
    gc.collect()
    gc.freeze()
    loaded = {name.partition(".")[0] for name in sys.modules} | {"sitecustomize", "usercustomize"}
    control.sendall(json.dumps({"loaded": sorted(loaded)}).encode() + b"\n")
    codes: dict[int, int] = {}
    while True:
        message, descriptors, _, _ = socket.recv_fds(control, 1 << 20, 2)
        while message and not message.endswith(b"\n"):
            message += control.recv(1 << 20)
        if not message:
            return
        request = json.loads(message)
        if request["do"] == "fork":
            pid = os.fork()
            if pid == 0:
                control.close()
                become(request, *descriptors)
            for descriptor in descriptors:
                os.close(descriptor)
            answer = {"pid": pid}
        else:
            if request["pid"] not in codes and (ended := os.waitpid(request["pid"], os.WNOHANG))[0]:
                codes[request["pid"]] = os.waitstatus_to_exitcode(ended[1])
            answer = {"code": codes.get(request["pid"])}
        control.sendall(json.dumps(answer).encode() + b"\n")


def become(request: Mapping[str, Any], descriptor: int, log: int) -> NoReturn:
    """Become the program, in the child."""
    code = 1
    try:
        os.setsid()
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for output in (1, 2):
            os.dup2(log, output)
        os.close(log)
        os.environ.clear()
        os.environ.update(request["environ"])
        os.chdir(request["folder"])
        first = next(place for place, name in enumerate(sys.path) if name.endswith("site-packages"))
        sys.path[:] = [*request["path"], *sys.path[1:first], *request["own"], *sys.path[first:]]
        if request["own"]:
            sys.executable = request["python"]
            sys.prefix = sys.exec_prefix = str(Path(sys.executable).parents[1])
            importlib.reload(sysconfig)
        sys.path_importer_cache.clear()
        sys.argv = [MODULE, str(descriptor), request["start"]]
        runpy.run_module(MODULE, run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])))
