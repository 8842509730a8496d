"""The processes of a case that runs in several of them: forks of the preloaded process, in torchrun's hands.

torchrun's agent is a fork of the preloaded process, and its ranks are forks of the agent, so that none of them imports
torch again. When a rank fails, failure.json in the case's folder says which one was the first, and with which exit
code: torchrun knows it, and prints it for people alone.

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
import uuid
from pathlib import Path

from torchperf_ci.worker.processes import die_with_parent
from torchperf_ci.worker.protocol import FAILURE_FILE, LOGS_VARIABLE, SOCKET_VARIABLE, Channel, serve


def start_ranks(size: int, folder: str, threads: int) -> int:
    """Let torchrun start ranks and watch over them until all have ended; return 1 when one has failed, else 0.

    threads: of each rank, unless OMP_NUM_THREADS says another number.
    """
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import elastic_launch
    from torch.distributed.run import config_from_args, parse_args

    own = 0 if "OMP_NUM_THREADS" in os.environ else threads
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))  # else torchrun makes it 1
    rendezvous = ["--rdzv-backend=c10d", "--rdzv-endpoint=localhost:0", f"--rdzv-id={uuid.uuid4()}"]
    options = ["--local-addr=127.0.0.1", f"--nproc-per-node={size}", f"--log-dir={folder}", "--start-method=fork"]
    asked = parse_args([*rendezvous, *options, "--module", __name__])  # type: ignore[no-untyped-call]  # torch's own
    config, *_ = config_from_args(asked)
    try:
        elastic_launch(config, answer_as_rank)(own)
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        Path(folder, FAILURE_FILE).write_text(json.dumps({"rank": rank, "exit_code": failure.exitcode}))
        print(error, file=sys.stderr)  # noqa: T201 - the case's log
        return 1
    return 0


def answer_as_rank(threads: int) -> None:
    """Answer requests until the controller closes the socket. threads: to compute with; 0: as many as there are."""
    die_with_parent()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)  # the agent's handlers are its own
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
    import torch

    from torchperf_ci.worker.commands import Bench
    from torchperf_ci.worker.world import World

    if threads:
        torch.set_num_threads(threads)
    bench = Bench(World(os.environ))
    with connection.makefile("r", encoding="utf-8") as requests:
        serve(Channel(requests, connection.fileno()), bench.handlers(), ends_after=bench.ends_after)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # a process group whose other ranks have gone may wait for them
