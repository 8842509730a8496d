"""Import this to let inductor ask once what its C++ compiler can do on this machine: forks inherit the answers.

Inductor compiles a file for each kind of vector instructions that the processor has, in every process that finds its
cache empty, and its header for all processes of a user once. Together that is some ten seconds that say nothing about a
model, so a preloaded process does it before the first case. It uses the cache that torch has for all of a user's
processes; those of cases stay empty.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import tempfile
from pathlib import Path

from torchperf_ci.suites.published import replaced_variable

_CACHE = "TORCHINDUCTOR_CACHE_DIR"

_LONGEST = 120
"""Seconds that compiling the header may take."""


def _ask_for_instructions() -> None:
    """Let every kind of vector instructions keep its answer. The list of them, which a case's settings may cut short,
    is made anew by the case."""
    from torch._inductor.cpu_vec_isa import valid_vec_isa_list

    valid_vec_isa_list.__wrapped__()


def _compile_header() -> None:
    """Compile anything in a fork, with an empty cache of its own, where no header was compiled since torch is there."""
    import torch
    from torch._inductor import config
    from torch._inductor.codecache import _HEADER_DIR

    if not config.cpp_cache_precompile_headers:
        return
    installed = Path(torch.__file__).stat().st_ctime
    if any(header.stat().st_mtime > installed for header in Path(_HEADER_DIR).glob("*.[gp]ch")):
        return
    with tempfile.TemporaryDirectory(prefix="torchperf-cache-", ignore_cleanup_errors=True) as folder:
        pid = os.fork()
        if pid == 0:
            try:
                signal.signal(signal.SIGALRM, signal.SIG_DFL)
                signal.alarm(_LONGEST)
                os.environ[_CACHE] = folder
                torch.compile(torch.nn.ReLU())(torch.ones(8))
            except BaseException as error:  # noqa: BLE001 - nothing of this fork may go on in its parent
                print(f"torchperf-ci: inductor could not compile: {error}", file=sys.stderr)  # noqa: T201
            finally:
                os._exit(0)
        os.waitpid(pid, 0)


with replaced_variable(_CACHE, None):  # torch has its own choice of a cache, which it writes into the environment
    for _prepare in (_ask_for_instructions, _compile_header):
        with contextlib.suppress(Exception):  # another version of torch does it elsewhere, when it compiles
            _prepare()
