"""When a request that failed is worth another try, and how long to wait before it. Pure, but for the `Pace`."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime

MAX_TRIES = 6
"""Tries of a request that meets server errors or broken connections; rate limits are waited for by time, not count."""

FIRST_WAIT_S = 1.0
SECONDARY_WAIT_S = 60.0
BETWEEN_WRITES_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back: the status (0: nothing, the connection failed), headers by lower-case name, and the text."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    text: str = ""
    error: str = ""

    @property
    def is_rate_limit(self) -> bool:
        """Did GitHub refuse because of too many requests? It says so with 429, or with 403 and one of three signs."""
        return self.status == 429 or (
            self.status == 403
            and (
                "retry-after" in self.headers
                or self.headers.get("x-ratelimit-remaining") == "0"
                or "rate limit" in self.text.lower()
            )
        )

    @property
    def is_passing_fault(self) -> bool:
        """A fault of the server or the connection that is likely to pass."""
        return self.status == 0 or self.status >= 500 or self.status == 408


def wait_before_next_try(answer: Answer, *, tries: int, now: float, jitter: float) -> float | None:
    """Seconds to wait after the try number `tries` (from 1), or nothing when another one is of no use.

    A rate limit: `retry-after`, else until `x-ratelimit-reset`, else 60 s, doubled every time. A passing fault: 1 s,
    doubled every time, at most `MAX_TRIES` tries. `now` is the time in seconds since 1970, `jitter` from 0 to 1
    lengthens the wait by up to a half, so that several waiting programs do not come back together.
    """
    if answer.is_rate_limit:
        named = _named_wait(answer.headers, now)
        return named + jitter if named is not None else SECONDARY_WAIT_S * 2.0 ** (tries - 1) * (1 + jitter / 2)
    if answer.is_passing_fault and tries < MAX_TRIES:
        named = _seconds(answer.headers.get("retry-after", ""), now) or 0.0
        return max(named, FIRST_WAIT_S * 2.0 ** (tries - 1) * (1 + jitter / 2))
    return None


def _named_wait(headers: Mapping[str, str], now: float) -> float | None:
    if (after := _seconds(headers.get("retry-after", ""), now)) is not None:
        return after
    reset = headers.get("x-ratelimit-reset", "")
    if headers.get("x-ratelimit-remaining") == "0" and reset.isdigit():
        return max(0.0, int(reset) - now) + 1.0  # it is not said when in that second
    return None


def _seconds(retry_after: str, now: float) -> float | None:
    """The wait that a retry-after header names, as seconds or as a date."""
    if retry_after.strip().isdigit():
        return float(retry_after)
    try:
        return max(0.0, parsedate_to_datetime(retry_after).timestamp() - now)
    except (TypeError, ValueError):
        return None


@dataclass(slots=True)
class Pace:
    """How fast requests may follow each other, shared by all threads of a client: a second between writes, and nobody
    sends before a rate limit that one of them met has passed."""

    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.time
    jitter: Callable[[], float] = random.random
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _resume_at: float = 0.0
    _next_write: float = 0.0

    def take_turn(self, *, writes: bool, urgent: bool = False) -> None:
        """Return when the next request may go out. An urgent write goes at once; later ones wait the longer for it."""
        with self._lock:
            now = self.clock()
            at = max(now, self._resume_at, self._next_write if writes and not urgent else 0.0)
            if writes:
                self._next_write = max(at, self._next_write) + BETWEEN_WRITES_S
        if at > now:
            self.sleep(at - now)

    def hold_all(self, seconds: float) -> None:
        """Nobody sends for `seconds`."""
        with self._lock:
            self._resume_at = max(self._resume_at, self.clock() + seconds)
