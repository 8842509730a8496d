"""The shape of the code: what tools/architecture.py measures, held where it is settled."""

from __future__ import annotations

import ast
from functools import cache

from tools.architecture import (
    circles,
    floors,
    function_lengths,
    read_house,
    repeated_classes,
    room_graph,
    untyped_options,
)

house = cache(read_house)
MOST_FILES = 211
NO_BEGINNING = {
    "A", "All", "An", "Every", "Everything", "How", "Of", "The", "These", "This", "What", "When", "Where", "Whether",
    "Which", "Why",
}  # fmt: skip
"""Words with which no docstring of a public function begins: it says what the function does, in the imperative."""


def test_files_import_each_other_in_no_circle() -> None:
    """Not even inside functions."""
    assert circles(house().imports) == []


def test_a_name_stands_for_one_class() -> None:
    """In the whole package."""
    assert repeated_classes(house()) == []


def test_no_option_is_looked_up_by_its_name() -> None:
    """A command's options are one typed object."""
    assert untyped_options(house()) == []


def test_the_house_is_no_taller_and_has_no_more_pieces_than_it_needs() -> None:
    """And a function is as long as its idea, not a line."""
    assert max(floors(room_graph(house())).values()) <= 7
    assert len(house().trees) <= MOST_FILES
    lengths = function_lengths(house())
    assert lengths[len(lengths) * 9 // 10] <= 40


def test_a_public_functions_docstring_begins_with_what_it_does() -> None:
    """With a verb; properties are named like what they are. A suite's docstrings describe its models to users."""
    wrong = [
        f"{module}:{node.lineno} {text.splitlines()[0]}"
        for module, tree in house().trees.items()
        if not module.startswith("torchperf_ci.suites.")
        for owner in ast.walk(tree)
        if isinstance(owner, (ast.Module, ast.ClassDef)) and not getattr(owner, "name", "").startswith("_")
        for node in owner.body
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        and not node.name.startswith("_")
        and not any("property" in ast.unparse(each) for each in node.decorator_list)
        and (text := ast.get_docstring(node))
        and text.split()[0].strip("`.,:") in NO_BEGINNING
    ]
    assert wrong == []


def test_no_docstring_asks_in_place_of_saying() -> None:
    """Of modules, classes and constants neither: they name what they are."""
    questions = ("What ", "Which ", "How ", "Why ")
    wrong = [
        f"{module}:{node.lineno} {node.value.value[:60]}"
        for module, tree in house().trees.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
        and node.value.value.startswith(questions)
    ]
    assert wrong == []
