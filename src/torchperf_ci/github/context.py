"""Where a run takes place, read from GitHub's variables, or from git where there is no GitHub."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torchperf_ci.core.records import Source


def source_from(environ: Mapping[str, str], *, shard: str, folder: Path) -> Source:
    """The source of records made now. Outside GitHub: the git checkout `folder` is in, or nothing.

    In a job it is GitHub's word, but for the commit: one of another commit than its event may have been checked out.
    """
    if environ.get("GITHUB_ACTIONS") != "true":
        return Source(
            repository=_repository_of(_git(folder, "config", "--get", "remote.origin.url")),
            commit=_git(folder, "rev-parse", "HEAD"),
            branch=_git(folder, "rev-parse", "--abbrev-ref", "HEAD"),
            shard=shard,
        )
    head = (event(environ).get("pull_request") or {}).get("head") or {}
    attempt = environ.get("GITHUB_RUN_ATTEMPT", "")
    return Source(
        repository=environ.get("GITHUB_REPOSITORY", ""),
        # Of a pull request the merge commit is checked out, and GITHUB_SHA; it is about its head.
        commit=str(head.get("sha") or _checked_out(environ, folder) or environ.get("GITHUB_SHA", "")),
        branch=environ.get("GITHUB_HEAD_REF") or environ.get("GITHUB_REF_NAME", ""),
        workflow=environ.get("GITHUB_WORKFLOW", ""),
        run_id=environ.get("GITHUB_RUN_ID", ""),
        attempt=int(attempt) if attempt.isdigit() else 1,
        shard=shard,
    )


def _checked_out(environ: Mapping[str, str], folder: Path) -> str:
    """The commit in `folder`, if that is a checkout of the job's repository."""
    origin = _repository_of(_git(folder, "config", "--get", "remote.origin.url"))
    is_own = origin.lower() == environ.get("GITHUB_REPOSITORY", "").lower()
    return _git(folder, "rev-parse", "HEAD") if is_own else ""


def event(environ: Mapping[str, str]) -> dict[str, Any]:
    """The event that started the workflow, or nothing where there is none."""
    with contextlib.suppress(OSError, ValueError):
        found = json.loads(Path(environ.get("GITHUB_EVENT_PATH") or "/nonexistent").read_text(encoding="utf-8"))
        return found if isinstance(found, dict) else {}
    return {}


def base_branch_of(environ: Mapping[str, str]) -> str:
    """Name the branch that the job's commit is to become part of: that of its pull request or merge group, else the
    default branch. Blank where GitHub says nothing of it."""
    happened = event(environ)
    group = happened.get("merge_group") or {}
    named = (
        environ.get("GITHUB_BASE_REF"),
        str(group.get("base_ref") or "").removeprefix("refs/heads/"),
        (happened.get("repository") or {}).get("default_branch"),
        environ.get("GITHUB_REF_NAME") if environ.get("GITHUB_EVENT_NAME") == "schedule" else "",  # always the default
    )
    return next((str(name) for name in named if name), "")


def _repository_of(url: str) -> str:
    """`owner/name` of a remote's URL; the rest of it may hold a password."""
    found = re.search(r"[:/]([^/:]+/[^/]+?)(?:\.git)?/?$", url)
    return found.group(1) if found else ""


def _git(folder: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, timeout=20, check=True)  # noqa: S607 - the caller's git
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
