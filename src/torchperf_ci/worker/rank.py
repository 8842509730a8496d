"""One rank of a case, started by torchrun: a worker that answers the controller on a socket.

torchrun passes no descriptors on, so the address of the controller's socket is in the environment. The first line on it
is `{"rank": …, "pid": …}`; then requests come in and replies go out as in any worker (`worker.protocol`).
"""

from __future__ import annotations

import faulthandler
import json
import os
import signal
import socket
import sys

from torchperf_ci.worker.processes import die_with_parent
from torchperf_ci.worker.protocol import serve

SOCKET_VARIABLE = "TORCHPERF_WORLD_SOCKET"
"""Where the path of the controller's socket stands."""

LOGS_VARIABLE = "TORCHPERF_WORLD_LOGS"
"""The ranks' logs, a JSON list of paths in their order."""


def main() -> None:
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
        serve(requests, connection.fileno(), bench.handlers(), ends_after=bench.ends_after)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # a process group whose other ranks have gone may wait for them


if __name__ == "__main__":
    main()
