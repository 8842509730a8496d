"""One request a line, one reply a line, whatever a handler does."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable
from functools import partial

import pytest

from torchperf_ci.worker.protocol import REASON_LENGTH, CaseError, Channel, describe, one_line, serve


def _answers(*requests: dict, ends_after=lambda error: False, **handlers) -> list[dict]:
    read, write = os.pipe()
    channel = Channel(io.StringIO("".join(json.dumps(request) + "\n" for request in requests)), write)
    serve(
        channel,
        {name: partial(handler, channel) if name == "within" else handler for name, handler in handlers.items()},
        ends_after=ends_after,
    )
    os.close(write)
    with os.fdopen(read) as stream:
        return [json.loads(line) for line in stream]


class Mute(Exception):
    """Raises when somebody wants its text."""

    def __str__(self):
        raise RuntimeError("no text")


def _raise(error: BaseException):
    raise error


def test_replies_come_in_order_with_the_number_of_their_request() -> None:
    """Arguments reach the handler by name."""
    answers = _answers(
        {"id": 1, "do": "add", "a": 1, "b": 2}, {"id": 2, "do": "add", "a": 2, "b": 2}, add=lambda a, b: {"is": a + b}
    )
    assert answers == [{"id": 1, "ok": {"is": 3}}, {"id": 2, "ok": {"is": 4}}]


@pytest.mark.parametrize(
    ("error", "reply"),
    [
        (CaseError("OOM", "too\nlarge"), {"status": "OOM", "reason": "too large"}),
        (ValueError("why\nnot"), {"status": "fail_to_run", "reason": "ValueError: why"}),
        (SystemExit(3), {"status": "fail_to_run", "reason": "SystemExit: 3"}),
        (KeyboardInterrupt(), {"status": "fail_to_run", "reason": "KeyboardInterrupt"}),
    ],
)
def test_an_error_is_a_reply(error: BaseException, reply: dict, capsys: pytest.CaptureFixture[str]) -> None:
    """Also what usually ends a process; the traceback goes to the log, and the next request is answered."""
    answers = _answers({"id": 1, "do": "fail"}, {"id": 2, "do": "fine"}, fail=lambda: _raise(error), fine=dict)
    assert answers == [{"id": 1, "error": reply}, {"id": 2, "ok": {}}]
    assert "Traceback" in capsys.readouterr().err


def test_after_an_error_that_nothing_can_follow_no_request_is_answered() -> None:
    """The reply says that it is the last one."""
    answers = _answers(
        {"id": 1, "do": "fail"}, {"id": 2, "do": "fine"},
        ends_after=lambda error: "device-side assert" in str(error),
        fail=lambda: _raise(RuntimeError("CUDA error: device-side assert triggered")), fine=dict,
    )  # fmt: skip
    reason = "RuntimeError: CUDA error: device-side assert triggered"
    assert answers == [{"id": 1, "error": {"status": "fail_to_run", "reason": reason}, "last": True}]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a\n\tb  c\r\n", "a b c"),
        ("\x1b[31mred\x1b[0m", "[31mred [0m"),
        ("\u202eevil\u2028line\x00", "evil line"),
        ("x" * 1000, "x" * (REASON_LENGTH - 1) + "…"),
    ],
)
def test_a_reason_is_one_printable_line(text: str, line: str) -> None:
    """No control character, no direction mark and no second line reaches a log or a table."""
    assert one_line(text) == line


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError(), "ValueError"),
        (ValueError("\n\n  first\nsecond"), "ValueError: first"),
        (
            RuntimeError("backend='x' raised:\nImportError: no y\nmore"),
            "RuntimeError: backend='x' raised: ImportError: no y",
        ),
        (RuntimeError("only a colon:"), "RuntimeError: only a colon:"),
        (Mute(), "Mute"),
    ],
)
def test_an_error_is_described_by_what_it_says_first(error: BaseException, text: str) -> None:
    """The type, the first line that says something, and what a colon points at."""
    assert describe(error) == text


def test_a_misspelt_attribute_gets_a_hint() -> None:
    """Of modules and objects, with no harm from those that cannot be listed; nothing where none is alike."""

    class Unlisted:
        def __dir__(self) -> list[str]:
            raise RuntimeError("no")

    def fail(get: Callable[[], object]) -> str:
        with pytest.raises(AttributeError) as raised:
            get()
        return describe(raised.value)

    assert fail(lambda: json.dmps).endswith("has no attribute 'dmps'. Did you mean dumps?")
    assert fail(lambda: "".strp).endswith("Did you mean strip?")
    assert fail(lambda: json.zzzzzzzz).endswith("has no attribute 'zzzzzzzz'")
    assert fail(lambda: Unlisted().dir).endswith("has no attribute 'dir'")


def test_a_command_can_answer_others_while_it_is_carried_out() -> None:
    """It answers its own request first; what it returns at last is the reply to the one that ended that."""

    def within(channel: Channel) -> dict:
        channel.answer({"ok": {"is": "begun"}})
        serve(channel, {"fine": dict}, ends_after=lambda _: False, until="end")
        return {"is": "over"}

    requests = [{"id": number, "do": name} for number, name in enumerate(["within", "fine", "end", "fine"], start=1)]
    answers = _answers(*requests, within=within, fine=lambda: {"is": "outside"})
    assert answers == [
        {"id": 1, "ok": {"is": "begun"}},
        {"id": 2, "ok": {}},
        {"id": 3, "ok": {"is": "over"}},
        {"id": 4, "ok": {"is": "outside"}},
    ]
