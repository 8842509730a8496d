"""Workflow commands."""

import io

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


def test_what_others_print_is_not_obeyed():
    """Commands are stopped by a word that nobody can guess, and obeyed again afterwards."""
    stream = io.StringIO()
    with commands_stopped(stream):
        stream.write("::error::fake\n")
    first, fake, last = stream.getvalue().splitlines()
    token = first.removeprefix("::stop-commands::")
    assert (len(token), fake, last) == (32, "::error::fake", f"::{token}::")
