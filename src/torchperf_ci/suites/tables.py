"""The data files beside the suites: which models are skipped, and how exact their results must be.

`data/<suite>_skips.csv` has the columns `name,device,mode,reason`; `data/<suite>_tolerances.csv` has
`name,mode,dtype,tolerance,cosine`. An empty cell means any. Of the tolerances that apply the last one holds.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torchperf_ci.suites.registry import Skip

DATA = Path(__file__).parent / "data"


@dataclass(frozen=True, kw_only=True)
class ToleranceRule:
    """The tolerance (and whether cosine similarity decides) of the models, modes and dtypes it names; None: all."""

    model: str | None
    mode: str | None
    dtype: str | None
    tolerance: float | None
    cosine: bool

    def applies(self, *, model: str, mode: str, dtype: str) -> bool:
        return self.model in {None, model} and self.mode in {None, mode} and self.dtype in {None, dtype}


@dataclass(frozen=True, kw_only=True)
class Tolerances:
    """The rules of one suite. Its methods have the signatures a suite's module offers."""

    rules: Sequence[ToleranceRule]

    def tolerance(self, model: str, mode: str, dtype: str) -> float:
        """The absolute and relative tolerance of the accuracy check."""
        found = [
            rule.tolerance
            for rule in self.rules
            if rule.tolerance is not None and rule.applies(model=model, mode=mode, dtype=dtype)
        ]
        return found[-1]

    def use_cosine(self, model: str) -> bool:
        """Whether cosine similarity decides for this model."""
        return any(rule.cosine and rule.model in {None, model} for rule in self.rules)


def read_json(suite: str) -> Mapping[str, Any]:
    """`data/<suite>.json`."""
    found: Mapping[str, Any] = json.loads((DATA / f"{suite}.json").read_text(encoding="utf-8"))
    return found


def read_skips(suite: str) -> tuple[Skip, ...]:
    """`data/<suite>_skips.csv`."""
    return tuple(
        Skip(model=row["name"], device=row["device"] or None, mode=row["mode"] or None, reason=row["reason"])
        for row in read_rows(f"{suite}_skips.csv")
    )


def read_tolerances(suite: str) -> Tolerances:
    """`data/<suite>_tolerances.csv`."""
    return Tolerances(
        rules=tuple(
            ToleranceRule(
                model=row["name"] or None,
                mode=row["mode"] or None,
                dtype=row["dtype"] or None,
                tolerance=float(row["tolerance"]) if row["tolerance"] else None,
                cosine=row["cosine"] == "yes",
            )
            for row in read_rows(f"{suite}_tolerances.csv")
        )
    )


def read_rows(file: str) -> list[dict[str, str]]:
    """The rows of a CSV file in the data folder, by their column names."""
    with (DATA / file).open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))
