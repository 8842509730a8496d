"""Is a GPU fit to be measured on: its clocks and what throttled it while a case ran, and who else uses it.

Read through nvidia-smi, which every driver brings; what cannot be read is not judged.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO

from torchperf_ci.escape import one_line

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

_QUERIES = tuple(
    f"--query-gpu=clocks.sm,{reasons}.active" for reasons in ("clocks_event_reasons", "clocks_throttle_reasons")
)
"""With the newer and with the older name of the same field."""
_EVERY_MS = 500
_LIMIT_S = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One look at a GPU. clock: in MHz, None where the driver does not say. reasons: NVML's bits."""

    clock: float | None
    reasons: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuFindings:
    """What speaks against a measurement: reasons to refuse it, and what a reader should know."""

    refusals: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()


def judge_gpu(readings: Sequence[Reading], foreign: Sequence[str]) -> GpuFindings:
    """What readings of one GPU during a measurement, and the processes on it before it, mean."""
    busy = [reading for reading in readings if not reading.reasons & IDLE]
    refusals = [f"another process uses the GPU: {', '.join(foreign)}"] if foreign else []
    hot = [reading for reading in busy if reading.reasons & sum(THERMAL)]
    if len(hot) > SHARE * len(busy):
        names = [name for bit, name in THERMAL.items() if any(reading.reasons & bit for reading in hot)]
        refusals.append(f"the GPU was throttled in {_share(hot, busy)} of the readings: {', '.join(names)}")
    slow = [reading for reading in busy if _sags(reading, busy)]
    if len(slow) > SHARE * len(busy):
        least = min(reading.clock for reading in slow if reading.clock is not None)
        refusals.append(f"the GPU's clock sagged to {least:.0f} MHz in {_share(slow, busy)} of the readings")
    capped = [reading for reading in busy if reading.reasons & POWER_CAP]
    remarks = [f"the GPU reached its power limit in {_share(capped, busy)} of the readings"] if capped else []
    return GpuFindings(refusals=tuple(refusals), remarks=tuple(remarks))


def _sags(reading: Reading, all_readings: Sequence[Reading]) -> bool:
    """Against the highest clock that was seen, because a locked one may be far below the default; less power than it
    would like is not sagging."""
    highest = max(other.clock or 0.0 for other in all_readings)
    return reading.clock is not None and not reading.reasons & POWER_CAP and reading.clock < SAGGING * highest


def _share(some: Sequence[Reading], of: Sequence[Reading]) -> str:
    return f"{len(some) / len(of):.0%}".replace("%", " %")


def parse_readings(text: str) -> list[Reading]:
    """The readings of nvidia-smi's CSV lines `clock, reasons`; lines that are none are left out."""
    readings = []
    for line in text.splitlines():
        parts = [part.strip() for part in line.split(",")]
        if len(parts) != 2:
            continue
        with contextlib.suppress(ValueError):
            readings.append(Reading(clock=_number(parts[0]), reasons=int(parts[1], 16)))
    return readings


def _number(text: str) -> float | None:
    with contextlib.suppress(ValueError):
        return float(text)
    return None


def parse_processes(text: str) -> list[str]:
    """`name (pid)` per line of nvidia-smi's CSV `pid, process_name`."""
    lines = [line.partition(",") for line in text.splitlines() if line.strip()]
    return [f"{one_line(name, limit=60)} ({pid.strip()})" for pid, _, name in lines if pid.strip().isdigit()]


@dataclass(slots=True)
class GpuWatch:
    """What was seen of a GPU; complete once `watched_gpu` has ended."""

    readings: list[Reading] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)

    def findings(self) -> GpuFindings:
        return judge_gpu(self.readings, self.foreign)


@contextmanager
def watched_gpu(device: str) -> Iterator[GpuWatch]:
    """Read the GPU of a device such as `cuda` or `cuda:1` while the block runs; nothing is read of other devices.

    The processes on it are those before the block: then there is none of ours.
    """
    watch = GpuWatch()
    if not device.startswith("cuda"):
        yield watch
        return
    gpu = gpu_of(device, os.environ)
    watch.foreign = parse_processes(smi("--query-compute-apps=pid,process_name", gpu=gpu))
    with tempfile.TemporaryFile("w+") as out:
        process = _reader(gpu, out)
        try:
            yield watch
        finally:
            if process is not None:
                process.terminate()
                process.wait()
        out.seek(0)
        watch.readings = parse_readings(out.read())


def gpu_of(device: str, environ: Mapping[str, str]) -> str:
    """The name nvidia-smi knows a CUDA device by: its number, or what CUDA_VISIBLE_DEVICES has in its place."""
    number = int(device.partition(":")[2] or 0)
    visible = [part.strip() for part in environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if part.strip()]
    return visible[number] if number < len(visible) else str(number)


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
    try:
        return subprocess.run(
            [*_command(gpu), query], capture_output=True, text=True, timeout=_LIMIT_S, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return ""


def _command(gpu: str) -> list[str]:
    return ["nvidia-smi", *(["-i", gpu] if gpu else []), "--format=csv,noheader,nounits"]
