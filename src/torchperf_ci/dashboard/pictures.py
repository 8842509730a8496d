"""Pictures handed to a command of the user's, which prints where they can be seen."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from torchperf_ci.core.errors import UsageProblem
from torchperf_ci.core.text import one_line

TIMEOUT_S = 120


def upload_by_command(command: str, pictures: Sequence[Path]) -> tuple[dict[str, str], list[str]]:
    """Run `command FILE`, without a shell, for every picture; its one line of output is the address.

    Return the addresses by file name, and a sentence for every picture whose command fails or prints anything else.
    Raises `UsageProblem` when the command cannot be started at all.
    """
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise UsageProblem(f"--image-uploader {command!r} cannot be split into words: {error}") from error
    if not words:
        raise UsageProblem("--image-uploader is blank")
    urls: dict[str, str] = {}
    problems: list[str] = []
    for picture in pictures:
        try:
            urls[picture.name] = _upload(words, picture)
        except ValueError as error:
            problems.append(f"--image-uploader: {picture.name} has no address: {error}")
    return urls, problems


def _upload(words: Sequence[str], picture: Path) -> str:
    """Upload one picture and return its address. Raises `ValueError` saying why there is none."""
    try:
        done = subprocess.run(
            [*words, str(picture)], capture_output=True, timeout=TIMEOUT_S, check=False, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired as error:
        raise ValueError(f"no answer within {TIMEOUT_S} s") from error
    except OSError as error:
        raise UsageProblem(f"--image-uploader: {words[0]} cannot be started ({error.strerror})") from error
    if done.returncode:
        why = one_line(done.stderr.decode(errors="replace"), limit=200)
        raise ValueError(f"the command ended with {done.returncode}{f': {why}' if why else ''}")
    address = done.stdout.decode(errors="replace").strip()
    parts = urlsplit(address)
    # Nothing in it may mean anything else in Markdown.
    is_tame = address.isascii() and address.isprintable() and not set(address) & set(" ()<>\"'\\|`")
    if not (is_tame and parts.scheme in {"http", "https"} and parts.hostname):
        raise ValueError(f"the command printed {one_line(address, limit=80)!r}, expected one line with a URL")
    return address
