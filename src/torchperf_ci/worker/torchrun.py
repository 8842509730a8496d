"""The processes of a case that runs in several of them, each started as `python -m torchperf_ci.worker.torchrun …`.

With the arguments SIZE FOLDER THREADS it is torchrun, which starts this module SIZE times without any: the ranks. When
a rank fails, FOLDER/failure.json says which one was the first, and with which exit code: torchrun knows it, and prints
it for people alone.

A rank is a worker that answers the controller on a socket. torchrun passes no descriptors on, so the address of the
controller's socket is in the environment. The first line on it is `{"rank": …, "pid": …}`; then requests come in and
replies go out as in any worker (`worker.protocol`).
"""

from __future__ import annotations

import faulthandler
import json
import os
import signal
import socket
import sys
from pathlib import Path

from torchperf_ci.worker.preload import die_with_parent
from torchperf_ci.worker.protocol import FAILURE_FILE, LOGS_VARIABLE, SOCKET_VARIABLE, Channel, serve


def answer_as_rank() -> None:
    """Answer requests until the controller closes the socket."""
    die_with_parent()
    rank = int(os.environ["RANK"])
    log = os.open(json.loads(os.environ[LOGS_VARIABLE])[rank], os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW)
    for descriptor in (1, 2):
        os.dup2(log, descriptor)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # it is a text file
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR1)  # the controller asks where a rank is when the time limit has passed
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(os.environ[SOCKET_VARIABLE])
    connection.sendall(json.dumps({"rank": rank, "pid": os.getpid()}).encode() + b"\n")
    from torchperf_ci.worker.commands import Bench
    from torchperf_ci.worker.world import World

    bench = Bench(World(os.environ))
    with connection.makefile("r", encoding="utf-8") as requests:
        serve(Channel(requests, connection.fileno()), bench.handlers(), ends_after=bench.ends_after)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # a process group whose other ranks have gone may wait for them


def start_ranks(size: str, folder: str, threads: str) -> None:
    """Run torchrun until all ranks have ended. Raises `SystemExit` when one has failed.

    threads: of each rank, unless OMP_NUM_THREADS says another number.
    """
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import main as torchrun

    os.environ.setdefault("OMP_NUM_THREADS", threads)  # else torchrun makes it 1
    options = ["--standalone", "--local-addr=127.0.0.1", f"--nproc-per-node={size}", f"--log-dir={folder}"]
    try:
        torchrun([*options, "--module", "torchperf_ci.worker.torchrun"])
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        Path(folder, FAILURE_FILE).write_text(json.dumps({"rank": rank, "exit_code": failure.exitcode}))
        print(error, file=sys.stderr)  # noqa: T201 - the case's log
        raise SystemExit(1) from None


if __name__ == "__main__":
    start_ranks(*sys.argv[1:]) if sys.argv[1:] else answer_as_rank()
