"""Who may import whom: the directions of the design, read from the source."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "torchperf_ci"
FILES = sorted(SOURCE.rglob("*.py"))
HEAVY = {"torch", "pandas", "numpy", "scipy", "matplotlib", "github", "requests", "tabulate", "jinja2"}

MAY_IMPORT: dict[str, set[str]] = {
    # What a room may know of the others, besides itself and `core`. Only `cli`, which is above all, may know any.
    "core": set(),
    "worker": {"suites"},
    "suites": {"worker"},
    "machine": set(),
    "run": {"worker", "machine"},
    "report": set(),
    "github": set(),
    "shards": set(),
    "history": {"github"},
    "formats": {"history"},
    "expectations": {"shards", "github", "report"},
    "compare": {"run", "machine", "report", "worker", "suites"},
    "explain": {"compare", "report", "run"},
    "bisect": {"compare", "report", "run", "machine"},
    "doctor": {"compare", "run", "machine"},
    "dashboard": {"history", "compare", "report", "github"},
    "site": {"dashboard", "history", "compare", "github"},
    "post": {"compare", "report", "github"},
    "pytorch": {"formats", "report", "run", "worker", "suites"},
}
ONLY_IN = {
    "torch": ("worker/", "suites/"),
    "transformers": ("suites/",),
    "timm": ("suites/",),
    "pytest": ("suites/",),
    "matplotlib": ("report/plots.py", "compare/charts.py", "dashboard/charts.py"),
    "github": ("github/",),
    "requests": ("github/", "pytorch/"),
    "click": ("cli/",),
}
STANDARD_LIBRARY_ONLY = (
    "core/errors.py", "core/results.py", "core/safe_files.py", "suites/registry.py",
    "worker/protocol.py",
)  # fmt: skip


@dataclass(frozen=True)
class Import:
    """`name` is dotted; `at_once` says that it happens when the file is imported, and not only for types."""

    file: Path
    name: str
    at_once: bool

    @property
    def where(self) -> str:
        return self.file.relative_to(SOURCE).as_posix()

    @property
    def part(self) -> str:
        return self.where.partition("/")[0].removesuffix(".py")

    @property
    def root(self) -> str:
        return self.name.partition(".")[0]

    @property
    def target(self) -> str | None:
        """The part of this package that is imported, or None for other packages."""
        return self.name.split(".")[1] if self.root == "torchperf_ci" and "." in self.name else None


def _names(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        assert node.level == 0, "imports are absolute here"
        return [f"{node.module}.{alias.name}" for alias in node.names]
    return []


def _imports(body: list[ast.stmt], file: Path, *, at_once: bool) -> Iterator[Import]:
    for node in body:
        for name in _names(node):
            yield Import(file, name, at_once)
        later = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) or (
            isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        )
        for field in ("body", "orelse", "handlers", "finalbody", "cases"):
            for inner in getattr(node, field, []):
                children = [inner] if isinstance(inner, ast.stmt) else inner.body
                yield from _imports(children, file, at_once=at_once and not later)


IMPORTS = [
    found for file in FILES for found in _imports(ast.parse(file.read_text(encoding="utf-8")).body, file, at_once=True)
]


def _told(imports: list[Import]) -> list[str]:
    return [f"{found.where} imports {found.name}" for found in imports]


def test_this_test_sees_the_imports() -> None:
    """Of every kind: at the top, in a function, for types alone."""
    seen = {(found.where, found.name): found.at_once for found in IMPORTS}
    assert seen["worker/commands.py", "torch"] is True
    assert seen["cli/run.py", "torchperf_ci.run.runner.measure_plan"] is False
    assert seen["cli/finish.py", "torchperf_ci.report.model.ReportOptions"] is False


def test_every_part_imports_only_what_it_may_know() -> None:
    """Compute in the core, read and write at the edges."""
    wrong = [
        found
        for found in IMPORTS
        if found.part in MAY_IMPORT
        and found.target not in {None, "__version__", "core", found.part, *MAY_IMPORT[found.part]}
    ]
    assert _told(wrong) == []
    assert {found.part for found in IMPORTS} == {*MAY_IMPORT, "cli", "__main__"}, "every room has its line above"


def test_nothing_imports_the_commands() -> None:
    """But the entry point."""
    assert {found.part for found in IMPORTS if found.target == "cli"} <= {"cli", "__main__"}


def test_the_parts_have_no_cycle() -> None:
    """Besides worker and suites, which are one island in the Python under test."""
    graph: dict[str, set[str]] = {}
    for found in IMPORTS:
        if found.target and found.target != found.part and {found.target, found.part} != {"worker", "suites"}:
            graph.setdefault(found.part, set()).add(found.target)
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the cycle


@pytest.mark.parametrize("library", ONLY_IN)
def test_a_library_is_imported_where_it_belongs(library: str) -> None:
    """One place knows it, and can be changed with it."""
    wrong = [found for found in IMPORTS if found.root == library and not found.where.startswith(ONLY_IN[library])]
    assert _told(wrong) == []


@pytest.mark.parametrize("file", STANDARD_LIBRARY_ONLY)
def test_what_both_interpreters_import_needs_nothing(file: str) -> None:
    """The standard library is everywhere."""
    roots = {found.root for found in IMPORTS if found.where == file} - {"torchperf_ci"}
    assert roots <= sys.stdlib_module_names


def test_the_worker_knows_no_library_of_the_controller() -> None:
    """It runs in a Python that has none of them."""
    controllers = (HEAVY - {"torch", "numpy"}) | {"click", "psutil", "duckdb", "pyarrow"}
    wrong = [found for found in IMPORTS if found.part in {"worker", "suites"} and found.root in controllers]
    assert _told(wrong) == []


def test_no_command_imports_a_heavy_library_before_it_needs_it() -> None:
    """The help of every command comes at once: heavy imports stand in the function that needs them."""
    at_top = [found for found in IMPORTS if found.part == "cli" and found.at_once and found.root in HEAVY]
    assert _told(at_top) == []
    code = (
        "import sys, click\n"
        "from torchperf_ci.cli.main import COMMANDS, cli\n"
        "for name in COMMANDS:\n"
        "    command = cli.get_command(click.Context(cli), name)\n"
        "    command.get_help(click.Context(command, info_name=name))\n"
        f"print(*sorted({HEAVY!r} & {{name.partition('.')[0] for name in sys.modules}}))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.stdout.strip(), done.stderr) == ("", "")


def test_the_middle_reads_no_environment() -> None:
    """Analysis and report are data in, data out: what they need is handed to them."""
    readers = [
        file.relative_to(SOURCE).as_posix()
        for file in FILES
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute)
        and node.attr in {"environ", "getenv"}
        and file.relative_to(SOURCE).parts[0] in {"core", "report", "dashboard", "expectations", "shards"}
    ]
    assert readers == []
