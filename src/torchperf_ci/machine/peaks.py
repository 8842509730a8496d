"""The arithmetic that devices can do at most, as their makers say: data/peaks.csv, with where each figure stands."""

from __future__ import annotations

import csv
import re
from functools import lru_cache
from importlib import resources


@lru_cache(maxsize=1)
def read_peaks() -> dict[tuple[str, str], float]:
    """Read floating-point operations per second by device and precision, dense, in the file's order."""
    text = resources.files("torchperf_ci.machine").joinpath("data/peaks.csv").read_text(encoding="utf-8")
    return {
        (row["device"], row["precision"]): float(row["teraflops"]) * 1e12 for row in csv.DictReader(text.splitlines())
    }


def find_peak(gpu: str, dtype: str, *, tf32: bool = False) -> float | None:
    """Return the peak of a GPU by its name, in FLOP/s of a case's precision; None where it is not known.

    tf32: whether products of float32 run as TF32. `amp` computes in float16 on a GPU. A part of a GPU (MIG, or a vGPU
    such as A10-8Q) has a part of its peak, which is not known.
    """
    if "MIG" in gpu or re.search(r"-\d+[ABCQ](ME)?\b", gpu):
        return None
    precision = {"amp": "float16", "float32": "tf32" if tf32 else "float32"}.get(dtype, dtype)
    for (device, has), peak in read_peaks().items():
        words = r"[ -]".join(map(re.escape, re.split(r"[ -]", device)))
        if has == precision and re.search(rf"(?<![0-9A-Za-z]){words}(?![0-9A-Za-z])", gpu, re.IGNORECASE):
            return _whole_device(device, gpu, peak)
    return None


def _whole_device(device: str, gpu: str, peak: float) -> float | None:
    """Leave out relatives that have another peak: laptops, and cards whose name has more to it."""
    return None if re.search(rf"{re.escape(device)} (Ti|SUPER|D|Laptop)\b", gpu) or " NVL" in gpu else peak
