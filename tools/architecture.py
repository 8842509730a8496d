"""`python -m tools.architecture`: measure the house: files, lines, floors, circles of imports, names used twice.

A room is a folder below src/torchperf_ci; the two files there are its number and its door. A floor: a room stands above
all rooms that it imports. A circle: files that import each other, at whatever distance, also inside a function.
`--rooms` draws them for Mermaid.
"""

from __future__ import annotations

import ast
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path

SOURCE = Path(__file__).parents[1] / "src"
PACKAGE = "torchperf_ci"

_NO_ROOMS = {PACKAGE, "__main__"}

Graph = Mapping[str, set[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class House:
    """The parsed modules by dotted name, and which module imports which."""

    trees: Mapping[str, ast.Module]
    lines: Mapping[str, int]
    imports: Graph


def read_house(source: Path = SOURCE) -> House:
    """Parse every module of the package."""
    files = {
        ".".join(file.relative_to(source).with_suffix("").parts).removesuffix(".__init__"): file
        for file in sorted((source / PACKAGE).rglob("*.py"))
    }
    trees = {name: ast.parse(file.read_text(encoding="utf-8")) for name, file in files.items()}
    lines = {name: len(file.read_text(encoding="utf-8").splitlines()) for name, file in files.items()}
    return House(trees=trees, lines=lines, imports={name: set(_imported(tree, trees)) for name, tree in trees.items()})


def _imported(tree: ast.Module, modules: Mapping[str, ast.Module]) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith(f"{PACKAGE}."):
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in modules else node.module


def room_of(module: str) -> str:
    """Name the room that a module stands in."""
    return module.split(".")[1] if "." in module else module


def room_graph(house: House) -> dict[str, set[str]]:
    """Tell which rooms each room imports."""
    graph: dict[str, set[str]] = {}
    for module, targets in house.imports.items():
        rooms = {room_of(target) for target in targets} - {room_of(module)} - _NO_ROOMS
        graph.setdefault(room_of(module), set()).update(rooms)
    return {room: rooms for room, rooms in graph.items() if room not in _NO_ROOMS}


def circles(graph: Graph) -> list[list[str]]:
    """Find the groups of nodes that reach each other: strongly connected components (Tarjan, 1972) of two or more."""
    index: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    groups: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = lowest[node] = len(index)
        stack.append(node)
        for target in graph.get(node, ()):
            if target not in index:
                visit(target)
            if target in stack:
                lowest[node] = min(lowest[node], lowest[target])
        if lowest[node] == index[node]:
            at = stack.index(node)
            group = stack[at:]
            del stack[at:]
            if len(group) > 1:
                groups.append(sorted(group))

    for node in graph:
        if node not in index:
            visit(node)
    return groups


def floors(graph: Graph) -> dict[str, int]:
    """Count how high each room stands; 1 is the ground. `worker` and `suites` are one island and share their floor."""
    joined = {
        room: {target for target in targets if {room, target} != {"worker", "suites"}}
        for room, targets in graph.items()
    }
    heights: dict[str, int] = {}
    for room in TopologicalSorter(joined).static_order():
        heights[room] = 1 + max((heights[target] for target in joined.get(room, ())), default=0)
    return heights


def repeated_classes(house: House) -> list[str]:
    """List the class names that are defined more than once."""
    names = Counter(
        node.name for tree in house.trees.values() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)
    )
    return sorted(name for name, count in names.items() if count > 1)


def function_lengths(house: House) -> list[int]:
    """Measure every function in lines, shortest first."""
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return sorted(
        (node.end_lineno or node.lineno) - node.lineno + 1
        for tree in house.trees.values()
        for node in ast.walk(tree)
        if isinstance(node, functions)
    )


def untyped_options(house: House) -> list[str]:
    """List the places that look an option up by its name in a dict, or take `**options`."""
    return [
        f"{module}:{node.lineno}"
        for module, tree in house.trees.items()
        for node in ast.walk(tree)
        if (isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name) and node.value.id == "options")
        or (isinstance(node, ast.FunctionDef) and node.args.kwarg and node.args.kwarg.arg == "options")
    ]


def picture(graph: Graph) -> str:
    """Draw the rooms and who imports whom as a Mermaid flowchart; `core` is left out, everybody knows it."""
    shown = {room: targets - {"core"} for room, targets in graph.items() if room != "core"}
    covered = {
        room: {t for t in targets if not any(t in shown.get(other, ()) for other in targets if other != t)}
        for room, targets in shown.items()
    }
    arrows = [f"  {room} --> {target}" for room in sorted(covered) for target in sorted(covered[room])]
    return "\n".join(["flowchart TD", *arrows])


def main() -> None:
    """Print the figures, or the picture."""
    house = read_house()
    graph = room_graph(house)
    if "--rooms" in sys.argv:
        print(picture(graph))
        return
    lengths = function_lengths(house)
    heights = floors(graph)
    print(f"files: {len(house.trees)}")
    print(f"lines: {sum(house.lines.values())}")
    print(f"rooms: {len(heights)} on {max(heights.values())} floors")
    print(f"circles: {len(circles(house.imports))}")
    print(f"class names used twice: {len(repeated_classes(house))}")
    print(f"options looked up by name: {len(untyped_options(house))}")
    print(f"function length: median {lengths[len(lengths) // 2]}, p90 {lengths[len(lengths) * 9 // 10]} lines")
    for circle in circles(house.imports):
        print("circle:", " ".join(circle))
    for name in repeated_classes(house):
        print("used twice:", name)


if __name__ == "__main__":
    main()
