"""Clocks of NVIDIA GPUs, locked while something is measured, and unlocked whatever ends it."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from torchperf_ci.core.text import one_line
from torchperf_ci.machine.accelerators import Accelerator
from torchperf_ci.machine.gpu import ListedGpu, find_gpu, parse_listing, smi

DEFAULT = "default"
"""For `--lock-clocks`: the GPU's default clock for applications, or three quarters of its highest one."""

_UNLOCK = """trap '' INT TERM HUP
read -r _
for gpu; do nvidia-smi -i "$gpu" --reset-gpu-clocks >/dev/null 2>&1; done"""
"""Waits until its input closes, which also happens when the process that holds it is killed."""
_LIMIT_S = 30


@contextmanager
def locked_clocks(
    asked: str | None, devices: Iterable[str], accelerators: Sequence[Accelerator], environ: Mapping[str, str]
) -> Iterator[list[str]]:
    """Lock the clocks of the GPUs that these devices are, to `asked` MHz or `DEFAULT`; what to tell about it.

    Locking needs the permission of an administrator: where it is refused, the block runs with the clocks as they are.
    """
    kinds = [device for device in dict.fromkeys(devices) if device.startswith("cuda")]
    if asked is None or not kinds:
        yield [] if asked is None else ["--lock-clocks: only clocks of NVIDIA GPUs can be locked, and none is measured"]
        return
    listed = parse_listing(smi("-L"))
    gpus = {device: find_gpu(device, accelerators, listed, environ) for device in kinds}
    names = list(dict.fromkeys(gpu.name for gpu in gpus.values() if gpu is not None and not gpu.is_slice))
    guard = subprocess.Popen(
        ["/bin/sh", "-c", _UNLOCK, "sh", *names],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield [_lock(device, gpu, asked) for device, gpu in gpus.items()]
    finally:
        if guard.stdin is not None:
            guard.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            guard.wait(_LIMIT_S)


def clock_to_lock(asked: str, told: str) -> int | None:
    """The clock in MHz. told: nvidia-smi's default clock for applications and highest clock, `1500, 1980`."""
    if asked != DEFAULT:
        return int(asked)
    default, _, highest = (part.strip() for part in told.strip().partition(","))
    if default.isdigit():
        return int(default)
    return int(highest) * 3 // 4 if highest.isdigit() else None


def _lock(device: str, gpu: ListedGpu | None, asked: str) -> str:
    """Lock one GPU's clocks; a sentence about how that went."""
    if gpu is None or gpu.is_slice:
        why = "which GPU it is could not be told" if gpu is None else "it is a slice of a GPU"
        return f"the clocks of {device} are not locked: {why}"
    clock = clock_to_lock(asked, smi("--query-gpu=clocks.default_applications.graphics,clocks.max.sm", gpu=gpu.name))
    if clock is None:
        return f"the clocks of {device} are not locked: nvidia-smi tells none; give one, say --lock-clocks 1500"
    command = ["nvidia-smi", "-i", gpu.name, f"--lock-gpu-clocks={clock},{clock}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=_LIMIT_S, check=False)
    except (OSError, subprocess.SubprocessError) as error:
        return f"the clocks of {device} are not locked: {one_line(str(error), limit=200)}"
    said = one_line(done.stdout or done.stderr, limit=200)
    if done.returncode == 0 and "not supported" not in said:
        return f"the clocks of {device} are locked to {clock} MHz until the end"
    return (
        f"the clocks of {device} are not locked: {said}; have an administrator run `nvidia-smi -i {gpu.index} "
        f"--lock-gpu-clocks={clock},{clock}`, and --reset-gpu-clocks afterwards"
    )
