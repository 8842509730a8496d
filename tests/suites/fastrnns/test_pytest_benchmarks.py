"""fastrnns under pytest-benchmark, and the JSON that the uploader takes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Cli = Callable[..., subprocess.CompletedProcess[str]]

SIZES = "seq_length=3,input_size=4,hidden_size=4,mini_batch=2,images=2,image_size=32,min_length=2,max_length=4"


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            *(
                sys.executable,
                "-m",
                "pytest",
                "-p",
                "torchperf_ci.suites.fastrnns.pytest_plugin",
                "-p",
                "no:cacheprovider",
            ),
            *("--pyargs", "torchperf_ci.suites.fastrnns.pytest_benchmarks", *arguments),
        ],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.mark.slow
def test_benchmarks_are_what_the_uploader_takes(cli: Cli, tmp_path: Path) -> None:
    """VariantGroup fastrnns, params net_name, executor and fuser, a test per network and direction, and no warning."""
    nets = ["cudnn", "jit", "vl_py", "resnet18_jit"]
    options = ("--net-sizes", SIZES, "--executor", "legacy", "--fuser", "old", "--benchmark-json", "out.json")
    quickly = ("--benchmark-max-time", "0.1", "--benchmark-min-rounds", "2")
    done = run(tmp_path, "-W", "error", "--nets", *nets, *options, *quickly)
    assert done.returncode == 0, done.stdout + done.stderr
    benchmarks = json.loads((tmp_path / "out.json").read_text())["benchmarks"]
    assert [item["name"] for item in benchmarks] == [
        f"{test}[{net}-legacy-old]" for net in nets for test in ("test_forward", "test_backward")
    ]
    for item in benchmarks:
        assert item["group"] == "fastrnns"
        assert item["params"] == {"net_name": item["params"]["net_name"], "executor": "legacy", "fuser": "old"}
        assert item["params"]["net_name"] in nets
        assert item["stats"]["mean"] > 0
    uploaded = cli("upload", "scribe", "--dry-run", "--pytest-bench-json", str(tmp_path / "out.json"))
    assert uploaded.returncode == 0, uploaded.stderr
    messages = [json.loads(line)["normal"] for line in uploaded.stdout.splitlines()]
    assert [message["benchmark_name"] for message in messages][:2] == ["test_forward[cudnn]", "test_backward[cudnn]"]
    assert {message["benchmark_fuser"] for message in messages} == {"old"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--net-sizes", "seq=3"), "invalid"),
        (("--net-sizes", "seq_length=0"), "invalid"),
        (("--nets", "lstm"), "invalid choice: 'lstm'"),
    ],
)
def test_bad_options_are_usage_errors(tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    """A network or a size that does not exist is pytest's usage error, exit code 4."""
    done = run(tmp_path, "--collect-only", *arguments)
    assert done.returncode == 4
    assert message in done.stderr
