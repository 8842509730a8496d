"""What readings of a GPU mean, on readings as nvidia-smi writes them."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from torchperf_ci.bench.gpu import GpuFindings, Reading, gpu_of, judge_gpu, parse_processes, parse_readings, watched_gpu

CALM = "1980, 0x0000000000000000\n"
IDLE = "345, 0x0000000000000001\n"


def judged(text: str, *foreign: str) -> GpuFindings:
    return judge_gpu(parse_readings(text), foreign)


def test_readings_are_parsed_as_nvidia_smi_writes_them() -> None:
    """Clocks that a GPU does not tell are absent; lines that are no readings are left out."""
    text = "1980, 0x0000000000000004\n[N/A], 0x0000000000000000\n\nNo devices were found\n"
    assert parse_readings(text) == [
        Reading(clock=1980.0, reasons=4),
        Reading(clock=None, reasons=0),
    ]


def test_a_calm_gpu_is_not_remarked_on() -> None:
    """Nor one that idles in between at a low clock, nor one that nothing is known about."""
    assert judged(CALM * 20 + IDLE * 20) == GpuFindings()
    assert judged("") == GpuFindings()


@pytest.mark.parametrize(
    ("bits", "words"),
    [
        ("0x0000000000000008", "hardware slowdown"),
        ("0x0000000000000020", "software thermal slowdown"),
        ("0x0000000000000048", "hardware slowdown, hardware thermal slowdown"),
        ("0x0000000000000080", "power brake"),
    ],
)
def test_a_throttled_gpu_is_refused(bits: str, words: str) -> None:
    """With the reason and how often; a single moment is no reason."""
    hot = f"1900, {bits}\n"
    assert judged(CALM * 15 + hot * 5).refusals == (f"the GPU was throttled in 25 % of the readings: {words}",)
    assert judged(CALM * 19 + hot).refusals == ()


def test_a_sagging_clock_is_refused() -> None:
    """Against the highest one that was seen: a clock that is locked far below the default does not sag."""
    text = "1980, 0x0\n" * 5 + "1300, 0x0\n" * 5
    assert judged(text).refusals == ("the GPU's clock sagged to 1300 MHz in 50 % of the readings",)
    assert judged("1200, 0x0\n" * 10) == GpuFindings()


def test_a_power_limit_is_a_remark() -> None:
    """It is how many GPUs usually run."""
    found = judged("1900, 0x0000000000000004\n" * 10)
    assert found == GpuFindings(remarks=("the GPU reached its power limit in 100 % of the readings",))


def test_another_process_is_refused_by_name() -> None:
    """The name is from outside: one line, not too long."""
    foreign = parse_processes("4711, /usr/bin/python3\n12, evil\x1b[2J\n[Insufficient Permissions]\n")
    assert judged(CALM, *foreign).refusals == (
        "another process uses the GPU: /usr/bin/python3 (4711), evil\N{REPLACEMENT CHARACTER}[2J (12)",
    )


def test_the_gpu_is_the_one_that_cuda_sees() -> None:
    """By number, or by what CUDA_VISIBLE_DEVICES has in its place."""
    assert gpu_of("cuda", {}) == "0"
    assert gpu_of("cuda:1", {}) == "1"
    assert gpu_of("cuda:1", {"CUDA_VISIBLE_DEVICES": "3,GPU-ab12"}) == "GPU-ab12"


SMI = """#!/bin/sh
case "$*" in
  *clocks_event_reasons*) echo "Field is not valid"; exit 2;;
  *query-compute-apps*) echo "4711, python";;
  *-lms*) while true; do echo "1300, 0x0000000000000020"; sleep 0.05; done;;
  *) echo "1980, 0x0000000000000000";;
esac
"""


def test_a_gpu_is_watched_while_a_case_runs(
    nvidia_smi: Callable[[str], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a field's older name where the driver has no newer one. A CPU is not watched, and no driver is no error."""
    nvidia_smi(SMI)
    with watched_gpu("cuda") as watch:
        time.sleep(0.5)
    refusals = watch.findings().refusals
    assert refusals[0] == "another process uses the GPU: python (4711)"
    assert any("software thermal slowdown" in refusal for refusal in refusals)
    with watched_gpu("cpu") as watch:
        pass
    assert watch.findings() == GpuFindings()
    monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))
    with watched_gpu("cuda") as watch:
        pass
    assert watch.findings() == GpuFindings()
