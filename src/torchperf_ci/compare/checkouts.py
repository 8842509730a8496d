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
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from torchperf_ci.compare.model import CommitSummary
from torchperf_ci.core.errors import UsageProblem
from torchperf_ci.run.session import PRIVATE_VARIABLES
from torchperf_ci.worker.protocol import EXISTING_SPECS, one_line

MERGE_BASE = "merge-base"
_LOG_LINES = 15
_MOST_BRANCHES = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class SideCommit:
    """A commit that is compared: what its side is called, what is checked out, and what people know it by.

    checkout is another commit than `known.sha` where the changes of the working tree belong to the side.
    """

    label: str
    checkout: str
    known: CommitSummary


@dataclass(frozen=True, slots=True, kw_only=True)
class Repository:
    """A git repository; `folder` is its top."""

    folder: Path

    @classmethod
    def around(cls, folder: Path) -> Repository:
        """Find the repository that `folder` is in. Raises `UsageProblem` when it is in none that git takes."""
        try:
            return cls(folder=Path(ask_git(folder, "rev-parse", "--show-toplevel")))
        except GitFailed as error:
            if theirs := re.search(r"dubious ownership in repository at '(.+?)'", str(error)):
                raise UsageProblem(
                    f"git refuses {theirs[1]}, which belongs to another user; if you trust it: "
                    f"git config --global --add safe.directory {shlex.quote(theirs[1])}"
                ) from error
            raise UsageProblem(
                f"{folder} is in no git repository ({error}); --base-ref and --head-ref need one"
            ) from error

    def choose_commits(
        self, base_ref: str, head_ref: str, *, upstream: str, base_branch: str
    ) -> tuple[SideCommit, SideCommit]:
        """Choose the commits of base and head.

        base_ref: a ref, or `merge-base`: where head left `upstream`, or blank, the branch that `base_branch` names (see
        `choose_upstream`). head_ref: blank is HEAD with the changes of the working tree to tracked files. Raises
        `UsageProblem` for what names no commit.
        """
        head_sha = self.find_commit(head_ref or "HEAD")
        head = SideCommit(label=head_ref or "HEAD", checkout=head_sha, known=self._summarize(head_sha))
        if not head_ref and (changes := _git(self.folder, "stash", "create")):  # no branch has this commit
            known = replace(head.known, subject=f"{head.known.subject} + uncommitted changes")
            head = replace(head, label="HEAD with the changes of the working tree", checkout=changes, known=known)
        if base_ref == MERGE_BASE:
            base_sha = self.find_merge_base(upstream or self.choose_upstream(base_branch), head_sha)
        else:
            base_sha = self.find_commit(base_ref)
        return SideCommit(label=base_ref, checkout=base_sha, known=self._summarize(base_sha)), head

    def find_commit(self, ref: str) -> str:
        """Find the commit that a ref names. Raises `UsageProblem` when it names none."""
        sha = _git(self.folder, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}")
        if sha:
            return sha
        advice = "fetch it first (fetch-depth: 0)" if self._is_shallow() else _list_names(self._branches())
        raise UsageProblem(f"there is no ref {ref!r} in {self.folder}; {advice}")

    def _summarize(self, sha: str) -> CommitSummary:
        return CommitSummary(sha=sha, subject=_git(self.folder, "log", "-1", "--format=%s", sha) or "")

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
        has_origin = "origin" in (_git(self.folder, "remote") or "").split()
        reason = "its remote `origin` names no default branch" if has_origin else "it has no remote `origin`"
        names = self._branches()
        advice = f"say --upstream {names[0]}, or --base-ref; {_list_names(names)}" if names else _list_names(names)
        raise UsageProblem(f"nothing says which branch head of {self.folder} left, since {reason}; {advice}")

    def find_merge_base(self, upstream: str, head: str) -> str:
        """Find the newest commit that both have. Raises `UsageProblem` when there is none (or the clone is shallow)."""
        sha = _git(self.folder, "merge-base", self.find_commit(upstream), head)
        if not sha:
            advice = "fetch the history (fetch-depth: 0)" if self._is_shallow() else "name the base with --base-ref"
            raise UsageProblem(f"{upstream} and {head[:12]} have no common commit here; {advice}")
        return sha

    def count_between(self, base: str, head: str) -> int:
        """Count the commits that head has and base has not; 0 where git does not know."""
        return int(_git(self.folder, "rev-list", "--count", head, f"^{base}") or 0)

    def _is_shallow(self) -> bool:
        return _git(self.folder, "rev-parse", "--is-shallow-repository") == "true"

    def _branches(self) -> list[str]:
        """Find the branches that there are, the usual names first."""
        listed = _git(self.folder, "for-each-ref", "--format=%(refname:short)", "refs/heads", "refs/remotes") or ""
        usual = [f"{remote}{branch}" for remote in ("origin/", "") for branch in ("main", "master")]
        names = [name for name in listed.splitlines() if "/" in name or name != "origin"]  # `origin` is origin/HEAD
        return sorted(names, key=lambda name: (usual.index(name) if name in usual else len(usual), name))

    def list_untracked(self) -> list[str]:
        """List Python files that git neither tracks nor ignores: no commit has them."""
        return (_git(self.folder, "ls-files", "--others", "--exclude-standard", "--", "*.py") or "").splitlines()

    @contextmanager
    def checkout(
        self, commit: str, *, python: str, setup: str, at: Path, environ: Mapping[str, str], side: str = ""
    ) -> Iterator[tuple[Path, str]]:
        """Give `commit` in a worktree below `at`, and the Python of an environment that was set up for it; both are
        gone after the block.

        side: what errors name. Raises `UsageProblem` when git, Python or the set-up command cannot do it.
        """
        tree = at / "tree"
        at.mkdir(parents=True, exist_ok=True)
        try:
            try:
                ask_git(self.folder, "worktree", "add", "--quiet", "--detach", "--force", str(tree), commit)
            except GitFailed as error:
                raise UsageProblem(f"git cannot make a worktree of {commit[:12]} at {tree}: {error}") from error
            yield tree, make_environment(python, at / "env", setup=setup, cwd=tree, environ=environ, side=side)
        finally:
            _git(self.folder, "worktree", "remove", "--force", "--force", str(tree))
            shutil.rmtree(tree, ignore_errors=True)
            _git(self.folder, "worktree", "prune")


def _list_names(branches: Sequence[str]) -> str:
    if not branches:
        return "there is no branch yet: commit something first"
    more = f" and {len(branches) - _MOST_BRANCHES} more" if len(branches) > _MOST_BRANCHES else ""
    return f"there are: {', '.join(branches[:_MOST_BRANCHES])}{more}"


def put_suite(suite: str, repository: Repository, tree: Path) -> str:
    """Put a suite where a side finds it, and name it there. A file of the repository, or a folder of tests or asv
    benchmarks, is used as it is in the working tree, on both sides: the same benchmark runs on different code.
    Everything else is left as it is. Raises `UsageProblem` for a folder that holds the code itself."""
    is_existing = suite.startswith(EXISTING_SPECS)
    kind, _, text = suite.partition(":") if is_existing else ("", "", suite)
    named, colons, inside = text.partition("::")
    path = Path(named).absolute()
    if not (is_existing or suite.endswith(".py")) or not path.is_relative_to(repository.folder):
        return suite
    if kind == "asv":
        from torchperf_ci.suites.registry import find_asv_folder

        path = find_asv_folder(path)
    if path == repository.folder:
        raise UsageProblem(f"--{kind} {text}: it holds the code that is compared as well; give the benchmarks' folder")
    target = tree / path.relative_to(repository.folder)
    with contextlib.suppress(OSError, shutil.Error):
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            shutil.copytree(path, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__", ".*"))
        else:
            shutil.copyfile(path, target)
    return f"{kind}:{target}{colons}{inside}" if is_existing else str(target)


def make_environment(
    python: str, at: Path, *, setup: str, cwd: Path, environ: Mapping[str, str], side: str = ""
) -> str:
    """Make a virtual environment that sees the packages of `python`, run the set-up command in `cwd` with it active,
    and return its Python.

    side: what errors name. Raises `UsageProblem` when Python or the command cannot do it.
    """
    inside = _make_empty_environment(python, at)
    if setup:
        code, output = run_in_environment(setup, at, cwd=cwd, environ=environ)
        if code:
            end = "\n".join(f"  {one_line(line)}" for line in output.splitlines()[-_LOG_LINES:])
            where = f"{side}: " if side else ""
            raise UsageProblem(f"{where}the set-up command {setup!r} failed with exit code {code}:\n{end}")
    return str(inside)


_ASK = """
import importlib.util, json, sysconfig
paths = [sysconfig.get_path(name) for name in ("purelib", "platlib")]
print(json.dumps({"paths": paths, "pip": importlib.util.find_spec("pip") is not None}))
"""


def _make_empty_environment(python: str, at: Path) -> Path:
    """Make a virtual environment that sees the packages of `python`, whether that is one itself or not.

    Its pip is the one of `python`, where that has one: installing pip takes longer than all the rest.
    """

    def run(*command: str) -> str:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    try:
        theirs = json.loads(run(python, "-c", _ASK))
        pip = ["--without-pip"] if theirs["pip"] else []
        run(python, "-m", "venv", "--system-site-packages", *pip, str(at))
        own = json.loads(run(str(at / "bin/python"), "-c", _ASK))["paths"][0]
    except (OSError, ValueError, subprocess.CalledProcessError) as error:
        why = one_line(str(getattr(error, "stderr", None) or error))
        raise UsageProblem(f"{python} cannot make a virtual environment: {why}") from error
    # addsitedir also reads the .pth files there, for example of what is installed as editable.
    lines = [f"import site; site.addsitedir({path!r})\n" for path in dict.fromkeys(theirs["paths"])]
    (Path(own) / "torchperf-packages-under-test.pth").write_text("".join(lines))
    for name in ("pip", "pip3") if pip else ():
        script = at / "bin" / name
        script.write_text(f'#!/bin/sh\nexec {shlex.quote(str(at / "bin/python"))} -m pip "$@"\n')
        script.chmod(0o755)
    return at / "bin/python"


def run_in_environment(
    command: str, environment: Path, *, cwd: Path, environ: Mapping[str, str], timeout: float | None = None
) -> tuple[int, str]:
    """Run a shell command of the caller's with an environment active; return its exit code and output.

    Raises `subprocess.TimeoutExpired` after so many seconds. Nothing that it started outlives an error.
    """
    public = {name: value for name, value in environ.items() if name not in PRIVATE_VARIABLES}
    path = os.pathsep.join([str(environment / "bin"), environ.get("PATH", os.defpath)])
    with subprocess.Popen(
        ["bash", "-euo", "pipefail", "-c", command],  # noqa: S607 - the caller's shell
        cwd=cwd,
        env={**public, "PATH": path, "VIRTUAL_ENV": str(environment)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    ) as process:
        try:
            output, _ = process.communicate(timeout=timeout)
        except BaseException:  # an interrupt: nothing it has started may go on in a folder that is about to go
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            raise
    return process.returncode, output


class GitFailed(Exception):
    """In git's words."""


def ask_git(folder: Path, *arguments: str, stdin: str = "") -> str:
    """Ask git. Raises `GitFailed`."""
    command, environ = ["git", *arguments], {**os.environ, "LC_ALL": "C"}
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, errors="replace", check=True, env=environ, input=stdin
        )
    except FileNotFoundError as error:
        raise GitFailed("git is not installed") from error
    except (OSError, subprocess.CalledProcessError) as error:
        raise GitFailed(one_line(str(getattr(error, "stderr", None) or error))) from error
    return done.stdout.strip()


def _git(folder: Path, *arguments: str) -> str | None:
    """Ask git; None when it fails."""
    try:
        return ask_git(folder, *arguments)
    except GitFailed:
        return None
