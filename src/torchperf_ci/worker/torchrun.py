"""`python -m torchperf_ci.worker.torchrun SIZE FOLDER THREADS`: torchrun, which starts `worker.rank` SIZE times here.

When a rank fails, FOLDER/failure.json says which one was the first, and with which exit code: torchrun knows it, and
prints it for people alone.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

FAILURE = "failure.json"


def main(size: str, folder: str, threads: str) -> None:
    """Run torchrun until all ranks have ended. Raises `SystemExit` when one has failed.

    threads: of each rank, unless OMP_NUM_THREADS says another number.
    """
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import main as torchrun

    os.environ.setdefault("OMP_NUM_THREADS", threads)  # else torchrun makes it 1
    options = ["--standalone", "--local-addr=127.0.0.1", f"--nproc-per-node={size}", f"--log-dir={folder}"]
    try:
        torchrun([*options, "--module", "torchperf_ci.worker.rank"])
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        Path(folder, FAILURE).write_text(json.dumps({"rank": rank, "exit_code": failure.exitcode}))
        print(error, file=sys.stderr)  # noqa: T201 - the case's log
        raise SystemExit(1) from None


if __name__ == "__main__":
    main(*sys.argv[1:])
