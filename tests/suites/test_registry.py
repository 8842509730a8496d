"""A suite is found by name, file, module or entry point; what is wrong with one is told with the choices."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from torchperf_ci.suites import registry
from torchperf_ci.suites.registry import BUILT_IN, SuiteError, known, resolve, suite_name

BODY = "MODELS = {'one': lambda batch_size: ('module', (batch_size,))}\n"


@pytest.fixture(autouse=True)
def _same_imports(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """What a test imports from its own folder is gone after it."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None)).startswith(str(tmp_path)):
            del sys.modules[name]


def test_a_built_in_suite_can_be_named() -> None:
    """Its name in results is the name it was asked by, and there is a module for every one."""
    assert (resolve("tiny").name, "mlp" in resolve("tiny").models) == ("tiny", True)
    assert [name for name, module in BUILT_IN.items() if importlib.util.find_spec(module) is None] == []


def test_a_file_is_a_suite_under_its_stem(tmp_path: Path) -> None:
    """It may import its neighbours, and is given the batch size."""
    (tmp_path / "my-suite.v2.py").write_text("import neighbour_of_mine\n" + BODY)
    (tmp_path / "neighbour_of_mine.py").write_text("")
    suite = resolve(str(tmp_path / "my-suite.v2.py"))
    assert suite.name == "my-suite.v2"
    program = suite.build("one", batch_size=3, mode="inference", device="cpu", dtype="amp", scale="full")
    assert (program.call, program.args, program.kwargs) == ("module", (3,), {})
    assert (suite.quick, suite.skips, suite.option("loss")) == ((), (), None)


def test_a_module_is_a_suite_under_its_last_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever Python finds it."""
    (tmp_path / "bench_package_x").mkdir()
    (tmp_path / "bench_package_x/__init__.py").write_text("")
    (tmp_path / "bench_package_x/models.py").write_text(BODY + "QUICK = ['^o']\nloss = max\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    suite = resolve("bench_package_x.models")
    assert (suite.name, list(suite.models), suite.quick, suite.option("loss")) == ("models", ["one"], ("^o",), max)


def test_another_package_may_register_a_suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By an entry point; a built-in name stays the built-in suite."""
    info = tmp_path / "vision_bench-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: vision-bench\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[torchperf_ci.suites]\nvision = vision_bench_x\ntiny = vision_bench_x\n")
    (tmp_path / "vision_bench_x.py").write_text(BODY)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert known()["vision"] == "vision_bench_x"
    assert (resolve("vision").name, list(resolve("vision").models)) == ("vision", ["one"])
    assert "mlp" in resolve("tiny").models


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("tinny", "unknown suite 'tinny'. Did you mean tiny? There are: {known}, a path to a .py file, a module name."),
        ("qqq", "unknown suite 'qqq'. There are: {known}, a path to a .py file, a module name."),
        ("nowhere/mine.py", "suite nowhere/mine.py: there is no such file."),
        ("json", "unknown suite 'json'. There are: {known}, a path to a .py file, a module name."),
    ],
)
def test_a_suite_that_is_not_there_is_told_with_the_choices(spec: str, message: str) -> None:
    """And with the nearest name."""
    with pytest.raises(SuiteError) as refused:
        resolve(spec)
    assert str(refused.value) == message.format(known=", ".join(sorted(known())))


@pytest.mark.parametrize(("spec", "module"), [("no.such.module", "no"), ("json.nothing", "json.nothing")])
def test_a_module_that_is_not_there_is_told_with_where_it_was_looked_for(spec: str, module: str) -> None:
    """By which Python, and in which folder."""
    with pytest.raises(SuiteError) as refused:
        resolve(spec)
    assert f"suite {spec}: there is no module {module} for {sys.executable} in {Path.cwd()};" in str(refused.value)


def test_a_file_is_told_to_who_leaves_out_its_ending(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is nearer than any suite's name."""
    (tmp_path / "bench.py").write_text(BODY)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SuiteError, match=r"unknown suite 'bench'. Did you mean bench.py\?"):
        resolve("bench")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/bench.py").write_text(BODY)
    (tmp_path / "folder/__init__.py").write_text("")
    with pytest.raises(SuiteError, match=r"unknown suite 'folder'. Did you mean folder/bench.py\?"):
        resolve("folder")


FUNCTION = "def one(batch_size):\n    return None, ()\n"


@pytest.mark.parametrize(
    ("body", "facts"),
    [
        ("", ["has no MODELS", 'add MODELS = {"mlp": mlp}']),
        (FUNCTION, ["has no MODELS", 'add MODELS = {"one": one}']),
        (FUNCTION + "models = {'one': one}", ["has no MODELS", "rename models to MODELS"]),
        ("MODELS = {}", ["wrong.py:1: ", "empty"]),
        (FUNCTION + "MODELS = [one]", ["wrong.py:3: ", "list", 'MODELS = {"one": one}']),
        ("MODELS = {'one': 1}", ["wrong.py:1: ", "MODELS['one']", "int", "def one(batch_size):"]),
        ("MODELS = {1: print}", ["wrong.py:1: ", "MODELS[1]", "'1'"]),
        ("\nclass Net: pass\nMODELS = {'net': Net}", ["wrong.py:3: ", "the class Net", "def net(batch_size):"]),
        (
            "import torch\nMODELS = {'net': torch.nn.ReLU()}",
            ["wrong.py:2: ", "(ReLU)", "def net("],
        ),
        ("\ndef one():\n    pass\nMODELS = {'one': one}", ["wrong.py:2: ", "def one(batch_size):"]),
        ("def one(batch_size, width):\n    pass\nMODELS = {'one': one}", ["wrong.py:1: ", "width=…"]),
        ("def one(batch_size, *, size):\n    pass\nMODELS = {'one': one}", ["wrong.py:1: ", "size=…"]),
    ],
)
def test_a_file_that_is_no_suite_is_told_its_line_and_what_to_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, facts: list[str]
) -> None:
    """When the suite is loaded, once, and not per case."""
    path = tmp_path / "wrong.py"
    path.write_text(body)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SuiteError) as refused:
        resolve(str(path))
    assert str(refused.value).startswith("suite wrong.py: ")
    assert [fact for fact in facts if fact not in str(refused.value)] == []


@pytest.mark.parametrize("signature", ["batch", "*_", "batch, width=3, **_", "batch, *, mode, scale, k=1"])
def test_a_function_that_can_be_called_is_taken(tmp_path: Path, signature: str) -> None:
    """However it declares its parameters."""
    (tmp_path / "good.py").write_text(f"def one({signature}):\n    pass\nMODELS = {{'one': one}}")
    assert list(resolve(str(tmp_path / "good.py")).models) == ["one"]


@pytest.mark.parametrize(
    ("line", "kind", "fix"),
    [
        ("return net, x", "Tensor", "return net, (x,)"),
        ("return torch.nn.ReLU()", "ReLU", "return torch.nn.ReLU(), (x,)"),
        ("return net, {'x': x}", "dict", "return net, (), {'x': x}"),
        ("return [net, (x,)]", "list", "return net, (x,)"),
        ("return net, (x,), x", "Tensor", "return net, (x,), {…}"),
        ("return net, x, x, x", "4 values", "return module, (x,)"),
    ],
)
def test_what_a_function_returns_amiss_is_told_with_its_line_and_what_to_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, kind: str, fix: str
) -> None:
    """The line is that of its `return`."""
    body = f"import torch\n\ndef one(batch_size):\n    net, x = torch.nn.ReLU(), torch.ones(1)\n    {line}\n"
    (tmp_path / "amiss.py").write_text(body + "MODELS = {'one': one}")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SuiteError) as refused:
        resolve(str(tmp_path / "amiss.py")).build("one", batch_size=None)
    message = str(refused.value)
    assert message.startswith(f"amiss.py:5: `{line}` gives ")
    assert kind in message
    assert message.endswith(f"write `{fix}`")


def test_an_error_inside_a_suite_is_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A library that the suite needs and that is absent is not taken for an absent suite."""
    (tmp_path / "needs_much.py").write_text("import a_library_nobody_has")
    with pytest.raises(ModuleNotFoundError, match="a_library_nobody_has"):
        resolve(str(tmp_path / "needs_much.py"))
    (tmp_path / "package_y").mkdir()
    (tmp_path / "package_y/suite.py").write_text("import a_library_nobody_has")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ModuleNotFoundError, match="a_library_nobody_has"):
        resolve("package_y.suite")


def test_names_in_results() -> None:
    """A file's stem, a module's last name, else the name."""
    assert [suite_name(text) for text in ("a/b.c.py", "b.c", "tiny")] == ["b.c", "c", "tiny"]


def test_the_registry_itself_needs_no_torch() -> None:
    """So that a list of suites costs nothing."""
    source = Path(registry.__file__).read_text()
    assert "import torch\n" not in source


@pytest.mark.parametrize(("world", "sizes"), [("2", [2, 2]), ("{'two': 3}", [1, 3])])
def test_a_suite_says_in_how_many_processes_its_models_run(tmp_path: Path, world: str, sizes: list[int]) -> None:
    """All of them, or by model; the others run alone."""
    (tmp_path / "worlds.py").write_text(f"MODELS = {{'one': print, 'two': print}}\nWORLD = {world}\n")
    suite = resolve(str(tmp_path / "worlds.py"))
    assert [suite.world(model) for model in suite.models] == sizes


@pytest.mark.parametrize(
    ("world", "problem"),
    [
        ("0", "WORLD is 0, expected"),
        ("'2'", "WORLD is '2', expected"),
        ("True", "WORLD is True, expected"),
        ("{'one': 1.5}", r"WORLD\['one'\] is 1.5, expected"),
        ("{'three': 2}", r"WORLD\['three'\]: MODELS has no such model"),
    ],
)
def test_a_number_of_processes_that_cannot_be_is_refused(tmp_path: Path, world: str, problem: str) -> None:
    """By name and value."""
    (tmp_path / "worlds.py").write_text(f"MODELS = {{'one': print, 'two': print}}\nWORLD = {world}\n")
    with pytest.raises(SuiteError, match=problem):
        resolve(str(tmp_path / "worlds.py"))
