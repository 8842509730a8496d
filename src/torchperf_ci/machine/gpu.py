"""Watch a GPU while something is measured on it: clocks, throttling, other users, energy; and lock its clocks.

NVIDIA's GPUs are read through nvidia-smi, which every driver brings. AMD's are read from sysfs, where the kernel driver
shows what is behind `amd-smi` (kernel documentation, gpu/amdgpu/thermal), without its Python process, which would
compute on the CPUs that are measured. What cannot be read is not judged.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import subprocess
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from torchperf_ci.core.text import one_line
from torchperf_ci.machine.accelerators import Accelerator, indexed
from torchperf_ci.machine.host import read

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

DEFAULT_CLOCK = "default"
"""For `--lock-clocks`: the GPU's default clock for applications, or three quarters of its highest one."""

_QUERIES = tuple(
    f"--query-gpu=clocks.sm,{reasons}.active,utilization.gpu"
    for reasons in ("clocks_event_reasons", "clocks_throttle_reasons")
)
"""With the newer and with the older name of the same field."""
_EVERY_S = 0.5
_LIMIT_S = 20
_MIB = 2**20

_LISTED = re.compile(r"^GPU (\d+): (.*) \(UUID: (GPU-[^)\s]+)\)\s*$")
_SLICE = re.compile(r"^\s+MIG .*\(UUID: (MIG-[^)\s]+)\)\s*$")
_AMD_CLOCK = re.compile(r"^\d+:\s*(\d+)\s*MHz\s*\*", re.IGNORECASE | re.MULTILINE)

_UNLOCK = """trap '' INT TERM HUP
read -r _
for gpu; do nvidia-smi -i "$gpu" --reset-gpu-clocks >/dev/null 2>&1; done"""
"""Waits until its input closes, which also happens when the process that holds it is killed."""


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
    """The state of a GPU before a measurement. processes: `name (pid)`. unlisted_mib: in use by none of them.

    is_shared: a slice of the GPU is measured (MIG), and the processes may be on other slices. has_mps: an MPS server
    runs, whose clients may not be listed.
    """

    processes: tuple[str, ...] = ()
    unlisted_mib: float = 0.0
    is_shared: bool = False
    has_mps: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuFindings:
    """The doubts about a measurement: reasons to refuse it, and what a reader should know."""

    refusals: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

    @property
    def all(self) -> tuple[str, ...]:
        """List both, for a row in which nothing is refused."""
        return (*self.refusals, *self.remarks)


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedGpu:
    """A GPU, or a slice of one, as nvidia-smi lists it. name: what `nvidia-smi -i` takes for the whole GPU."""

    index: int
    model: str
    name: str
    uuid: str
    is_slice: bool = False


def judge_gpu(readings: Sequence[Reading], before: Occupancy) -> GpuFindings:
    """Judge a measurement by readings of its GPU meanwhile, and by what was on it before."""
    refusals, remarks = [], []
    if before.processes:
        names = ", ".join(before.processes)
        if before.is_shared:
            remarks.append(f"another slice of the GPU may be in use: {names}")
        else:
            refusals.append(f"another process uses the GPU: {names}")
    if before.unlisted_mib > UNLISTED_MIB and not before.is_shared:
        refusals.append(
            f"something that is not listed here, e.g. another container, uses {before.unlisted_mib:.0f} MiB of the GPU"
        )
    if before.has_mps:
        remarks.append("an MPS server runs on the GPU: work of its other clients may not show")

    busy = [reading for reading in readings if reading.is_under_load]

    def share(some: Sequence[Reading]) -> str:
        return f"{100 * len(some) / len(busy):.0f} % of the readings"

    hot = [reading for reading in busy if reading.reasons & sum(THERMAL)]
    if len(hot) > SHARE * len(busy):
        names = ", ".join(name for bit, name in THERMAL.items() if any(reading.reasons & bit for reading in hot))
        refusals.append(f"the GPU was throttled in {share(hot)}: {names}")
    # Against the highest clock that was seen, because a locked one may be far below the default. Less power than it
    # would like is not sagging.
    highest = max((reading.clock or 0.0 for reading in busy), default=0.0)
    capped = [reading for reading in busy if reading.reasons & POWER_CAP]
    slow = [reading for reading in busy if reading.clock is not None and reading.clock < SAGGING * highest]
    slow = [reading for reading in slow if not reading.reasons & POWER_CAP]
    if len(slow) > SHARE * len(busy):
        least = min(reading.clock for reading in slow if reading.clock is not None)
        refusals.append(f"the GPU's clock sagged to {least:.0f} MHz in {share(slow)}")
    if capped:
        remarks.append(f"the GPU reached its power limit in {share(capped)}")
    return GpuFindings(refusals=tuple(refusals), remarks=tuple(remarks))


@dataclass(slots=True)
class GpuWatch:
    """A watch on a GPU, with what it has seen so far. `remarks`: why it is not watched as it should be."""

    before: Occupancy = Occupancy()
    readings: list[Reading] = field(default_factory=list)
    remarks: tuple[str, ...] = ()
    _out: IO[str] | None = None

    def findings(self) -> GpuFindings:
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

    accelerators: those the worker reported, by which the GPU is found. environ: the variables of the worker. root:
    where /sys is. The processes on it are those before the block: then there is none of ours.
    """
    watch = GpuWatch()
    if not device.startswith("cuda"):
        yield watch
        return
    pci = next((one.pci for one in accelerators if one.device == indexed(device)), "")
    folder = root / "sys/bus/pci/devices" / pci[-12:].lower()
    if pci and (folder / "mem_info_vram_used").is_file():
        with _reading_amd(folder, watch):
            yield watch
        return
    if not (listing := smi("-L")):
        yield watch
        return
    gpu = find_gpu(device, accelerators, parse_listing(listing), os.environ if environ is None else environ)
    if gpu is None:
        watch.remarks = (f"which GPU {device} is could not be told, so its clocks and other work on it are not known",)
        yield watch
        return
    watch.before = read_occupancy(gpu)
    query = next((query for query in _QUERIES if parse_readings(smi(query, gpu=gpu.name))), None)
    with tempfile.TemporaryFile("w+") as out, contextlib.ExitStack() as stack:
        if query is not None:
            command = [*_command(gpu.name), query, "-lms", f"{1000 * _EVERY_S:.0f}"]
            reader = subprocess.Popen(command, stdout=out, stderr=subprocess.DEVNULL, text=True)
            stack.callback(reader.wait)
            stack.callback(reader.terminate)
        watch._out = out
        try:
            yield watch
        finally:
            stack.close()
            watch.findings()
            watch._out = None


@contextmanager
def _reading_amd(folder: Path, watch: GpuWatch) -> Iterator[None]:
    """Add a reading to `watch` every half second while the block runs.

    Whose the memory in use is, the driver tells to administrators alone; what throttles the GPU, it does not tell in
    words.
    """
    used = read(folder, "mem_info_vram_used")
    watch.before = Occupancy(unlisted_mib=int(used) / _MIB if used.isdigit() else 0.0)
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(_EVERY_S):
            clock, load = _AMD_CLOCK.search(read(folder, "pp_dpm_sclk")), read(folder, "gpu_busy_percent")
            watch.readings.append(
                Reading(
                    clock=float(clock[1]) if clock else None, reasons=0, load=float(load) if load.isdigit() else None
                )
            )

    reader = threading.Thread(target=look, daemon=True)
    reader.start()
    try:
        yield
    finally:
        ended.set()
        reader.join()


@contextmanager
def locked_clocks(
    asked: str | None, devices: Iterable[str], accelerators: Sequence[Accelerator], environ: Mapping[str, str]
) -> Iterator[list[str]]:
    """Lock the clocks of the GPUs that these devices are, to `asked` MHz or `DEFAULT_CLOCK`; yield a note on each.

    Locking needs the permission of an administrator: where it is refused, the block runs with the clocks as they are.
    They are unlocked whatever ends the block.
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


def _lock(device: str, gpu: ListedGpu | None, asked: str) -> str:
    """Lock one GPU's clocks; return a sentence about how that went."""
    failure = f"the clocks of {device} are not locked: "
    if gpu is None:
        return failure + "which GPU it is could not be told"
    if gpu.is_slice:
        return failure + "it is a slice of a GPU"
    clock = clock_to_lock(asked, smi("--query-gpu=clocks.default_applications.graphics,clocks.max.sm", gpu=gpu.name))
    if clock is None:
        return failure + "nvidia-smi names no clock; give one, for example --lock-clocks 1500"
    command = ["nvidia-smi", "-i", gpu.name, f"--lock-gpu-clocks={clock},{clock}"]
    try:
        result = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=_LIMIT_S, check=False
        )
    except (OSError, subprocess.SubprocessError) as error:
        return failure + one_line(str(error), limit=200)
    answer = one_line(result.stdout or result.stderr, limit=200)
    if result.returncode == 0 and "not supported" not in answer:
        return f"the clocks of {device} are locked to {clock} MHz until the end"
    return (
        f"{failure}{answer}; have an administrator run `nvidia-smi -i {gpu.index} "
        f"--lock-gpu-clocks={clock},{clock}`, and --reset-gpu-clocks afterwards"
    )


def clock_to_lock(asked: str, answer: str) -> int | None:
    """Choose the clock in MHz.

    answer: nvidia-smi's default clock for applications and highest clock, `1500, 1980`.
    """
    if asked != DEFAULT_CLOCK:
        return int(asked)
    default, _, highest = (part.strip() for part in answer.strip().partition(","))
    if default.isdigit():
        return int(default)
    return int(highest) * 3 // 4 if highest.isdigit() else None


def parse_readings(text: str) -> list[Reading]:
    """Parse nvidia-smi's CSV lines `clock, reasons, load`; lines that are no readings are left out."""
    readings = []
    for line in text.splitlines():
        parts = [part.strip() for part in line.split(",")]
        if len(parts) not in {2, 3}:
            continue
        with contextlib.suppress(ValueError):
            load = _number(parts[2]) if len(parts) == 3 else None
            readings.append(Reading(clock=_number(parts[0]), reasons=int(parts[1], 16), load=load))
    return readings


def parse_occupancy(processes: str, memory: str, *, is_slice: bool = False) -> Occupancy:
    """Parse nvidia-smi's CSV: a line `pid, process_name, used_memory` per process; `memory.used, mig.mode.current`.

    Where it does not tell what a process uses, what is not listed cannot be known.
    """
    others, listed, has_mps = [], 0.0, False
    for line in processes.splitlines():
        pid, _, rest = line.partition(",")
        if not pid.strip().isdigit():
            continue
        name, _, used = rest.rpartition(",")
        if _number(used) is None and not used.strip().startswith("["):  # no amount, but a part of a name with a comma
            name, used = rest, ""
        amount = _number(used)
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


def _number(text: str) -> float | None:
    with contextlib.suppress(ValueError):
        return float(text)
    return None


def parse_listing(text: str) -> list[ListedGpu]:
    """Parse what `nvidia-smi -L` lists, each slice after its GPU."""
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
    """Find the listed GPU that a CUDA device is; None where that cannot be told.

    By the UUID that torch reports. A torch that reports none numbers them as CUDA_VISIBLE_DEVICES says, whose indices
    are nvidia-smi's only under CUDA_DEVICE_ORDER=PCI_BUS_ID, or where all GPUs are alike.
    """

    def bare(uuid: str) -> str:
        """Remove the kind in front, which torch leaves out."""
        return re.sub("^(GPU|MIG)-", "", uuid).lower()

    number = int(device.partition(":")[2] or 0)
    uuid = next((one.uuid for one in accelerators if indexed(one.device) == indexed(device)), "")
    if uuid:
        return next((gpu for gpu in listed if bare(gpu.uuid) == bare(uuid)), None)
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


def read_occupancy(gpu: ListedGpu) -> Occupancy:
    return parse_occupancy(
        smi("--query-compute-apps=pid,process_name,used_memory", gpu=gpu.name),
        smi("--query-gpu=memory.used,mig.mode.current", gpu=gpu.name),
        is_slice=gpu.is_slice,
    )


def one_reading(gpu: str) -> list[Reading]:
    return next((readings for query in _QUERIES if (readings := parse_readings(smi(query, gpu=gpu)))), [])


def smi(query: str, *, gpu: str = "") -> str:
    """Ask nvidia-smi in CSV without a head, about one GPU or all; empty when it does not answer."""
    command = ["nvidia-smi", query] if query == "-L" else [*_command(gpu), query]
    try:
        return subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=_LIMIT_S, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return ""


def _command(gpu: str) -> list[str]:
    return ["nvidia-smi", *(["-i", gpu] if gpu else []), "--format=csv,noheader,nounits"]


_SUCCESS = 0


class EnergyCounter:
    """Reads nvmlDeviceGetTotalEnergyConsumption: millijoules since the driver was loaded, from Volta on.

    The counter moves in steps of up to 100 ms, so what is measured should take a second.
    """

    def __init__(self, uuid: str, library: Any = None) -> None:  # noqa: ANN401 - a library of ctypes
        """uuid: of the whole GPU, with or without `GPU-`. library: NVML; None: the installed one."""
        self._device: ctypes.c_void_p | None = None
        try:
            self._nvml = library or ctypes.CDLL("libnvidia-ml.so.1")
        except OSError:
            return
        device = ctypes.c_void_p()
        name = f"GPU-{re.sub('^GPU-', '', uuid)}".encode()
        is_there = bool(uuid) and not uuid.startswith("MIG") and self._nvml.nvmlInit_v2() == _SUCCESS
        if is_there and self._nvml.nvmlDeviceGetHandleByUUID(name, ctypes.byref(device)) == _SUCCESS:
            self._device = device

    def read(self) -> float | None:
        """Return joules; None where the GPU does not tell."""
        if self._device is None:
            return None
        millijoules = ctypes.c_ulonglong()
        if self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._device, ctypes.byref(millijoules)) != _SUCCESS:
            return None
        return millijoules.value / 1e3
