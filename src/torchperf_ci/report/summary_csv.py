"""geomean.csv, passrate.csv, comp_time.csv and memory.csv: a row per compiler, a column per suite."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pandas as pd

from torchperf_ci.core.frames import Section
from torchperf_ci.core.text import csv_cell
from torchperf_ci.report.model import Findings
from torchperf_ci.report.summary import Line

NO_LINE = "0"
"""The cell of a compiler that this suite did not run with."""


def summary_tables(findings: Findings, section: Section) -> Mapping[str, pd.DataFrame]:
    """The four tables of a section by name; their cells are text."""
    compilers = findings.compilers_of(section)
    lines = {(line.compiler, line.suite): line for line in findings.lines_of(section)}
    suites = dict.fromkeys(suite for _, suite in lines)
    return {
        name: pd.DataFrame(
            {
                "Compiler": compilers,
                **{suite: [_cell(lines.get((one, suite)), write) for one in compilers] for suite in suites},
            },
            index=list(compilers),
        )
        for name, write in cells(include_slowdowns=findings.options.include_slowdowns).items()
    }


def summary_csvs(findings: Findings) -> Mapping[str, str]:
    """The four files by name. With more than one section three columns say which one a row belongs to."""
    made = {section: summary_tables(findings, section) for section in findings.sections}
    joined: dict[str, list[pd.DataFrame]] = {}
    for section, tables in made.items():
        for name, table in tables.items():
            if len(made) > 1:
                for place, part in enumerate((section.mode.value, section.dtype, section.device), start=1):
                    table.insert(place, ("mode", "dtype", "device")[place - 1], part, allow_duplicates=True)
            joined.setdefault(name, []).append(table)
    return {f"{name}.csv": _csv(tables) for name, tables in joined.items()}


def passrate(line: Line) -> str:
    """`85%, 51/60`."""
    percent = round(100 * line.passed / line.total) if line.total else 0
    return f"{percent}%, {line.passed}/{line.total}"


def _csv(tables: list[pd.DataFrame]) -> str:
    table = pd.concat(tables) if len(tables) > 1 else tables[0]
    table["Compiler"] = table["Compiler"].map(csv_cell)
    text: str = table.rename(index=csv_cell, columns=csv_cell).fillna(NO_LINE).to_csv(lineterminator="\n")
    return text


def cells(*, include_slowdowns: bool) -> Mapping[str, Callable[[Line], str]]:
    """How the four numbers of a line read, by the names of the files."""
    return {
        "passrate": passrate,
        "geomean": lambda line: _ratio(line.geomean if include_slowdowns else line.clipped),
        "comp_time": lambda line: "0.0" if line.compile_seconds is None else f"{line.compile_seconds:.2f}",
        "memory": lambda line: _ratio(line.compression),
    }


def _cell(line: Line | None, write: Callable[[Line], str]) -> str:
    return NO_LINE if line is None else write(line)


def _ratio(value: float | None) -> str:
    return "0.0x" if value is None else f"{value:.2f}x"
