"""A small threaded HTTP server on this machine: routes, faults to order, latency, and a log of what was asked."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A request as the server saw it: `query` by name, headers by lower-case name, `body` from its JSON."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: Any = None


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What the server answers. A `body` that is not bytes goes out as JSON. cut: close after so many bytes."""

    status: int = 200
    body: Any = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    cut: int | None = None

    @property
    def content(self) -> bytes:
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


@dataclass(kw_only=True)
class Fault:
    """A reply to give instead of the right one, `times` times, to requests whose method and path match."""

    pattern: re.Pattern[str]
    reply: Reply
    times: int


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is part of the tests."""


class FakeServer:
    """Use as a context manager. Subclasses answer in `route`; `fail` orders faults."""

    def __init__(self, *, latency_s: float = 0.0) -> None:
        self.latency_s = latency_s
        self.asked: list[Asked] = []
        self.bytes_sent = 0
        self.faults: list[Fault] = []
        self.lock = threading.RLock()
        self._server = _Server(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self):
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def route(self, asked: Asked) -> Reply:
        raise NotImplementedError

    def fail(self, pattern: str, reply: Reply, *, times: int = 1) -> None:
        """Answer `reply` to the next `times` requests whose "METHOD /path" matches."""
        self.faults.append(Fault(pattern=re.compile(pattern), reply=reply, times=times))

    def count(self, pattern: str) -> int:
        """How many requests with a matching "METHOD /path" there were."""
        return sum(bool(re.search(pattern, f"{asked.method} {asked.path}")) for asked in self.asked)

    def answer(self, asked: Asked) -> Reply:
        if self.latency_s:
            time.sleep(self.latency_s)
        with self.lock:
            self.asked.append(asked)
            for fault in self.faults:
                if fault.times > 0 and fault.pattern.search(f"{asked.method} {asked.path}"):
                    fault.times -= 1
                    return fault.reply
            return self.route(asked)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True
            wbufsize = -1

            def _serve(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                raw = self.rfile.read(length)
                parts = urlsplit(self.path)
                reply = server.answer(
                    Asked(
                        method=self.command,
                        path=unquote(parts.path),
                        query={name: values[-1] for name, values in parse_qs(parts.query).items()},
                        headers={name.lower(): value for name, value in self.headers.items()},
                        body=json.loads(raw) if raw else None,
                    )
                )
                self._send(reply)

            do_GET = do_HEAD = do_POST = do_PATCH = do_PUT = do_DELETE = _serve  # noqa: N815 - the base class's names

            def _send(self, reply: Reply) -> None:
                content = reply.content
                self.send_response(reply.status)
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(content[: reply.cut])
                    with server.lock:
                        server.bytes_sent += len(content[: reply.cut])
                if reply.cut is not None:
                    self.close_connection = True

            def log_message(self, *_: object) -> None:
                """Nothing: tests read `asked`."""

        return Handler


Route = Callable[[Asked, "re.Match[str]"], Reply]
