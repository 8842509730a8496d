"""Workflow commands."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torchperf_ci.github.workflow_commands import Annotation, Level, command, commands_stopped


def test_an_annotation_is_one_line_with_its_place():
    """Title, file and line are properties; blank ones are left out."""
    annotation = Annotation(level=Level.ERROR, message="50 %\nworse", title="a, b: c", file="t.csv", line=3)
    assert str(annotation) == "::error title=a%2C b%3A c,file=t.csv,line=3::50 %25%0Aworse"
    assert str(Annotation(level=Level.NOTICE, message="hi")) == "::notice::hi"


@given(st.text(alphabet="ab%:,\r\n", max_size=20), st.text(alphabet="ab%:,=\r\n", max_size=20))
def test_text_ends_no_command_and_begins_no_other(message: str, title: str):
    """Whatever the text, the command is one line, and the runner reads back what was meant."""
    line = command("error", message, title=title)
    assert "\n" not in line
    assert "\r" not in line
    head, _, data = line.removeprefix("::").partition("::")
    assert data.replace("%0A", "\n").replace("%0D", "\r").replace("%25", "%") == message
    assert head.count(",") == 0
    assert head.count(":") == 0


def test_commands_are_stopped_in_a_job_and_come_back(capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever happens in between, by a word that nobody can guess."""
    words = set()
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), commands_stopped({"GITHUB_ACTIONS": "true"}):
            raise ZeroDivisionError
        first, last = capsys.readouterr().err.splitlines()
        words.add(word := first.removeprefix("::stop-commands::"))
        assert last == f"::{word}::"
    assert len(words) == 2
    with commands_stopped({}):
        pass
    assert capsys.readouterr().err == ""
