"""A GitHub on this machine, and a client for it whose waits take no time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from fakes.github_server import TOKEN, FakeGitHub
from torchperf_ci.github.client import Access, Client, Pace


@dataclass
class Clock:
    """A clock that only goes on while somebody sleeps; `slept` are the waits."""

    now: float = 1_700_000_000.0
    slept: list[float] = field(default_factory=list)

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    def pace(self) -> Pace:
        return Pace(sleep=self.sleep, clock=lambda: self.now, jitter=lambda: 0.0)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def server() -> Iterator[FakeGitHub]:
    with FakeGitHub() as running:
        yield running


@pytest.fixture
def said() -> list[str]:
    """What clients told the user."""
    return []


@pytest.fixture
def connect(server: FakeGitHub, clock: Clock, said: list[str]) -> Iterator[Callable[..., Client]]:
    """Makes clients of the server."""
    made: list[Client] = []

    def make(**settings) -> Client:
        access = Access(**{"api_url": server.url, "token": TOKEN, **settings})
        made.append(Client(access, pace=clock.pace(), say=said.append))
        return made[-1]

    yield make
    for client in made:
        client.__exit__()


@pytest.fixture
def client(connect: Callable[..., Client]) -> Client:
    return connect()
