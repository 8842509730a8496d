"""Is a GPU fit to be measured on: its clocks and what throttled it while a case ran, and who else uses it.

Read through nvidia-smi, which every driver brings (AMD's: `bench.amd_gpu`); what cannot be read is not judged.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from torchperf_ci.core.text import one_line
from torchperf_ci.machine.accelerators import Accelerator, indexed

IDLE = 0x1
THERMAL = {
    0x8: "hardware slowdown",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "power brake",
}
"""Bits of NVML's clocks event reasons under which times mean nothing."""
POWER_CAP = 0x4

SAGGING = 0.75
"""Below this share of its highest clock a GPU is slowed down, whatever it says about the reason."""
SHARE = 0.1
"""Readings that may be bad; more than that is no accident of one moment."""
LOADED = 10.0
"""Per cent of the time in which a GPU computes, from which on its clock says something: idle ones clock down."""
UNLISTED_MIB = 512.0
"""Memory in use that belongs to no listed process, from which on it is somebody's: a process takes some 300 MiB and
more, the driver itself less than that."""
MPS_SERVER = "nvidia-cuda-mps-server"

_QUERIES = tuple(
    f"--query-gpu=clocks.sm,{reasons}.active,utilization.gpu"
    for reasons in ("clocks_event_reasons", "clocks_throttle_reasons")
)
"""With the newer and with the older name of the same field."""
_PROCESSES = "--query-compute-apps=pid,process_name,used_memory"
_EVERY_MS = 500
_LIMIT_S = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One look at a GPU; None where the driver does not say. clock: in MHz. reasons: NVML's bits. load: per cent."""

    clock: float | None
    reasons: int
    load: float | None = None

    @property
    def is_under_load(self) -> bool:
        return not self.reasons & IDLE and (self.load is None or self.load >= LOADED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Occupancy:
    """What was on a GPU before a measurement. processes: `name (pid)`. unlisted_mib: in use by none of them.

    is_shared: a slice of the GPU is measured (MIG), and the processes may be on other slices. has_mps: an MPS server
    runs, whose clients may not be listed.
    """

    processes: tuple[str, ...] = ()
    unlisted_mib: float = 0.0
    is_shared: bool = False
    has_mps: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuFindings:
    """What speaks against a measurement: reasons to refuse it, and what a reader should know."""

    refusals: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

    @property
    def all(self) -> tuple[str, ...]:
        """For a row that nothing is refused in."""
        return (*self.refusals, *self.remarks)


def judge_gpu(readings: Sequence[Reading], before: Occupancy) -> GpuFindings:
    """Judge a measurement by readings of its GPU meanwhile, and by what was on it before."""
    refusals, remarks = _judge_occupancy(before)
    busy = [reading for reading in readings if reading.is_under_load]
    hot = [reading for reading in busy if reading.reasons & sum(THERMAL)]
    if len(hot) > SHARE * len(busy):
        names = [name for bit, name in THERMAL.items() if any(reading.reasons & bit for reading in hot)]
        refusals.append(f"the GPU was throttled in {_share(hot, busy)} of the readings: {', '.join(names)}")
    slow = [reading for reading in busy if _sags(reading, busy)]
    if len(slow) > SHARE * len(busy):
        least = min(reading.clock for reading in slow if reading.clock is not None)
        refusals.append(f"the GPU's clock sagged to {least:.0f} MHz in {_share(slow, busy)} of the readings")
    if capped := [reading for reading in busy if reading.reasons & POWER_CAP]:
        remarks.append(f"the GPU reached its power limit in {_share(capped, busy)} of the readings")
    return GpuFindings(refusals=tuple(refusals), remarks=tuple(remarks))


def _judge_occupancy(before: Occupancy) -> tuple[list[str], list[str]]:
    """Refusals and remarks for what was on the GPU."""
    refusals, remarks = [], []
    if before.processes and before.is_shared:
        remarks.append(f"another slice of the GPU may be in use: {', '.join(before.processes)}")
    elif before.processes:
        refusals.append(f"another process uses the GPU: {', '.join(before.processes)}")
    if before.unlisted_mib > UNLISTED_MIB and not before.is_shared:
        refusals.append(
            f"something that is not listed here, say another container, uses {before.unlisted_mib:.0f} MiB of the GPU"
        )
    if before.has_mps:
        remarks.append("an MPS server runs on the GPU: work of its other clients may not show")
    return refusals, remarks


def _sags(reading: Reading, all_readings: Sequence[Reading]) -> bool:
    """Against the highest clock that was seen, because a locked one may be far below the default; less power than it
    would like is not sagging."""
    highest = max(other.clock or 0.0 for other in all_readings)
    return reading.clock is not None and not reading.reasons & POWER_CAP and reading.clock < SAGGING * highest


def _share(some: Sequence[Reading], of: Sequence[Reading]) -> str:
    return f"{len(some) / len(of):.0%}".replace("%", " %")


def parse_readings(text: str) -> list[Reading]:
    """The readings of nvidia-smi's CSV lines `clock, reasons, load`; lines that are none are left out."""
    readings = []
    for line in text.splitlines():
        parts = [part.strip() for part in line.split(",")]
        if len(parts) not in {2, 3}:
            continue
        with contextlib.suppress(ValueError):
            load = _number(parts[2]) if len(parts) == 3 else None
            readings.append(Reading(clock=_number(parts[0]), reasons=int(parts[1], 16), load=load))
    return readings


def _number(text: str) -> float | None:
    with contextlib.suppress(ValueError):
        return float(text)
    return None


def parse_occupancy(processes: str, memory: str, *, is_slice: bool = False) -> Occupancy:
    """What nvidia-smi's CSV says about a GPU: a line `pid, process_name, used_memory` per process, and one line
    `memory.used, mig.mode.current`.

    Where it does not tell what a process uses, what is not listed cannot be known.
    """
    others, listed, has_mps = [], 0.0, False
    for line in processes.splitlines():
        pid, _, rest = line.partition(",")
        if not pid.strip().isdigit():
            continue
        name, _, used = rest.rpartition(",") if _is_amount(rest.rpartition(",")[2]) else (rest, "", "")
        amount = _number(used.strip())
        listed += float("inf") if amount is None else amount
        if name.strip().endswith(MPS_SERVER):
            has_mps = True
        else:
            others.append(f"{one_line(name, limit=60)} ({pid.strip()})")
    used, _, mig = memory.strip().partition(",")
    return Occupancy(
        processes=tuple(others),
        unlisted_mib=max(0.0, (_number(used) or 0.0) - listed),
        is_shared=is_slice or mig.strip() == "Enabled",
        has_mps=has_mps,
    )


def _is_amount(text: str) -> bool:
    return _number(text.strip()) is not None or text.strip().startswith("[")


@dataclass(slots=True)
class GpuWatch:
    """What is seen of a GPU, so far. `remarks`: why it is not watched as it should be."""

    before: Occupancy = Occupancy()
    readings: list[Reading] = field(default_factory=list)
    remarks: tuple[str, ...] = ()
    _out: IO[str] | None = None

    def findings(self) -> GpuFindings:
        """What all of it means up to now."""
        if self._out is not None:
            # The reader writes at an offset of its own: this one may be moved.
            self.readings = parse_readings(os.pread(self._out.fileno(), 1 << 24, 0).decode(errors="replace"))
        seen = judge_gpu(self.readings, self.before)
        return GpuFindings(refusals=seen.refusals, remarks=(*self.remarks, *seen.remarks))


@contextmanager
def watched_gpu(
    device: str,
    *,
    accelerators: Sequence[Accelerator] = (),
    environ: Mapping[str, str] | None = None,
    root: Path = Path("/"),
) -> Iterator[GpuWatch]:
    """Read the GPU of a device such as `cuda` or `cuda:1` while the block runs; nothing is read of other devices.

    accelerators: what the worker told, by which the GPU is found. environ: the variables of the worker. root: where
    /sys is. The processes on it are those before the block: then there is none of ours.
    """
    from torchperf_ci.machine.amd_gpu import amd_folder, watched_amd

    watch = GpuWatch()
    pci = next((one.pci for one in accelerators if one.device == indexed(device)), "")
    if device.startswith("cuda") and (folder := amd_folder(pci, root)):
        with watched_amd(folder, watch):
            yield watch
        return
    if not device.startswith("cuda") or not (listing := smi("-L")):
        yield watch
        return
    gpu = find_gpu(device, accelerators, parse_listing(listing), os.environ if environ is None else environ)
    if gpu is None:
        watch.remarks = (f"which GPU {device} is could not be told, so its clocks and other work on it are not known",)
        yield watch
        return
    watch.before = read_occupancy(gpu)
    with tempfile.TemporaryFile("w+") as out:
        process = _reader(gpu.name, out)
        watch._out = out
        try:
            yield watch
        finally:
            if process is not None:
                process.terminate()
                process.wait()
            watch.findings()
            watch._out = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedGpu:
    """A GPU, or a slice of one, as nvidia-smi lists it. name: what `nvidia-smi -i` takes for the whole GPU."""

    index: int
    model: str
    name: str
    uuid: str
    is_slice: bool = False


_LISTED = re.compile(r"^GPU (\d+): (.*) \(UUID: (GPU-[^)\s]+)\)\s*$")
_SLICE = re.compile(r"^\s+MIG .*\(UUID: (MIG-[^)\s]+)\)\s*$")


def parse_listing(text: str) -> list[ListedGpu]:
    """What `nvidia-smi -L` lists, each slice after its GPU."""
    listed: list[ListedGpu] = []
    for line in text.splitlines():
        if match := _LISTED.match(line):
            listed.append(ListedGpu(index=int(match[1]), model=match[2], name=match[3], uuid=match[3]))
        elif listed and (match := _SLICE.match(line)):
            whole = listed[-1]
            listed.append(
                ListedGpu(index=whole.index, model=whole.model, name=whole.name, uuid=match[1], is_slice=True)
            )
    return listed


def find_gpu(
    device: str, accelerators: Sequence[Accelerator], listed: Sequence[ListedGpu], environ: Mapping[str, str]
) -> ListedGpu | None:
    """The listed GPU that a CUDA device is; None where that cannot be told.

    By the UUID that torch reports. A torch that reports none numbers them as CUDA_VISIBLE_DEVICES says, whose indices
    are nvidia-smi's only under CUDA_DEVICE_ORDER=PCI_BUS_ID, or where all GPUs are alike.
    """
    number = int(device.partition(":")[2] or 0)
    uuid = next((one.uuid for one in accelerators if indexed(one.device) == indexed(device)), "")
    if uuid:
        return next((gpu for gpu in listed if _bare(gpu.uuid) == _bare(uuid)), None)
    entries = [part.strip() for part in environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if part.strip()]
    if entries and number >= len(entries):
        return None
    entry = entries[number] if entries else str(number)
    if not entry.isdigit():  # a UUID, or the beginning of one
        fitting = [gpu for gpu in listed if gpu.uuid.startswith(entry)]
        return fitting[0] if len(fitting) == 1 else None
    whole = [gpu for gpu in listed if not gpu.is_slice]
    in_order = environ.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID" or len({gpu.model for gpu in whole}) == 1
    return next((gpu for gpu in whole if gpu.index == int(entry)), None) if in_order else None


def _bare(uuid: str) -> str:
    """Without what says whose it is: torch leaves that out."""
    return re.sub("^(GPU|MIG)-", "", uuid).lower()


def read_occupancy(gpu: ListedGpu) -> Occupancy:
    """What is on a GPU now."""
    return parse_occupancy(
        smi(_PROCESSES, gpu=gpu.name),
        smi("--query-gpu=memory.used,mig.mode.current", gpu=gpu.name),
        is_slice=gpu.is_slice,
    )


def _reader(gpu: str, out: IO[str]) -> subprocess.Popen[str] | None:
    """nvidia-smi, writing a reading every half second; None where there is none."""
    for query in _QUERIES:
        if parse_readings(smi(query, gpu=gpu)):
            return subprocess.Popen(
                [*_command(gpu), query, "-lms", str(_EVERY_MS)], stdout=out, stderr=subprocess.DEVNULL, text=True
            )
    return None


def one_reading(gpu: str) -> list[Reading]:
    """A reading of now, if there is one."""
    return next((readings for query in _QUERIES if (readings := parse_readings(smi(query, gpu=gpu)))), [])


def smi(query: str, *, gpu: str = "") -> str:
    """What nvidia-smi answers in CSV without a head, of one GPU or of all; empty when it does not."""
    command = ["nvidia-smi", query] if query == "-L" else [*_command(gpu), query]
    try:
        return subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=_LIMIT_S, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return ""


def _command(gpu: str) -> list[str]:
    return ["nvidia-smi", *(["-i", gpu] if gpu else []), "--format=csv,noheader,nounits"]
