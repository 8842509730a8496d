"""What is printed means nothing to a terminal or to GitHub's runner, in whatever pieces it is written."""

from __future__ import annotations

import io
import re
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torchperf_ci.core.console import GuardedStream
from torchperf_ci.core.escape import break_commands, terminal
from torchperf_ci.github.job import annotate

_ALPHABET = ":#[]x \t\n\r\x0b\x1b\x9b]8;?25lK\u2028\u202e\u00a0"
PIECES = st.lists(st.text(alphabet=_ALPHABET, max_size=6), max_size=12)


def obeyed(log: str) -> list[str]:
    """The lines that GitHub's runner would take for commands, by what its source does."""
    lines = re.split(r"\r\n|\r|\n", log)
    return [line for line in lines if line.lstrip().startswith("::") or "##[" in line]


def test_a_line_that_progress_writes_over_begins_again() -> None:
    """What follows a return is the start of a line to the runner."""
    assert obeyed(written(["abc", "\r", " :", ":error::x\n", "abc", "\r::error::x"])) == []


def written(pieces: list[str]) -> str:
    stream = io.StringIO()
    guarded = GuardedStream(stream)
    for piece in pieces:
        guarded.write(piece)
    return stream.getvalue()


@given(PIECES)
def test_no_workflow_command_is_obeyed_however_it_is_cut(pieces: list[str]) -> None:
    """Neither one at the start of a line nor one in the middle."""
    assert obeyed(written(pieces)) == []


@given(PIECES)
def test_nothing_is_left_that_a_terminal_obeys(pieces: list[str]) -> None:
    """Of control characters only those that progress is drawn with."""
    left = re.sub(r"\x1b\[(?:K|\?25[lh])", "", written(pieces))
    assert not re.search("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u202e]", left)


@given(st.text(alphabet=_ALPHABET, max_size=30))
def test_a_return_moves_back_only_at_the_start_of_what_is_written(text: str) -> None:
    """There progress has it; elsewhere it would let a name write over what stands before it."""
    assert "\r" not in terminal(text)[1:]


@given(st.text(max_size=40))
def test_what_holds_no_command_stays_as_it_is(text: str) -> None:
    """And what holds one stays readable: it differs by what cannot be seen."""
    assert break_commands(text).replace("\u200b", "") == text.replace("\u200b", "")
    if not obeyed(text):
        assert break_commands(text) == text


def test_an_annotation_is_obeyed_and_what_it_tells_is_not(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through the guarded stream as well."""
    monkeypatch.setattr(sys, "stdout", GuardedStream(sys.stdout))
    annotate("::debug::b\n##[error]c", title="a##[group]\x1b[31m")
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("::error title=")
    assert "##[" not in line
    assert "\x1b" not in line
