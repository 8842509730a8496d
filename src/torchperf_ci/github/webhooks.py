"""A webhook: a message for people, sent to an address that is a secret."""

from __future__ import annotations

import time
from collections.abc import Mapping
from urllib.parse import urlsplit

import requests

from torchperf_ci.core.errors import Refused, UsageProblem
from torchperf_ci.core.file_systems import is_loopback
from torchperf_ci.github.client import TIMEOUT_S, USER_AGENT

MAX_TRIES = 3
FIRST_WAIT_S = 1.0


def check_webhook(url: str) -> None:
    """Raise `UsageProblem`, which does not hold it, for an address that nothing can be sent to."""
    try:
        scheme, host = urlsplit(url).scheme, urlsplit(url).hostname
    except ValueError:
        scheme, host = "", None
    if not host or scheme not in {"https", "http"}:
        raise UsageProblem("--webhook is no address: it begins with https:// and a host")
    if scheme == "http" and not is_loopback(host):
        raise UsageProblem(f"--webhook would send to {hide_webhook(url)} unencrypted; use https")


def hide_webhook(url: str) -> str:
    """Write of a webhook's address what may be shown: the host. Its path is what gives the right to send."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname or ''}/…"


def send_webhook(url: str, message: Mapping[str, object]) -> None:
    """Send a message as JSON. Server errors and broken connections are tried again; redirects are not followed.

    Raises `Refused`, which holds the host alone.
    """
    problem = ""
    for tries in range(1, MAX_TRIES + 1):
        try:
            answer = requests.post(
                url,
                json=message,
                timeout=TIMEOUT_S,
                headers={"User-Agent": USER_AGENT},
                allow_redirects=False,
            )
        except requests.RequestException as error:  # its text holds the address
            problem = f"cannot be reached ({type(error).__name__})"
        else:
            if 200 <= answer.status_code < 300:
                return
            problem = f"answers {answer.status_code}"
            if answer.status_code < 500 and answer.status_code != 429:
                break
        if tries < MAX_TRIES:
            time.sleep(FIRST_WAIT_S * 2.0 ** (tries - 1))
    raise Refused(f"the webhook at {hide_webhook(url)} {problem}, so nobody was told") from None
