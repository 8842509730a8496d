"""The data files beside the suites."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from torchperf_ci.suites.tables import (
    DATA,
    ToleranceRule,
    Tolerances,
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
        rule.model for rule in read_tolerances(suite).rules if rule.model
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
    every = ToleranceRule(model=None, mode=None, dtype=None, tolerance=1e-3, cosine=False)
    one = ToleranceRule(model="a", mode="training", dtype=None, tolerance=0.5, cosine=True)
    table = Tolerances(rules=(every, one))
    assert table.tolerance("a", "training", "float32") == 0.5
    assert table.tolerance("a", "inference", "float32") == table.tolerance("b", "training", "float32") == 1e-3
    assert (table.use_cosine("a"), table.use_cosine("b")) == (True, False)


def test_skips_stand_in_data_files_alone() -> None:
    """No suite's code holds a skip."""
    for suite in SUITES:
        code = (Path(DATA).parent / f"{suite}.py").read_text(encoding="utf-8")
        assert not re.search(r"\bSkip\(", code)
