"""Pictures handed to a command of the user's, which prints where they can be seen."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from torchperf_ci.core.errors import UsageProblem
from torchperf_ci.core.text import one_line

TIMEOUT_S = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class Uploaded:
    """The addresses of pictures by file name, and why others have none."""

    urls: Mapping[str, str]
    problems: tuple[str, ...]


def upload_by_command(command: str, pictures: Sequence[Path]) -> Uploaded:
    """Run `command FILE`, without a shell, for every picture; its one line of output is the address.

    A picture whose command fails or prints anything else has no address, and there is a sentence why. Raises
    `UsageProblem` when the command cannot be started at all.
    """
    words = _words(command)
    urls: dict[str, str] = {}
    problems: list[str] = []
    for picture in pictures:
        try:
            urls[picture.name] = _address(words, picture)
        except ValueError as error:
            problems.append(f"--image-uploader: {picture.name} has no address: {error}")
    return Uploaded(urls=urls, problems=tuple(problems))


def _words(command: str) -> list[str]:
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise UsageProblem(f"--image-uploader {command!r} cannot be split into words: {error}") from error
    if not words:
        raise UsageProblem("--image-uploader is blank")
    return words


def _address(words: Sequence[str], picture: Path) -> str:
    """Raises `ValueError` saying why there is none."""
    try:
        done = subprocess.run(
            [*words, str(picture)], capture_output=True, timeout=TIMEOUT_S, check=False, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired as error:
        raise ValueError(f"no answer within {TIMEOUT_S} s") from error
    except OSError as error:
        raise UsageProblem(f"--image-uploader: {words[0]} cannot be started ({error.strerror})") from error
    said = done.stdout.decode(errors="replace").strip()
    if done.returncode:
        why = one_line(done.stderr.decode(errors="replace"), limit=200)
        raise ValueError(f"the command ended with {done.returncode}{f': {why}' if why else ''}")
    if not _is_address(said):
        raise ValueError(f"the command printed {one_line(said, limit=80)!r}, expected one line with a URL")
    return said


def _is_address(text: str) -> bool:
    """One http address that means nothing else in Markdown."""
    parts = urlsplit(text)
    tame = text.isascii() and text.isprintable() and not set(text) & set(" ()<>\"'\\|`")
    return tame and parts.scheme in {"http", "https"} and bool(parts.hostname)
