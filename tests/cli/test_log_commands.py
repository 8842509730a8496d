"""Every command that prints text from outside, with workflow commands and escapes in it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fakes.artifacts import record, records_file
from torchperf_ci.core.records import Environment, Source, Status, Testing

Call = Callable[..., Any]
EVIL = "m\n::error::pwned ##[error]pwned \x1b[31m\x1b]8;;http://evil\x07"


def hostile(name: str = EVIL) -> str:
    """Results whose every text is hostile."""
    made = record("mlp", Status.CRASHED, metrics={"speedup": 1.5})
    where = Source(repository="a/b", commit="c" * 40, branch=EVIL, time="2026-01-02T03:04:05+00:00", run_id="7")
    machine = Environment(cpu=EVIL, gpu=EVIL, torch=EVIL, host=EVIL)
    case = replace(made.case, model=name, compiler="inductor", suite="tiny")
    told = replace(made, case=case, reason=EVIL, source=where, environment=machine)
    fast = replace(told, testing=Testing.PERFORMANCE, status=Status.PASS)
    return records_file(told, fast) + f'{{"type": "{EVIL!r}"}}\n' + "::error::pwned\n##[error]pwned\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "records.jsonl").write_text(hostile())
    (tmp_path / "evil.json").write_text(json.dumps({"machine_info": {}, "benchmarks": [{"name": EVIL, "stats": EVIL}]}))
    (tmp_path / "torchperf.toml.evil").write_text('["m\\n::error::pwned ##[error]"]\n')
    (tmp_path / "expected").mkdir()
    table = "name,accuracy,graph_breaks\nm\r::error::pwned##[error],pass,0\n"
    (tmp_path / "expected" / "inductor_tiny_float32_inference_cpu_accuracy.csv").write_text(table)
    return tmp_path


COMMANDS: tuple[tuple[str, ...], ...] = (
    ("report", "one", "--output-dir", "out"),
    ("merge", "one", "two", "--output-dir", "out"),
    ("compare", "one", "two", "--output-dir", "out"),
    ("compare", "--upstream", EVIL, "--base-ref", EVIL, "--inference"),
    ("check", "all", "one", "--expected-dir", "expected"),
    ("check", "all", "one", "--expected-dir", "expected", "--annotate"),
    ("update-expected", "expected", "--results", "one", "--dry-run"),
    ("dashboard", "one", "--history", "history"),
    ("plan", "--filter", EVIL, "--suites", EVIL),
    ("suites", EVIL),
    ("export", "one", "--format", "csv"),
    ("export", "one", "--format", "openmetrics"),
    ("history", "list", EVIL),
    ("ingest", "pytest-benchmark", "evil.json", "--output-dir", "out"),
    ("upload", "hud", "one", "--dry-run"),
    ("post", EVIL, "--repo", EVIL),
    ("run", "--suites", EVIL, "--inference"),
    ("--config", "torchperf.toml.evil", "report", "one"),
    (EVIL,),
)


@pytest.mark.parametrize(
    "arguments", COMMANDS, ids=lambda arguments: " ".join(arguments)[:30].replace(EVIL[:3], "EVIL")
)
def test_no_command_obeys_what_it_prints(in_process: Call, folder: Path, arguments: tuple[str, ...]) -> None:
    """Neither the runner nor a terminal gets anything to obey, but for the annotations of ours."""
    done = in_process(*arguments, cwd=folder, env={"GITHUB_ACTIONS": "true"})
    for stream in (done.stdout, done.stderr):
        ours = {line for line in stream.split("\n") if re.fullmatch(r"::(?:stop-commands::)?\w{32}(?:::)?", line)}
        if "--annotate" in arguments:
            ours |= {line for line in stream.split("\n") if line.startswith("::error title=")}
        for line in re.split(r"[\r\n]", stream):
            assert line in ours or not line.lstrip().startswith("::"), line
            assert "##[" not in line
        if arguments[0] != "export":
            assert "\x1b" not in stream
    assert done.stdout + done.stderr
