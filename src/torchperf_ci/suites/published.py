"""Serve the suites of published models: their data files, batch sizes that fit, packages they need.

`data/<suite>_skips.csv` has the columns `name,device,mode,reason`; `data/<suite>_tolerances.csv` has
`name,mode,dtype,tolerance,cosine`. An empty cell means any. Of the tolerances that apply the last one holds.
"""

from __future__ import annotations

import csv
import importlib.util
import json
import os
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from torchperf_ci.suites import SHARING_VARIABLE
from torchperf_ci.suites.registry import Skip

DATA = Path(__file__).parent / "data"


@dataclass(frozen=True, kw_only=True)
class SuiteTolerances:
    """One suite's rows of tolerances. The methods have the signatures that a suite's module offers."""

    rows: Sequence[Mapping[str, str]]

    def tolerance(self, model: str, mode: str, dtype: str) -> float:
        """Return the absolute and relative tolerance of the accuracy check."""
        asked = {"name": model, "mode": mode, "dtype": dtype}
        fitting = [
            row["tolerance"]
            for row in self.rows
            if row["tolerance"] and all(row[column] in {"", value} for column, value in asked.items())
        ]
        return float(fitting[-1])

    def use_cosine(self, model: str) -> bool:
        """Say whether cosine similarity decides for this model."""
        return any(row["cosine"] == "yes" and row["name"] in {"", model} for row in self.rows)


def read_json(suite: str) -> Mapping[str, Any]:
    """Read `data/<suite>.json`."""
    content: Mapping[str, Any] = json.loads((DATA / f"{suite}.json").read_text(encoding="utf-8"))
    return content


def read_skips(suite: str) -> tuple[Skip, ...]:
    """Read `data/<suite>_skips.csv`."""
    return tuple(
        Skip(model=row["name"], device=row["device"] or None, mode=row["mode"] or None, reason=row["reason"])
        for row in read_rows(f"{suite}_skips.csv")
    )


def read_tolerances(suite: str) -> SuiteTolerances:
    """Read `data/<suite>_tolerances.csv`."""
    return SuiteTolerances(rows=read_rows(f"{suite}_tolerances.csv"))


def read_rows(file: str) -> list[dict[str, str]]:
    """Read the rows of a CSV file in the data folder, by their column names."""
    with (DATA / file).open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def fitting_batch_size(published: int, *, reference_gb: float, memory_gb: float) -> int:
    """Return `published` where memory is at least `reference_gb`, else the power of two below its share; at least 1.

    Activations, which grow with the batch, take most of the memory; where the weights do, out of memory halves it.
    """
    if memory_gb >= reference_gb:
        return published
    share = int(published * memory_gb / reference_gb)
    return 1 << max(share.bit_length() - 1, 0)


def device_memory_gb(device: str) -> float:
    """Measure the memory of an accelerator, or of the machine for a CPU, in 10⁹ bytes.

    Where several processes hold a model at the same time (`SHARING_VARIABLE`), it is the share of one of them.
    """
    accelerator: Any = getattr(torch, torch.device(device).type, None)
    if hasattr(accelerator, "get_device_properties") and accelerator.is_available():
        total = float(accelerator.get_device_properties(device).total_memory)
    else:
        total = float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    return total / 1e9 / max(1, int(os.environ.get(SHARING_VARIABLE) or 1))


def missing_package(name: str, *, minimum: str) -> str | None:
    """Say why the package `name` cannot be used in this Python, with what to type; None when it can.

    Nothing is imported to find out.
    """

    def numbers(version: str) -> tuple[int, ...]:
        """Return the release numbers that a version starts with: 4.44.0rc1 is (4, 44, 0)."""
        leading = re.match(r"\d+(\.\d+)*", version)
        return tuple(int(part) for part in leading.group().split(".")) if leading else ()

    advice = install_command(f"{name}>={minimum}")
    if importlib.util.find_spec(name) is None:
        return f"{name} is not installed in this Python; {advice}"
    installed = metadata.version(name)
    if numbers(installed) < numbers(minimum):
        return f"{name} {installed} is too old, {minimum} is needed; {advice}"
    return None


def install_command(*arguments: str) -> str:
    """Return `python -m pip install …` for the running Python, quoted for a shell."""
    return shlex.join([sys.executable or "python", "-m", "pip", "install", *arguments])
