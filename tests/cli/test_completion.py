"""A shell completes the values that a person would have to look up, without importing torch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from torchperf_ci.cli.case_options import COMPILERS, DTYPES
from torchperf_ci.worker.compile import compiler_names
from torchperf_ci.worker.load import DTYPES as WORKER_DTYPES

BENCH = """
import a_library_nobody_has

def encoder(batch_size): ...
def decoder(batch_size): ...
def helper(name): ...
MODELS = {f.__name__: f for f in (encoder, decoder)}
"""
NAMED = BENCH + "MODELS = {'first': encoder, 'second': decoder}\n"


@pytest.mark.parametrize(
    ("line", "values"),
    [
        ("run --suites t", ["tiny", "timm_models", "torchbench"]),
        ("run --compilers eager,inductor_m", ["inductor_max_autotune", "inductor_max_autotune_no_cudagraphs"]),
        ("compare --devices c", ["cpu", "cuda"]),
        ("run --dtypes b", ["bfloat16"]),
        ("run -k m", ["mlp"]),
        ("run --suites huggingface --exclude DistilB", ["DistilBertForMaskedLM"]),
        ("run --suites bench.py -k ", ["encoder", "decoder"]),
        ("run --suites named.py,fastrnns -x s", ["second"]),
        ("suites list fast", ["fastrnns"]),
    ],
)
def test_values_are_completed(tmp_path: Path, line: str, values: list[str]) -> None:
    """By bash's protocol; of a list with commas the last value, and models of the suites that are typed already."""
    (tmp_path / "bench.py").write_text(BENCH)
    (tmp_path / "named.py").write_text(NAMED)
    words = f"torchperf-ci {line}"
    number = len(words.split()) - (not words.endswith(" "))
    variables = {"_TORCHPERF_CI_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(number)}
    process = subprocess.run(
        [sys.executable, "-m", "torchperf_ci"],
        env={**os.environ, **variables},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    completed = [each.removeprefix("plain,").rpartition(",")[2] for each in process.stdout.split()]
    assert completed == values


def test_the_names_are_those_of_the_worker() -> None:
    """What is offered is there."""
    assert set(COMPILERS) <= set(compiler_names())
    assert DTYPES == WORKER_DTYPES
