"""Addresses of the pages of a site that `torchperf-ci site` makes: the same for everybody who links to it.

An address follows from what it names, not from the site, so that a link can be written before the page is there, and
stays right when the site is made again. Names from outside never stand in one, but for a metric's, which is quoted.
"""

from __future__ import annotations

import hashlib
from urllib.parse import quote

from torchperf_ci.core.records import Case


def identify_case(case: Case) -> str:
    """Write twelve hexadecimal digits that stand for a case, in addresses and file names."""
    return _digest(case.suite, case.model, case.mode.value, case.device, case.dtype, case.compiler)


def identify_run(key: str) -> str:
    """Write twelve hexadecimal digits that stand for a run, by its key in the series that a site shows."""
    return _digest(key)


def case_address(site: str, case: Case, metric: str = "") -> str:
    """Write the address of a case's page, of one of its metrics if one is named.

    site: the address of the site, a folder or its index.html; blank for an address inside of the site.
    """
    return page_address(site, identify_case(case), metric)


def page_address(site: str, case: str, metric: str = "") -> str:
    """Write the address of the page of a case that `identify_case` stands for."""
    return f"{start_address(site)}#/case/{case}" + (f"?metric={quote(metric, safe='')}" if metric else "")


def start_address(site: str) -> str:
    """Write the address of a site's first page: that of a folder ends with a slash, from which relative paths count."""
    return site if not site or site.endswith(("/", ".html", ".htm")) else f"{site}/"


def _digest(*parts: str) -> str:
    joined = "\0".join(parts).encode("utf-8", errors="replace")
    return hashlib.sha256(joined).hexdigest()[:12]
