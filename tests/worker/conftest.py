"""Workers with a case loaded, forked from the one preloaded process of the test session."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from torchperf_ci.run.session import Preloaded, Worker

SUITE = str(Path(__file__).parent / "small_suite.py")


@dataclass(frozen=True)
class Asker:
    """Sends commands to a worker and returns the replies. loaded: the one to `load`."""

    worker: Worker
    log: Path
    loaded: dict[str, Any] = field(default_factory=dict)

    def __call__(self, do: str, **arguments: Any) -> dict[str, Any]:
        return self.worker.ask(do, deadline=time.monotonic() + 600, **arguments)

    def steps(self, *commands: str) -> dict[str, Any]:
        """Several commands; the last one's reply."""
        return [self(command) for command in commands][-1]


Load = Callable[..., Asker]


@pytest.fixture
def fork(preloaded: Preloaded, tmp_path: Path) -> Iterator[Callable[[], Asker]]:
    """Forks workers, and ends them after the test."""
    with ExitStack() as stack:

        def start() -> Asker:
            log = tmp_path / "worker.log"
            return Asker(stack.enter_context(preloaded.fork(log)), log)

        yield start


@pytest.fixture
def load(fork: Callable[[], Asker]) -> Load:
    """`load("linear", mode="training", …)`: a worker that has loaded a case."""

    def start(
        model: str,
        *,
        spec: str = SUITE,
        mode: str = "inference",
        dtype: str = "float32",
        compiler: str = "aot_eager",
        **more: Any,
    ) -> Asker:
        ask = fork()
        case = {"model": model, "mode": mode, "device": "cpu", "dtype": dtype, "compiler": compiler}
        options = {"batch_size": None, "threads": 1, "seed": 0, "scale": "full", "inductor_mode": None}
        return replace(ask, loaded=ask("load", spec=spec, case=case, **{**options, "cache_dir": None, **more}))

    return start
