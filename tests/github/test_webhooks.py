"""A message to a webhook arrives, or is refused by words that do not hold its address."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from fakes.http_server import Asked, FakeServer, Reply
from torchperf_ci.core.errors import Refused, UsageProblem
from torchperf_ci.github.webhooks import check_webhook, hide_webhook, send_webhook

SECRET = "T000/B000/secret"


class Receiver(FakeServer):
    """It takes everything, unless `fail` orders something else."""

    def route(self, asked: Asked) -> Reply:
        return Reply(body=b"ok")


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    monkeypatch.setattr("torchperf_ci.github.webhooks.FIRST_WAIT_S", 0.0)
    with Receiver() as running:
        yield running


def test_a_message_is_sent_as_json_and_again_after_a_fault_of_the_server(receiver: Receiver) -> None:
    receiver.fail("POST", Reply(status=503))
    send_webhook(f"{receiver.url}/{SECRET}", {"text": "hé"})
    assert [asked.body for asked in receiver.asked] == [{"text": "hé"}] * 2
    assert receiver.asked[0].headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    ("reply", "said", "tries"),
    [
        (Reply(status=403, body=SECRET.encode()), "answers 403", 1),
        (Reply(status=302, headers={"Location": "/elsewhere"}), "answers 302", 1),
        (Reply(status=500), "answers 500", 3),
        (Reply(body=b"okay", cut=0), "cannot be reached", 3),
    ],
)
def test_a_refusal_names_the_host_alone(receiver: Receiver, reply: Reply, said: str, tries: int) -> None:
    """Redirects are not followed."""
    receiver.fail("POST", reply, times=9)
    with pytest.raises(Refused) as error:
        send_webhook(f"{receiver.url}/{SECRET}", {})
    assert said in str(error.value)
    assert SECRET not in str(error.value)
    assert error.value.__cause__ is None
    assert receiver.count(".*") == tries


def test_nobody_there_is_a_refusal_without_the_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torchperf_ci.github.webhooks.FIRST_WAIT_S", 0.0)
    with pytest.raises(Refused, match="cannot be reached") as error:
        send_webhook(f"http://127.0.0.1:9/{SECRET}", {})
    assert SECRET not in str(error.value)


@pytest.mark.parametrize("url", [f"ftp://x/{SECRET}", f"http://example.com/{SECRET}", f"https://[x/{SECRET}", SECRET])
def test_an_address_that_cannot_be_is_not_repeated(url: str) -> None:
    with pytest.raises(UsageProblem) as error:
        check_webhook(url)
    assert SECRET not in str(error.value)


def test_a_user_name_in_an_address_is_hidden_as_well() -> None:
    shown: Any = hide_webhook(f"https://user:password@hooks.example.com:8443/{SECRET}?token=x")
    assert shown == "https://hooks.example.com/…"
