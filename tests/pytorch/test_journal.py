"""The journal of uploads as a file."""

import fcntl

import pytest

from torchperf_ci.core.errors import UsageProblem
from torchperf_ci.pytorch.scribe import DeliveryState, open_journal, read_journal


def test_states_survive_on_disk(tmp_path):
    """The newest state of a message is what a later upload sees; another endpoint sees nothing of it."""
    path = tmp_path / "journal"
    with open_journal(path, endpoint="here") as journal:
        journal.note(DeliveryState.SENDING, ["a", "b", "c"])
        journal.note(DeliveryState.ACCEPTED, ["a"])
        journal.note(DeliveryState.REFUSED, ["b"])
    known = read_journal(path, endpoint="here")
    assert known.states == {"a": DeliveryState.ACCEPTED, "b": DeliveryState.REFUSED, "c": DeliveryState.SENDING}
    assert (known.is_accepted("a"), known.is_accepted("b"), known.count(DeliveryState.SENDING, ["a", "c", "d"])) == (
        True,
        False,
        1,
    )
    assert read_journal(path, endpoint="there").states == {}


@pytest.mark.parametrize(
    "cut", ["{", '{"v": 1, "to": "he', '{"v": 1, "to": "here", "state": "accepted", "messages": ["b"]}']
)
def test_a_line_that_a_crash_cut_off_is_removed(tmp_path, cut):
    """What was complete before it stays, and new lines follow that."""
    path = tmp_path / "journal"
    with open_journal(path, endpoint="here") as journal:
        journal.note(DeliveryState.ACCEPTED, ["a"])
    with path.open("a") as stream:
        stream.write(cut)
    with open_journal(path, endpoint="here") as journal:
        assert journal.states == {"a": DeliveryState.ACCEPTED}
        journal.note(DeliveryState.ACCEPTED, ["c"])
    assert read_journal(path, endpoint="here").states == {"a": DeliveryState.ACCEPTED, "c": DeliveryState.ACCEPTED}


@pytest.mark.parametrize(
    "content", ["important notes\n", "important notes", '{"type": "record"}\n', '{"v": 1, "to": 3}\n']
)
def test_another_file_is_not_touched(tmp_path, content):
    """A file that is no journal is refused and left as it is."""
    path = tmp_path / "notes"
    path.write_text(content)
    with pytest.raises(UsageProblem, match="it was not changed"), open_journal(path, endpoint="here"):
        pass
    assert path.read_text() == content


def test_one_upload_at_a_time(tmp_path):
    """A journal that another upload holds is refused."""
    path = tmp_path / "journal"
    with path.open("a") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(UsageProblem, match="another upload is using"), open_journal(path, endpoint="here"):
            pass


def test_an_unwritable_journal_is_said(tmp_path):
    """The reason is named before anything is sent."""
    with (
        pytest.raises(UsageProblem, match="cannot be written"),
        open_journal(tmp_path / "no" / "journal", endpoint="x"),
    ):
        pass
