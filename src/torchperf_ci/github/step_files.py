"""How a step talks to GitHub: the files of outputs and step summary."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from pathlib import Path

SUMMARY_LIMIT = 1_000_000
"""Bytes of a step summary; over 1 MiB GitHub drops the whole of it."""


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
