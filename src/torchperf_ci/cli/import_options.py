"""The options that say how to read what another tool wrote."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, ClassVar

import click

from torchperf_ci.cli.options import KeyValues, command_options, option
from torchperf_ci.core.errors import UsageProblem
from torchperf_ci.core.text import nearest

if TYPE_CHECKING:
    from torchperf_ci.formats.model import ImportRequest


@command_options
class ImportOptions:
    """Say what files may not say themselves."""

    SECTION: ClassVar[str] = "Other tools' files"

    time: str = option(
        "--time",
        default="",
        show_default=False,
        metavar="TIME",
        help="When it was measured, ISO 8601, for formats that do not say it; without an offset in UTC.",
    )
    better: str | None = option(
        "--better",
        type=click.Choice(["bigger", "smaller"]),
        help="Which values are better, for lists of github-action-benchmark's custom tools.",
    )
    column: tuple[tuple[str, str], ...] = option(
        "--column",
        multiple=True,
        type=KeyValues(),
        metavar="FIELD=COLUMN",
        help="The column of a CSV or Parquet table that holds a field: model, value, metric, unit, direction, "
        "time, commit, branch, suite, device, … value= may be given several times.  [default: columns of "
        "these names]",
    )

    def moment(self) -> datetime | None:
        """Return the time of --time in UTC, if it is given. Raises `UsageProblem` for a time that there is not."""
        from torchperf_ci.history.runs import parse_time

        moment = parse_time(self.time) if self.time else None
        if self.time and moment is None:
            raise UsageProblem(f"--time {self.time!r}: expected ISO 8601, for example 2026-11-28T13:00:00+00:00")
        return moment

    def add_to(self, request: ImportRequest) -> ImportRequest:
        """Add how to read the files to a request. Raises `UsageProblem` for a time or a field that there is not."""
        from torchperf_ci.formats.tables import COLUMNS

        moment = self.moment()
        columns: dict[str, list[str]] = {}
        for name, column in self.column:
            if name not in COLUMNS:
                hint = f"{nearest(name, COLUMNS)} There are: {', '.join(COLUMNS)}."
                raise UsageProblem(f"--column {name}={column}: {name!r} is no field.{hint}")
            if name != "value" and name in columns:
                raise UsageProblem(f"--column {name}={column}: {name} has the column {columns[name][0]} already")
            columns.setdefault(name, []).append(column)
        tools = {"bigger": "customBiggerIsBetter", "smaller": "customSmallerIsBetter", None: ""}
        return replace(
            request,
            time=moment.isoformat() if moment else "",
            tool=tools[self.better],
            columns=columns,
        )
