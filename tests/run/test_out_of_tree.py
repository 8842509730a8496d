"""A device that another package brings, from torch's own registration to the report; also one that breaks."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from torch.utils import backend_registration

from torchperf_ci.core.records import Build, Record, Testing
from torchperf_ci.core.results import read_results

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not hasattr(backend_registration, "_setup_privateuseone_for_python_backend"),
        reason="this torch registers no device that is written in Python",
    ),
]

DEVICE = Path(__file__).parent / "stand_in_device.py"

ASKED = ("--suites", "tiny", "-k", "^mlp$", "--inference", "--compilers", "aot_eager", "--threads", "1")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder where the package `torch_standin` is installed."""
    site = tmp_path_factory.mktemp("site")
    about = site / "torch_standin-1.5.dist-info"
    about.mkdir(parents=True)
    shutil.copy(DEVICE, site / "torch_standin.py")
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: torch-standin\nVersion: 1.5\n")
    (about / "entry_points.txt").write_text("[torch.backends]\ntorch_standin = torch_standin:_autoload\n")
    return site


@pytest.fixture
def on_stand_in(cli: Callable, site: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """`torchperf-ci` where it is installed; keywords are variables."""
    return lambda *arguments, **variables: cli(*arguments, env={"PYTHONPATH": str(site), **variables})


def measured(folder: Path) -> tuple[Build, dict[Testing, Record]]:
    results = read_results(folder)
    (build,) = results.builds
    return build, {record.testing: record for record in results.records}


def test_it_is_measured_and_named(on_stand_in: Callable, tmp_path: Path) -> None:
    """It is the default device; the record has its name, the build its package's version, and no figure it lacks."""
    out = tmp_path / "out"
    done = on_stand_in("run", *ASKED, "--warmup", "1", "--repeat", "5", "--output-dir", str(out))
    assert done.returncode == 0, done.stderr
    build, records = measured(out)
    assert build.packages["torch-standin"] == "1.5"
    assert {(record.case.device, record.status.value) for record in records.values()} == {("standin", "pass")}
    performance = records[Testing.PERFORMANCE]
    assert (performance.environment.gpu, performance.environment.gpu_count) == ("STANDIN", 1)
    assert len(performance.samples["eager"]) == 5
    assert "eager_device" not in performance.samples
    assert "eager_peak_mem" not in performance.metrics
    assert performance.metrics["compilation_latency"] > 0


def test_its_cache_is_not_called_cold(on_stand_in: Callable, tmp_path: Path) -> None:
    """Torch says nothing about its size: the row fails with that."""
    out = tmp_path / "out"
    done = on_stand_in("run", *ASKED, "--no-accuracy", "--cold-l2", "--output-dir", str(out))
    assert done.returncode == 6
    _, records = measured(out)
    assert "torch does not say how large the L2 cache of standin:0 is" in records[Testing.PERFORMANCE].reason


def test_one_that_breaks_is_lost_and_said_so(on_stand_in: Callable, tmp_path: Path) -> None:
    """Nothing is left out; the doctor names what failed first, not what failed for that, and cannot measure."""
    out = tmp_path / "out"
    done = on_stand_in("run", *ASKED, "--output-dir", str(out), STANDIN_BROKEN="1")
    assert done.returncode == 6
    _, records = measured(out)
    assert {record.status.value for record in records.values()} == {"infra_error"}
    assert all("the device standin was lost" in record.reason for record in records.values())
    assert "left out" not in done.stdout
    doctor = on_stand_in("doctor", "--measure", "--threads", "1", STANDIN_BROKEN="1")
    assert doctor.returncode == 4
    assert doctor.stdout.count("uncorrectable ECC error") == 1
    assert "arithmetic on standin:0" in doctor.stdout
    assert "the device standin was lost" in doctor.stderr


def test_fastrnns_measures_on_it(on_stand_in: Callable) -> None:
    """Where it breaks, the variant is a failure with the reason, and the command ends with 6."""
    asked = ("fastrnns", "--device", "standin:0", "--group", "rnns", "--rnns", "py", "--threads", "1", "--print-json")
    small = ("--nloops", "2", "--warmup", "1", "--seqLength", "3", "--hiddenSize", "8", "--inputSize", "8")
    done = on_stand_in(*asked, *small)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["lstm"]["py"] > 0
    broken = on_stand_in(*asked, *small, STANDIN_BROKEN="1")
    assert broken.returncode == 6
    assert json.loads(broken.stdout)["lstm"]["py"] is None
    assert "failed: RuntimeError: StandIn error: uncorrectable ECC error" in broken.stderr


def test_the_doctor_measures_on_it(on_stand_in: Callable) -> None:
    """Equal code on the device that was asked for."""
    done = on_stand_in("doctor", "--measure", "--device", "standin:0", "--threads", "1", "--seconds", "4", "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["measured"]["device"] == "standin:0"
    assert document["facts"]["accelerators"] == ["standin:0 (STANDIN)"]
