"""An AMD GPU as its kernel driver shows it in sysfs: clock, load, memory in use.

The files are those behind `amd-smi` (kernel documentation, gpu/amdgpu/thermal), read without its Python process, which
would compute on the CPUs that are measured. What throttles the GPU is not among them in words.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from torchperf_ci.machine.gpu import GpuWatch, Occupancy, Reading
from torchperf_ci.machine.host import read

_EVERY_S = 0.5
_CURRENT = re.compile(r"^\d+:\s*(\d+)\s*MHz\s*\*", re.IGNORECASE | re.MULTILINE)
_MIB = 2**20


def amd_folder(pci: str, root: Path = Path("/")) -> Path | None:
    """The folder of an AMD GPU below `root`, by its bus address; None for any other device."""
    folder = root / "sys/bus/pci/devices" / pci[-12:].lower()
    return folder if pci and (folder / "mem_info_vram_used").is_file() else None


def read_amd(folder: Path) -> Reading:
    """Its clock and load now."""
    clock, load = _CURRENT.search(read(folder, "pp_dpm_sclk")), read(folder, "gpu_busy_percent")
    return Reading(clock=float(clock[1]) if clock else None, reasons=0, load=float(load) if load.isdigit() else None)


def amd_occupancy(folder: Path) -> Occupancy:
    """The memory in use: whose it is, the driver tells to administrators alone."""
    used = read(folder, "mem_info_vram_used")
    return Occupancy(unlisted_mib=int(used) / _MIB if used.isdigit() else 0.0)


@contextmanager
def watched_amd(folder: Path, watch: GpuWatch) -> Iterator[None]:
    """Add a reading to `watch` every half second while the block runs."""
    watch.before = amd_occupancy(folder)
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(_EVERY_S):
            watch.readings.append(read_amd(folder))

    looker = threading.Thread(target=look, daemon=True)
    looker.start()
    try:
        yield
    finally:
        ended.set()
        looker.join()
