"""`torchperf-ci doctor`: how noisy and how ready this machine is."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from typing import TYPE_CHECKING, Any

import click

from torchperf_ci.cli.options import command, option
from torchperf_ci.core.errors import ExitCode, TorchperfError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torchperf_ci.doctor.findings import Finding
    from torchperf_ci.doctor.survey import Sight


@command(short_help="Say how noisy and how ready this machine is.")
@option("--python", default=sys.executable, show_default="this one", help="The Python to measure; it needs torch.")
@option("--threads", "-t", type=click.IntRange(min=1), help="Threads of torch for --measure.")
@option("--device", help="The device for --measure: cpu, cuda, cuda:1, …  [default: the accelerator, else the CPU]")
@option("--measure", is_flag=True, help="Compare equal code for 30 s, and say how small a change can be seen.")
@option("--json", "as_json", is_flag=True, help="Print JSON.")
@option("--strict", is_flag=True, help="Exit with 3 when there is a problem.")
def doctor(*, python: str, threads: int | None, device: str | None, measure: bool, as_json: bool, strict: bool) -> int:
    """Say how noisy and how ready this machine is for measuring, with advice.

    Exit code 0, whatever is found, unless --strict is given or --measure cannot measure.
    """
    from torchperf_ci.cli.interrupt import Interrupted, interrupted, signals_interrupt
    from torchperf_ci.doctor.findings import Level, findings
    from torchperf_ci.doctor.survey import SECONDS, read_facts
    from torchperf_ci.doctor.survey import measure as measure_equal_code

    try:
        with signals_interrupt():
            facts = read_facts(python, os.environ)
            found = findings(facts)
            sight, problem = None, None
            if measure and facts.accelerator_problem and device is None:
                click.echo("Nothing is measured without the accelerator; --device cpu measures the CPU.", err=True)
            elif measure and facts.torch:
                click.echo(f"Comparing equal code for {SECONDS:.0f} s …", err=True)
                try:
                    sight = measure_equal_code(python, device=device, threads=threads)
                except TorchperfError as error:  # what was found is printed all the same
                    problem = error
    except Interrupted as error:
        return interrupted(error, "Nothing was written.")
    click.echo(_json(facts, found, sight) if as_json else _text(found, sight))
    if problem is not None:
        raise problem
    problems = any(finding.level is Level.PROBLEM for finding in found) or bool(sight and sight.refusals)
    return int(ExitCode.FAILED_CHECK if strict and problems else ExitCode.OK)


def _text(found: Sequence[Finding], sight: Sight | None) -> str:
    signs = {"good": "✅", "note": "▫️", "problem": "❌"}
    lines = []
    for finding in found:
        lines.append(f"{signs[finding.level.value]} {finding.topic}: {finding.what}")
        if finding.advice:
            lines.append(f"     → {finding.advice}")
    return "\n".join([*lines, *(_sight_lines(sight) if sight else [])])


def _sight_lines(sight: Sight) -> list[str]:
    from torchperf_ci.compare.words import change, percent

    span, slow = f"{change(sight.low)} to {change(sight.high)}", percent(round(sight.slow_share, 2))
    seen = f"Equal code in two processes on {sight.device}: {change(sight.ratio)} ({span})"
    return [
        *(f"❌ A comparison would be refused: {refusal}" for refusal in sight.refusals),
        f"{seen}; the machine was in its slow state for {slow}.",
        *(
            f"With {seconds:.0f} s per case, slowdowns from {percent(round(smallest, 3))} on are found 4 times of 5."
            for seconds, smallest in sight.smallest.items()
        ),
    ]


def _json(facts: Any, found: Sequence[Finding], sight: Sight | None) -> str:  # noqa: ANN401 - a dataclass
    document = {
        "v": 1,
        "facts": dataclasses.asdict(facts),
        "findings": [dataclasses.asdict(finding) for finding in found],
        "measured": dataclasses.asdict(sight) if sight else None,
    }
    return json.dumps(document, indent=2, ensure_ascii=False)
