"""`python -m torchperf_ci.worker CONTROL_FD`: import torch once, then fork a worker per case."""

from __future__ import annotations

import sys

from torchperf_ci.worker.preload import main

if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:])
