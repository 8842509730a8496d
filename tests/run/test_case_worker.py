"""A case in its worker: which commands it is asked, with which settings and deadline, and what becomes of replies."""

from __future__ import annotations

from typing import Any

from torchperf_ci.core.records import Case, Mode, Status
from torchperf_ci.run.case_worker import BREAKS_KEPT, REMARKS_KEPT, CaseSettings, CaseWorker, Counted, WorkerPairs
from torchperf_ci.run.plan import PlannedCase
from torchperf_ci.run.sampler import Turn
from torchperf_ci.run.session import WorkerError

CASE = Case(suite="tiny", model="mlp", mode=Mode.TRAINING, device="cuda", dtype="amp", compiler="inductor")
REPLIES: dict[str, dict[str, Any]] = {
    "load": {"parameters": 7, "compile_scope": "step", "threads": 3, "remarks": [str(n) for n in range(99)],
             "strays": []},
    "eager": {"batch_size": 16},
    "accuracy": {"status": "fail_accuracy", "reason": "off by one", "remarks": [], "is_spent": True},
    "capture": {"counters": {"unique_graphs": 2}, "graph_breaks": [["why", "where"]] * 99, "not_compiled": False,
                "remarks": []},
    "count": {"metrics": {"operators": 3}, "digests": {"operators": "ab"}, "remarks": ["no kernels"]},
    "settle": {"remarks": ["the cache is warm"]},
    "sample": {"host": {"eager": [3000, 4000], "compiled": [1000, 2000]}, "device": {"eager": [2500, 3500]},
               "probe": [10, 20], "recompiled": True, "recompiles": 1},
}  # fmt: skip


class ScriptedWorker:
    """Answers from a table, and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, float, dict[str, Any]]] = []
        self.is_alive = True

    def ask(self, do: str, *, deadline: float, **arguments: Any) -> dict[str, Any]:
        self.asked.append((do, deadline, arguments))
        return REPLIES[do]

    def kill(self) -> None:
        self.is_alive = False


def case_worker(**settings: Any) -> tuple[ScriptedWorker, CaseWorker]:
    worker = ScriptedWorker()
    planned = PlannedCase(case=CASE, spec="tiny", place="cuda:1")
    return worker, CaseWorker(worker, planned, CaseSettings(**settings), deadline=50.0)


def test_a_case_is_loaded_with_its_settings_on_its_place() -> None:
    """The batch size is that of the first eager run, which may have halved it; remarks are not without end."""
    worker, case = case_worker(batch_size=32, seed=5, scale="small")
    loaded = case.load(cache_dir="/cache")
    assert (loaded.batch_size, loaded.parameters, loaded.compile_scope, loaded.threads) == (16, 7, "step", 3)
    assert len(loaded.remarks) == REMARKS_KEPT
    (_, deadline, request), _ = worker.asked
    assert deadline == 50.0
    assert request["case"] == {
        "model": "mlp",
        "mode": "training",
        "dtype": "amp",
        "compiler": "inductor",
        "device": "cuda:1",
    }
    assert (request["batch_size"], request["seed"], request["scale"], request["cache_dir"]) == (
        32,
        5,
        "small",
        "/cache",
    )


def test_replies_become_types() -> None:
    """A status is one of ours, and graph breaks are not without end."""
    _, case = case_worker()
    result = case.accuracy()
    assert (result.status, result.reason, result.is_spent) == (Status.FAIL_ACCURACY, "off by one", True)
    captured = case.capture()
    assert len(captured.graph_breaks) == BREAKS_KEPT
    assert (captured.graph_breaks[0].reason, captured.graph_breaks[0].user_stack) == ("why", "where")
    assert case.settle() == ("the cache is warm",)


def test_a_later_deadline_holds_for_what_is_asked_next() -> None:
    """And the end of a case ends its worker."""
    worker, case = case_worker()
    case.extend(99.0)
    case.settle()
    case.kill()
    assert ([deadline for _, deadline, _ in worker.asked], worker.is_alive) == ([99.0], False)


def test_pairs_are_readings_in_seconds_in_the_order_that_was_drawn() -> None:
    """Device times where there are some; something that was compiled again is told once."""
    worker, case = case_worker()
    pairs = WorkerPairs(case)
    taken = pairs.take([False, True], Turn(repeats=4))
    assert worker.asked[0][2] == {
        "order": [["eager", "compiled"], ["compiled", "eager"]],
        "inner": {"eager": 4, "compiled": 4},
        "discard": 0,
        "probe": True,
    }
    assert [(pair.first, pair.second, pair.probe) for pair in taken] == [(3e-6, 1e-6, 1e-8), (4e-6, 2e-6, 2e-8)]
    assert [(pair.first_device, pair.second_device) for pair in taken] == [(2.5e-6, None), (3.5e-6, None)]
    assert (pairs.recompiles, pairs.invalidated(), pairs.invalidated()) == (1, True, False)


def test_counting_never_ends_a_case() -> None:
    """What it replies is kept; a worker that dies of it leaves a remark, and without the option nothing is asked."""
    worker, case = case_worker()
    assert case.count() == Counted(metrics={"operators": 3}, digests={"operators": "ab"}, remarks=("no kernels",))

    def die(do: str, *, deadline: float, **arguments: Any) -> dict[str, Any]:
        raise WorkerError(Status.CRASHED, "ended by signal 11", alive=False)

    worker.ask = die  # type: ignore[method-assign]
    assert case.count().remarks == ("nothing could be counted: ended by signal 11",)
    worker, case = case_worker(counts=False)
    assert (case.count(), worker.asked) == (Counted(), [])
