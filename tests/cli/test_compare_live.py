"""`compare` as a user types it: live comparisons end to end, and what it says to requests that cannot be meant."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

Cli = Callable[..., subprocess.CompletedProcess[str]]

SUITE = '''
"""Models that sleep: as long as they say, whatever else the machine does."""
import os, time, torch

class Sleeps(torch.nn.Module):
    def __init__(self, seconds):
        super().__init__()
        self.seconds = seconds
    def forward(self, x):
        time.sleep(self.seconds)
        return x + 1

def sleeping(seconds):
    return lambda batch_size: (Sleeps(seconds), (torch.ones(batch_size or 1),))

def broken(batch_size):
    if os.environ["SIDE"] == "head":
        raise RuntimeError("no such weights")
    return Sleeps(0.005), (torch.ones(1),)

slow = 1.3 if os.environ["SIDE"] == "head" else 1.0
MODELS = {"same": sleeping(0.006), "slower": sleeping(0.006 * slow), "broken": broken}
MODELS["added" if os.environ["SIDE"] == "head" else "gone"] = sleeping(0.006)
METRICS = {"naps": {"unit": "1/s", "direction": "higher"}}

def metrics(model, result, seconds):
    return {"naps": 1 / seconds}
'''
SIDES = ("--base-env", "SIDE=base", "--head-env", "SIDE=head", "--suites", "suite.py", "--inference")
QUICKLY = (
    "--compilers",
    "eager",
    "--devices",
    "cpu",
    "--threads",
    "1",
    "--budget-per-case",
    "3",
    "--launches",
    "2",
    "--output-dir",
    "out",
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "suite.py").write_text(SUITE)
    return tmp_path


def verdicts(folder: Path) -> dict[str, dict[str, Any]]:
    found = json.loads((folder / "out/compare.json").read_text())
    return {c["case"]["model"]: c for c in found["comparisons"] if c["metric"] == "abs_latency"}


@pytest.mark.slow
def test_every_case_gets_its_verdict(cli: Cli, folder: Path) -> None:
    """Equal code is unchanged, 30 % more is found twice, and what fails, is new or is gone is said."""
    limits = ("--margin", "0.1", "--threshold", "0.25")  # a busy machine leaves less than that open
    done = cli("compare", *SIDES, *QUICKLY, *limits, cwd=folder)
    assert done.returncode == 3, done.stderr
    found = verdicts(folder)
    assert {model: c["verdict"] for model, c in found.items()} == {
        "same": "unchanged",
        "slower": "regressed",
        "broken": "failed",
        "added": "new",
        "gone": "missing",
    }
    assert found["slower"]["confirmed"] is True
    assert found["slower"]["low"] < 1.3 < found["slower"]["high"]
    document = json.loads((folder / "out/compare.json").read_text())
    naps = {c["case"]["model"]: c for c in document["comparisons"] if c["metric"] == "naps"}
    assert {model: c["verdict"] for model, c in naps.items()} == {"same": "unchanged", "slower": "regressed"}
    assert naps["slower"]["confirmed"] is True
    assert naps["slower"]["again"]["verdict"] == "regressed"
    assert naps["slower"]["p"] < 1e-3
    assert found["broken"]["confirmed"] is True
    assert "no such weights" in found["broken"]["why"]
    assert done.stdout.startswith("❌ 1 of 5 cases fails on head: suite/broken eager (")
    assert "; 1 case is slower: suite/slower eager (+" in done.stdout.splitlines()[0]
    assert (
        (folder / "out/compare.md").read_text().startswith("## ❌ 1 of 5 cases fails on head: `suite/broken eager` (")
    )
    assert f"The report is {Path('out/compare.html')}" in done.stderr
    log = found["broken"]["log"]
    assert "no such weights" in (folder / "out" / log).read_text()


@pytest.mark.slow
@pytest.mark.parametrize("interleave", ["block", "launch"])
def test_equal_code_passes_in_every_order(cli: Cli, folder: Path, interleave: str) -> None:
    """In blocks, and one launch after the other, where the limits are wider."""
    limits = ("--filter", "same", "--interleave", interleave, "--threshold", "0.2", "--launches", "2")
    done = cli("compare", *SIDES, *QUICKLY, *limits, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert verdicts(folder)["same"]["verdict"] == "unchanged"
    (measured,) = json.loads((folder / "out/compare.json").read_text())["measured"]
    assert set(measured["host"]) == {"load", "steal", "pressure"}


FAILING = '''
"""Models that fail on both sides alike, at different moments, and one of each that fails on one side alone."""
import os, time, torch

class Hangs(torch.nn.Module):
    def forward(self, x):
        time.sleep(600)

class Fails(torch.nn.Module):
    """Fails in call `at`, or dies in it."""
    def __init__(self, at, dies=False):
        super().__init__()
        self.at, self.dies, self.calls = at, dies, 0
    def forward(self, x):
        self.calls += 1
        if self.calls == self.at:
            if self.dies:
                os._exit(7)
            raise RuntimeError("needs a package that is not here")
        return x + 1

def failing(at, dies=False):
    return lambda batch_size: (Fails(at, dies), (torch.ones(1),))

def unloadable(batch_size):
    raise RuntimeError("no weights")

head = os.environ["SIDE"] == "head"
MODELS = {f"first{i}": failing(1) for i in range(4)}
MODELS |= {"later": failing(25), "dies": failing(30, dies=True), "unloadable": unloadable, "fine": failing(0)}
MODELS |= {"breaks": failing(1 if head else 0), "mended": failing(0 if head else 30)}
if "HANGS" in os.environ:
    MODELS = {"hangs": lambda batch_size: (Hangs() if head else Fails(0), (torch.ones(1),)), "fine": failing(0)}
'''


@pytest.mark.slow
@pytest.mark.parametrize("interleave", ["iteration", "launch"])
def test_what_fails_on_both_sides_is_nobodys_change(cli: Cli, tmp_path: Path, interleave: str) -> None:
    """Whichever side is asked first, and whenever it fails; what fails on one side alone still is a change."""
    (tmp_path / "suite.py").write_text(FAILING)
    limits = ("--interleave", interleave, "--threshold", "0.5", "--margin", "0.4", "--no-accuracy", "--launches", "2")
    done = cli("compare", *SIDES, *QUICKLY, *limits, cwd=tmp_path)
    assert done.returncode == 3, done.stderr
    found = verdicts(tmp_path)
    broken = ["first0", "first1", "first2", "first3", "later", "dies", "unloadable"]
    assert {(found[model]["verdict"], found[model]["fails_on_both"]) for model in broken} == {("refused", True)}
    assert all(found[model]["why"].startswith("neither side runs; base: ") for model in broken)
    assert (found["breaks"]["verdict"], found["mended"]["verdict"]) == ("failed", "fixed")
    if interleave == "iteration":
        assert found["fine"]["verdict"] == "unchanged"
    else:  # two whole launches one after the other tell little of the machine's noise
        assert found["fine"]["verdict"] not in {"failed", "fixed", "refused"}
    assert "7 cases run on neither side" in done.stdout


@pytest.mark.slow
def test_a_side_that_hangs_leaves_the_other_one_its_time(cli: Cli, tmp_path: Path) -> None:
    """What hangs on one side alone fails there, and is not said to run on neither."""
    (tmp_path / "suite.py").write_text(FAILING)
    limits = ("--no-accuracy", "--launches", "2", "--timeout", "16", "--filter", "hangs")
    done = cli("compare", *SIDES, *QUICKLY, *limits, cwd=tmp_path, env={"HANGS": "1"})
    assert done.returncode == 3, done.stderr
    assert (verdicts(tmp_path)["hangs"]["verdict"], verdicts(tmp_path)["hangs"]["confirmed"]) == ("failed", True)


NOTING = '''
"""A model that notes which caches its compiler is given."""
import os, torch

seen = {None}

@torch.compiler.disable
def note():
    cache = os.environ.get("TORCHINDUCTOR_CACHE_DIR")
    if cache not in seen:
        seen.add(cache)
        with open(os.environ["NOTES"], "a") as stream:
            stream.write(cache + "\\n")

class Notes(torch.nn.Linear):
    def forward(self, x):
        note()
        return super().forward(x)

MODELS = {"net": lambda batch_size: (Notes(4, 4), (torch.ones(2, 4),))}
'''


@pytest.mark.slow
def test_only_the_first_launches_compile_from_an_empty_cache(cli: Cli, tmp_path: Path) -> None:
    """Three of them are timed; the fourth takes what the first one compiled, and all of them are sampled."""
    (tmp_path / "suite.py").write_text(NOTING)
    notes = [f"--{side}-env=NOTES={tmp_path / side}" for side in ("base", "head")]
    limits = ("--launches", "4", "--budget-per-case", "4", "--repeat", "10", "--no-accuracy")
    done = cli("compare", *notes, *SIDES[4:], "--compilers", "aot_eager", *QUICKLY[2:], *limits, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (measured,) = json.loads((tmp_path / "out/compare.json").read_text())["measured"]
    assert len(measured["launches"]) == 4
    for side in ("base", "head"):
        assert len(measured[side]["compile_seconds"]) == 3
        first, second, third, fourth, *_ = (tmp_path / side).read_text().split()  # a second measurement may follow
        assert len({first, second, third}) == 3
        assert fourth == first
        assert not Path(first).exists()


RELU = """
import torch

def broken(batch_size):
    raise RuntimeError("no such weights")

class Relu(torch.nn.Linear):
    def forward(self, x):
        return torch.relu(super().forward(x))

def relu(batch_size):
    return Relu(4, 4), (torch.ones(2, 4),)

MODELS = {"relu": relu, "broken": broken}
"""


@pytest.mark.slow
def test_eager_is_the_reference_of_what_is_compiled(cli: Cli, tmp_path: Path) -> None:
    """A compiler with wrong results fails, also where it is fast; a model that does not load is nobody's fault."""
    (tmp_path / "suite.py").write_text(RELU)
    sides = ("--base-compiler", "eager", "--head-compiler", "relu_accuracy_error_TESTING_ONLY")
    done = cli("compare", *sides, *SIDES[4:], *QUICKLY[2:], cwd=tmp_path)
    assert done.returncode == 3, done.stderr
    found = json.loads((tmp_path / "out/compare.json").read_text())["comparisons"]
    told = {(c["case"]["model"], c["metric"]): c for c in found if c["metric"] in {"abs_latency", "accuracy"}}
    assert told["relu", "accuracy"]["verdict"] == "failed"
    assert told["relu", "accuracy"]["confirmed"] is True
    assert told["broken", "abs_latency"]["verdict"] == "refused"
    assert "neither side runs" in told["broken", "abs_latency"]["why"]


@pytest.mark.slow
def test_a_commit_is_compared_with_the_working_tree(cli: Cli, tmp_path: Path) -> None:
    """Changes that are not committed are head, the same suite runs on both, and the repository is left as it was."""
    project = tmp_path / "project"
    project.mkdir()
    (project / "package.py").write_text("SECONDS = 0.006\n")
    (project / "suite.py").write_text(
        SUITE.partition("def broken")[0] + "import package\nMODELS = {'net': sleeping(package.SECONDS)}\n"
    )
    for command in (["init", "-q", "-b", "main"], ["add", "."], ["commit", "-q", "-m", "one"]):
        subprocess.run(["git", "-c", "user.name=t", "-c", "user.email=t@e", *command], cwd=project, check=True)
    (project / "package.py").write_text("SECONDS = 0.008\n")
    (project / "new.py").write_text("")
    out = str(tmp_path / "out")
    options = ("--suites", "suite.py", "--inference", *QUICKLY[:-1], out, "--setup", "touch made")
    done = cli("compare", "--base-ref", "HEAD", *options, cwd=project)
    assert done.returncode == 3, done.stderr
    assert verdicts(tmp_path)["net"]["verdict"] == "regressed"
    assert "The working tree has changes to tracked files: they are part of head." in done.stderr
    assert "Not tracked, so not part of head unless you `git add` them: new.py" in done.stderr
    assert (
        subprocess.run(["git", "worktree", "list"], cwd=project, capture_output=True, text=True).stdout.count("\n") == 1
    )
    assert not (project / "made").exists()


@pytest.mark.slow
def test_a_side_that_cannot_import_its_package_is_told_with_the_set_up(cli: Cli, tmp_path: Path) -> None:
    """The side, the suite as it was given, and the option that installs a commit."""
    (tmp_path / "suite.py").write_text("import no_such_package\nMODELS = {}\n")
    for command in (["init", "-q", "-b", "main"], ["add", "suite.py"], ["commit", "-q", "-m", "one"]):
        subprocess.run(["git", "-c", "user.name=t", "-c", "user.email=t@e", *command], cwd=tmp_path, check=True)
    options = ("--base-ref", "HEAD", "--head-env", "A=1", "--suites", "suite.py", "--inference")
    done = cli("compare", *options, cwd=tmp_path)
    assert done.returncode == 2
    assert "Error: base: suite suite.py cannot be imported: suite.py:1: ModuleNotFoundError" in done.stderr
    assert "--setup 'pip install" in done.stderr


@pytest.mark.slow
def test_code_of_the_working_tree_is_no_commit_of_either_side(cli: Cli, tmp_path: Path) -> None:
    """An editable installation leads both sides to the same files: that is refused, not found unchanged."""
    project = tmp_path / "project"
    (project / "src").mkdir(parents=True)
    (project / "src/package.py").write_text("SECONDS = 0.002\n")
    (project / "suite.py").write_text(
        SUITE.partition("def broken")[0] + "import package\nMODELS = {'net': sleeping(package.SECONDS)}\n"
    )
    for command in (["init", "-q", "-b", "main"], ["add", "."], ["commit", "-q", "-m", "one"]):
        subprocess.run(["git", "-c", "user.name=t", "-c", "user.email=t@e", *command], cwd=project, check=True)
    (project / "src/package.py").write_text("SECONDS = 0.004\n")
    options = ("--suites", "suite.py", "--inference", *QUICKLY[:-1], str(tmp_path / "out"))
    done = cli("compare", "--base-ref", "HEAD", *options, cwd=project, env={"PYTHONPATH": str(project / "src")})
    assert done.returncode == 4, done.stdout + done.stderr
    told = verdicts(tmp_path)["net"]
    assert told["verdict"] == "refused"
    assert "package was imported from the working tree" in told["why"]
    assert "--setup" in told["why"]


@pytest.mark.slow
def test_an_interrupt_ends_the_setup_and_removes_the_worktree(tmp_path: Path) -> None:
    """Nothing that was started goes on, nothing that was made stays."""
    project = tmp_path / "project"
    project.mkdir()
    for command in (["init", "-q", "-b", "main"], ["commit", "-q", "--allow-empty", "-m", "one"]):
        subprocess.run(["git", "-c", "user.name=t", "-c", "user.email=t@e", *command], cwd=project, check=True)
    setup = f"touch {tmp_path}/started; sleep 300 & wait"
    command = [
        sys.executable,
        "-m",
        "torchperf_ci",
        "compare",
        "--base-ref",
        "HEAD",
        "--head-env",
        "A=1",
        "--inference",
    ]
    process = subprocess.Popen(
        [*command, "--setup", setup],
        cwd=project,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stderr=subprocess.PIPE,
        text=True,
    )
    until = time.monotonic() + 120
    while not (tmp_path / "started").exists() and process.poll() is None and time.monotonic() < until:
        time.sleep(0.05)
    family = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGINT)
    _, talk = process.communicate(timeout=60)
    assert process.returncode == 130, talk
    assert "Interrupted by SIGINT. Nothing was measured yet." in talk
    assert not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in family)
    assert not list(tmp_path.glob("torchperf-compare-*"))
    listed = subprocess.run(["git", "worktree", "list"], cwd=project, capture_output=True, text=True)
    assert listed.stdout.count("\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("more", "code", "message"),
    [
        (("--filter", "same", "--filter", "slower", "--budget", "1.5"), 2, "--budget 1.5 leaves 0.75 s for each of 2"),
        (("--filter", "added|gone"), 4, "base and head have no case in common"),
    ],
)
def test_what_cannot_be_compared_is_said_before_time_is_spent(
    cli: Cli, folder: Path, more: tuple[str, ...], code: int, message: str
) -> None:
    """And what an earlier comparison wrote is still there."""
    (folder / "out").mkdir()
    (folder / "out/.torchperf-ci").write_text("compare.md\n")
    (folder / "out/compare.md").write_text("earlier")
    done = cli("compare", *SIDES, *QUICKLY, *more, cwd=folder)
    assert done.returncode == code, done.stderr
    assert message in done.stderr
    assert (folder / "out/compare.md").read_text() == "earlier"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "base and head are the same: give --base-ref"),
        (("--base-compiler", "eager"), "give --base-compiler and --head-compiler together"),
        (("--head-ref", "HEAD"), "--head-ref needs --base-ref"),
        (("--base-env", "A=1", "--margin", "0.1", "--threshold", "0.05"), "--margin 0.1 is above --threshold 0.05"),
        (("--base-env", "A=1", "--no-performance"), "--no-performance leaves no time to compare"),
        (("--base-env", "A=1", "--repeat", "5"), "--repeat 5: a launch of a comparison needs at least 10 rounds"),
        (("--base-ref", "main"), "is in no git repository"),
        (("--base-env", "A=1", "--suites", "mine.py"), "Error: suite mine.py: there is no such file."),
        (
            ("--base-python", "/no/python"),
            "cannot start /no/python: No such file or directory; give a Python with --base-",
        ),
    ],
)
def test_requests_that_cannot_be_meant_are_refused(cli: Cli, arguments: tuple[str, ...], message: str) -> None:
    """With exit code 2 and what to type instead."""
    done = cli("compare", "--inference", *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert arguments or message in cli("compare").stderr  # before it asks for a mode
    assert "Traceback" not in done.stderr


def test_a_ref_that_does_not_exist_is_named(cli: Cli, tmp_path: Path) -> None:
    """With the place and the branches that are there; also the one that nobody named."""
    subprocess.run(["git", "init", "-q", "-b", "main", str(tmp_path)], check=True)
    command = ["git", "-c", "user.name=t", "-c", "user.email=t@e", "commit", "-q", "--allow-empty", "-m", "one"]
    subprocess.run(command, cwd=tmp_path, check=True)
    done = cli("compare", "--inference", "--base-ref", "nowhere", cwd=tmp_path)
    assert done.returncode == 2
    assert f"there is no ref 'nowhere' in {tmp_path}" in done.stderr
    assert "there are: main" in done.stderr
    done = cli("compare", "--inference", "--base-ref", "merge-base", cwd=tmp_path)
    assert done.returncode == 2
    assert "--upstream main" in done.stderr


CROWDED = '''
"""Models of which one process at a time has what it needs, as on a device whose memory holds one copy."""
import fcntl, os, pathlib, torch

ROOM = pathlib.Path(os.environ["ROOM"])
HELD = {}

def take(name):
    """Hold the room until this process ends, or fail as a device's allocator does."""
    if name not in HELD:
        file = open(ROOM / name, "w")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 700.00 MiB") from None
        HELD[name] = file

class Takes(torch.nn.Module):
    def __init__(self, name, after=0, batch=1):
        super().__init__()
        self.name, self.after, self.calls, self.batch = name, after, 0, batch
    def forward(self, x):
        self.calls += 1
        if self.calls > self.after and self.batch > 1:
            take(self.name)
        return x + 1

def weights(batch_size):
    take("weights")
    return Takes("none", 10**9), (torch.ones(2),)

MODELS = {
    "weights": weights,
    "activations": lambda batch_size: (Takes("activations", 3, 2), (torch.ones(2),)),
    "batch": lambda batch_size: (Takes("batch", 0, batch_size or 4), (torch.ones(batch_size or 4),)),
}
'''


@pytest.mark.parametrize("interleave", ["auto", "iteration"])
def test_two_copies_that_do_not_fit_are_blamed_on_no_side(cli: Cli, tmp_path: Path, interleave: str) -> None:
    """Want of room beside the other side, for weights, activations or a batch, is a refusal with what to do; left to
    itself a comparison measures such a case in whole launches and says so."""
    (tmp_path / "suite.py").write_text(CROWDED)
    done = cli(
        "compare", *SIDES, *QUICKLY, "--interleave", interleave, "--launches", "1", "--repeat", "10", "--warmup", "1",
        env={"ROOM": str(tmp_path)}, cwd=tmp_path,
    )  # fmt: skip
    cases = json.loads((tmp_path / "out" / "compare.json").read_text())["measured"]
    assert len(cases) == 3
    assert not any(case[side]["failure"] for case in cases for side in ("base", "head"))
    if interleave == "auto":
        assert "refused" not in done.stdout
        assert all("whole launches" in case["remarks"][0] for case in cases)
        assert all(case["launches"] for case in cases)
    else:
        assert done.returncode == 4, done.stderr
        assert all("--interleave launch" in case["refusals"][0] for case in cases)
