"""The level of a series of numbers, run by run: when it changed, whether it came back, and whether its newest value is
off.

Values come in one order and are judged in it, each by those before it, so that what was said after a run stays said.
Two rules tell a change. A value beyond the band of the last runs at its level, and beyond the margin, is off; when the
next one is off on the same side as well, the level has changed. And where values of many runs together have moved by
more than the margin, `find_levels` looks for the place: it finds small steps in noise, and slow drifts.

Such a place is a candidate of PELT with a least-squares cost on log values (Killick et al. 2012, by ruptures), with
spikes cut so that one bad night is no level. It stays when Student's t between its two neighbouring levels, with the
spread as it is, spikes included, is improbable for as many places as there are runs. docs/dashboard.md has the error
rates.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from statistics import NormalDist, median
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np


LEAST_RUNS = 8
LEAST_AT_A_LEVEL = 3
LEAST_CHANGE = 0.02
ERROR_RATE = 0.001
_PENALTY = 3.0
_SPIKE = 3.0
_LEAST_SPREAD = 1e-4


def find_levels(logs: np.ndarray[Any, Any]) -> list[int]:
    """Find where new levels begin, as places in the logarithms of values."""
    import numpy as np

    if len(logs) < LEAST_RUNS or float(np.ptp(logs)) < math.log1p(LEAST_CHANGE):
        return []
    places = _find_candidates(logs)
    while places:
        edges = pairwise(pairwise([0, *places, len(logs)]))  # every place with the one before and the one after it
        odds = [_rate_change(logs[start:place], logs[place:end]) for (start, place), (_, end) in edges]
        worst = max(range(len(odds)), key=odds.__getitem__)
        if odds[worst] * len(logs) <= ERROR_RATE:
            break
        del places[worst]
    return places


def _find_candidates(logs: np.ndarray[Any, Any]) -> list[int]:
    import numpy as np
    import ruptures
    from scipy.ndimage import median_filter

    spread = max(float(np.median(np.abs(np.diff(logs)))) / (0.6745 * math.sqrt(2)), _LEAST_SPREAD)
    middles = median_filter(logs, size=2 * LEAST_AT_A_LEVEL + 1, mode="nearest")
    signal = np.clip(logs, middles - _SPIKE * spread, middles + _SPIKE * spread) / spread
    search = ruptures.KernelCPD(kernel="linear", min_size=LEAST_AT_A_LEVEL).fit(signal.reshape(-1, 1))
    return [int(place) for place in search.predict(pen=_PENALTY * math.log(len(logs)))[:-1]]


def _rate_change(before: np.ndarray[Any, Any], after: np.ndarray[Any, Any]) -> float:
    """Compute how probable a difference like this is without a change, by Student's t with a pooled spread.

    1 for what is no change that matters: a small one, or one that too few runs have.
    """
    import numpy as np
    from scipy.special import stdtr

    old, new = float(np.median(before)), float(np.median(after))
    at_old = int((abs(before - old) < abs(before - new)).sum())
    at_new = int((abs(after - new) < abs(after - old)).sum())
    if abs(new - old) < math.log1p(LEAST_CHANGE) or min(at_old, at_new) < LEAST_AT_A_LEVEL:
        return 1.0
    degrees = len(before) + len(after) - 2
    squares = float(((before - before.mean()) ** 2).sum() + ((after - after.mean()) ** 2).sum())
    spread = max(math.sqrt(squares / degrees), _LEAST_SPREAD)
    t = abs(float(after.mean() - before.mean())) / (spread * math.sqrt(1 / len(before) + 1 / len(after)))
    return 2 * float(stdtr(degrees, -t))


NEEDED = 5
"""So many values at a level are needed to judge the next one."""

WINDOW = 20
"""The band is made of so many of the last values at the level."""

SPREADS = 4.0
"""Half the width of the band, in spreads of the values in it."""

RECENT = 5
"""So many of the newest values are held against the beginning of their level, to see a slow change."""

LONGEST = 150
"""A slow change is looked for in so many of the newest values."""

MOST_IN_A_ROW = 8
"""A level is back when so many values in a row, at most, are. Where noise asks for more, `find_levels` may say it."""

_FALSE_RETURN = 1e-4
_BLOCK = 256
_TO_SIGMA = 1.4826
"""The spread of a normal distribution over its median absolute deviation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shift:
    """A lasting change of level, by places in the values. Levels are in the units of the values.

    first: the first value of the new level. shown: the value that showed it. back: the first value that is back, and
    returned: the one that showed it, or None. accepted: was it accepted?
    """

    first: int
    shown: int
    back: int | None = None
    returned: int | None = None
    old: float
    new: float
    is_accepted: bool = False

    @property
    def is_worse(self) -> bool:
        return self.new > self.old

    @property
    def is_open(self) -> bool:
        return self.is_worse and self.returned is None and not self.is_accepted


@dataclass(frozen=True, slots=True, kw_only=True)
class Levels:
    """The levels of a series after its newest value.

    shifts: oldest first. off: the place of the newest value when it alone is worse. level: None while there are too few
    values to judge the next one. runs: values at this level.
    """

    shifts: tuple[Shift, ...]
    off: int | None
    level: float | None
    runs: int


@dataclass(slots=True, kw_only=True)
class _Follower:
    """The knowledge after some of the values. members: the places of the values at the level.

    spread: that of the level before, where this one is too short to have one.
    """

    values: np.ndarray[Any, Any]
    margin: float
    members: list[int] = field(default_factory=list)
    spread: float | None = None
    shifts: list[Shift] = field(default_factory=list)
    off: int | None = None

    def follow(self, accepted: Sequence[tuple[int, int]]) -> None:
        """Judge every value. accepted: places from which on changes up to a place are accepted."""
        place = 0
        while place < len(self.values):
            place = self._follow_open(place, accepted) if self._is_open else self._follow_level(place)
        if self._is_open:
            self._accept(len(self.values), accepted)

    @property
    def _is_open(self) -> bool:
        return bool(self.shifts) and self.shifts[-1].is_open

    def _follow_level(self, place: int) -> int:
        """Add values to the level up to the first one that something is to be said about; return the next place."""
        looked_until = place  # no value before this place but the `striking` ones needs a look
        striking: Iterator[tuple[int, bool]] = iter(())
        searched_from = place  # after searches in vain the next one comes later: they take long
        while place < len(self.values):
            may_be_off = True
            if len(self.members) >= WINDOW:
                if place >= looked_until:
                    looked_until = min(place + _BLOCK, len(self.values))
                    striking = self._find_striking(place, looked_until)
                following, may_be_off = next(
                    ((at, is_off) for at, is_off in striking if is_off or at >= searched_from), (looked_until, False)
                )
                self.members += range(place, following)
                place = following
                if place == looked_until:
                    continue
            alone = self._judge_alone(place) if may_be_off else None
            self.members.append(place)
            has_moved = not may_be_off  # a striking value that is not off shows a slow change
            # This value's own change comes first: it is known before the next value is, which `alone` looks at.
            if self.margin and place >= searched_from and (has_moved or self._may_have_moved()):
                if (shift := self._find_slow_shift(place)) is not None:
                    self.off = None
                    self._shift(shift)
                    return place + 1
                searched_from = place + 1 + len(self.members) // 50
            if alone is not None:
                self.members.pop()
                self._shift(alone)
                return alone.shown + 1
            place += 1
        return place

    def _judge_alone(self, place: int) -> Shift | None:
        """Hold a value against the band; when the next one is off on the same side, that is a change."""
        middle, half = self._band()
        value = float(self.values[place])
        if half is None or abs(value - middle) <= half:
            return None
        if place + 1 == len(self.values):
            self.off = place if value > middle else None
            return None
        next_off = float(self.values[place + 1]) - middle
        if abs(next_off) <= half or (value > middle) != (next_off > 0):
            return None
        return Shift(first=place, shown=place + 1, old=middle, new=self._middle(place, place + 2))

    def _shift(self, shift: Shift) -> None:
        """Begin a new level, but for a change for the worse: first it is open."""
        self.spread = self._spread()
        self.shifts.append(shift)
        if shift.is_worse:
            self.members = [place for place in self.members if place < shift.first]
        else:
            self.members = [place for place in self.members if place >= shift.first]
            self.members += range(max([shift.first - 1, *self.members]) + 1, shift.shown + 1)

    def _follow_open(self, place: int, accepted: Sequence[tuple[int, int]]) -> int:
        """Look for the return to the level before; return the place after it, or after an acceptance."""
        shift = self.shifts[-1]
        spread = self.spread or 0.0
        limit = shift.old + min(max(self.margin, spread), (shift.new - shift.old) / 2)
        chance = NormalDist().cdf((limit - shift.new) / spread) if spread else 0.0
        needed = 2 if chance <= 0 else max(2, math.ceil(math.log(_FALSE_RETURN) / math.log(chance)))
        row = 0
        while place < len(self.values):
            if self._accept(place, accepted):
                return place
            row = row + 1 if self.values[place] <= limit else 0
            back = place - row + 1 if row >= min(needed, MOST_IN_A_ROW) else None
            if back is None and row and needed > LEAST_RUNS:
                back = self._find_return(shift, place, limit)
            place += 1
            if back is not None:
                self.shifts[-1] = replace(shift, back=back, returned=place - 1, new=self._middle(shift.first, back))
                self.members += range(back, place)
                return place
        self.shifts[-1] = replace(shift, new=self._middle(max(shift.first, place - RECENT), place))
        return place

    def _accept(self, place: int, accepted: Sequence[tuple[int, int]]) -> bool:
        """Accept the open change before the value at `place`, if somebody did; its level is the usual one then."""
        shift = self.shifts[-1]
        if not any(since <= place and shift.first < until for since, until in accepted):
            return False
        self.shifts[-1] = replace(shift, is_accepted=True, new=self._middle(shift.first, place))
        self.members = list(range(shift.first, place))
        return True

    def _find_return(self, shift: Shift, place: int, limit: float) -> int | None:
        values = self.values[shift.first : place + 1]
        places = find_levels(values) if _median(values[-RECENT:]) <= limit else []
        if places and _median(values[places[-1] :]) <= limit:
            return shift.first + places[-1]
        return None

    def _find_slow_shift(self, place: int) -> Shift | None:
        """Find the change from the beginning of the level to its end, if there is one larger than the margin."""
        members = self.members[-LONGEST:]
        values = self.values[members]
        places = find_levels(values)
        if not places:
            return None
        edges = [0, *places, len(members)]
        levels = [_median(values[start:end]) for start, end in pairwise(edges)]
        moved = levels[-1] - levels[0]
        if abs(moved) <= self.margin:
            return None
        # Of several steps the first after which it was never less than half way.
        half = [(level - levels[0]) / moved >= 0.5 for level in levels]
        step = max(number for number, is_beyond in enumerate(half) if not is_beyond)
        return Shift(first=members[places[step]], shown=place, old=levels[0], new=levels[-1])

    def _band(self) -> tuple[float, float | None]:
        """Compute the middle of the band and half its width; None where too little is known."""
        last = self.values[self.members[-WINDOW:]]
        if len(last) < (1 if self.spread is not None else NEEDED):
            return math.nan, None
        return _median(last), max(self.margin, SPREADS * self._spread() * (1 + 3 / max(len(last), NEEDED)))

    def _spread(self) -> float:
        last = self.values[self.members[-WINDOW:]]
        if len(last) < NEEDED:
            return self.spread or 0.0
        own = _TO_SIGMA * _median(abs(last - _median(last)))
        return own if self.spread is None or len(last) >= 2 * NEEDED else max(own, self.spread)

    def _may_have_moved(self) -> bool:
        """Say whether it is worth while to look for a slow change, for better or worse."""
        if len(self.members) < LEAST_RUNS:
            return False
        begin = self.members[: min(WINDOW, len(self.members) - RECENT)]
        middle, spread = _median(self.values[begin]), self._spread()
        return any(
            abs(_median(self.values[self.members[-size:]]) - middle)
            > max(self.margin, _tolerate(spread, size, len(begin)))
            for size in (RECENT, WINDOW)
        )

    def _find_striking(self, start: int, end: int) -> Iterator[tuple[int, bool]]:
        """Find the values that are off (True) or may show a slow change; those before each are of the level."""
        import numpy as np
        from numpy.lib.stride_tricks import sliding_window_view

        begin = _median(self.values[self.members[:WINDOW]])
        near = np.concatenate([self.values[self.members[-WINDOW:]], self.values[start:end]])
        windows = sliding_window_view(near, WINDOW)
        middles = _medians(windows)
        spreads = _TO_SIGMA * _medians(abs(windows - middles[:, None]))
        is_off = abs(near[WINDOW:] - middles[:-1]) > np.maximum(self.margin, SPREADS * spreads[:-1] * (1 + 3 / WINDOW))
        strikes = is_off
        if self.margin:
            recent = _medians(sliding_window_view(near[WINDOW - RECENT + 1 :], RECENT))
            strikes = (
                is_off
                | (abs(recent - begin) > np.maximum(self.margin, _tolerate(spreads[1:], RECENT, WINDOW)))
                | (abs(middles[1:] - begin) > np.maximum(self.margin, _tolerate(spreads[1:], WINDOW, WINDOW)))
            )
        return iter([(start + int(place), bool(is_off[place])) for place in np.flatnonzero(strikes)])

    def _middle(self, start: int, end: int) -> float:
        return _median(self.values[max(0, start) : end])


def follow_levels(values: Sequence[float], *, margin: float, accepted: Sequence[tuple[int, int]] = ()) -> Levels:
    """Follow the level of values of which more is worse, for example logarithms of times.

    margin: the least change that counts, in the units of the values; 0: any. accepted: pairs of places: from the first
    one on, an open change that began before the second one is accepted.
    """
    import numpy as np

    follower = _Follower(values=np.asarray(values, dtype=float), margin=margin)
    follower.follow(accepted)
    middle, half = follower._band()
    return Levels(
        shifts=tuple(follower.shifts),
        off=follower.off,
        level=None if half is None else middle,
        runs=len(follower.members),
    )


def _median(values: np.ndarray[Any, Any]) -> float:
    """Compute the median: of few values, the standard library is quicker than numpy."""
    return float(median(values.tolist()))


def _medians(rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Compute the median of every row: of few columns, sorting is quicker than `numpy.median`."""
    import numpy as np

    ordered = np.sort(rows, axis=1)
    half = rows.shape[1] // 2
    return ordered[:, half] if rows.shape[1] % 2 else (ordered[:, half - 1] + ordered[:, half]) / 2


def _tolerate(spread: Any, one: int, other: int) -> Any:  # noqa: ANN401 - a number, or an array of them
    """Compute by how much medians of so many values may differ by chance, in one of twenty cases."""
    return 2 * 1.25 * spread * math.sqrt(1 / one + 1 / other)
