"""The options of the commands that report on a folder of results."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from torchperf_ci.cli.options import Decorated, decorated, option
from torchperf_ci.core.errors import UsageProblem
from torchperf_ci.core.records import Mode
from torchperf_ci.core.results import MANIFEST, RECORDS

if TYPE_CHECKING:
    from torchperf_ci.report.model import ReportOptions

OURS = ("report.md", "report.html")
"""Files that only this program writes; PyTorch's own script writes the others of a report as well."""

_OPTIONS = (
    option("--suites", multiple=True, help="Only these suites, in this order. Repeatable."),
    option("--devices", multiple=True, help="Only these devices, in this order. Repeatable."),
    option("--dtypes", multiple=True, help="Only these dtypes, in this order. Repeatable."),
    option("--compilers", multiple=True, help="Only these compilers, in this order. Repeatable."),
    option(
        "--flag-compilers",
        multiple=True,
        help="Warn about these compilers only (else inductor and inductor_no_cudagraphs, or all if neither is there). "
        "Repeatable.",
    ),
    option("--inference", "mode", flag_value="inference", envvar="TORCHPERF_MODE", help="Only inference."),
    option("--training", "mode", flag_value="training", envvar="TORCHPERF_MODE", help="Only training."),
    option(
        "--include-slowdowns", is_flag=True, help="Count slowdowns in geomean.csv, where they are else taken as 1x."
    ),
    option("--base-sha", default="", help="The commit of the tested PyTorch, for the build summary."),
    option("--pytorch-dir", type=click.Path(path_type=Path), help="A PyTorch checkout, for the build summary."),
    option("--torchbench-dir", type=click.Path(path_type=Path), help="A torchbench checkout, for the build summary."),
)


def report_options(function: Decorated) -> Decorated:
    """What to report on, and what the build summary names."""
    return decorated(function, _OPTIONS)


def report_options_from(directory: Path, options: Mapping[str, Any], *, limit: int) -> ReportOptions:
    """How to report on the results in `directory`; `limit` is the largest size of report.md in bytes."""
    from torchperf_ci.core.frames import CaseSelection
    from torchperf_ci.pytorch.checkouts import read_checkouts
    from torchperf_ci.report.model import ReportOptions

    return ReportOptions(
        selection=CaseSelection(
            suites=options["suites"],
            devices=options["devices"],
            dtypes=options["dtypes"],
            compilers=options["compilers"],
            mode=Mode(options["mode"]) if options["mode"] else None,
        ),
        flag_compilers=options["flag_compilers"],
        include_slowdowns=options["include_slowdowns"],
        run_name=directory.resolve().name,
        checkouts=read_checkouts(
            pytorch_dir=options["pytorch_dir"],
            torchbench_dir=options["torchbench_dir"],
            base_sha=options["base_sha"],
        ),
        limit=limit,
        case_csvs=(directory / RECORDS).is_file(),
    )


def refuse_to_overwrite(target: Path, *, instead: str) -> None:
    """A report of somebody else stays. `instead` says what to do then."""
    foreign = [name for name in OURS if (target / name).exists()]
    if foreign and not (target / MANIFEST).is_file():
        raise UsageProblem(f"{target / foreign[0]} was not written by torchperf-ci; {instead}")
