"""`bisect` as a user types it: live searches of a repository of a dozen commits, commands, versions, and interrupts."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest

SUITE = '''
"""Models whose speed, results and graphs follow the package of the commit."""
import time, torch, package

class Sleeps(torch.nn.Module):
    def forward(self, x):
        time.sleep(package.SECONDS)
        return x + 1

class Checks(torch.nn.Module):
    def forward(self, x):
        if package.FAILS:
            raise RuntimeError("no such kernel")
        return x + 1

class Breaks(torch.nn.Module):
    def forward(self, x):
        x = x + 1
        if package.BREAKS:
            torch._dynamo.graph_break()
        return x + 1

def of(kind):
    return lambda batch_size: (kind(), (torch.ones(batch_size or 1),))

MODELS = {"sleeps": of(Sleeps), "checks": of(Checks), "breaks": of(Breaks)}
'''
LIVE = (
    "--suites", "suite.py", "--inference", "--devices", "cpu", "--threads", "1", "--compilers",
)  # fmt: skip


def git(folder: Path, *arguments: str, date: str = "") -> str:
    command = ["git", "-c", "user.name=Ann Author", "-c", "user.email=t@example.org", *arguments]
    environ = {**os.environ, **({"GIT_AUTHOR_DATE": date} if date else {})}
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True, env=environ).stdout.strip()


def commit(folder: Path, message: str, files: Mapping[str, str], *, date: str = "") -> str:
    for name, text in files.items():
        (folder / name).write_text(text)
    git(folder, "add", "-A")
    git(folder, "commit", "--quiet", "--allow-empty", "-m", message, date=date)
    return git(folder, "rev-parse", "HEAD")


def package(number: int) -> str:
    """The code of one of a dozen commits: 3 does not run, from 5 on it is slower, from 8 on a model fails, from 10 on
    graphs break."""
    if number == 3:
        return "def broken(\n"
    return (
        f"NUMBER = {number}\nSECONDS = {0.008 if number < 5 else 0.016}\nFAILS = {number >= 8}\n"
        f"BREAKS = {number >= 10}\n"
    )


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A repository with the SHAs of its commits, 0 to 12."""
    folder = tmp_path_factory.mktemp("history") / "project"
    folder.mkdir()
    git(folder, "init", "--quiet", "--initial-branch=main")
    (folder / "suite.py").write_text(SUITE)
    shas = [
        commit(
            folder,
            f"change {n} <b>@who</b>",
            {"package.py": package(n), "log.txt": f"{n // 3}"},
            date="2026-05-04T12:00:00+00:00",
        )
        for n in range(13)
    ]
    return folder, shas


def read(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "bisect.json").read_text())
    return found


def name_culprits(folder: Path) -> list[str]:
    return [culprit["candidate"]["key"] for culprit in read(folder)["progress"]["culprits"]]


def worktrees(folder: Path) -> int:
    return len(git(folder, "worktree", "list").splitlines())


@pytest.mark.slow
def test_a_slowdown_is_found_behind_a_broken_commit(in_process: Callable[..., Any], history, tmp_path: Path) -> None:
    """It is seen against its parent; GitHub is told, and the report's steps say what was skipped."""
    folder, shas = history
    out = tmp_path / "out"
    files = {"GITHUB_OUTPUT": str(tmp_path / "output"), "GITHUB_STEP_SUMMARY": str(tmp_path / "summary")}
    done = in_process(
        "bisect", shas[1], shas[5], "--case", "suite/sleeps", *LIVE, "eager", "--output-dir", str(out), "--margin",
        "0.2", "--github-files", cwd=folder, env=files,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert name_culprits(out) == [shas[5]]
    progress = read(out)["progress"]
    (why,) = [step["why"] for step in progress["steps"] if step["answer"] == "skipped"]
    assert "package.py" in why
    assert 0.3 < progress["culprits"][0]["step"]["value"] < 1.0
    outputs = (tmp_path / "output").read_text()
    assert "\nfound\n" in outputs
    assert f"\n{shas[5]}\n" in outputs
    assert shas[5][:12] in (tmp_path / "summary").read_text()
    assert worktrees(folder) == 1


@pytest.mark.slow
def test_a_failure_is_found(in_process: Callable[..., Any], history, tmp_path: Path) -> None:
    """By the status of the case, with author, date and files of the commit, and nothing in its texts is alive."""
    folder, shas = history
    out = tmp_path / "out"
    done = in_process(
        "bisect", shas[6], shas[9], "--case", "suite/checks", "--metric", "accuracy", *LIVE, "eager", "--output-dir",
        str(out), cwd=folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert name_culprits(out) == [shas[8]]
    for part in ("Ann Author", "2026-05-04", "package.py", "no such kernel"):
        assert part in done.stdout
    report = (out / "bisect.md").read_text()
    assert "<b>" not in "".join(report.split("`")[::2])  # outside of code
    assert "Ann Author" in report
    assert worktrees(folder) == 1


@pytest.mark.slow
def test_a_counted_fact_is_found_in_single_launches(in_process: Callable[..., Any], history, tmp_path: Path) -> None:
    """Graph breaks are the same every time."""
    folder, shas = history
    out = tmp_path / "out"
    done = in_process(
        "bisect", shas[9], shas[11], "--case", "suite/breaks", "--metric", "graph_breaks", *LIVE, "aot_eager",
        "--output-dir", str(out), cwd=folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert name_culprits(out) == [shas[10]]
    steps = read(out)["progress"]["steps"]
    assert {step["launches"] for step in steps} == {1}
    assert (steps[0]["base"], steps[0]["head"]) == (0, 1)


COMMAND = f"{sys.executable} -c 'import package, sys; sys.exit(package.NUMBER >= 6)'"


def test_a_command_decides(in_process: Callable[..., Any], history, tmp_path: Path) -> None:
    """0 is good, 125 skips, others are bad; a commit that cannot be set up is skipped and named."""
    folder, shas = history
    out = tmp_path / "out"
    done = in_process(
        "bisect", shas[0], shas[12], "--run", COMMAND, "--setup", "grep -q NUMBER package.py", "--output-dir", str(out),
        cwd=folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert name_culprits(out) == [shas[6]]
    assert "exit code 0 → exit code 1" in done.stdout
    assert (out / "logs" / f"{shas[6][:12]}.log").is_file()
    skips = f"{COMMAND} || (grep -q 'NUMBER = [67]' package.py && exit 125); {COMMAND}"
    done = in_process("bisect", shas[4], shas[9], "--run", skips, "--output-dir", str(tmp_path / "2"), cwd=folder)
    assert done.returncode == 6, done.stderr
    assert [suspect["key"] for suspect in read(tmp_path / "2")["progress"]["suspects"]] == shas[6:9]
    assert "the command cannot judge it" in done.stdout


def test_what_needs_no_search_is_said(in_process: Callable[..., Any], history, tmp_path: Path) -> None:
    """Ends that are the same, in both directions, and a command that crashes."""
    folder, shas = history
    out = str(tmp_path / "out")
    done = in_process("bisect", shas[0], shas[2], "--run", COMMAND, "--output-dir", out, cwd=folder)
    assert done.returncode == 4, done.stderr
    assert "do not differ" in done.stdout
    done = in_process("bisect", shas[2], shas[0], "--run", COMMAND, cwd=folder)
    assert done.returncode == 4
    assert f"{shas[0]} is older than {shas[2]}" in done.stderr
    done = in_process("bisect", shas[0], shas[2], "--run", "kill -9 $$", "--output-dir", f"{out}2", cwd=folder)
    assert done.returncode == 2
    assert "exit code -9" in done.stderr
    assert worktrees(folder) == 1


def test_a_dry_run_lists_the_commits(in_process: Callable[..., Any], history) -> None:
    """Those of the paths alone, where there are any; and writes nothing."""
    folder, shas = history
    done = in_process("bisect", shas[0], shas[12], "--dry-run", cwd=folder)
    assert done.returncode == 0
    assert [line.split()[0] for line in done.stdout.splitlines()[:-1]] == [sha[:12] for sha in shas[1:]]
    assert "12 commits may have made the change: about 6 steps" in done.stdout
    done = in_process("bisect", shas[0], shas[12], "--dry-run", "--paths", "log.txt", cwd=folder)
    assert [line.split()[0] for line in done.stdout.splitlines()[:-1]] == [shas[n][:12] for n in (3, 6, 9, 12)]
    assert not (folder / "bisect_logs").exists()


def test_merges_count_as_one_with_first_parent(in_process: Callable[..., Any], tmp_path: Path) -> None:
    """A culprit on a branch is found there, or as the merge that brought it; another branch's commit as good end is
    replaced by where they parted."""
    folder = tmp_path / "project"
    folder.mkdir()
    git(folder, "init", "--quiet", "--initial-branch=main")
    good = commit(folder, "good", {"state": "0", "other": "0"})
    git(folder, "checkout", "--quiet", "-b", "feature")
    commit(folder, "harmless", {"feature": "1"})
    culprit = commit(folder, "culprit", {"state": "1"})
    commit(folder, "more", {"feature": "2"})
    git(folder, "checkout", "--quiet", "main")
    commit(folder, "beside", {"other": "1"})
    git(folder, "merge", "--quiet", "--no-ff", "-m", "merge", "feature")
    merge = git(folder, "rev-parse", "HEAD")
    commit(folder, "after", {"other": "2"})
    git(folder, "branch", "elsewhere", good)
    git(folder, "checkout", "--quiet", "elsewhere")
    commit(folder, "elsewhere", {"else": "1"})
    run = ("--run", "grep -q 0 state")
    done = in_process("bisect", good, "main", *run, "--output-dir", str(tmp_path / "1"), cwd=folder)
    assert (done.returncode, name_culprits(tmp_path / "1")) == (0, [culprit])
    done = in_process("bisect", good, "main", *run, "--first-parent", "--output-dir", str(tmp_path / "2"), cwd=folder)
    assert (done.returncode, name_culprits(tmp_path / "2")) == (0, [merge])
    done = in_process("bisect", "elsewhere", "main", *run, "--output-dir", str(tmp_path / "3"), cwd=folder)
    assert (done.returncode, name_culprits(tmp_path / "3")) == (0, [culprit])
    assert "elsewhere is on another branch than main" in done.stderr


def test_versions_of_a_package_are_searched(in_process: Callable[..., Any], tmp_path: Path) -> None:
    """Each in an environment made for it, from wheels that lie here."""
    for number in range(1, 6):
        make_wheel(tmp_path, f"1.{number}", f"SPEED = {'fast' if number < 4 else 'slow'!r}\n")
    install = f"pip install --quiet --no-index --no-deps --find-links {tmp_path} speedy=={{version}}"
    versions = ("--python-of", install, "--versions", "1.1,1.2,1.3,1.4,1.5")
    run = ("--run", "python -c 'import speedy, sys; sys.exit(speedy.SPEED == \"slow\")'")
    done = in_process("bisect", *versions, *run, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert name_culprits(tmp_path / "bisect_logs") == ["1.4"]
    done = in_process("bisect", "1.2", "1.9", *versions, *run, cwd=tmp_path)
    assert done.returncode == 2
    assert "1.9 is not among --versions" in done.stderr


def make_wheel(folder: Path, version: str, code: str) -> None:
    """A wheel of the package `speedy`, as pip takes it."""
    info = f"speedy-{version}.dist-info"
    with zipfile.ZipFile(folder / f"speedy-{version}-py3-none-any.whl", "w") as wheel:
        wheel.writestr("speedy.py", code)
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: speedy\nVersion: {version}\n")
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", f"speedy.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_search_that_was_ended_goes_on(history, tmp_path: Path, number: signal.Signals) -> None:
    """Also when it was killed: what was asked is not asked again, and what it left behind is removed."""
    folder, shas = history
    out, gate, log = tmp_path / "out", tmp_path / "gate", tmp_path / "log"
    gate.touch()
    (tmp_path / "ask.py").write_text(
        "import pathlib, sys, time\n"
        "sys.path.insert(0, '.')\n"
        "import package\n"
        f"if pathlib.Path({str(gate)!r}).exists() and package.NUMBER == 6:\n"
        f"    pathlib.Path({str(tmp_path / 'there')!r}).touch()\n"
        "    time.sleep(300)\n"
        f"open({str(log)!r}, 'a').write(f'{{package.NUMBER}} ')\n"
        "sys.exit(package.NUMBER >= 6)\n"
    )
    run = ("--run", f"{sys.executable} {tmp_path / 'ask.py'}", "--output-dir", str(out))
    command = [sys.executable, "-m", "torchperf_ci", "bisect", shas[4], shas[12], *run]
    environ = {**os.environ, "TMPDIR": str(tmp_path)}
    process = subprocess.Popen(command, cwd=folder, env=environ, stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 300
    while not (tmp_path / "there").exists() and process.poll() is None and time.monotonic() < until:
        time.sleep(0.05)
    family = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(number)
    _, talk = process.communicate(timeout=120)
    if number is signal.SIGINT:
        assert process.returncode == 130, talk
        assert "The same command continues from here." in talk
        assert read(out)["progress"]["outcome"] == "interrupted"
        assert not list(tmp_path.glob("torchperf-bisect-*"))
        assert not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in family)
    for child in family:
        if child.is_running():
            child.kill()
    asked = log.read_text().split()
    gate.unlink()
    done = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Going on with" in done.stderr
    assert name_culprits(out) == [shas[6]]
    again = log.read_text().split()[len(asked) :]
    assert "8" in asked
    assert "8" not in again
    assert "6" in again
    assert not list(tmp_path.glob("torchperf-bisect-*"))
    assert worktrees(folder) == 1


def test_rounds_of_other_terms_are_not_mixed(in_process: Callable[..., Any], history, tmp_path: Path) -> None:
    """They stay until somebody says that they may go; a search of other ends uses them."""
    folder, shas = history
    search = ("bisect", shas[4], shas[7], "--output-dir", str(tmp_path / "out"))
    assert in_process(*search, "--run", COMMAND, cwd=folder).returncode == 0
    done = in_process(*search, "--run", "true", cwd=folder)
    assert done.returncode == 2
    assert "other terms (--run)" in done.stderr
    done = in_process(*search, "--run", "true", "--restart", cwd=folder)
    assert done.returncode == 4, done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "give two commits, GOOD and BAD"),
        (("HEAD~1", "HEAD"), "exactly one of --inference and --training"),
        (("HEAD~1", "HEAD", "--case", "net", "--inference"), "'net' is not SUITE/MODEL"),
        (("HEAD~1", "HEAD", "--run", "true", "--case", "a/b"), "--run decides by itself"),
        (("HEAD~1", "HEAD", "--python-of", "pip install a=={version}"), "--python-of and --versions together"),
        (("--python-of", "pip install a", "--versions", "1,2"), "needs {version}"),
        (("nowhere", "HEAD"), "there is no ref 'nowhere'"),
    ],
)
def test_requests_that_cannot_be_meant(
    in_process: Callable[..., Any], history, arguments: tuple[str, ...], message: str
) -> None:
    """With exit code 2 and what to type instead."""
    done = in_process("bisect", *arguments, cwd=history[0])
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
