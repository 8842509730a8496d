"""Two commits of a git repository, each in a worktree with a virtual environment of its own, removed afterwards.

The environments see the packages of the Python under test (so that torch is not installed twice) and what the set-up
command installs beside them.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from torchperf_ci.core.errors import UsageProblem
from torchperf_ci.run.session import PRIVATE_VARIABLES
from torchperf_ci.worker.protocol import one_line

MERGE_BASE = "merge-base"
_LOG_LINES = 15
_MOST_BRANCHES = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkout:
    """A commit in a folder, and the Python whose environment was set up for it."""

    ref: str
    commit: str
    folder: Path
    python: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Repository:
    """A git repository; `folder` is its top."""

    folder: Path

    @classmethod
    def around(cls, folder: Path) -> Repository:
        """The repository `folder` is in. Raises `UsageProblem` when it is in none that git takes."""
        try:
            return cls(folder=Path(_asked(folder, "rev-parse", "--show-toplevel")))
        except _GitFailed as error:
            if theirs := re.search(r"dubious ownership in repository at '(.+?)'", str(error)):
                raise UsageProblem(
                    f"git refuses {theirs[1]}, which belongs to another user; if you trust it: "
                    f"git config --global --add safe.directory {shlex.quote(theirs[1])}"
                ) from error
            raise UsageProblem(
                f"{folder} is in no git repository ({error}); --base-ref and --head-ref need one"
            ) from error

    def commit_of(self, ref: str) -> str:
        """The commit a ref names. Raises `UsageProblem` when it names none."""
        found = _git(self.folder, "rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}", end_of_options=True)
        if found:
            return found
        advice = "fetch it first (fetch-depth: 0)" if self._is_shallow() else self._branches()
        raise UsageProblem(f"there is no ref {ref!r} in {self.folder}; {advice}")

    def choose_upstream(self, base_branch: str) -> str:
        """Choose the branch that a merge base is taken with when nobody names one.

        base_branch: what GitHub says it is, or blank. Then it is the default branch of `origin`, as its clone knows it,
        or `origin/main` or `origin/master`. Raises `UsageProblem` when there is none of them.
        """
        if base_branch:
            return f"origin/{base_branch}"
        if default := _git(self.folder, "symbolic-ref", "--quiet", "--short", "refs/remotes/origin/HEAD"):
            return default
        for usual in ("origin/main", "origin/master"):
            if _git(self.folder, "rev-parse", "--verify", "--quiet", f"refs/remotes/{usual}^{{commit}}"):
                return usual
        remote = "its remote `origin` names no default branch" if self._has_origin() else "it has no remote `origin`"
        raise UsageProblem(f"nothing says which branch head of {self.folder} left, since {remote}; {self._branches()}")

    def _has_origin(self) -> bool:
        return "origin" in (_git(self.folder, "remote") or "").split()

    def _is_shallow(self) -> bool:
        return _git(self.folder, "rev-parse", "--is-shallow-repository") == "true"

    def _branches(self) -> str:
        """What can be said instead, the usual names first."""
        listed = _git(self.folder, "for-each-ref", "--format=%(refname:short)", "refs/heads", "refs/remotes") or ""
        usual = [f"{remote}{branch}" for remote in ("origin/", "") for branch in ("main", "master")]
        names = [name for name in listed.splitlines() if "/" in name or name != "origin"]  # `origin` is origin/HEAD
        names.sort(key=lambda name: (usual.index(name) if name in usual else len(usual), name))
        if not names:
            return "there is no branch yet: commit something first"
        more = f" and {len(names) - _MOST_BRANCHES} more" if len(names) > _MOST_BRANCHES else ""
        return f"say --upstream {names[0]}, or --base-ref; there are: {', '.join(names[:_MOST_BRANCHES])}{more}"

    def merge_base(self, upstream: str, head: str) -> str:
        """The newest commit both have. Raises `UsageProblem` when there is none (or the clone is too shallow)."""
        found = _git(self.folder, "merge-base", self.commit_of(upstream), self.commit_of(head))
        if not found:
            advice = "fetch the history (fetch-depth: 0)" if self._is_shallow() else "name the base with --base-ref"
            raise UsageProblem(f"{upstream} and {head} have no common commit here; {advice}")
        return found

    def changes(self) -> str | None:
        """A commit of the working tree with its changes to tracked files, or None when there are none. Nothing in the
        repository but this commit, which no branch has, is made."""
        return _git(self.folder, "stash", "create") or None

    def untracked(self) -> list[str]:
        """Python files that git neither tracks nor ignores: no commit has them."""
        return (_git(self.folder, "ls-files", "--others", "--exclude-standard", "--", "*.py") or "").splitlines()

    @contextmanager
    def checkout(
        self, ref: str, commit: str, *, python: str, setup: str, at: Path, environ: Mapping[str, str]
    ) -> Iterator[Checkout]:
        """`commit` in a worktree at `at`, set up in an environment of its own; both are gone after the block."""
        with self._worktree(commit, at / "tree") as tree:
            inside = _environment(python, at / "env")
            _set_up(setup, tree, at / "env", environ)
            yield Checkout(ref=ref, commit=commit, folder=tree, python=str(inside))

    @contextmanager
    def _worktree(self, commit: str, at: Path) -> Iterator[Path]:
        at.parent.mkdir(parents=True, exist_ok=True)
        try:
            try:
                _asked(self.folder, "worktree", "add", "--quiet", "--detach", "--force", str(at), commit)
            except _GitFailed as error:
                raise UsageProblem(f"git cannot make a worktree of {commit[:12]} at {at}: {error}") from error
            yield at
        finally:
            _git(self.folder, "worktree", "remove", "--force", "--force", str(at))
            shutil.rmtree(at, ignore_errors=True)
            _git(self.folder, "worktree", "prune")


def put_suite(suite: str, repository: Repository, tree: Path) -> str:
    """The suite as a side finds it. A file of the repository is used as it is in the working tree, on both sides: the
    same benchmark runs on different code. Everything else is left as it is."""
    path = Path(suite)
    if not suite.endswith(".py") or not path.absolute().is_relative_to(repository.folder):
        return suite
    target = tree / path.absolute().relative_to(repository.folder)
    with contextlib.suppress(OSError):
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    return str(target)


_ASK = """
import importlib.util, json, sysconfig
paths = [sysconfig.get_path(name) for name in ("purelib", "platlib")]
print(json.dumps({"paths": paths, "pip": importlib.util.find_spec("pip") is not None}))
"""


def _environment(python: str, at: Path) -> Path:
    """A virtual environment that sees the packages of `python`, whether that is one itself or not.

    Its pip is the one of `python`, where that has one: installing pip takes longer than all the rest.
    """
    try:
        found = json.loads(_output([python, "-c", _ASK]))
        pip = ["--without-pip"] if found["pip"] else []
        _output([python, "-m", "venv", "--system-site-packages", *pip, str(at)])
        own = json.loads(_output([str(at / "bin/python"), "-c", _ASK]))["paths"][0]
    except (OSError, ValueError, subprocess.CalledProcessError) as error:
        why = one_line(str(getattr(error, "stderr", None) or error))
        raise UsageProblem(f"{python} cannot make a virtual environment: {why}") from error
    lines = [
        f"import site; site.addsitedir({path!r})\n" for path in dict.fromkeys(found["paths"])
    ]  # with its .pth files
    (Path(own) / "torchperf-packages-under-test.pth").write_text("".join(lines))
    for name in ("pip", "pip3") if pip else ():
        script = at / "bin" / name
        script.write_text(f'#!/bin/sh\nexec {shlex.quote(str(at / "bin/python"))} -m pip "$@"\n')
        script.chmod(0o755)
    return at / "bin/python"


def _output(command: list[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def _set_up(command: str, tree: Path, environment: Path, environ: Mapping[str, str]) -> None:
    """Run the set-up command (a shell command of the caller's) in the worktree, with the environment active."""
    if not command:
        return
    public = {name: value for name, value in environ.items() if name not in PRIVATE_VARIABLES}
    path = os.pathsep.join([str(environment / "bin"), environ.get("PATH", os.defpath)])
    with subprocess.Popen(
        ["bash", "-euo", "pipefail", "-c", command],  # noqa: S607 - the caller's shell
        cwd=tree,
        env={**public, "PATH": path, "VIRTUAL_ENV": str(environment)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    ) as process:
        try:
            said, _ = process.communicate()
        except BaseException:  # an interrupt: nothing it has started may go on in a folder that is about to go
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            raise
    if process.returncode:
        end = "\n".join(f"  {one_line(line)}" for line in said.splitlines()[-_LOG_LINES:])
        raise UsageProblem(f"the set-up command {command!r} failed with exit code {process.returncode}:\n{end}")


class _GitFailed(Exception):
    """In git's words."""


def _asked(folder: Path, *arguments: str) -> str:
    """What git answers. Raises `_GitFailed`."""
    try:
        done = subprocess.run(
            ["git", *arguments],  # noqa: S607 - the user's git
            cwd=folder,
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "LC_ALL": "C"},
        )
    except FileNotFoundError as error:
        raise _GitFailed("git is not installed") from error
    except (OSError, subprocess.CalledProcessError) as error:
        raise _GitFailed(one_line(str(getattr(error, "stderr", None) or error))) from error
    return done.stdout.strip()


def _git(folder: Path, *arguments: str, end_of_options: bool = False) -> str | None:
    before, last = arguments[:-1], arguments[-1]
    try:
        return _asked(folder, *before, *(["--end-of-options"] if end_of_options else []), last)
    except _GitFailed:
        return None
