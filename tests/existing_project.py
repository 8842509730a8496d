"""A miniature of a project with benchmarks of other tools: tests with a fixture, and a suite of asv."""

from __future__ import annotations

from pathlib import Path

CONFIGURATION = """
[pytest]
addopts = --strict-markers -m "not slow" -k "not sorted" --benchmark-columns=min,max --benchmark-disable
    --benchmark-group-by=group -n 2 --dist=loadscope --benchmark-compare-fail min:5%% mean:1%% --benchmark-compare
markers = slow: left out of the usual runs
"""

CONFTEST = '''
import pathlib
import pytest


def pytest_benchmark_update_json(config, benchmarks, output_json):
    """A hook of pytest-benchmark, which may not be there."""


@pytest.fixture
def benchmark(benchmark):
    """Its own fixture, around the one that there is."""
    benchmark.extra_info["wrapped"] = 1
    return benchmark


@pytest.fixture
def data():
    yield list(range(1000))
    pathlib.Path(__file__).with_name("torn_down").touch()
'''

TESTS = '''
import pathlib
import threading
import pytest


def test_plain():
    """Asks for no benchmark."""


def test_sum(benchmark, data):
    assert benchmark(sum, data) == 499500
    assert benchmark.stats.stats.min <= benchmark.stats["mean"] <= benchmark.stats.stats.max
    benchmark.extra_info["size"] = 1000


@pytest.mark.slow
@pytest.mark.benchmark(group="sorting")
@pytest.mark.parametrize("key", [None, "\u00e9\\n"])
def test_sorted(benchmark, data, key):
    @benchmark
    def result():
        return sorted(data)

    assert len(result) == 1000


class TestPop:
    calls = []

    def test_setup(self, benchmark):
        def setup():
            self.calls.append("setup")
            return ([3],), {}

        def pop(items):
            self.calls.append("call")
            return items.pop()

        def teardown(items):
            self.calls.append("teardown")

        assert benchmark.pedantic(pop, setup=setup, teardown=teardown, rounds=3, warmup_rounds=1) == 3
        assert self.calls == ["setup", "call", "teardown"] * (len(self.calls) // 3)


def test_fails_after(benchmark):
    assert benchmark(lambda: 1) == 2


def test_fails_before(benchmark, data):
    raise ValueError("no such data")


def test_fails_inside(benchmark):
    benchmark(lambda: 1 / 0)


def test_skips(benchmark):
    pytest.skip("needs another machine")


def test_calls_nothing(benchmark):
    pass


def test_twice(benchmark):
    benchmark(len, ())
    benchmark(len, ())


def test_in_a_thread(benchmark):
    thread = threading.Thread(target=benchmark, args=(len, ()))
    thread.start()
    thread.join()


def test_coroutine(benchmark):
    async def wait():
        return 1

    benchmark(wait)


async def test_async(benchmark):
    benchmark(len, ())


def test_gives_the_result(benchmark):
    benchmark(len(()))


def test_pedantic_iterations(benchmark):
    benchmark.pedantic(len, setup=lambda: (((),), {}), iterations=2)


def test_weaves(benchmark):
    benchmark.weave(pathlib.Path.touch)


def test_pedantic_misused(benchmark):
    benchmark.pedantic(len, args=([],), setup=lambda: (([],), {}))
'''

ASV = """
from .data import DATA


def setup(*args):
    global ready
    ready = True


class Sorting:
    params = [[10, 100], ["plain", "reversed"]]
    param_names = ["n", "order"]

    def setup(self, n, order):
        if (n, order) == (10, "reversed"):
            raise NotImplementedError("no use")
        self.data = DATA[:n] if order == "plain" else DATA[:n][::-1]

    def time_sort(self, n, order):
        assert ready
        self.data.sort()

    def teardown(self, n, order):
        del self.data

    def mem_data(self, n, order):
        return self.data


class Cached:
    def setup_cache(self):
        with open("cache.txt", "w") as stream:
            stream.write("seven")
        return 7

    def time_read(self, cache):
        with open("cache.txt") as stream:
            assert cache == 7 and stream.read() == "seven"

    def track_count(self, cache):
        return cache

    track_count.unit = "files"


def peakmem_bytes():
    bytearray(50_000_000)


def time_too_slow():
    import time
    time.sleep(20)


time_too_slow.timeout = 0.2


def timeraw_import():
    return "import json"


def _time_nothing():
    raise AssertionError("its name begins with an underscore")
"""


def write_project(folder: Path) -> Path:
    """Write it into a folder."""
    files = {
        "pytest.ini": CONFIGURATION,
        "conftest.py": CONFTEST,
        "bench/test_lists.py": TESTS,
        "bench/test_broken.py": "import no_such_module\n",
        "asv.conf.json": '{\n  // where they are\n  "benchmark_dir": "asv_bench",\n}\n',
        "asv_bench/__init__.py": "",
        "asv_bench/data.py": "DATA = list(range(100))\n",
        "asv_bench/lists.py": ASV,
        "asv_bench/broken.py": "import no_such_module\n",
    }
    for name, content in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(content)
    return folder
