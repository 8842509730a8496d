"""The options that say how to read what another tool wrote."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from torchperf_ci.cli.options import Decorated, KeyValues, decorated, option
from torchperf_ci.core.errors import UsageProblem

if TYPE_CHECKING:
    from torchperf_ci.formats.model import ImportRequest


def import_options(function: Decorated) -> Decorated:
    """What files may not say themselves: `time`, `better` and `column`."""
    return decorated(
        function,
        (
            option(
                "--time",
                default="",
                show_default=False,
                metavar="TIME",
                help="When it was measured, ISO 8601, for formats that do not say it; without an offset in UTC.",
            ),
            option(
                "--better",
                type=click.Choice(["bigger", "smaller"]),
                help="Which values are better, for lists of github-action-benchmark's custom tools.",
            ),
            option(
                "--column",
                multiple=True,
                type=KeyValues(),
                metavar="FIELD=COLUMN",
                help="The column of a CSV or Parquet table that holds a field: model, value, metric, unit, direction, "
                "time, commit, branch, suite, device, … value= may be given several times.  [default: columns of "
                "these names]",
            ),
        ),
    )


def import_request(options: Mapping[str, Any], known: ImportRequest) -> ImportRequest:
    """Add these options to a request. Raises `UsageProblem` for a time or a field that there is not."""
    from torchperf_ci.formats.tables import COLUMNS
    from torchperf_ci.history.store import moment_of

    when = moment_of(options["time"]) if options["time"] else None
    if options["time"] and when is None:
        raise UsageProblem(f"--time {options['time']!r}: expected ISO 8601, say 2026-11-28T13:00:00+00:00")
    columns: dict[str, list[str]] = {}
    for name, column in options["column"]:
        if name not in COLUMNS:
            raise UsageProblem(f"--column {name}={column}: {name!r} is no field; there are {', '.join(COLUMNS)}")
        if name != "value" and name in columns:
            raise UsageProblem(f"--column {name}={column}: {name} has the column {columns[name][0]} already")
        columns.setdefault(name, []).append(column)
    tools = {"bigger": "customBiggerIsBetter", "smaller": "customSmallerIsBetter", None: ""}
    return replace(
        known,
        time=when.isoformat() if when else "",
        tool=tools[options["better"]],
        columns=columns,
    )
