"""The way of messages to Scribe, and what happens when it is bad."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from urllib.parse import quote_plus, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from urllib3 import HTTPResponse

from torchperf_ci.core.errors import Refused
from torchperf_ci.formats.model import InputProblem
from torchperf_ci.pytorch.scribe import (
    CATEGORY,
    GraphApi,
    Journal,
    NoAnswer,
    ScribeEntry,
    ShortRetry,
    send,
    transport_from,
)
from upload_builders import SOURCES, measured, write_results

TOKEN = "secret|token/+="


@pytest.fixture(autouse=True)
def token(monkeypatch):
    """Every test has a token."""
    monkeypatch.setenv("SCRIBE_GRAPHQL_ACCESS_TOKEN", TOKEN)


def test_messages_arrive_at_the_graph_api(torchperf, bench_file, graph_api):
    """The form holds the token and a list of category, message and line_escape; stdout says what was accepted."""
    done = torchperf("upload", "scribe", "--pytest-bench-json", bench_file, "--api-url", graph_api.url)
    assert (done.code, done.out) == (0, f"{graph_api.url} accepted 5 messages in 1 request\n")
    (form,) = graph_api.requests
    assert form["access_token"] == [TOKEN]
    logs = json.loads(form["logs"][0])
    assert {(log["category"], log["line_escape"]) for log in logs} == {("perfpipe_pytorch_benchmarks", False)}
    assert [m["normal"]["benchmark_name"] for m in graph_api.messages][:2] == [
        "test_forward[lstm]",
        "test_forward[gru]",
    ]


def test_batches_stay_under_the_limit(torchperf, tmp_path, graph_api):
    """No request's body is larger than asked for, and all messages arrive in order."""
    folder = write_results(tmp_path / "out", *(measured(f"model{number}") for number in range(10)))
    arguments = ("upload", "scribe", "--results", folder, "--api-url", graph_api.url)
    done = torchperf(*arguments, "--batch-bytes", "4000")
    assert done.code == 0
    assert len(graph_api.accepted) > 1
    assert all(len(logs) > 1 for logs in graph_api.accepted[:-1])
    names = [message["normal"]["benchmark_name"] for message in graph_api.messages]
    assert names == [f"inference[model{number}]" for number in range(10)]


def test_a_message_that_is_too_large_stops_everything(torchperf, tmp_path, graph_api):
    """Nothing is sent when one message can never be; it is named."""
    folder = write_results(tmp_path / "out", measured(), measured("m" * 2000))
    arguments = ("upload", "scribe", "--results", folder, "--api-url", graph_api.url)
    done = torchperf(*arguments, "--batch-bytes", "2500")
    assert (done.code, graph_api.requests) == (2, [])
    assert "larger than a request may be; raise --batch-bytes" in done.err


@pytest.mark.parametrize("trouble", [500, 503, 429, "close", "slow"])
def test_passing_trouble_is_tried_again(torchperf, tmp_path, graph_api, trouble):
    """A server error, too many requests, a closed connection and silence are followed by another try."""
    graph_api.script = [trouble]
    folder = write_results(tmp_path / "out", measured())
    done = torchperf("upload", "scribe", "--results", folder, "--api-url", graph_api.url, "--request-timeout", "0.5")
    assert done.code == 0
    assert len(graph_api.requests) >= 2


def test_a_long_wait_that_the_server_asks_for_is_cut():
    """Retry-After is followed, but not for longer than a minute."""
    assert ShortRetry().get_retry_after(HTTPResponse(headers={"Retry-After": "86400"})) == 60


@pytest.mark.parametrize(
    ("trouble", "said"),
    [
        (401, "refused the token in SCRIBE_GRAPHQL_ACCESS_TOKEN (HTTP 401)"),
        (400, "answered HTTP 400: no: ***"),
        (500, "answered HTTP 500"),
        (307, "answered HTTP 307"),
        ({"error": {"message": "bad category"}}, 'answered with an error: {"error": {"message": "bad category"}}'),
        ("close", "gave no answer"),
    ],
)
def test_lasting_trouble_ends_with_a_message(torchperf, tmp_path, graph_api, trouble, said):
    """A refusal ends with exit code 5, says how far it came, and never shows the token, even if the server does."""
    graph_api.script = [trouble, trouble]
    graph_api.headers = {"Location": graph_api.url}
    folder = write_results(tmp_path / "out", measured())
    done = torchperf("upload", "scribe", "--results", folder, "--api-url", graph_api.url, "--retries", "1")
    assert done.code == 5
    assert said in done.err
    assert "0 of 1 message accepted before that" in done.err
    assert TOKEN not in done.out + done.err


def test_a_server_that_is_not_there_is_a_refusal(torchperf, tmp_path, graph_api):
    """Nobody listens: exit code 5."""
    folder = write_results(tmp_path / "out", measured())
    url = "http://127.0.0.1:1/scribe_logs"
    done = torchperf("upload", "scribe", "--results", folder, "--api-url", url, "--retries", "0")
    assert done.code == 5
    assert "gave no answer" in done.err


@pytest.mark.parametrize(
    "url",
    [
        "http://graph.example/scribe_logs",
        "ftp://localhost/x",
        "graph.example",
        "https://",
        "http://[",
        "http://localhost:x",
    ],
)
def test_the_token_goes_nowhere_unsafe(torchperf, tmp_path, url):
    """Only https, or this machine itself, may be posted to."""
    folder = write_results(tmp_path / "out", measured())
    done = torchperf("upload", "scribe", "--results", folder, "--api-url", url)
    assert done.code == 2
    assert "a token is not sent in the clear" in done.err


def test_without_a_token_nothing_is_sent(torchperf, tmp_path, monkeypatch, graph_api):
    """The message names the variable."""
    monkeypatch.delenv("SCRIBE_GRAPHQL_ACCESS_TOKEN")
    folder = write_results(tmp_path / "out", measured())
    done = torchperf("upload", "scribe", "--results", folder, "--api-url", graph_api.url)
    assert (done.code, graph_api.requests) == (2, [])
    assert "set it in the environment variable SCRIBE_GRAPHQL_ACCESS_TOKEN" in done.err


def test_the_token_is_not_in_the_transports_text():
    """Whoever prints the transport does not print the token."""
    transport = transport_from(
        {"SCRIBE_GRAPHQL_ACCESS_TOKEN": TOKEN}, url="https://x.y/z", batch_bytes=1000, timeout_s=1, retries=0
    )
    assert (transport.endpoint, TOKEN in repr(transport)) == ("https://x.y/z", False)


def scribe_cat(folder: Path, *, code: int) -> Path:
    """A program that writes down what it is called with."""
    program = folder / "bin" / "scribe_cat"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$1" "$2" >> {folder}/calls\necho "no luck" >&2\nexit {code}\n')
    program.chmod(0o755)
    return program.parent


def test_scribe_cat_gets_every_message(torchperf, tmp_path, monkeypatch):
    """Inside, the program is called once per message with the category, without a shell."""
    monkeypatch.setenv("SCRIBE_INTERN", "1")
    monkeypatch.setenv("PATH", f"{scribe_cat(tmp_path, code=0)}:{os.environ['PATH']}")
    folder = write_results(tmp_path / "out", measured("$(touch pwned)"), measured("b"))
    done = torchperf("upload", "scribe", "--results", folder)
    assert (done.code, done.out) == (0, "scribe_cat accepted 2 messages in 2 requests\n")
    calls = (tmp_path / "calls").read_text().splitlines()
    assert calls[0::2] == ["perfpipe_pytorch_benchmarks"] * 2
    assert json.loads(calls[1])["normal"]["benchmark_name"] == "inference[$(touch pwned)]"


def test_scribe_cats_exit_status_counts(torchperf, tmp_path, monkeypatch):
    """A message it does not take ends the upload."""
    monkeypatch.setenv("SCRIBE_INTERN", "1")
    monkeypatch.setenv("PATH", f"{scribe_cat(tmp_path, code=3)}:{os.environ['PATH']}")
    folder = write_results(tmp_path / "out", measured())
    done = torchperf("upload", "scribe", "--results", folder)
    assert done.code == 5
    assert "scribe_cat ended with 3: no luck. 0 of 1 message" in done.err


def test_scribe_cat_has_to_be_there(torchperf, tmp_path, monkeypatch):
    """Without the program it is said before anything is sent."""
    monkeypatch.setenv("SCRIBE_INTERN", "1")
    monkeypatch.setenv("PATH", str(tmp_path))
    done = torchperf("upload", "scribe", "--results", write_results(tmp_path / "out", measured()))
    assert done.code == 2
    assert "there is no program scribe_cat" in done.err


def test_what_was_accepted_is_not_sent_again(torchperf, tmp_path, graph_api):
    """After a refusal in the middle a second upload sends the rest; a third one sends nothing."""
    folder = write_results(tmp_path / "out", *(measured(f"model{number}") for number in range(6)))
    journal = tmp_path / "sent.jsonl"
    arguments = ("upload", "scribe", "--results", folder, "--api-url", graph_api.url, "--journal", journal)
    limited = (*arguments, "--batch-bytes", "4000", "--retries", "0")
    graph_api.script = ["ok", 500]
    first = torchperf(*limited)
    assert first.code == 5
    before = len(graph_api.messages)
    assert f"{before} of 6 messages accepted before that" in first.err
    assert torchperf(*arguments, "--dry-run").out.count("\n") == 6 - before
    second = torchperf(*limited)
    assert f"accepted {6 - before} messages" in second.out
    assert f"{before} accepted earlier" in second.out
    assert [m["normal"]["benchmark_name"] for m in graph_api.messages] == [f"inference[model{n}]" for n in range(6)]
    asked = len(graph_api.requests)
    assert "accepted 0 messages in 0 requests; 6 accepted earlier" in torchperf(*arguments).out
    assert len(graph_api.requests) == asked


def test_a_crash_in_the_middle_loses_and_repeats_nothing_that_was_accepted(torchperf, tmp_path, graph_api):
    """A killed upload is taken up again: accepted messages are not repeated, those under way are, and that is said."""
    folder = write_results(tmp_path / "out", *(measured(f"model{number}") for number in range(6)))
    journal = tmp_path / "sent.jsonl"
    arguments = ["upload", "scribe", "--results", folder, "--api-url", graph_api.url, "--journal", journal]
    limited = [*map(str, arguments), "--batch-bytes", "4000"]
    command = [sys.executable, "-m", "torchperf_ci", *limited]
    graph_api.script = ["ok", lambda: killed.send_signal(signal.SIGKILL)]
    killed = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(SOURCES)})
    assert killed.wait() == -signal.SIGKILL
    accepted = len(graph_api.messages)
    assert accepted >= 1
    done = torchperf(*limited)
    assert done.code == 0
    assert "may have arrived before a crash or a broken connection; sending again" in done.err
    assert f"{accepted} accepted earlier" in done.out
    assert [m["normal"]["benchmark_name"] for m in graph_api.messages] == [f"inference[model{n}]" for n in range(6)]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"{\n  oops\n}", "standard input:2: not JSON"),
        (b"[]", "standard input: not a file of pytest-benchmark: expected an object, got a list"),
        (b'{"a": "\n\xff"}', "standard input:2: not UTF-8 text"),
        (b"[" * 100_000, "standard input: not usable as JSON"),
        (b"{}", "'benchmarks' is missing"),
        (b'{"benchmarks": [3]}', "benchmarks[0]: expected an object, got a whole number"),
        (b'{"benchmarks": [{"name": "b"}]}', "benchmarks[0] (b): 'stats' is missing"),
        (b'{"benchmarks": [{"stats": {"min": 1}}]}', "benchmarks[0]: 'name' is missing"),
    ],
)
def test_a_file_that_is_none_of_pytest_benchmarks_is_said(torchperf, graph_api, content, said):
    """Its line or its benchmark is named, the exit code is 2, and nothing is sent."""
    arguments = ("upload", "scribe", "--pytest-bench-json", "-", "--api-url", graph_api.url)
    done = torchperf(*arguments, stdin=content)
    assert (done.code, graph_api.requests) == (2, [])
    assert said in done.err


def test_a_value_of_the_wrong_type_names_its_benchmark(torchperf, bench, graph_api):
    """One wrong value among many good ones stops the upload before it starts."""
    bench["benchmarks"][1]["stats"]["mean"] = "fast"
    stdin = json.dumps(bench).encode()
    done = torchperf("upload", "scribe", "--pytest-bench-json", "-", "--api-url", graph_api.url, stdin=stdin)
    assert (done.code, graph_api.requests) == (2, [])
    assert "benchmarks[1] (test_forward[None-te-gru]): stats.mean: expected a number" in done.err


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ((), 2, "either --pytest-bench-json FILE or --results DIR"),
        (("--results", "{out}", "--pytest-bench-json", "x"), 2, "either --pytest-bench-json"),
        (("--pytest-bench-json", "{out}/missing.json"), 2, "missing.json cannot be read (No such file or directory)"),
        (("--pytest-bench-json", "{out}"), 2, "cannot be read (Is a directory)"),
        (("--results", "{empty}"), 4, "there are no results in"),
        (("--results", "{out}", "--field", "colour=red"), 2, "--field: unknown field 'colour'"),
        (
            ("--results", "{out}", "--journal", "{out}/records.jsonl"),
            2,
            "is not a journal of uploads; it was not changed",
        ),
    ],
)
def test_wrong_usage_is_said(torchperf, tmp_path, arguments, code, said):
    """The message tells what to do."""
    places = {"out": write_results(tmp_path / "out", measured()), "empty": tmp_path / "empty"}
    places["empty"].mkdir()
    done = torchperf("upload", "scribe", *(argument.format(**places) for argument in arguments))
    assert done.code == code
    assert said in done.err


@dataclass
class Memory:
    """A transport that keeps what it is given; before the request `fails_at`, counted from 0, it raises `error`."""

    fails_at: int = -1
    error: Exception = field(default_factory=lambda: Refused("no"))
    sent: list[list[str]] = field(default_factory=list)
    endpoint: str = "memory"

    def batches(self, entries):
        return [entries[at : at + 2] for at in range(0, len(entries), 2)]

    def send(self, entries):
        if len(self.sent) == self.fails_at:
            raise self.error
        self.sent.append([entry.id for entry in entries])


@pytest.mark.parametrize(("error", "state"), [(Refused("no"), "refused"), (NoAnswer("silence"), "sending")])
def test_a_journal_knows_what_became_of_every_message(error, state):
    """Accepted ones are not sent again; refused ones and those without an answer are, and only those."""
    entries = [ScribeEntry(id=name, where=name, text="{}") for name in "abcde"]
    journal = Journal("memory")
    with pytest.raises(Refused, match="2 of 5 messages accepted"):
        send(entries, Memory(fails_at=1, error=error), journal)
    assert {name: str(known) for name, known in journal.states.items()} == {
        **dict.fromkeys("ab", "accepted"),
        **dict.fromkeys("cd", state),
    }
    second = Memory()
    assert send(entries, second, journal) == (3, 2)
    assert second.sent == [["c", "d"], ["e"]]
    assert send(entries, second, journal) == (0, 0)


@given(st.lists(st.text(max_size=300), max_size=20), st.integers(1000, 3000))
def test_batches_are_as_full_as_the_limit_allows(texts, limit):
    """Every message is in one batch, in order; a request of two batches would be too large."""
    api = GraphApi(token="t", url="https://x.y/z", batch_bytes=limit, timeout_s=1, retries=0)
    entries = [ScribeEntry(id=str(at), where="", text=text) for at, text in enumerate(texts)]
    try:
        batches = api.batches(entries)
    except InputProblem:
        assert any(len(quote_plus(text)) > limit / 6 for text in texts)
        return
    assert [entry for batch in batches for entry in batch] == entries

    def size(batch):
        logs = [{"category": CATEGORY, "message": entry.text, "line_escape": False} for entry in batch]
        return len(urlencode({"access_token": "t", "logs": json.dumps(logs)}))

    assert all(size(batch) <= limit for batch in batches)
    # A comma more is counted for every message, so that the sum is never too small.
    assert all(size([*one, other[0]]) > limit - 10 for one, other in pairwise(batches))
