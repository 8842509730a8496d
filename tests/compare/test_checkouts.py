"""Commits in worktrees of real repositories: set up, and gone afterwards whatever happens."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from torchperf_ci.compare.checkouts import Repository, SideCommit, put_suite
from torchperf_ci.core.errors import UsageProblem


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", *arguments]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A repository with two commits on main and one on a branch that left it after the first."""
    folder = tmp_path / "project"
    folder.mkdir()
    git(folder, "init", "--quiet", "--initial-branch=main")
    for number in (1, 2):
        (folder / "code.py").write_text(f"NUMBER = {number}\n")
        git(folder, "add", "code.py")
        git(folder, "commit", "--quiet", "-m", f"number {number}")
    git(folder, "branch", "side", "HEAD~1")
    return folder


def state(folder: Path) -> tuple[str, ...]:
    """Everything about a repository that a comparison must leave alone."""
    questions = (
        ("worktree", "list"),
        ("status", "--porcelain"),
        ("branch", "-a"),
        ("stash", "list"),
        ("rev-parse", "HEAD"),
    )
    return tuple(git(folder, *question) for question in questions)


def checkout(folder: Path, at: Path, *, ref: str = "HEAD~1", setup: str = "", python: str = sys.executable):
    repository = Repository.around(folder)
    return repository.checkout(repository.find_commit(ref), python=python, setup=setup, at=at, environ=dict(os.environ))


def test_a_commit_is_set_up_beside_the_repository_and_removed(folder: Path, tmp_path: Path) -> None:
    """Its code is there, its environment sees the packages under test and runs the set-up; then all of it is gone."""
    before = state(folder)
    setup = 'test -n "$VIRTUAL_ENV" && python -c \'import click, code; open("made", "w").write(str(code.NUMBER))\''
    with checkout(folder, tmp_path / "at", setup=setup) as (tree, inside):
        assert (tree / "code.py").read_text() == "NUMBER = 1\n"
        assert (tree / "made").read_text() == "1"
        assert Path(inside).is_relative_to(tmp_path / "at")
    assert not tree.exists()
    assert state(folder) == before


def test_what_is_installed_as_editable_is_seen_as_well(folder: Path, tmp_path: Path) -> None:
    """Say a torch that somebody builds, in a virtual environment."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "theirs")], check=True)
    (packages,) = (tmp_path / "theirs").glob("lib/python*/site-packages")
    (packages / "editable.pth").write_text(f"{tmp_path / 'source'}\n")
    (tmp_path / "source").mkdir()
    (tmp_path / "source/mytorch.py").touch()
    python = str(tmp_path / "theirs/bin/python")
    with checkout(folder, tmp_path / "at", setup="python -c 'import mytorch'", python=python) as (_, inside):
        assert inside != python


def _misbehave(folder: Path, tree: Path) -> None:
    (tree / "junk").write_text("x")
    git(folder, "worktree", "lock", str(tree))
    raise KeyboardInterrupt


def test_a_worktree_is_removed_when_measuring_fails(folder: Path, tmp_path: Path) -> None:
    """Also when the commit's code has written into it and locked it."""
    before = state(folder)
    with pytest.raises(KeyboardInterrupt), checkout(folder, tmp_path / "at") as (tree, _):
        _misbehave(folder, tree)
    assert not (tmp_path / "at/tree").exists()
    assert state(folder) == before


def test_a_failed_setup_shows_the_end_of_its_log(folder: Path, tmp_path: Path) -> None:
    """Not its beginning, with the exit code and the command, and the worktree is gone."""
    before = state(folder)
    setup = "for i in $(seq 100); do echo line $i; done; echo no compiler >&2; exit 7"
    with pytest.raises(UsageProblem) as error, checkout(folder, tmp_path / "at", setup=setup):
        pass
    message = str(error.value)
    assert "failed with exit code 7" in message
    assert message.endswith("  line 99\n  line 100\n  no compiler")
    assert "line 50" not in message
    assert state(folder) == before


def test_the_setup_installs_into_its_own_environment_and_sees_no_tokens(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A commit's set-up runs its code, which gets what measured code gets; its pip is not the outer one."""
    monkeypatch.setenv("GITHUB_TOKEN", "secret")
    setup = 'test -z "${GITHUB_TOKEN:-}"; pip -V > pip.txt; which pip >> pip.txt'
    setup += "; python -c 'import sys; print(sys.prefix)' >> pip.txt"
    with checkout(folder, tmp_path / "at", setup=setup) as (tree, _):
        version, where, prefix = (tree / "pip.txt").read_text().splitlines()
        assert version.startswith("pip ")
        assert where == str(tmp_path / "at/env/bin/pip")
        assert prefix == str(tmp_path / "at/env")


def choose(
    repository: Repository, base: str, head: str = "", *, upstream: str = "main"
) -> tuple[SideCommit, SideCommit]:
    return repository.choose_commits(base, head, upstream=upstream, base_branch="")


def test_names_of_commits(folder: Path, tmp_path: Path) -> None:
    """Refs and merge bases are found; what is not there is said with what to do."""
    repository = Repository.around(folder)
    base, head = choose(repository, "merge-base", "main", upstream="side")
    assert (base.checkout, base.known.subject) == (git(folder, "rev-parse", "HEAD~1"), "number 1")
    assert (head.label, head.checkout, head.known.subject) == ("main", git(folder, "rev-parse", "HEAD"), "number 2")
    with pytest.raises(UsageProblem, match=r"there is no ref 'nowhere' in .*there are: main, side$"):
        repository.find_commit("nowhere")
    with pytest.raises(UsageProblem, match="there is no ref '--output=x'"):
        repository.find_commit("--output=x")
    git(folder, "checkout", "--quiet", "--orphan", "alone")
    git(folder, "commit", "--quiet", "-m", "alone")
    with pytest.raises(UsageProblem, match="have no common commit"):
        choose(repository, "merge-base", "alone", upstream="main")
    outside = tmp_path / "outside"
    outside.mkdir()
    with pytest.raises(UsageProblem, match="is in no git repository"):
        Repository.around(outside)


def test_a_shallow_clone_is_told_to_fetch(folder: Path, tmp_path: Path) -> None:
    """What a checkout without `fetch-depth: 0` does not have may well be in the repository."""
    git(tmp_path, "clone", "--quiet", "--depth=1", f"file://{folder}", "shallow")
    with pytest.raises(UsageProblem, match="fetch-depth: 0"):
        Repository.around(tmp_path / "shallow").find_commit("origin/side")


def test_the_branch_that_head_left_is_found_without_being_named(folder: Path, tmp_path: Path) -> None:
    """GitHub's word comes first, then what the clone knows of its remote, then the usual names."""
    git(folder, "branch", "-m", "main", "trunk")
    git(tmp_path, "clone", "--quiet", str(folder), "clone")
    clone = Repository.around(tmp_path / "clone")
    assert clone.choose_upstream("side") == "origin/side"
    assert clone.choose_upstream("") == "origin/trunk"
    git(clone.folder, "remote", "set-head", "origin", "--delete")
    with pytest.raises(UsageProblem, match=r"names no default branch; say --upstream "):
        clone.choose_upstream("")
    git(folder, "branch", "-m", "trunk", "master")
    git(clone.folder, "fetch", "--quiet")
    git(clone.folder, "remote", "set-head", "origin", "--delete")
    assert clone.choose_upstream("") == "origin/master"


def test_a_repository_without_a_remote_is_told_what_to_say(folder: Path) -> None:
    """One that `git init` made has nothing to fetch: the branches that are there are what can be named."""
    with pytest.raises(UsageProblem) as caught:
        Repository.around(folder).choose_upstream("")
    assert "say --upstream main" in str(caught.value)
    assert "fetch" not in str(caught.value)


def test_a_repository_of_somebody_else_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Git refuses it, and the message has the command that trusts it."""
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")  # git's own switch for testing this
    with pytest.raises(UsageProblem) as caught:
        Repository.around(folder)
    assert str(caught.value) == (
        f"git refuses {folder}, which belongs to another user; if you trust it: "
        f"git config --global --add safe.directory {folder}"
    )


def test_a_machine_without_git_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Say a slim container image."""
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UsageProblem, match=r"\(git is not installed\)"):
        Repository.around(folder)


def test_changes_of_the_working_tree_become_a_commit_that_nothing_refers_to(folder: Path) -> None:
    """Changed and added files are in it, the index and the tree stay as they are, and untracked code is named."""
    repository = Repository.around(folder)
    assert choose(repository, "HEAD")[1].checkout == git(folder, "rev-parse", "HEAD")
    (folder / "code.py").write_text("NUMBER = 3\n")
    (folder / "added.py").write_text("")
    (folder / "forgotten.py").write_text("")
    git(folder, "add", "added.py")
    before = state(folder)
    head = choose(repository, "HEAD")[1]
    assert head.known.sha == git(folder, "rev-parse", "HEAD")
    commit = head.checkout
    assert git(folder, "show", f"{commit}:code.py") == "NUMBER = 3"
    assert "added.py" in git(folder, "ls-tree", "--name-only", commit)
    assert repository.list_untracked() == ["forgotten.py"]
    assert state(folder) == before


def test_both_sides_run_the_suite_file_of_the_working_tree(folder: Path, tmp_path: Path) -> None:
    """A file of the repository is put into the worktree; names, modules and files elsewhere stay."""
    repository = Repository.around(folder)
    (folder / "bench").mkdir()
    suite = folder / "bench" / "suite.py"
    suite.write_text("MODELS = {}\n")
    tree = tmp_path / "tree"
    assert put_suite(str(suite), repository, tree) == str(tree / "bench/suite.py")
    assert (tree / "bench/suite.py").read_text() == "MODELS = {}\n"
    assert put_suite("tiny", repository, tree) == "tiny"
    assert put_suite("/elsewhere/suite.py", repository, tree) == "/elsewhere/suite.py"
