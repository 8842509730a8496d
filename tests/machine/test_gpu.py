"""What readings of a GPU mean, which GPU a device is, and who else is on it: on output as nvidia-smi writes it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from torchperf_ci.machine.accelerators import Accelerator
from torchperf_ci.machine.gpu import (
    GpuFindings,
    Occupancy,
    Reading,
    find_gpu,
    judge_gpu,
    parse_listing,
    parse_occupancy,
    parse_readings,
    watched_gpu,
)

CALM = "1980, 0x0000000000000000, 99\n"
IDLE = "345, 0x0000000000000001, 0\n"

LISTING = """GPU 0: NVIDIA RTX A2000 (UUID: GPU-aaaa1111-0000-0000-0000-000000000000)
GPU 1: NVIDIA H100 80GB HBM3 (UUID: GPU-bbbb2222-0000-0000-0000-000000000000)
  MIG 1g.10gb     Device  0: (UUID: MIG-cccc3333-0000-0000-0000-000000000000)
  MIG 1g.10gb     Device  1: (UUID: MIG-dddd4444-0000-0000-0000-000000000000)
GPU 2: NVIDIA H100 80GB HBM3 (UUID: GPU-bbbb9999-0000-0000-0000-000000000000)
"""


def judged(text: str, **before: object) -> GpuFindings:
    return judge_gpu(parse_readings(text), Occupancy(**before))  # type: ignore[arg-type]


def named(device: str, environ: dict[str, str], *, uuid: str = "", listing: str = LISTING) -> str:
    accelerators = [Accelerator(device=device, name="GPU", uuid=uuid)]
    gpu = find_gpu(device, accelerators, parse_listing(listing), environ)
    return gpu.name[:8] + (" slice" if gpu.is_slice else "") if gpu else ""


def test_readings_are_parsed_as_nvidia_smi_writes_them() -> None:
    """Clocks and loads that a GPU does not tell are absent; lines that are no readings are left out."""
    text = "1980, 0x0000000000000004, 55\n[N/A], 0x0000000000000000, [N/A]\n\nNo devices were found\n"
    assert parse_readings(text) == [
        Reading(clock=1980.0, reasons=4, load=55.0),
        Reading(clock=None, reasons=0, load=None),
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
    hot = f"1900, {bits}, 90\n"
    assert judged(CALM * 15 + hot * 5).refusals == (f"the GPU was throttled in 25 % of the readings: {words}",)
    assert judged(CALM * 19 + hot).refusals == ()


def test_a_sagging_clock_is_refused() -> None:
    """Against the highest one that was seen: a clock that is locked far below the default does not sag."""
    text = "1980, 0x0, 80\n" * 5 + "1300, 0x0, 80\n" * 5
    assert judged(text).refusals == ("the GPU's clock sagged to 1300 MHz in 50 % of the readings",)
    assert judged("1200, 0x0, 80\n" * 10) == GpuFindings()


def test_clocks_are_compared_only_under_load() -> None:
    """While a model compiles the GPU waits, at a low clock, without calling itself idle."""
    assert judged(CALM * 5 + "600, 0x0, 0\n" * 50) == GpuFindings()
    assert judged(CALM * 5 + "600, 0x0000000000000040, 3\n" * 50) == GpuFindings()
    assert judged(CALM * 5 + "600, 0x0, [N/A]\n" * 50).refusals != ()


def test_a_power_limit_is_a_remark() -> None:
    """It is how many GPUs usually run."""
    found = judged("1900, 0x0000000000000004, 100\n" * 10)
    assert found == GpuFindings(remarks=("the GPU reached its power limit in 100 % of the readings",))


def test_another_process_is_refused_by_name() -> None:
    """The name is from outside: one line, not too long."""
    before = parse_occupancy(
        "4711, /usr/bin/python3, 400\n12, evil\x1b[2J, [N/A]\n[Insufficient Permissions]\n", "9000, Disabled\n"
    )
    assert judge_gpu([], before).refusals == (
        "another process uses the GPU: /usr/bin/python3 (4711), evil\N{REPLACEMENT CHARACTER}[2J (12)",
    )


def test_memory_of_nobody_is_somebodys() -> None:
    """In a container nvidia-smi lists no process of another one; what a driver takes for itself is less."""
    hidden = judge_gpu([], parse_occupancy("", "30100, Disabled\n"))
    assert "30100 MiB" in hidden.refusals[0]
    assert judge_gpu([], parse_occupancy("", "450, Disabled\n")) == GpuFindings()
    assert judge_gpu([], parse_occupancy("", "[N/A], [N/A]\n")) == GpuFindings()
    known = parse_occupancy("4711, python, 30000\n", "30100, Disabled\n")
    assert len(judge_gpu([], known).refusals) == 1


def test_an_mps_server_is_no_foreign_work() -> None:
    """It is there as long as the service is; whose clients work does not show, which is remarked on."""
    before = parse_occupancy("77, nvidia-cuda-mps-server, 30\n", "60, Disabled\n")
    found = judge_gpu([], before)
    assert found.refusals == ()
    assert "MPS" in found.remarks[0]


def test_work_on_another_slice_is_a_remark() -> None:
    """A MIG slice shares memory bandwidth with others, and no processor."""
    for before in (
        parse_occupancy("4711, python, 400\n", "9000, Enabled\n"),
        parse_occupancy("4711, python, 400\n", "9000, [N/A]\n", is_slice=True),
    ):
        found = judge_gpu([], before)
        assert found.refusals == ()
        assert "python (4711)" in found.remarks[0]


def test_the_gpu_is_the_one_that_the_worker_reports() -> None:
    """By UUID, however the variables renumber devices; a slice belongs to its GPU."""
    assert named("cuda", {}, uuid="bbbb2222-0000-0000-0000-000000000000") == "GPU-bbbb"
    assert named("cuda", {"CUDA_VISIBLE_DEVICES": "0"}, uuid="aaaa1111-0000-0000-0000-000000000000") == "GPU-aaaa"
    assert named("cuda", {}, uuid="MIG-dddd4444-0000-0000-0000-000000000000") == "GPU-bbbb slice"
    assert named("cuda", {}, uuid="eeee0000-0000-0000-0000-000000000000") == ""


def test_without_a_reported_uuid_only_what_is_sure_is_watched() -> None:
    """CUDA puts the fastest GPU first unless it is told otherwise, so an index is nvidia-smi's if all are alike."""
    alike = LISTING.replace("RTX A2000", "H100 80GB HBM3")
    assert named("cuda:1", {}) == ""
    assert named("cuda:1", {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}) == "GPU-bbbb"
    assert named("cuda", {}, listing=alike) == "GPU-aaaa"
    assert named("cuda", {"CUDA_VISIBLE_DEVICES": "GPU-aaaa"}) == "GPU-aaaa"
    assert named("cuda", {"CUDA_VISIBLE_DEVICES": "GPU-bbbb"}) == "", "two begin like this"
    assert named("cuda:1", {"CUDA_VISIBLE_DEVICES": "0,MIG-dddd"}) == "GPU-bbbb slice"
    assert named("cuda:1", {"CUDA_VISIBLE_DEVICES": "0"}) == ""


SMI = """#!/bin/sh
case "$*" in
  -L) echo "GPU 0: NVIDIA H100 (UUID: GPU-aaaa)"; echo "GPU 1: NVIDIA H100 (UUID: GPU-bbbb)";;
  *clocks_event_reasons*) echo "Field is not valid"; exit 2;;
  *-i\\ GPU-bbbb*query-compute-apps*) echo "4711, python, 300";;
  *-i\\ GPU-bbbb*memory.used*) echo "400, Disabled";;
  *-i\\ GPU-bbbb*-lms*) while true; do echo "1300, 0x0000000000000020, 100"; sleep 0.05; done;;
  *-i\\ GPU-bbbb*) echo "1980, 0x0000000000000000, 100";;
esac
"""


def test_a_gpu_is_watched_while_a_case_runs(
    nvidia_smi: Callable[[str], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a field's older name where the driver has no newer one. A CPU is not watched, and no driver is no error."""
    nvidia_smi(SMI)
    accelerators = [Accelerator(device="cuda:0", name="H100", uuid="bbbb")]
    with watched_gpu("cuda", accelerators=accelerators) as watch:
        while not watch.findings().refusals[1:]:
            time.sleep(0.05)
        so_far = watch.findings()
    assert "software thermal slowdown" in so_far.refusals[1]
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


def test_an_amd_gpu_is_read_from_sysfs(tmp_path: Path) -> None:
    """By the bus address that torch reports: memory in use before, clocks under load."""
    folder = tmp_path / "sys/bus/pci/devices/0000:c1:00.0"
    folder.mkdir(parents=True)
    (folder / "mem_info_vram_used").write_text(f"{3 << 30}\n")
    (folder / "gpu_busy_percent").write_text("97\n")
    (folder / "pp_dpm_sclk").write_text("0: 500Mhz\n1: 1800Mhz *\n2: 2100Mhz\n")
    accelerators = [Accelerator(device="cuda:0", name="AMD Instinct MI300X", pci="00000000:c1:00.0")]
    with watched_gpu("cuda", accelerators=accelerators, root=tmp_path) as watch:
        while not watch.readings:
            time.sleep(0.05)
    assert watch.readings[0] == Reading(clock=1800.0, reasons=0, load=97.0)
    assert "3072 MiB" in watch.findings().refusals[0]


def test_a_gpu_that_cannot_be_told_is_said(nvidia_smi: Callable[[str], None]) -> None:
    """Another one's clocks are never taken for its own."""
    nvidia_smi(SMI)
    with watched_gpu("cuda", accelerators=[Accelerator(device="cuda:0", name="H100", uuid="cccc")]) as watch:
        pass
    assert watch.findings().refusals == ()
    assert "could not be told" in watch.findings().remarks[0]
