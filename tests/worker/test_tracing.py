"""Which program a case is: what may differ while it is the same one, and what may not. Real workers, two folders."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from torchperf_ci.compare.sameness import TRACED, Sameness, compare_programs
from torchperf_ci.run.case_worker import Traced
from torchperf_ci.run.session import Preloaded, package_path, worker_environment
