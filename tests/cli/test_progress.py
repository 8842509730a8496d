"""What a person sees of a run: lines in a log, a bar on a terminal."""

from __future__ import annotations

import contextlib
import io
import os
import re
import subprocess
import sys

import pytest

from torchperf_ci.cli.progress import describe, progress_for
from torchperf_ci.core.records import Case, Mode, Record, Status, Testing
from torchperf_ci.run.plan import PlannedCase

CASE = Case(suite="tiny", model="mlp", mode=Mode.INFERENCE, device="cpu", dtype="float32", compiler="inductor")
NUMBERS = {"speedup": 1.2345, "abs_latency": 12.345, "compilation_latency": 3.21}


def record(testing: Testing = Testing.ACCURACY, status: Status = Status.PASS, **more: object) -> Record:
    return Record(case=CASE, testing=testing, status=status, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("records", "line"),
    [
        (
            [
                record(),
                record(Testing.PERFORMANCE, metrics={**NUMBERS, "speedup_low": 1.2, "speedup_high": 1.3}),
            ],
            "pass; 1.234x (1.200 to 1.300), 12.3 ms, compiled in 3.2 s",
        ),
        ([record(Testing.PERFORMANCE, metrics=NUMBERS)], "1.234x, 12.3 ms, compiled in 3.2 s"),
        ([record(Testing.PERFORMANCE, metrics={"abs_latency": 12345.678})], "12,346 ms"),
        (
            [record(status=Status.FAIL_ACCURACY, reason="off by one")],
            "fail_accuracy (accuracy): off by one",
        ),
        ([record(status=Status.PASS_DUE_TO_SKIP, reason="too large")], "skipped: too large"),
        ([record(status=Status.CRASHED), record(Testing.PERFORMANCE, Status.CRASHED)], "crashed"),
        (
            [
                record(status=Status.EAGER_1ST_RUN_FAIL, reason="no x"),
                record(Testing.PERFORMANCE, Status.EAGER_FAIL_TO_RUN, reason="no x"),
            ],
            "eager_1st_run_fail (accuracy); eager_fail_to_run (performance): no x",
        ),
        (
            [record(status=Status.CRASHED, reason="a\n::error::b\x1b[2J")],
            "crashed (accuracy): a ::error::b\N{REPLACEMENT CHARACTER}[2J",
        ),
    ],
)
def test_a_case_is_one_line(records: list[Record], line: str) -> None:
    """Status with its reason, or the numbers; nothing that moves a terminal or starts a line."""
    assert describe(records) == f"tiny/mlp inductor inference float32 cpu: {line}"


def test_a_log_gets_a_line_per_case(capsys: pytest.CaptureFixture[str]) -> None:
    """Numbered, on stderr, after the case has ended; nothing moves."""
    with progress_for(io.StringIO()) as progress:
        progress.begin(total=12, already=3)
        for _ in range(2):
            progress.start(PlannedCase(case=CASE, spec="tiny"))
            progress.finish([record()])
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err == (
        "3 cases are recorded already; 12 left to measure.\n"
        "[ 1/12] tiny/mlp inductor inference float32 cpu: pass\n"
        "[ 2/12] tiny/mlp inductor inference float32 cpu: pass\n"
    )


def test_a_model_that_cannot_be_loaded_says_why_once(capsys: pytest.CaptureFixture[str]) -> None:
    """Not again with every compiler and testing."""
    testings = (Testing.ACCURACY, Testing.PERFORMANCE)
    records = [record(testing, Status.MODEL_FAIL_TO_LOAD, reason="bench.py:5: no tuple") for testing in testings]
    with progress_for(io.StringIO()) as progress:
        progress.begin(total=2, already=0)
        progress.finish(records)
        progress.finish(records)
    first, second = capsys.readouterr().err.splitlines()
    assert first.endswith(": model_fail_to_load: bench.py:5: no tuple")
    assert second.endswith(": model_fail_to_load: as above")


SCRIPT = """
import sys, time
from torchperf_ci.run.plan import PlannedCase
from torchperf_ci.cli.progress import progress_for
from torchperf_ci.core.records import Case, Mode, Record, Status, Testing

case = Case(suite="tiny", model="mlp", mode=Mode.INFERENCE, device="cpu", dtype="float32", compiler="eager")
with progress_for(sys.stderr) as progress:
    progress.begin(total=int(sys.argv[1]), already=2)
    for word in sys.argv[2:]:
        progress.start(PlannedCase(case=case, spec="tiny"))
        if word == "interrupt":
            sys.exit()
        time.sleep(0.6)  # the time left is reckoned once a second
        progress.finish([Record(case=case, testing=Testing.ACCURACY, status=Status(word), reason="why")])
"""
SHOW_CURSOR = "\x1b[?25h"


def on_a_terminal(*arguments: str, **variables: str) -> str:
    """What the script shows on a terminal."""
    ours, theirs = os.openpty()
    environ = {**os.environ, "TERM": "xterm", "NO_COLOR": "", **variables}
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, *arguments], stderr=theirs, stdout=subprocess.DEVNULL, env=environ
    )
    os.close(theirs)
    shown = b""
    with contextlib.suppress(OSError):  # which says that the other end was closed
        while received := os.read(ours, 4096):
            shown += received
    os.close(ours)
    assert process.wait(timeout=60) == 0
    return shown.decode()


def test_a_terminal_gets_a_bar_with_the_case_and_the_time_left() -> None:
    """Of what is left to do; every case leaves a line, red where it did not pass."""
    shown = on_a_terminal("3", "pass", "crashed", "pass")
    assert shown.startswith("2 cases are recorded already; 3 left to measure.\r\n")
    assert re.search(r"\[-+\]  0/3", shown)
    assert "tiny/mlp eager inference float32 cpu" in shown
    assert re.search(r"2/3  00:00:0\d  tiny/mlp", shown)
    lines = re.split("[\r\n]", re.sub(r"\x1b\[[?0-9]*\w", "", shown))
    assert max(len(line) for line in lines if re.search(r"\[[-#]+\]", line)) < 80
    assert re.search(r"\[#+\]  3/3", shown)
    red = "\x1b[31m\x1b[1mtiny/mlp eager inference float32 cpu: crashed (accuracy): why\x1b[0m\r\n"
    assert shown.count(red) == 1
    assert shown.count("tiny/mlp eager inference float32 cpu: pass\r\n") == 2
    assert shown.endswith(SHOW_CURSOR + "\r\n")


@pytest.mark.parametrize("variables", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_nothing_is_coloured_where_nobody_wants_it(variables: dict[str, str]) -> None:
    """NO_COLOR is a convention of terminals."""
    assert "\x1b[31m" not in on_a_terminal("1", "crashed", **variables)


@pytest.mark.parametrize("arguments", [("0",), ("3", "pass", "interrupt")])
def test_the_cursor_is_back_however_it_ends(arguments: tuple[str, ...]) -> None:
    """With nothing to do, and in the middle of it."""
    assert on_a_terminal(*arguments).endswith(SHOW_CURSOR + "\r\n")
