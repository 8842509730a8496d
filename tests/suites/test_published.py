"""What the suites of published models share: data files, batch sizes that fit, packages they need."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torchperf_ci.suites import SHARING_VARIABLE
from torchperf_ci.suites.published import (
    DATA,
    SuiteTolerances,
    device_memory_gb,
    fitting_batch_size,
    missing_package,
    read_json,
    read_rows,
    read_skips,
    read_tolerances,
)

SUITES = ("huggingface", "timm_models", "torchbench")
NAMES: dict[str, Callable[[], set[str]]] = {
    "huggingface": lambda: set(read_json("huggingface")["models"]),
    "timm_models": lambda: {row["name"] for row in read_rows("timm_models.csv")},
}


@pytest.mark.parametrize("suite", SUITES)
def test_every_skip_names_a_device_a_mode_and_a_reason_that_people_can_read(suite: str) -> None:
    """A skip without a reason, for an unknown device or mode, or told twice is a mistake in the file."""
    skips = read_skips(suite)
    assert all(skip.reason and skip.model for skip in skips)
    assert {skip.device for skip in skips} <= {None, "cpu", "cuda", "xpu", "mps"}
    assert {skip.mode for skip in skips} <= {None, "inference", "training"}
    keys = [(skip.model, skip.device, skip.mode) for skip in skips]
    assert len(keys) == len(set(keys))


@pytest.mark.parametrize("suite", sorted(NAMES))
def test_skips_and_tolerances_are_about_models_of_the_suite(suite: str) -> None:
    """A name that the suite does not have (any more) would silently do nothing."""
    told = {skip.model for skip in read_skips(suite)} | {
        row["name"] for row in read_tolerances(suite).rows if row["name"]
    }
    assert told <= NAMES[suite]()


@pytest.mark.parametrize(
    ("suite", "model", "mode", "dtype", "expected"),
    [
        ("huggingface", "AlbertForMaskedLM", "inference", "float32", 1e-3),
        ("huggingface", "AlbertForMaskedLM", "training", "float32", 1e-2),
        ("huggingface", "MT5ForConditionalGeneration", "training", "amp", 2e-2),
        ("timm_models", "inception_v3", "inference", "float32", 1e-3),
        ("timm_models", "inception_v3", "training", "float32", 4e-2),
        ("timm_models", "resnet18", "training", "float32", 1e-2),
        ("torchbench", "resnet50", "inference", "float32", 1e-4),
        ("torchbench", "resnet50", "training", "float16", 1e-3),
        ("torchbench", "yolov3", "training", "float32", 8e-2),
        ("torchbench", "drq", "inference", "amp", 1e-2),
    ],
)
def test_tolerances_are_those_of_pytorchs_suites(
    suite: str, model: str, mode: str, dtype: str, expected: float
) -> None:
    """The suite's own tolerance holds, and a model's own where it has one."""
    assert read_tolerances(suite).tolerance(model, mode, dtype) == expected


@pytest.mark.parametrize("suite", SUITES)
@pytest.mark.parametrize("mode", ["inference", "training"])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "amp"])
def test_there_is_a_tolerance_for_every_case(suite: str, mode: str, dtype: str) -> None:
    """No mode and precision is left without one."""
    assert 0 < read_tolerances(suite).tolerance("a model of tomorrow", mode, dtype) < 1


def test_the_last_rule_that_applies_holds() -> None:
    """A rule for a model stands behind the general one and wins; cosine similarity is by model."""
    every = {"name": "", "mode": "", "dtype": "", "tolerance": "1e-3", "cosine": ""}
    table = SuiteTolerances(
        rows=(every, every | {"name": "a", "mode": "training", "tolerance": "0.5", "cosine": "yes"})
    )
    assert table.tolerance("a", "training", "float32") == 0.5
    assert table.tolerance("a", "inference", "float32") == table.tolerance("b", "training", "float32") == 1e-3
    assert (table.use_cosine("a"), table.use_cosine("b")) == (True, False)


def test_skips_stand_in_data_files_alone() -> None:
    """No suite's code holds a skip."""
    for suite in SUITES:
        code = (Path(DATA).parent / f"{suite}.py").read_text(encoding="utf-8")
        assert not re.search(r"\bSkip\(", code)


SIZES = st.integers(1, 1024)
MEMORY = st.floats(0.5, 200, allow_nan=False)


@given(SIZES, MEMORY)
def test_a_device_with_enough_memory_gets_the_published_size(published: int, memory: float) -> None:
    """More memory does not change what is measured."""
    assert fitting_batch_size(published, reference_gb=memory, memory_gb=memory) == published
    assert fitting_batch_size(published, reference_gb=memory, memory_gb=2 * memory) == published


@given(SIZES, MEMORY, st.floats(0.01, 0.99))
def test_less_memory_gets_a_power_of_two_of_at_least_one_within_its_share(
    published: int, reference: float, share: float
) -> None:
    """The size is never above the device's share of the published one, except that it is at least one."""
    size = fitting_batch_size(published, reference_gb=reference, memory_gb=share * reference)
    assert size >= 1
    assert size & (size - 1) == 0
    assert size == 1 or size <= published * share * (1 + 1e-9)


def test_a_cpus_memory_is_that_of_the_machine() -> None:
    """The CPU has the machine's memory, in 10⁹ bytes."""
    assert 0.1 < device_memory_gb("cpu") < 1e5


def test_two_sides_of_a_comparison_share_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each has half of it."""
    whole = device_memory_gb("cpu")
    monkeypatch.setenv(SHARING_VARIABLE, "2")
    assert device_memory_gb("cpu") == whole / 2


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a package `ancientpkg` 1.9.3rc1, as an installer leaves it, on the path."""
    (tmp_path / "ancientpkg").mkdir()
    (tmp_path / "ancientpkg" / "__init__.py").write_text("raise RuntimeError('it was imported')\n")
    about = tmp_path / "ancientpkg-1.9.3rc1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: ancientpkg\nVersion: 1.9.3rc1\n")
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_an_absent_package_is_told_with_the_command_that_installs_it() -> None:
    """The command is that of the very Python that lacks it, ready for a shell."""
    assert missing_package("no_such_package", minimum="4.44") == (
        f"no_such_package is not installed in this Python; "
        f"{shlex.quote(sys.executable)} -m pip install 'no_such_package>=4.44'"
    )


@pytest.mark.usefixtures("installed")
def test_a_package_that_is_too_old_is_told_with_both_versions() -> None:
    """1.9.3 is older than 1.10, number by number."""
    assert missing_package("ancientpkg", minimum="1.10") == (
        f"ancientpkg 1.9.3rc1 is too old, 1.10 is needed; "
        f"{shlex.quote(sys.executable)} -m pip install 'ancientpkg>=1.10'"
    )


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("minimum", ["1.9", "1.9.3", "1.2.77"])
def test_a_package_that_is_new_enough_is_fine_and_is_not_imported(minimum: str) -> None:
    """Asking costs no import."""
    assert missing_package("ancientpkg", minimum=minimum) is None
    assert "ancientpkg" not in sys.modules
