"""What the system says of its own load, from canned files of /proc."""

from __future__ import annotations

from pathlib import Path

import pytest

from torchperf_ci.machine.host import HostWatch


def say(root: Path, *, stat: str, waited: int) -> None:
    for name, content in (("stat", stat), ("pressure/cpu", f"some avg10=0.00 avg60=0.00 total={waited}\nfull total=9")):
        (root / "proc" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "proc" / name).write_text(content)


def test_what_is_counted_since_the_beginning(tmp_path: Path) -> None:
    """A quarter of the new CPU time was stolen (the guests' times are not counted twice), and something waited."""
    say(tmp_path, stat="cpu  100 0 0 800 0 0 0 50 70 0\ncpu0 1\n", waited=5_000_000)
    watch = HostWatch(tmp_path)
    say(tmp_path, stat="cpu  130 0 0 830 0 0 0 70 90 0\ncpu0 1\n", waited=5_000_001)
    seen = watch.seen()
    assert seen.steal == pytest.approx(20 / 80)
    assert seen.pressure is not None
    assert seen.pressure > 0
    assert seen.load is not None


def test_what_is_not_said_is_unknown(tmp_path: Path) -> None:
    """Neither file is there, or no time has passed between the readings."""
    assert (HostWatch(tmp_path).seen().steal, HostWatch(tmp_path).seen().pressure) == (None, None)
    say(tmp_path, stat="cpu  1 1 1 1 1 1 1 1\n", waited=0)
    assert HostWatch(tmp_path).seen().steal is None
