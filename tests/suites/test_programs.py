"""A function of a suite may return any callable, PARAMS makes cases of it, and what cannot be measured is told."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torchperf_ci.suites.problems import combinations, expand, name_case, problem_of_choices
from torchperf_ci.suites.registry import Suite, SuiteError, resolve


@pytest.fixture(autouse=True)
def _same_imports(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    yield
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None)).startswith(str(tmp_path)):
            del sys.modules[name]


def suite(tmp_path: Path, body: str) -> Suite:
    (tmp_path / "wrong.py").write_text(body)
    return resolve(str(tmp_path / "wrong.py"))


def refusal(tmp_path: Path, body: str) -> str:
    with pytest.raises(SuiteError) as refused:
        suite(tmp_path, body).build("one", batch_size=None)
    return str(refused.value)


RETURNS = "def one(batch_size):\n    return {}\nMODELS = {{'one': one}}\n"


@pytest.mark.parametrize(
    ("returned", "args", "kwargs"),
    [
        ("abs", (), {}),
        ("abs, (1,)", (1,), {}),
        ("max, [1, 2], {'key': abs}", (1, 2), {"key": abs}),
        ("{'call': abs, 'args': [1], 'items': 3}", (1,), {}),
    ],
)
def test_a_function_returns_any_callable(
    tmp_path: Path, returned: str, args: tuple[object, ...], kwargs: object
) -> None:
    """Alone, with its inputs, or in a mapping."""
    program = suite(tmp_path, RETURNS.format(returned)).build("one", batch_size=None)
    assert callable(program.call)
    assert (program.args, program.kwargs) == (args, kwargs)


@pytest.mark.parametrize(
    ("returned", "facts"),
    [
        ("{'args': (1,)}", ["no key 'call'"]),
        ("{'call': abs, 'setpu': abs}", ["'setpu'", "did you mean 'setup'?"]),
        ("{'call': 3}", ["3 under 'call'", "a module or a function"]),
        ("{'call': abs, 'args': 3}", ["3 under 'args'", "(x,)"]),
        ("{'call': abs, 'setup': 3}", ["3 under 'setup'", "a function"]),
        ("{'call': abs, 'items': -1}", ["-1 under 'items'", "above 0"]),
        ("{'call': abs, 'metrics': 'speed'}", ["'speed' under 'metrics'", "there is none"]),
        ("{'call': abs, 'setup_per': 'day'}", ["'call' or 'reading'"]),
    ],
)
def test_a_mapping_amiss_is_told_with_the_line_of_its_return(tmp_path: Path, returned: str, facts: list[str]) -> None:
    """And with what to write in its place."""
    message = refusal(tmp_path, RETURNS.format(returned))
    assert message.startswith("wrong.py:2: the mapping that one returns has ")
    assert [fact for fact in facts if fact not in message] == []


FUNCTION = "def one(batch_size, n=1, dtype=''):\n    return abs, (n,)\nMODELS = {'one': one}\n"


@pytest.mark.parametrize(
    ("body", "facts"),
    [
        (FUNCTION + "PARAMS = {'two': {'n': [1]}}", ["wrong.py:4: ", "PARAMS['two']", "no such model"]),
        (
            FUNCTION + "PARAMS = {'one': {'dtyp': [1]}}",
            ["wrong.py:1: ", "no parameter 'dtyp'", "did you mean 'dtype'?"],
        ),
        (FUNCTION + "PARAMS = {'one': {'n': 1}}", ["wrong.py:4: ", "not a list", "[1]"]),
        (FUNCTION + "PARAMS = {'one': {'n': []}}", ["no values"]),
        (FUNCTION + "PARAMS = {'one': {'n': [1, 1]}}", ["[n=1] is there twice"]),
        (FUNCTION + "PARAMS = {'one': {'n': ['a,b']}}", ["'a,b'", "short name"]),
        (FUNCTION + "PARAMS = {'one': {'n': [[1]]}}", ["a list", "text, a number"]),
        (FUNCTION + "PARAMS = {'one': {'device': ['cpu']}}", ["'device' is no parameter", "--devices"]),
        (FUNCTION + "PARAMS = {'one': {'n': list(range(10001))}}", ["10,001 cases"]),
        ("def one(batch_size, n):\n    pass\nMODELS = {'one': one}\nPARAMS = {'one': [{}]}", ["a list of mappings"]),
        ("def one(batch_size, n):\n    pass\nMODELS = {'one': one}", ["needs n", "PARAMS"]),
        (FUNCTION + "METRICS = {'speed': {'direction': 'higher'}}", ["wrong.py:4: ", "METRICS['speed'] has no unit"]),
        (FUNCTION + "METRICS = {'speed': {'unit': 'm'}}", ["no direction", "higher, lower"]),
        (FUNCTION + "METRICS = {'speed': {'unit': 'm', 'direction': 'up'}}", ["'up'", "higher, lower"]),
        (FUNCTION + "METRICS = {'a b': {'unit': 'm', 'direction': 'lower'}}", ["'a b'", "letters"]),
        (FUNCTION + "METRICS = {'speed': {'unit': 'm', 'direction': 'lower', 'x': 1}}", ["'x'", "unit, direction"]),
        (
            FUNCTION + "def metrics(model, result, seconds):\n    return {}",
            ["wrong.py:4: ", "METRICS does not declare", "METRICS = {"],
        ),
        (FUNCTION + "SHAPES = {'one': 3}", ["SHAPES['one'] is 3", "a list of inputs"]),
        (FUNCTION + "SHAPES = {'ones': [(1,)]}", ["wrong.py:4: ", "SHAPES['ones']", "did you mean 'one'?"]),
        (FUNCTION + "SHAPES = [(1,)]", ["SHAPES is a list", "SHAPES = {"]),
    ],
)
def test_parameters_metrics_and_shapes_amiss_are_told(tmp_path: Path, body: str, facts: list[str]) -> None:
    """With the line, and what to write."""
    message = refusal(tmp_path, body)
    assert [fact for fact in facts if fact not in message] == []


def test_every_combination_is_a_case_with_its_parameters(tmp_path: Path) -> None:
    """A skip, a group and a number of processes are for all cases of a model."""
    body = (
        "from torchperf_ci.suites.registry import Skip\n"
        "def one(n, dtype='x', *, mode=''):\n    return abs, (n, dtype, mode)\n"
        "MODELS = {'one': one, 'two': one}\n"
        "PARAMS = {'one': {'n': [1, 2], 'dtype': ['a', 'b']}, 'two': [{'n': 3}, {'n': 4, 'dtype': 'c'}]}\n"
        "GROUPS = {'few': ['two']}\nSKIPS = [Skip(model='two', reason='no')]\nWORLD = {'one': 2}\n"
    )
    loaded = suite(tmp_path, body)
    ones = ["one[n=1,dtype=a]", "one[n=1,dtype=b]", "one[n=2,dtype=a]", "one[n=2,dtype=b]"]
    twos = ["two[n=3]", "two[n=4,dtype=c]"]
    assert list(loaded.models) == [*ones, *twos]
    assert loaded.build("one[n=2,dtype=b]", batch_size=None, mode="inference").args == (2, "b", "inference")
    assert loaded.build("two[n=3]", batch_size=None, mode="inference").args == (3, "x", "inference")
    assert [skip.model for skip in loaded.skips] == loaded.groups["few"] == twos
    assert [loaded.world(model) for model in loaded.models] == [2, 2, 2, 2, 1, 1]
    assert loaded.own_name("two[n=3]") == "two"


VALUES = st.one_of(st.integers(), st.booleans(), st.text(), st.floats())


@given(st.dictionaries(st.sampled_from(["n", "dtype", "k"]), st.lists(VALUES, max_size=3), max_size=3))
def test_parameters_are_refused_or_make_names_that_differ(choices: dict[str, list[object]]) -> None:
    """A name says its parameters, and nothing else has it."""
    if problem_of_choices(choices):
        return
    names = [name_case("m", each) for each in combinations(choices)]
    assert len(set(names)) == len(names) == len(expand("m", choices))
    assert all(name.count("[") == 1 and not set(name) & set(" \n\t") for name in names)
