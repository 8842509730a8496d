"""`torchperf-ci doctor`: how noisy and how ready this machine is."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from torchperf_ci.cli.finish import Interrupted, interrupted, signals_interrupt
from torchperf_ci.cli.options import PYTHON, Number, command, command_options, option, takes
from torchperf_ci.core.errors import ExitCode, TorchperfError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torchperf_ci.doctor.survey import Finding, Sensitivity

SIGNS = {"good": "✅", "note": "▫️", "problem": "❌"}


@command_options
class DoctorOptions:
    python: str = PYTHON
    threads: int | None = option("-t", type=click.IntRange(min=1), help="Threads of torch for --measure.")
    device: str | None = option(
        help="The device for --measure: cpu, cuda, cuda:1, …  [default: the accelerator; the CPU where there is no "
        "sign of one]"
    )
    measure: bool = option(help="Compare equal code, and say how small a change can be seen.")
    seconds: float = option(
        type=Number(min=3),
        default=30.0,
        help="Seconds of sampling for --measure; more say more exactly what can be seen.",
    )
    as_json: bool = option("--json", help="Print JSON.")
    strict: bool = option(help="Exit with 3 when there is a problem.")


@command(short_help="Say how noisy and how ready this machine is.")
@takes(DoctorOptions)
def doctor(options: DoctorOptions) -> int:
    """Say how noisy and how ready this machine is for measuring, with advice.

    Exit code 0, whatever is found, unless --strict is given or --measure cannot measure.
    """
    from torchperf_ci.doctor.survey import Severity, list_findings, measure_sensitivity, read_facts

    sensitivity, problem = None, None
    try:
        with signals_interrupt():
            facts = read_facts(options.python, os.environ)
            findings = list_findings(facts)
            if options.measure and facts.accelerator_problem and options.device is None:
                click.echo("Nothing is measured without the accelerator; --device cpu measures the CPU.", err=True)
            elif options.measure and facts.torch:
                click.echo(f"Comparing equal code for {options.seconds:g} s …", err=True)
                try:
                    sensitivity = measure_sensitivity(
                        options.python, device=options.device, threads=options.threads, seconds=options.seconds
                    )
                except TorchperfError as error:  # the findings are printed all the same
                    problem = error
    except Interrupted as error:
        return interrupted(error, "Nothing was written.")
    if options.as_json:
        document = {
            "v": 1,
            "facts": asdict(facts),
            "findings": [asdict(finding) for finding in findings],
            "measured": asdict(sensitivity) if sensitivity else None,
        }
        click.echo(json.dumps(document, indent=2, ensure_ascii=False))
    else:
        click.echo(_describe(findings, sensitivity))
    if problem is not None:
        raise problem
    if sensitivity is None:
        click.echo("--measure compares equal code for a while and says how small a slowdown is found here.", err=True)
    has_problems = any(finding.level is Severity.PROBLEM for finding in findings)
    has_problems = has_problems or bool(sensitivity and sensitivity.refusals)
    if has_problems and not options.strict:
        click.echo("There are problems (❌); with --strict the exit code is 3.", err=True)
    return int(ExitCode.FAILED_CHECK if options.strict and has_problems else ExitCode.OK)


def _describe(findings: Sequence[Finding], sensitivity: Sensitivity | None) -> str:
    from torchperf_ci.compare.words import change, percent

    lines = []
    for finding in findings:
        lines.append(f"{SIGNS[finding.level.value]} {finding.topic}: {finding.what}")
        if finding.advice:
            lines.append(f"     → {finding.advice}")
    if sensitivity is not None:
        lines += [f"❌ A comparison would be refused: {refusal}" for refusal in sensitivity.refusals]
        lines.append(
            f"Two processes of equal code on {sensitivity.device} differ by {change(sensitivity.ratio)} "
            f"({change(sensitivity.low)} to {change(sensitivity.high)}); the machine was slow for "
            f"{percent(round(sensitivity.slow_share, 2))} of the time."
        )
        lines += [
            f"With {seconds:.0f} s per case, a slowdown of {percent(round(smallest, 3))} or more is found 4 times of 5."
            for seconds, smallest in sensitivity.smallest.items()
        ]
    return "\n".join(lines)
