"""How long to wait before another try."""

import pytest

from torchperf_ci.github.client import HttpReply, Pace, compute_wait

NOW = 1_700_000_000.0


@pytest.mark.parametrize(
    ("reply", "tries", "wait"),
    [
        (HttpReply(status=429, headers={"retry-after": "7"}), 1, 7.0),
        (HttpReply(status=403, headers={"retry-after": "7", "x-ratelimit-remaining": "0"}), 3, 7.0),
        (HttpReply(status=429, headers={"retry-after": "Tue, 14 Nov 2023 22:14:00 GMT"}), 1, 40.0),
        (HttpReply(status=403, headers={"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1700000100"}), 1, 101.0),
        (HttpReply(status=403, headers={"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1"}), 1, 1.0),
        (HttpReply(status=403, text="You have exceeded a secondary rate limit."), 1, 60.0),
        (HttpReply(status=403, text="You have exceeded a secondary rate limit."), 3, 240.0),
        (HttpReply(status=429), 2, 120.0),
        (HttpReply(status=429, headers={"retry-after": "soon"}), 1, 60.0),
        (HttpReply(status=502), 1, 1.0),
        (HttpReply(status=503, headers={"retry-after": "30"}), 1, 30.0),
        (HttpReply(status=0, error="the connection failed"), 4, 8.0),
        (HttpReply(status=500), 6, None),
        (HttpReply(status=403, text="Resource not accessible by integration"), 1, None),
        (HttpReply(status=404), 1, None),
        (HttpReply(status=422), 1, None),
    ],
)
def test_waits_follow_what_the_server_says_then_grow(reply: HttpReply, tries: int, wait: float | None):
    """retry-after first, then the reset of the limit, else a minute that doubles; faults pass after six tries."""
    assert compute_wait(reply, tries=tries, now=NOW, jitter=0.0) == wait


def test_jitter_lengthens_every_wait():
    """Programs that wait for the same thing do not come back together."""
    for reply in (HttpReply(status=429, headers={"retry-after": "7"}), HttpReply(status=429), HttpReply(status=502)):
        plain = compute_wait(reply, tries=1, now=NOW, jitter=0.0)
        late = compute_wait(reply, tries=1, now=NOW, jitter=0.9)
        assert plain is not None
        assert late is not None
        assert plain < late <= plain * 1.5 + 1


def test_writes_are_a_second_apart_and_everybody_waits_for_a_limit(clock):
    """Reads go out at once; after a rate limit nobody sends until it has passed."""
    pace: Pace = clock.pace()
    pace.take_turn(writes=True)
    pace.take_turn(writes=False)
    assert clock.slept == []
    pace.take_turn(writes=True)
    assert clock.slept == [1.0]
    pace.hold_all(60.0)
    pace.take_turn(writes=False)
    assert clock.slept == [1.0, 60.0]


def test_urgent_writes_go_at_once_and_are_waited_for_later(clock):
    """A commit's three writes belong together; the next write waits as long as they should have."""
    pace: Pace = clock.pace()
    for _ in range(3):
        pace.take_turn(writes=True, urgent=True)
    assert clock.slept == []
    pace.take_turn(writes=True)
    assert clock.slept == [3.0]
