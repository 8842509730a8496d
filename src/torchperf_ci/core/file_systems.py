"""File systems behind URLs, as fsspec knows them."""

from __future__ import annotations

import ipaddress
import sys
from typing import Any
from urllib.parse import urlsplit

from torchperf_ci.core.errors import UsageProblem, require
from torchperf_ci.core.text import one_line

OBJECT_STORES = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "abfs": "adlfs", "az": "adlfs"}
"""Schemes of stores that show a file only when it is whole, and the packages they need."""

PACKAGES = {
    **OBJECT_STORES,
    "abfss": "adlfs",
    "hf": "huggingface_hub",
    "http": "aiohttp",
    "https": "aiohttp",
    "sftp": "paramiko",
    "ssh": "paramiko",
    "webdav": "webdav4",
}
"""The package that a scheme needs beside fsspec."""

SCHEMES = (*OBJECT_STORES, "abfss", "file", "ftp", "hf", "http", "https", "memory", "sftp", "ssh", "webdav")
"""The schemes that a URL may have. fsspec knows more: some read archives, run through caches at places of their own, or
follow references to other files, and a URL may come from a configuration file or the inputs of a workflow."""


def is_url(text: str) -> bool:
    """Say whether this is a URL, and not the path of a file."""
    return "://" in text


def is_loopback(host: str) -> bool:
    """Say whether a host is this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def shown(url: str) -> str:
    """Cut off what `url` may hold of secrets."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}".rstrip("/")


def _url_problem(url: str) -> str:
    """Say why a URL is not one of a plain folder; blank when it is."""
    parts = urlsplit(url)
    if "::" in url:
        return "it is a chain of file systems (::); name the last one alone"
    if parts.scheme not in SCHEMES:
        return f"its scheme {one_line(parts.scheme, limit=40)!r} is none of {', '.join(SCHEMES)}"
    if parts.query or parts.fragment:
        return "it has options after ? or #; a library of a file system takes those from its own variables or files"
    return ""


def open_file_system(url: str, *, purpose: str) -> tuple[Any, str]:
    """Open fsspec's file system of `url`; return it and the path in it.

    purpose: what it is needed for. Raises `UsageProblem` for a scheme that is not among `SCHEMES`, or when a library is
    missing: fsspec, or the scheme's own.
    """
    require("fsspec", purpose=purpose)
    import fsspec

    if problem := _url_problem(url):
        what = shown(url.rpartition("::")[2])  # the secrets of a URL are in its last part
        raise UsageProblem(f"{what} cannot be used: {problem}")
    scheme = urlsplit(url).scheme
    try:
        system, root = fsspec.url_to_fs(url)
    except ImportError as error:
        package = PACKAGES.get(scheme, f"fsspec[{scheme}]")
        raise UsageProblem(
            f"{purpose} needs {package}. Install it: {sys.executable} -m pip install {package}"
        ) from error
    except ValueError as error:
        raise UsageProblem(f"{shown(url)} cannot be used: {one_line(str(error), limit=200)}") from error
    return system, root
