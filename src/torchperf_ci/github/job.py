"""A job of GitHub Actions: what its variables and its event say, and how a step speaks to GitHub's runner."""

from __future__ import annotations

import contextlib
import json
import re
import secrets
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torchperf_ci.core.records import Source
from torchperf_ci.core.text import break_commands, cut_subject, terminal, write_unguarded

SUMMARY_LIMIT = 1_000_000
"""Bytes of a step summary; over 1 MiB GitHub drops the whole of it."""


def read_source(environ: Mapping[str, str], *, shard: str, folder: Path) -> Source:
    """Return the source of records made now. Outside GitHub: the git checkout `folder` is in, or nothing.

    In a job it is GitHub's word, but for the commit: one of another commit than its event may have been checked out.
    """
    origin = _parse_repository(_run_git(folder, "config", "--get", "remote.origin.url"))
    checked_out = _run_git(folder, "rev-parse", "HEAD")
    if environ.get("GITHUB_ACTIONS") != "true":
        branch = _run_git(folder, "rev-parse", "--abbrev-ref", "HEAD")
        subject = _read_subject(folder, checked_out, {})
        return Source(repository=origin, commit=checked_out, branch=branch, shard=shard, subject=subject)
    event = read_event(environ)
    head = (event.get("pull_request") or {}).get("head") or {}
    attempt = environ.get("GITHUB_RUN_ATTEMPT", "")
    is_own = origin.lower() == environ.get("GITHUB_REPOSITORY", "").lower()
    # Of a pull request the merge commit is checked out, and GITHUB_SHA; it is about its head.
    commit = str(head.get("sha") or (checked_out if is_own else "") or environ.get("GITHUB_SHA", ""))
    return Source(
        repository=environ.get("GITHUB_REPOSITORY", ""),
        commit=commit,
        branch=environ.get("GITHUB_HEAD_REF") or environ.get("GITHUB_REF_NAME", ""),
        workflow=environ.get("GITHUB_WORKFLOW", ""),
        run_id=environ.get("GITHUB_RUN_ID", ""),
        attempt=int(attempt) if attempt.isdigit() else 1,
        shard=shard,
        subject=_read_subject(folder, commit, event),
    )


def read_server(environ: Mapping[str, str]) -> str:
    """Return the address of GitHub's pages, as the job has it."""
    return environ.get("GITHUB_SERVER_URL", "https://github.com")


def find_server(environ: Mapping[str, str], source: Source) -> str:
    """Find where GitHub's pages of a run are; blank for what was not made there."""
    return read_server(environ) if source.run_id else ""


def read_event(environ: Mapping[str, str]) -> dict[str, Any]:
    """Return the event that started the workflow, or nothing where there is none."""
    with contextlib.suppress(OSError, ValueError):
        content = json.loads(Path(environ.get("GITHUB_EVENT_PATH") or "/nonexistent").read_text(encoding="utf-8"))
        return content if isinstance(content, dict) else {}
    return {}


def read_base_branch(environ: Mapping[str, str]) -> str:
    """Name the branch that the job's commit is to become part of: that of its pull request or merge group, else the
    default branch. Blank where GitHub says nothing of it."""
    happened = read_event(environ)
    group = happened.get("merge_group") or {}
    candidates = (
        environ.get("GITHUB_BASE_REF"),
        str(group.get("base_ref") or "").removeprefix("refs/heads/"),
        (happened.get("repository") or {}).get("default_branch"),
        environ.get("GITHUB_REF_NAME") if environ.get("GITHUB_EVENT_NAME") == "schedule" else "",  # always the default
    )
    return next((str(name) for name in candidates if name), "")


def _read_subject(folder: Path, commit: str, event: Mapping[str, Any]) -> str:
    """Read the first line of a commit's message: of the checkout, else of the event; blank where neither has it.

    Of a pull request a shallow checkout has the merge commit alone.
    """
    subject = _run_git(folder, "log", "-1", "--format=%s", "--end-of-options", commit) if commit else ""
    pushed = event.get("head_commit") or {}
    if not subject and commit and pushed.get("id") == commit:
        subject = str(pushed.get("message") or "")
    return cut_subject(subject)


def _parse_repository(url: str) -> str:
    """Return `owner/name` of a remote's URL; the rest of it may hold a password."""
    match = re.search(r"[:/]([^/:]+/[^/]+?)(?:\.git)?/?$", url)
    return match.group(1) if match else ""


def _run_git(folder: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, timeout=20, check=True)  # noqa: S607 - the caller's git
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()


def write_outputs(environ: Mapping[str, str], outputs: Mapping[str, str]) -> None:
    """Add outputs to the file of GITHUB_OUTPUT, if there is one. The delimiter is random: a value cannot end early."""
    if not (path := environ.get("GITHUB_OUTPUT")):
        return
    with Path(path).open("a", encoding="utf-8") as stream:
        for name, value in outputs.items():
            delimiter = f"end-{secrets.token_hex(16)}"
            stream.write(f"{name}<<{delimiter}\n{value}\n{delimiter}\n")


def append_summary(environ: Mapping[str, str], markdown: str) -> None:
    """Append to the step summary, if there is one, what fits beside what is there already."""
    if not (path := environ.get("GITHUB_STEP_SUMMARY")):
        return
    target = Path(path)
    used = target.stat().st_size if target.exists() else 0
    content = markdown.encode("utf-8", errors="replace") + b"\n"
    if used + len(content) > SUMMARY_LIMIT:
        content = b"\n_The report does not fit into this step summary; it is in the artifact._\n"
    with target.open("ab") as stream:
        stream.write(content)


def make_command(name: str, message: str = "", **properties: str) -> str:
    """Return one workflow command, without the line end; blank properties are left out.

    Text from outside cannot end it or begin another.
    """

    def escape(text: str) -> str:
        return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")

    escaped = (
        f"{key}={escape(value).replace(':', '%3A').replace(',', '%2C')}" for key, value in properties.items() if value
    )
    return f"::{f'{name} {joined}' if (joined := ','.join(escaped)) else name}::{escape(message)}"


def annotate(message: str, *, title: str, file: str = "", line: int = 0) -> None:
    """Print an error that GitHub shows beside the run and at the file's line; nothing in its text is obeyed."""
    text = make_command("error", message, title=title, file=file, line=str(line or "")).removeprefix("::")
    write_unguarded(f"::{break_commands(terminal(text))}", sys.stdout)


@contextmanager
def stop_commands(environ: Mapping[str, str]) -> Iterator[None]:
    """In a GitHub job, show what reaches standard error while the block runs, without its being obeyed.

    The runner may handle a batch of standard error before one of standard output, so that the words that stop and
    resume protect their own stream alone. Nobody else's code writes to our standard output.
    """
    if environ.get("GITHUB_ACTIONS") != "true":
        yield
        return
    token = secrets.token_hex(16)
    write_unguarded(make_command("stop-commands", token), sys.stderr)
    try:
        yield
    finally:
        write_unguarded(make_command(token), sys.stderr)
