"""Where a comparison's pairs come from: two workers driven in turn, or one after the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from itertools import chain
from typing import Protocol

from torchperf_ci.compare.effects import Launch
from torchperf_ci.run.case_worker import CaseWorker, arm_times
from torchperf_ci.run.plan import PlannedCase
from torchperf_ci.run.sampler import PairSource, SamplePair


class Interleave(str, Enum):
    """How the two sides take turns: single iterations, blocks of about 50 ms, or whole launches one after the other.

    Auto: single iterations, and whole launches for a case whose sides do not fit beside each other.
    """

    AUTO = "auto"
    ITERATION = "iteration"
    BLOCK = "block"
    LAUNCH = "launch"

    __str__ = str.__str__


class AskedPairs(PairSource, Protocol):
    """A source that knows which side it asked last: the one to blame when it fails."""

    asking: str


def plain_arm(planned: PlannedCase) -> str:
    """The arm that is compared: with the compiler `eager` the module as it is, else the compiled one."""
    return "eager" if planned.case.compiler == "eager" else "compiled"


def launch_of(pairs: Sequence[SamplePair]) -> Launch:
    """The times of pairs whose first arm is base and whose second is head; the device's where it has events."""
    return Launch(
        base=tuple(pair.first if pair.first_device is None else pair.first_device for pair in pairs),
        head=tuple(pair.second if pair.second_device is None else pair.second_device for pair in pairs),
        probe=tuple(pair.probe for pair in pairs),
    )


class OneArm:
    """A `PairSource` of one side's arm against itself: what a launch without its other side is sampled with."""

    def __init__(self, worker: CaseWorker, arm: str, *, side: str) -> None:
        self._worker, self._arm, self._recompiled = worker, arm, False
        self.asking = side

    def take(self, swapped: Sequence[bool], repeats: int) -> list[SamplePair]:
        reply = self._worker.sample([[self._arm, self._arm]] * len(swapped), {self._arm: repeats})
        self._recompiled |= reply["recompiled"]
        times = arm_times(reply, self._arm)
        pairs = zip(times[::2], times[1::2], reply["probe"], strict=True)
        return [_pair(first, second, probe) for first, second, probe in pairs]

    def invalidated(self) -> bool:
        recompiled, self._recompiled = self._recompiled, False
        return recompiled


class TwoWorkerPairs:
    """A `PairSource` of two workers driven in turn; `asking` is the one asked last.

    On an accelerator the first iteration after a switch of sides is not read: the other process has just used
    the device.
    """

    def __init__(self, workers: Mapping[str, CaseWorker], arms: Mapping[str, str], *, interleave: Interleave) -> None:
        self._workers, self._arms, self._interleave = workers, arms, interleave
        self._recompiled = False
        self.asking = "base"

    def take(self, swapped: Sequence[bool], repeats: int) -> list[SamplePair]:
        if self._interleave is Interleave.BLOCK:
            return self._in_order(len(swapped), swapped[0] if swapped else False, repeats)
        return list(chain.from_iterable(self._in_order(1, turned, repeats) for turned in swapped))

    def invalidated(self) -> bool:
        recompiled, self._recompiled = self._recompiled, False
        return recompiled

    def _in_order(self, count: int, turned: bool, repeats: int) -> list[SamplePair]:  # noqa: FBT001 - as in PairSource
        readings: dict[str, list[tuple[float, float | None]]] = {}
        probe: list[int] = []
        for side in ("head", "base") if turned else ("base", "head"):
            self.asking = side
            worker, arm = self._workers[side], self._arms[side]
            reply = worker.sample([[arm]] * count, {arm: repeats}, discard=int(worker.on_accelerator))
            self._recompiled |= reply["recompiled"]
            readings[side], probe = arm_times(reply, arm), reply["probe"]
        times = zip(readings["base"], readings["head"], probe, strict=True)
        return [_pair(first, second, time) for first, second, time in times]


def _pair(first: tuple[float, float | None], second: tuple[float, float | None], probe: int) -> SamplePair:
    return SamplePair(
        first=first[0], second=second[0], probe=probe / 1e9, first_device=first[1], second_device=second[1]
    )
