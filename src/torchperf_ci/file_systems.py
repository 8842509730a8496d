"""File systems behind URLs, as fsspec knows them."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from torchperf_ci.errors import UsageProblem
from torchperf_ci.escape import one_line
from torchperf_ci.extras import require

OBJECT_STORES = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "abfs": "adlfs", "az": "adlfs"}
"""Schemes of stores that show a file only when it is whole, and the packages they need."""


def is_url(text: str) -> bool:
    """Is this a URL, and not the path of a file?"""
    return "://" in text


def shown(url: str) -> str:
    """`url` without what it may hold of secrets."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}".rstrip("/")


def open_file_system(url: str, *, extra: str, purpose: str) -> tuple[Any, str]:
    """fsspec's file system of `url`, and the path in it.

    Raises `UsageProblem` for an unknown scheme, or when a library is missing: fsspec, which is in the extra `extra`, or
    the scheme's own. `purpose` is what the library would be needed for.
    """
    require("fsspec", extra=extra, purpose=purpose)
    import fsspec

    scheme = urlsplit(url).scheme
    try:
        system, root = fsspec.url_to_fs(url)
    except ImportError as error:
        package = OBJECT_STORES.get(scheme, "the file system's package")
        raise UsageProblem(f"{purpose} needs {package}; pip install {package}") from error
    except ValueError as error:
        raise UsageProblem(f"{shown(url)} cannot be used: {one_line(str(error), limit=200)}") from error
    return system, root
