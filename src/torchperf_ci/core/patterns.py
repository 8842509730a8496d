"""Regular expressions that a caller gives, held against names: none of them may take for ever."""

from __future__ import annotations

import re
import signal
import threading
from types import FrameType
from typing import NoReturn

from torchperf_ci.core.errors import UsageProblem

LIMIT_S = 2.0
"""CPU seconds for one name, which takes microseconds unless a pattern backtracks without end."""


def search(pattern: re.Pattern[str], text: str, *, whole: bool = False) -> bool:
    """Say whether `pattern` matches somewhere in `text`, or with `whole` all of it.

    Raises `UsageProblem` when that takes too long, as `(a+)+$` does: the time doubles with each letter. CPU time
    counts, so that a busy machine makes no difference. Python looks for signals in its main thread alone; in others
    there is no limit.
    """
    look = pattern.fullmatch if whole else pattern.search
    if threading.current_thread() is not threading.main_thread():
        return look(text) is not None

    def give_up(_: int, __: FrameType | None) -> NoReturn:
        raise UsageProblem(
            f"the pattern {pattern.pattern[:100]!r} takes more than {LIMIT_S:g} s on the name {text[:60]!r}; write it "
            "without a repetition inside of a repetition"
        )

    before = signal.signal(signal.SIGVTALRM, give_up)
    try:
        signal.setitimer(signal.ITIMER_VIRTUAL, LIMIT_S)
        return look(text) is not None
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
