"""The options of the commands that report on a folder of results."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import click

from torchperf_ci.cli.options import command_options, option
from torchperf_ci.core.errors import UsageProblem
from torchperf_ci.core.frames import CaseSelection
from torchperf_ci.core.records import Mode
from torchperf_ci.core.results import MANIFEST, RECORDS

if TYPE_CHECKING:
    from torchperf_ci.report.model import ReportOptions

OURS = ("report.md", "report.html")
"""Files that only this program writes; PyTorch's own script writes the others of a report as well."""


@command_options
class ContentOptions:
    """Say what to report on, and what the build summary names."""

    SECTION: ClassVar[str] = "What to report on"

    suites: tuple[str, ...] = option("--suites", multiple=True, help="Only these suites, in this order. Repeatable.")
    devices: tuple[str, ...] = option("--devices", multiple=True, help="Only these devices, in this order. Repeatable.")
    dtypes: tuple[str, ...] = option("--dtypes", multiple=True, help="Only these dtypes, in this order. Repeatable.")
    compilers: tuple[str, ...] = option(
        "--compilers", multiple=True, help="Only these compilers, in this order. Repeatable."
    )
    flag_compilers: tuple[str, ...] = option(
        "--flag-compilers",
        multiple=True,
        help="Warn about these compilers only (else inductor and inductor_no_cudagraphs, or all if neither is "
        "there). Repeatable.",
    )
    inference: bool = option("--inference", is_flag=True, help="Only inference.")
    training: bool = option("--training", is_flag=True, help="Only training.")
    mode: str | None = option("--mode", type=click.Choice([mode.value for mode in Mode]), help="The same by its name.")
    include_slowdowns: bool = option(
        "--include-slowdowns", is_flag=True, help="Count slowdowns in geomean.csv, where they are else taken as 1x."
    )
    base_sha: str = option(
        "--base-sha",
        default="",
        show_default=False,
        help="The commit of the tested PyTorch, for the build summary.",
    )
    pytorch_dir: Path | None = option(
        "--pytorch-dir", type=click.Path(path_type=Path), help="A PyTorch checkout, for the build summary."
    )
    torchbench_dir: Path | None = option(
        "--torchbench-dir", type=click.Path(path_type=Path), help="A torchbench checkout, for the build summary."
    )

    def selection(self) -> CaseSelection:
        """Return what of the records is asked for. Raises `click.UsageError` for both modes at once."""
        asked = {Mode.INFERENCE: self.inference, Mode.TRAINING: self.training}
        modes = [mode for mode in Mode if asked[mode] or self.mode == mode.value]
        if len(modes) > 1:
            raise click.UsageError("give one of --inference and --training, or neither for both")
        return CaseSelection(
            suites=self.suites,
            devices=self.devices,
            dtypes=self.dtypes,
            compilers=self.compilers,
            mode=modes[0] if modes else None,
        )

    def report_options(self, directory: Path, *, limit: int) -> ReportOptions:
        """Return how to report on the results in `directory`; `limit` is the largest size of report.md in bytes."""
        from torchperf_ci.pytorch.checkout import read_checkouts
        from torchperf_ci.report.model import ReportOptions

        return ReportOptions(
            selection=self.selection(),
            flag_compilers=self.flag_compilers,
            include_slowdowns=self.include_slowdowns,
            run_name=directory.resolve().name,
            checkouts=read_checkouts(
                pytorch_dir=self.pytorch_dir, torchbench_dir=self.torchbench_dir, base_sha=self.base_sha
            ),
            limit=limit,
            case_csvs=(directory / RECORDS).is_file(),
        )


def refuse_to_overwrite(target: Path, *, instead: str) -> None:
    """Raise `UsageProblem` where a report of somebody else would be overwritten. `instead`: what to do then."""
    foreign = [name for name in OURS if (target / name).exists()]
    if foreign and not (target / MANIFEST).is_file():
        raise UsageProblem(f"{target / foreign[0]} was not written by torchperf-ci; {instead}")
