"""A Graph API on this machine, a command line in this process, and a pytest-benchmark run for all tests here."""

import io
import json
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs

import pytest

from torchperf_ci.cli.main import main


@dataclass(frozen=True)
class Outcome:
    """What a command did."""

    code: int
    out: str
    err: str


@pytest.fixture
def torchperf(monkeypatch, capfd):
    """Runs a command as `main` does, in this process: `torchperf("export", folder, stdin=b"")`."""

    def run(*arguments, stdin=b""):
        monkeypatch.setattr(sys, "argv", ["torchperf-ci", *map(str, arguments)])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        seen = capfd.readouterr()
        return Outcome(int(ended.value.code or 0), seen.out, seen.err)

    return run


@dataclass
class GraphApi:
    """A Graph API that answers by a script, one step a request; then, and for the step `ok`, it accepts.

    Steps: a status; a reply for status 200; `slow`, 1 s of silence; `close`, no answer; a function of nothing, which
    is called, and then there is no answer.
    """

    url: str
    script: list = field(default_factory=list)
    headers: dict = field(default_factory=dict)
    requests: list = field(default_factory=list)
    accepted: list = field(default_factory=list)

    @property
    def messages(self):
        """Every accepted message, in order."""
        return [json.loads(log["message"]) for logs in self.accepted for log in logs]


@pytest.fixture
def graph_api():
    """A running one."""
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode(), keep_blank_values=True)
            with lock:
                api.requests.append(form)
                step = api.script.pop(0) if api.script else "ok"
            if step == "slow":
                time.sleep(1)
            if step == "close" or callable(step):
                step() if callable(step) else None
                self.close_connection = True
                return
            status = step if isinstance(step, int) else 200
            accepts = status == 200 and not isinstance(step, dict)
            if accepts:
                api.accepted.append(json.loads(form["logs"][0]))
            answer = b'{"count": 1}' if accepts else f"no: {form['access_token'][0]}".encode()
            if isinstance(step, dict):
                answer = json.dumps(step).encode()
            try:
                self.send_response(status)
                for name, value in api.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)
            except OSError:  # a slow answer that nobody waits for any more
                pass

        def log_message(self, *arguments):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = False
    api = GraphApi(f"http://127.0.0.1:{server.server_address[1]}/scribe_logs")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield api
    server.shutdown()
    server.server_close()
    thread.join()


BENCHMARKS = """
import pytest


@pytest.mark.parametrize("net_name", ["lstm", "gru"])
@pytest.mark.parametrize("fuser", ["te"])
@pytest.mark.parametrize("executor", [None])
def test_forward(benchmark, net_name, fuser, executor):
    benchmark.pedantic(sum, ([1, 2],), rounds=5, iterations=3)


class TestMath:
    @pytest.mark.parametrize("device", ["cuda"])
    @pytest.mark.parametrize("dtype, size", [("float16", (1, 2)), ("bfloat16", {"n": 3})])
    @pytest.mark.parametrize("compiler", ["inductor"])
    @pytest.mark.parametrize("mode", ["training"])
    @pytest.mark.benchmark(group="maths")
    def test_add(self, benchmark, device, dtype, size, compiler, mode):
        benchmark.pedantic(sum, ([1, 2],), rounds=4)


def test_plain(benchmark):
    benchmark.pedantic(sum, ([1, 2],), rounds=3)
"""


@pytest.fixture(scope="session")
def bench_file(tmp_path_factory):
    """The file that a real run of pytest-benchmark wrote."""
    folder = tmp_path_factory.mktemp("benchmarks")
    (folder / "bench_ops.py").write_text(BENCHMARKS)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "bench_ops.py"]
    subprocess.run([*command, "--benchmark-json=bench.json"], cwd=folder, check=True, capture_output=True)
    return folder / "bench.json"


@pytest.fixture
def bench(bench_file):
    """What that file holds, to be changed by a test."""
    return json.loads(bench_file.read_text())
