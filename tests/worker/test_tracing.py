"""Which program a case is: what may differ while it is the same one, and what may not. Real workers, two folders."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import CodeType
from typing import Any

import pytest

from torchperf_ci.compare.live import compare_programs
from torchperf_ci.compare.model import Sameness
from torchperf_ci.run.case_worker import ProgramTrace
from torchperf_ci.run.session import Preloaded, Python, package_path, worker_environment
from torchperf_ci.worker.content import CodeDigester, Digester, Places
from worker.tracing_project import DATA, C, Project

Change = Callable[[Project], object]


class Tracer:
    """Traces the project in one of two folders, in workers of a process that was started there."""

    def __init__(self, folders: dict[str, Path], processes: dict[str, Preloaded]) -> None:
        self._folders, self._processes = folders, processes
        self._known: dict[str, tuple[ProgramTrace, dict[str, Any]]] = {}

    def trace(
        self, side: str, change: Change | None = None, *, compiler: str = "eager", threads: int = 1
    ) -> tuple[ProgramTrace, dict[str, Any]]:
        """Trace a changed project; return that, and what a sample says afterwards."""
        folder = self._folders[side]
        for each in folder.iterdir():
            shutil.rmtree(each) if each.is_dir() else each.unlink()
        project = Project()
        if change is not None:
            change(project)
        project.write(folder)
        case = {"model": "net", "mode": "inference", "device": "cpu", "dtype": "float32", "compiler": compiler}
        with self._processes[side].fork(folder / "log") as worker:

            def ask(do: str, **arguments: Any) -> dict[str, Any]:
                return worker.ask(do, deadline=time.monotonic() + 120, **arguments)

            options = {"batch_size": None, "seed": 0, "scale": "full", "inductor_mode": None, "cache_dir": None}
            ask("load", spec="suite.py", case=case, threads=threads, watch=True, **options)
            ask("eager")
            if compiler != "eager":
                ask("compile")
            traced = ask("trace")
            ask("settle")
            arm = "eager" if compiler == "eager" else "compiled"
            sample = ask("sample", order=[[arm]] * 3)
        return ProgramTrace(digests=traced["digests"], parts=traced["parts"], doubts=tuple(traced["doubts"])), sample

    def compare(self, change: Change | None = None, *, compiler: str = "eager", threads: int = 1) -> Sameness:
        """Compare a changed head with a base as it is."""
        if compiler not in self._known:
            self._known[compiler] = self.trace("base", compiler=compiler)
        head, _ = self.trace("head", change, compiler=compiler, threads=threads)
        return compare_programs(self._known[compiler][0], head, compiler=compiler)


@pytest.fixture(scope="module")
def tracer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tracer]:
    folders = {side: tmp_path_factory.mktemp(side) for side in ("base", "head")}
    logs = tmp_path_factory.mktemp("logs")
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("TORCHPERF_", "PYTHONPATH"))}
    with ExitStack() as stack:
        processes = {}
        for side, folder in folders.items():
            own = stack.enter_context(package_path(worker_environment(environ, threads=1, extra={})))
            processes[side] = Python(executable=sys.executable, environ=own, log=logs / side, cwd=folder).start()
            stack.callback(processes[side].close)
        for process in processes.values():  # both import torch meanwhile
            process.wait_until_ready()
        yield Tracer(folders, processes)


def names(sameness: Sameness) -> set[str]:
    return {f"{each.part}: {each.name}" for each in sameness.differences}


def restyle(project: Project) -> None:
    """Change everything that does not matter: comments, lines, docstrings, what nothing calls, what is built anew."""
    project.change('"""Scale."""', "# scales\n\n")
    project.change("return -item", '"""Sort backwards."""\n    return -item')
    project.change("return x / 3", "return x / 4")
    project.change("STEPS = 2", "\n\n\nSTEPS = 2  # two")
    project.files["suite.py"] = "# moved\n" + project.files["suite.py"]
    project.files[C] = "/* the answer */\n\n" + project.files[C]


@pytest.mark.parametrize("compiler", ["eager", "aot_eager"])
def test_the_same_program_in_another_folder_is_the_same(tracer: Tracer, compiler: str) -> None:
    """Whatever became of its comments, its lines, its docstrings and of functions that it does not call; and a library
    that was built again of the same source is the same one."""
    sameness = tracer.compare(restyle, compiler=compiler)
    assert (names(sameness), sameness.doubts) == (set(), ())
    assert sameness.is_same


def test_tracing_makes_nothing_compile_again(tracer: Tracer) -> None:
    """And leaves no hook behind: samples that follow are valid."""
    traced, sample = tracer.trace("head", compiler="aot_eager")
    assert not traced.doubts
    assert sample["recompiled"] is False
    assert "package.code.Net.forward" in traced.parts["functions"]
    file, line, calls, _ = traced.parts["functions"]["package.code.helper"]
    assert (file, line > 1, calls) == ("<tree>/package/code.py", True, 1)


def trick(project: Project) -> None:
    """Change everything that no line of a function that runs shows."""
    project.change("STEPS = 2", "STEPS = 3")
    project.change('"high": [2.0, 3.0]', '"high": [2.0, 4.0]')
    project.change("scale=2.0", "scale=2.5")
    project.change("repeats = 1", "repeats = 2")
    project.change("limit = 4", "limit = 5")
    project.change('self.mode = "plain"', 'self.mode = "plain"\n        self.extra = 1')
    project.change("lambda x: x + x", "lambda x: x * 2")
    project.change("factor=0.5", "factor=0.25")
    project.change("make_adder(1.0)", "make_adder(2.0)")
    project.change("return -item", "return 0 - item")
    project.change("yield number", "yield number + 0")
    project.change("return x - 1", "return x - 2")
    project.change("Linear(4, 4)", "Linear(4, 4)\n        torch.nn.init.ones_(self.layer.weight)")
    project.change("torch.ones(batch_size or 2, 4)", "torch.zeros(batch_size or 2, 4)", file="suite.py")
    project.change("[1, 2]", "[1, 3]", file=DATA)
    project.change("return 42", "return 43", file=C)


@pytest.fixture(scope="module")
def tricked(tracer: Tracer) -> set[str]:
    return names(tracer.compare(trick))


@pytest.mark.parametrize(
    "difference",
    [
        pytest.param("values: package.code.STEPS", id="a global constant"),
        pytest.param("values: package.code.OFFSETS", id="a value in a container"),
        pytest.param("reachable functions: package.code.helper", id="a default argument"),
        pytest.param("values: package.code.Net.repeats", id="a class attribute"),
        pytest.param("values: package.code.Settings.limit", id="a class attribute of a global object"),
        pytest.param("values: package.code.SETTINGS", id="an attribute of a global object"),
        pytest.param("functions: package.code.<lambda>", id="a lambda in a dict"),
        pytest.param("values: package.code.HALF", id="an argument of a partial"),
        pytest.param("values: package.code.ADD", id="a value in a closure"),
        pytest.param("functions: package.code.key_of", id="a function that only C code calls"),
        pytest.param("functions: package.code.numbers", id="a generator"),
        pytest.param("reachable functions: package.code.rare", id="a function of a branch that is not taken"),
        pytest.param("weights: layer.weight", id="the initial weights"),
        pytest.param("inputs: argument 0", id="the inputs"),
        pytest.param("files: <tree>/package/data.json", id="a data file"),
        pytest.param("libraries: <tree>/package/libfast.so", id="a library in C"),
    ],
)
def test_what_steers_a_program_from_outside_makes_it_another_one(tricked: set[str], difference: str) -> None:
    """Constants, defaults, attributes, closures, data, weights, libraries: each is named."""
    assert difference in tricked


def sleep(project: Project) -> None:
    project.change("return x * scale", "time.sleep(0.001)\n    return x * scale")


def sleep_in_c(project: Project) -> None:
    project.files[C] = "#include <unistd.h>\nint answer(void) { usleep(1000); return 42; }\n"


def patch(project: Project) -> None:
    project.files["package/code.py"] += (
        "\n_relu = torch.nn.functional.relu\ndef slow_relu(x):\n    return _relu(_relu(x))\n"
        "torch.nn.functional.relu = slow_relu\n"
    )


def read_variable(project: Project) -> None:
    project.files["suite.py"] = "import os\nos.environ['PROJECT_FLAG'] = 'on'\n" + project.files["suite.py"]


def switch(project: Project) -> None:
    project.files["package/code.py"] += "\ntorch.set_float32_matmul_precision('high')\n"


@pytest.mark.parametrize(
    ("change", "differences"),
    [
        (sleep, {"functions: package.code.helper", "reachable functions: package.code.helper"}),
        (sleep_in_c, {"libraries: <tree>/package/libfast.so"}),
        (patch, {"functions: package.code.slow_relu", "values: package.code._relu"}),
        (read_variable, {"variables: PROJECT_FLAG"}),
        (switch, {"settings: matmul precision"}),
    ],
)
def test_one_change_is_named(tracer: Tracer, change: Change, differences: set[str]) -> None:
    """With the function, the library, the variable or the switch that it is in."""
    found = names(tracer.compare(change))
    assert found
    assert differences <= found


def test_another_number_of_threads_is_another_program(tracer: Tracer) -> None:
    """The same code runs otherwise."""
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("needs a GPU, or two CPUs")
    assert "settings: threads" in names(tracer.compare(threads=2))


def gamble(project: Project) -> None:
    project.change("ADD = make_adder(1.0)", "ADD = random.choice([make_adder(1.0), make_adder(1.0)])")
    project.change("return x * scale", "return x * scale if time.time() > 1 else rare(x)")


def spawn(project: Project) -> None:
    project.files["package/code.py"] += (
        "\nimport subprocess, threading\nsubprocess.run(['true'])\n"
        "threading.Thread(target=time.sleep, args=(0.01,)).start()\n"
    )


def branch_on_random_tensor(project: Project) -> None:
    project.change("return x * scale", "return x * scale if torch.rand(()) < 2 else rare(x)")


@pytest.mark.parametrize(
    ("change", "doubts"),
    [
        (gamble, ("its code calls random.choice (", "its code calls time.time (")),
        (spawn, ("its code starts a program", "its code starts a thread")),
        (branch_on_random_tensor, ("random numbers decide what it runs",)),
    ],
)
def test_what_may_run_otherwise_next_time_is_a_doubt(tracer: Tracer, change: Change, doubts: tuple[str, ...]) -> None:
    """Also where both sides' traces are equal this time."""
    sameness = tracer.compare(change)
    assert not sameness.is_same
    for doubt in doubts:
        assert any(each.startswith(doubt) for each in sameness.doubts), sameness.doubts


FAILS_AT_THIRD_CALL = """
        CALLS.append(1)
        if len(CALLS) == 3:
            raise RuntimeError("third call")
        if len(x) == 1000:"""


def test_a_model_that_cannot_be_traced_is_a_doubt(tracer: Tracer) -> None:
    """Not an error: it may be measured all the same."""

    def fail(project: Project) -> None:
        project.change("        if len(x) == 1000:", FAILS_AT_THIRD_CALL)
        project.change("STEPS = 2", "STEPS = 2\nCALLS = []")

    sameness = tracer.compare(fail)
    assert "it could not be traced: RuntimeError: third call" in sameness.doubts


def function_code(source: str) -> CodeType:
    names: dict[str, Any] = {}
    exec(compile(source, "/some/where.py", "exec"), names)
    code: CodeType = names["f"].__code__
    return code


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ("def f(x):\n    return x", "\n\n# hm\ndef f(x):\n\n    return x  # it is", True),
        ("def f(x):\n    'doc'\n    return x, None, 'a'", "def f(x):\n    return x, None, 'a'", True),
        ("def f(x):\n    'doc'\n    return x", "def f(x):\n    'other'\n    return x", True),
        ("def f():\n    return lambda: 1", "def f():\n    return lambda: 2", False),
        ("def f():\n    return 1", "def f():\n    return True", False),
        ("def f():\n    return 0.0", "def f():\n    return -0.0", False),
        ("def f(x):\n    return x in {'a', 'b', 'c'}", "def f(x):\n    return x in {'c', 'b', 'a'}", True),
        ("def f(x):\n    return x.a", "def f(x):\n    return x.b", False),
        ("def f(x):\n    try:\n        x()\n    except OSError:\n        pass", "def f(x):\n    x()", False),
        ("def f(x, /):\n    return x", "def f(x):\n    return x", False),
    ],
)
def test_code_is_told_by_what_it_does(one: str, other: str, is_same: bool) -> None:  # noqa: FBT001 - a parameter
    """Not by where it stands, nor by what is said about it."""
    digest = CodeDigester(Places())
    assert (digest(function_code(one)) == digest(function_code(other))) is is_same


def test_values_are_told_by_their_content() -> None:
    """Circles end, sets have no order, equal numbers of other types differ, and views are told by what they show."""
    import torch

    digest = Digester(Places())
    circle: list[Any] = [1]
    circle.append(circle)
    assert digest(circle) == digest(circle)
    assert digest({"a", "b", "c"}) == digest({"c", "b", "a"})
    assert len({digest(value) for value in (1, 1.0, True, "1", b"1", (1,), [1], {1: 1}, {1}, None)}) == 10
    base = torch.arange(6.0)
    assert digest(base[:3]) == digest(torch.arange(3.0))
    assert digest(base[:3]) != digest(base[3:])
    assert digest(base.view(2, 3)) != digest(base.view(3, 2))
    assert digest(torch.zeros(2)) != digest(-torch.zeros(2))
    assert digest(str(Path.cwd() / "x")) == digest("<tree>/x")
