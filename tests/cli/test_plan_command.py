"""`torchperf-ci plan` as a workflow calls it: a matrix on stdout, what is known about it on stderr."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fakes.artifacts import record, records_file, zipped
from fakes.github_server import FakeGitHub
from torchperf_ci.core.records import Source
from torchperf_ci.core.results import open_folder

Call = Callable[..., Any]
SUITE = """
def model(batch_size):
    raise NotImplementedError

MODELS = {name: model for name in ("slow", "one two", "quick", "a")}
QUICK = ("^quick$",)
"""


@pytest.fixture
def cli(in_process: Call, tmp_path: Path) -> Call:
    """The command line in a folder with two suites that have models of the same names."""
    for name in ("first.py", "second.py", "my suite.py"):
        (tmp_path / name).write_text(SUITE)
    return functools.partial(in_process, cwd=tmp_path)


def test_a_plan_is_balanced_and_names_models_exactly(cli: Call, tmp_path: Path) -> None:
    """Suites as they were typed; known durations from results folders; lists and runners from the environment."""
    with open_folder(tmp_path / "earlier") as folder:
        slow = record("slow")
        folder.append(replace(slow, seconds=90.0, case=replace(slow.case, suite="first")))
        quick = record("quick")
        folder.append(replace(quick, seconds=10.0, case=replace(quick.case, suite="first")))
    outputs = tmp_path / "outputs"
    env = {
        "TORCHPERF_SUITES": "first.py second.py",
        "TORCHPERF_MODE": "inference",
        "TORCHPERF_FILTER": "^first/ ^second/one",
        "TORCHPERF_EXCLUDE": "a",
        "TORCHPERF_RUNNER": "cpu=ubuntu-latest\ncuda=self-hosted, gpu\n",
        "TORCHPERF_SHARDS": "2",
        "TORCHPERF_DURATIONS": str(tmp_path / "earlier"),
        "GITHUB_OUTPUT": str(outputs),
    }
    done = cli("plan", "--github-files", env=env)
    assert (done.returncode, done.stderr.splitlines()) == (
        0,
        [
            "results-cpu: 4 models in 2 shards, about 100 s each",
            "results-cuda: 4 models in 2 shards, about 100 s each",
        ],
    )
    entries = json.loads(done.stdout)["include"]
    assert [(each["name"], each["shard"], each["runs-on"]) for each in entries] == [
        ("results-cpu", "1-2", ["ubuntu-latest"]),
        ("results-cpu", "2-2", ["ubuntu-latest"]),
        ("results-cuda", "1-2", ["self-hosted", "gpu"]),
        ("results-cuda", "2-2", ["self-hosted", "gpu"]),
    ]
    assert entries[0] == {
        "name": "results-cpu",
        "shard": "1-2",
        "suites": "first.py",
        "filter": r"^first/slow\Z ^first/quick\Z",
        "device": "cpu",
        "runs-on": ["ubuntu-latest"],
        "seconds": 100,
    }
    assert entries[1]["filter"] == r"^first/one\U00000020two\Z ^second/one\U00000020two\Z"
    assert done.stdout.strip() in outputs.read_text()
    assert "jobs<<" in outputs.read_text()


def test_durations_from_github_are_used_when_they_can_be_had(cli: Call) -> None:
    """Else the plan is made without, and says so."""
    asked = ("plan", "--inference", "--suites", "first.py", "--quick", "--durations-artifact", "nightly")
    with FakeGitHub() as server:
        without = cli(*asked, env=server.environ)
        slow = record("quick")
        content = records_file(replace(slow, seconds=42.0, case=replace(slow.case, suite="first")))
        server.add_artifact(server.add_run(), "nightly", zipped({"records.jsonl": content}))
        known = cli(*asked, env=server.environ)
    warning, summary = without.stderr.splitlines()
    assert warning.startswith("Warning: no durations from the artifact nightly: no run of main")
    assert summary == "results: 1 model in 1 shard"
    assert known.stderr.splitlines() == ["results: 1 model in 1 shard, about 42 s"]
    assert json.loads(known.stdout)["include"][0]["seconds"] == 42


def test_durations_from_the_history_are_used_when_there_are_any(cli: Call, tmp_path: Path) -> None:
    """Of the series of that name; of several runs the newest that measured a model."""
    asked = ("plan", "--inference", "--suites", "first.py", "--quick", "--name", "night", "--history", "kept")
    without = cli(*asked)
    for day, seconds in enumerate([7.0, 42.0]):
        slow, source = record("quick"), Source(run_id=str(day), time=f"2026-10-0{day + 1}T03:00:00+00:00")
        made = replace(slow, seconds=seconds, case=replace(slow.case, suite="first"), source=source)
        folder = tmp_path / f"run{day}"
        folder.mkdir()
        (folder / "records.jsonl").write_text(records_file(made))
        cli("history", "import", str(folder), "--name", "night", "--history", "kept")
    known = cli(*asked)
    assert without.stderr.splitlines() == [
        "Warning: no durations: the history has no runs named night; see --name",
        "night: 1 model in 1 shard",
    ]
    assert known.stderr.splitlines() == ["night: 1 model in 1 shard, about 42 s"]
    fetched = cli("plan", "--name", "night", "--history", "kept", "--fetch-durations", "fetched")
    assert (fetched.returncode, fetched.stdout) == (0, "")
    given = cli("plan", "--inference", "--suites", "first.py", "--quick", "--name", "night", "--durations", "fetched")
    assert given.stdout == known.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--inference", "--runner", "cpu="), "--runner cpu= names no runner; say cpu=ubuntu-latest"),
        (("--inference", "--runner", "ubuntu-latest"), "'ubuntu-latest' is not KEY=VALUE"),
        (("--inference", "--shards", "257"), "257 is not in the range 1<=x<=256"),
        (("--suites", "first.py"), "give exactly one of --inference and --training"),
        (("--inference", "--suites", "my suite.py"), "a list of suites is split there"),
        (("--inference", "--suites", "first.py", "--exclude", "slo"), "Did you mean slow?"),
    ],
)
def test_what_cannot_be_planned_is_refused(cli: Call, arguments: tuple[str, ...], message: str) -> None:
    """With exit code 2 and nothing on stdout."""
    done = cli("plan", *arguments)
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert message in done.stderr
