"""Numbers that are read one at a time, gathered into records."""

from __future__ import annotations

import pytest

from torchperf_ci.core.records import METRICS, Environment, Mode, Source, Status, Testing, foreign_metric, own_metric
from torchperf_ci.formats.model import ImportRequest, InputProblem, RecordCollector, parse_status

REQUEST = ImportRequest(source=Source(repository="o/r", commit="c" * 40, branch="main"), checked_out="d" * 40)
CASE = REQUEST.case(suite="s", model="m")
LATENCY = METRICS["abs_latency"]


def test_numbers_of_a_case_are_one_record() -> None:
    """Per testing, source and machine; raw times stand under compiled, and their sum is the record's time."""
    collector = RecordCollector()
    tokens = own_metric("tokens", unit="1/s")
    collector.add(CASE, REQUEST.source, metric=LATENCY, value=2.0, samples=(0.001, 0.003))
    collector.add(CASE, REQUEST.source, metric=tokens, value=7.0, samples=(7.0,), batch_size=4)
    collector.add(CASE, REQUEST.source, counter="graph_breaks", value=3.0)
    collector.add(CASE, REQUEST.source, testing=Testing.ACCURACY, status=Status.FAIL_ACCURACY, reason="wrong")
    collector.add(CASE, REQUEST.source, Environment(host="other"), metric=LATENCY, value=9.0)
    first, accuracy, other = collector.imported().records
    assert first.metrics == {"abs_latency": 2.0, "tokens": 7.0}
    assert first.samples == {"compiled": (0.001, 0.003), "tokens": (7.0,)}
    assert (first.counters, first.batch_size, first.own_metrics) == ({"graph_breaks": 3}, 4, {"tokens": tokens})
    assert first.seconds == pytest.approx(0.004)
    assert (accuracy.testing, accuracy.status, accuracy.reason) == (Testing.ACCURACY, Status.FAIL_ACCURACY, "wrong")
    assert (other.environment.host, other.metrics) == ("other", {"abs_latency": 9.0})


def test_a_second_number_is_left_out_and_a_failure_stays() -> None:
    """What came first counts; a passing number does not hide a failure of the same case."""
    collector = RecordCollector()
    collector.add(CASE, REQUEST.source, metric=LATENCY, value=1.0, where="f:1")
    collector.add(CASE, REQUEST.source, metric=LATENCY, value=2.0, where="f:2")
    collector.add(CASE, REQUEST.source, status=Status.OOM, reason="no memory")
    collector.add(CASE, REQUEST.source, metric=own_metric("x"), value=1.0)
    imported = collector.imported()
    (record,) = imported.records
    assert (record.metrics, record.status) == ({"abs_latency": 1.0, "x": 1.0}, Status.OOM)
    assert imported.left_out == (f"f:2: {CASE} has a second abs_latency",)


def test_faults_are_left_out_and_other_errors_are_not() -> None:
    """A block that cannot read something ends there; a mistake of ours is not hidden."""
    collector = RecordCollector()
    with collector.skip_faults():
        raise InputProblem(["f:1: no number"])
    with pytest.raises(ZeroDivisionError), collector.skip_faults():
        raise ZeroDivisionError
    assert collector.imported().left_out == ("f:1: no number",)


def test_a_file_says_where_it_was_made() -> None:
    """Of the commit here it is of this run; of another one it keeps that and its branch; what was asked for decides."""
    here = REQUEST.source_of(commit="d" * 40, branch="x", time="2026-03-01T12:00:00Z")
    assert (here.commit, here.branch, here.time) == ("c" * 40, "main", "2026-03-01T12:00:00+00:00")
    other = REQUEST.source_of(commit="e" * 40, branch="", time="never")
    assert (other.commit, other.branch, other.time) == ("e" * 40, "", "")
    asked = ImportRequest(source=Source(), commit="f" * 40, branch="b", time="2026-03-01T12:00:00+00:00")
    assert asked.source_of(commit="e" * 40, branch="y", time="").commit == "f" * 40
    assert asked.usual_source == Source(commit="f" * 40, branch="b", time="2026-03-01T12:00:00+00:00")


def test_a_case_is_made_of_what_is_known() -> None:
    """The request's suite stands above the file's; other parts are the file's, or else the request's."""
    request = ImportRequest(source=Source(), suite="mine", device="cuda", mode=Mode.TRAINING)
    case = request.case(suite="theirs", model="m", dtype="float16")
    assert str(case) == "mine/m none training float16 cuda"
    assert str(CASE) == "s/m none inference unknown cpu"


def test_metrics_and_statuses_of_others_are_not_ours() -> None:
    """A name that is one of ours is told apart; a blank status is a pass, and what is no word is refused."""
    assert (foreign_metric("speedup").name, foreign_metric("tokens").name) == ("own.speedup", "tokens")
    assert (parse_status("", where="f"), parse_status("OOM", where="f")) == (Status.PASS, Status.OOM)
    assert not parse_status("new_failure", where="f").is_pass
    with pytest.raises(InputProblem, match=r"^f:3: its status is 'a b'"):
        parse_status("a b", where="f:3")
