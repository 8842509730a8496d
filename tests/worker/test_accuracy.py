"""Two results are the same by the rules of PyTorch's accuracy runs, and a difference is told with its place."""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import functools
import math
import subprocess
import sys
import threading
from collections import OrderedDict, namedtuple
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from torchperf_ci.worker.accuracy import (
    AccuracyTolerance,
    CannotJudge,
    Determinism,
    IterationOutcome,
    another_function,
    compare_outcomes,
    rmse,
)

STRICT = AccuracyTolerance(value=1e-4)
LOOSE = AccuracyTolerance(value=1e-3)
NAN_IS_FINE = AccuracyTolerance(value=1e-3, nan_equals_nan=True)
NO_REFERENCE = AccuracyTolerance(value=1e-4, cosine=True, size=True)
NAN, INF = float("nan"), float("inf")


def difference(eager: object, compiled: object, wide: object, tolerance: AccuracyTolerance) -> str | None:
    """The difference of two outputs."""
    float64 = None if wide is None else IterationOutcome(results={"output": wide})
    return compare_outcomes(
        IterationOutcome(results={"output": eager}), IterationOutcome(results={"output": compiled}), float64, tolerance
    )


def spread(count: int, error: float, *, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Ones that are `error` too large."""
    return torch.full((count,), 1.0 + error, dtype=torch.float64).to(dtype)


def test_what_is_close_is_the_same_without_a_reference() -> None:
    """The tolerance is absolute plus relative, as in allclose."""
    eager = torch.tensor([0.0, 100.0])
    assert difference(eager, torch.tensor([0.00009, 100.01]), None, STRICT) is None
    assert difference(eager, torch.tensor([0.0, 100.02]), None, STRICT) == (
        "output: 1 of 2 values differ, most at [1]: 100.02 instead of 100; tolerance 0.0001"
    )


@pytest.mark.parametrize(
    ("eager_error", "compiled_error", "same"),
    [(0.01, 0.0199, True), (0.01, 0.0201, False), (0.0, 0.001, False), (0.5, 0.9, True)],
)
def test_a_large_tensor_may_be_twice_as_far_from_float64_as_eager_is(
    *, eager_error: float, compiled_error: float, same: bool
) -> None:
    """RMSE(float64, compiled) ≤ 2 · RMSE(float64, eager) + tolerance / 10."""
    found = difference(spread(1000, eager_error), spread(1000, compiled_error), spread(1000, 0).double(), STRICT)
    assert (found is None) is same


def test_the_allowance_is_told() -> None:
    """A person sees how far off the result is, and what would have been fine."""
    found = difference(spread(1000, 0.01), spread(1000, 0.05), spread(1000, 0).double(), STRICT)
    assert found is not None
    assert found.startswith("output: 1000 of 1000 values differ, most at [0]: 1.05 instead of 1.01; ")
    assert found.endswith("RMSE to float64 is 0.05, eager's is 0.01, allowed 0.02")


def test_a_tenth_of_the_tolerance_is_always_allowed() -> None:
    """Where eager is exact, rounding of the compiled result must still pass."""
    eager, wide = torch.zeros(1000), torch.zeros(1000, dtype=torch.float64)
    one_off = torch.zeros(1000)
    one_off[0] = 3e-4  # RMSE 0.95e-5, allowed 1e-5, while allclose says no
    assert difference(eager, one_off, wide, STRICT) is None
    one_off[0] = 3.3e-4
    assert difference(eager, one_off, wide, STRICT) is not None


@pytest.mark.parametrize(
    ("shape", "dtype", "tolerance"),
    [
        ((999,), torch.float32, STRICT),
        ((1000,), torch.float16, LOOSE),
        ((1000,), torch.bfloat16, LOOSE),
        ((1, 1000, 1, 1), torch.float32, STRICT),
        ((1000,), torch.float32, AccuracyTolerance(value=2e-2)),
    ],
    ids=["small", "float16", "bfloat16", "1x1", "wide tolerance"],
)
def test_three_times_is_allowed_where_rounding_weighs_more(
    shape: tuple[int, ...], dtype: torch.dtype, tolerance: AccuracyTolerance
) -> None:
    """Small tensors, half precision, 1×1 images and tolerances from 2e-2 on have the multiplier 3."""
    wide = torch.ones(shape, dtype=torch.float64)
    eager, fine, wrong = (torch.full(shape, 1 + error).to(dtype) for error in (0.125, 0.34375, 0.40625))
    assert difference(eager, fine, wide, tolerance) is None
    assert difference(eager, wrong, wide, tolerance) is not None


@pytest.mark.parametrize("shape", [(1000,), (1000, 1, 1), (10, 25, 2, 2)])
def test_twice_is_the_rule_otherwise(shape: tuple[int, ...]) -> None:
    """A thousand elements, and images larger than 1×1, get no more than 2."""
    wide = torch.ones(shape, dtype=torch.float64)
    assert difference(torch.full(shape, 1.125), torch.full(shape, 1.34375), wide, STRICT) is not None


def test_a_reference_of_another_shape_is_no_reference() -> None:
    """Then the tolerance alone decides."""
    found = difference(spread(4, 0.01), spread(4, 0.015), torch.ones(5, dtype=torch.float64), STRICT)
    assert found is not None
    assert found == "output: 4 of 4 values differ, most at [0]: 1.015 instead of 1.01; tolerance 0.0001"


def test_cosine_similarity_decides_where_it_is_asked_for() -> None:
    """From 0.99 on it is the same, whatever the length."""
    cosine = AccuracyTolerance(value=1e-4, cosine=True)
    eager = torch.tensor([1.0, 0.0])
    assert difference(eager, torch.tensor([5.0, 0.5]), None, cosine) is None
    assert difference(eager, torch.tensor([1.0, 0.2]), None, cosine) == "output: cosine similarity 0.9806 is under 0.99"
    assert difference(torch.zeros(3), torch.zeros(3), None, cosine) is None
    assert difference(eager, torch.tensor([1.0, float("nan")]), None, cosine) is not None
    noise = torch.tensor([1e-9, -2e-9, 3e-9])
    assert difference(noise, -noise, None, cosine) is None
    holes = torch.tensor([1.0, float("nan")], dtype=torch.float16)
    assert difference(holes, holes.clone(), None, replace(cosine, nan_equals_nan=True)) is None


@pytest.mark.parametrize(
    ("eager", "compiled", "same"),
    [
        ([3.0], [9.0], False),
        ([3.0], [3.01], True),
        ([3.0], [3.1], False),
        ([1.0, 2.0, 3.0], [3.0, 6.0, 9.0], False),
        ([1.0, 2.0, 3.0], [1.05, 2.1, 3.15], True),
        ([0.0002, 0.0003], [0.0003, 0.0004], True),
        ([1e30, 1.0], [1e30, 1.5], True),
        ([1e30, 1e30], [-1e30, -1e30], False),
    ],
)
def test_where_there_is_no_reference_the_size_counts_as_well(
    eager: list[float], compiled: list[float], *, same: bool
) -> None:
    """The direction says nothing of a result that is too large by a factor, and of one number only its sign."""
    found = difference(torch.tensor(eager), torch.tensor(compiled), None, NO_REFERENCE)
    assert (found is None) is same, found


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("extreme", ["min", "max"])
def test_the_largest_numbers_of_a_precision_hide_no_others(dtype: torch.dtype, extreme: str) -> None:
    """What masks are filled with is another number in float64: those places are compared with eager's alone."""

    def masked(*values: float, dtype: torch.dtype = dtype) -> torch.Tensor:
        return torch.tensor([*values, getattr(torch.finfo(dtype), extreme)], dtype=torch.float64).to(dtype)

    eager, wide = masked(1.0, 2.0, 3.0), masked(1.001, 2.0, 3.0, dtype=torch.float64)
    for reference in (wide, None):
        rules = LOOSE if reference is not None else replace(NO_REFERENCE, value=1e-3)
        assert difference(eager, masked(1.0, 2.016, 3.0), reference, replace(rules, value=2e-2)) is None
        assert difference(eager, masked(3.0, 6.0, 9.0), reference, rules) is not None
        assert difference(eager, torch.tensor([1.0, 2.0, 3.0, 5.0], dtype=dtype), reference, rules) is not None
        assert difference(eager, torch.cat([eager[:3], -eager[3:]]), reference, rules) is not None
    assert another_function(IterationOutcome(results={"y": eager}), IterationOutcome(results={"y": wide})) is None
    other = masked(5.0, 2.0, 9.0, dtype=torch.float64)
    assert another_function(IterationOutcome(results={"y": eager}), IterationOutcome(results={"y": other})) is not None


def test_a_reference_that_broke_down_excuses_nothing() -> None:
    """Where float64 is not finite and eager is, cosine similarity and the size decide."""
    broken, eager = torch.full((3,), NAN, dtype=torch.float64), torch.tensor([1.0, 2.0, 3.0])
    assert difference(eager, eager * 1.01, broken, STRICT) is None
    assert difference(eager, eager * 3, broken, STRICT) is not None
    assert difference(eager, torch.tensor([9.0, -2.0, 3.0]), broken, STRICT) is not None


def test_an_error_without_a_number_allows_nothing() -> None:
    """Squares that overflow make no bound that everything keeps."""
    eager, wide = torch.tensor([1e200, 1.0], dtype=torch.float64), torch.tensor([2e200, 1.0], dtype=torch.float64)
    assert difference(eager, torch.tensor([1e200, 5.0], dtype=torch.float64), wide, STRICT) is not None


def test_an_overflow_that_only_one_side_has_is_judged_by_float64() -> None:
    """A finite value is right where float64 is finite and near it, an infinite one where float64 is infinite."""
    half, wide = functools.partial(torch.tensor, dtype=torch.bfloat16), torch.tensor([-90.2, -96.4]).double()
    assert difference(half([-90.0, -INF]), half([-90.0, -96.5]), wide, LOOSE) is None
    assert difference(half([-90.0, -INF]), half([-90.0, -1.0]), wide, LOOSE) is not None
    more = torch.cat([wide, wide[1:]])  # a place where both overflow
    assert difference(half([-90.0, -INF, -INF]), half([-90.0, -96.5, -INF]), more, LOOSE) is None
    assert difference(half([-90.0, -96.5]), half([-90.0, -INF]), wide, LOOSE) is not None
    log_of_zero = torch.tensor([1.0, -INF]).double()
    assert difference(torch.tensor([1.0, -18.0]), torch.tensor([1.0, -INF]), log_of_zero, STRICT) is None
    assert difference(torch.tensor([1.0, -18.0]), torch.tensor([1.0, INF]), log_of_zero, STRICT) is not None
    assert difference(torch.tensor([1.0, -18.0]), torch.tensor([1.0, -INF]), None, STRICT) is not None


@pytest.mark.parametrize(
    ("eager", "compiled", "wide", "same"),
    [
        (100.0, 100.2, 100.1, True),
        (100.0, 101.0, 100.1, False),
        (100.0, 300.0, 200.0, False),
        (np.float32(100.0), np.float32(100.2), np.float64(100.1), True),
        (100.0 + 0j, 100.2 + 0j, 100.1 + 0j, True),
        (1.0, 300.0, -1e308, False),
        (INF, 3.0, 3.0, False),
    ],
)
def test_numbers_have_a_reference_as_tensors_have(eager, compiled, wide, *, same: bool) -> None:
    """Three times eager's own error, unless float64 is another number."""
    numbers = [{"n": value} for value in (eager, compiled, wide)]
    if isinstance(wide, np.float64):
        numbers[2] = {"n": wide}
    assert (difference(*numbers, STRICT) is None) is same


def test_a_nan_that_was_there_before_is_none_of_the_models() -> None:
    """In what it is given and in its state, where the caller says so; elsewhere it counts."""
    nan = torch.tensor([NAN, 1.0])
    for name in ("state", "given"):
        one, two, other = (
            IterationOutcome(**{name: {"x": value}}) for value in (nan, nan.clone(), torch.tensor([NAN, 5.0]))
        )
        assert compare_outcomes(one, two, None, STRICT, nan_before={"x"}) is None
        assert compare_outcomes(one, other, None, STRICT, nan_before={"x"}) is not None
        assert compare_outcomes(one, two, None, STRICT) is not None


@pytest.mark.parametrize("value", [NAN, np.float32(NAN), complex(NAN, 1)])
def test_a_number_that_is_nan_is_the_same_number_in_two_eager_runs(value: object) -> None:
    """Against compiled code the rule of tensors holds."""
    outcome = IterationOutcome(results={"output": [value]})
    assert compare_outcomes(outcome, outcome, None, STRICT, exact=True) is None
    assert compare_outcomes(outcome, outcome, None, NAN_IS_FINE) is None
    assert "nothing to compare with" in (compare_outcomes(outcome, outcome, None, STRICT) or "")


def test_eager_values_that_are_nan_compare_with_nothing_in_float32() -> None:
    """A model whose results are NaN does not pass because compiled is NaN as well."""
    nans = torch.tensor([1.0, float("nan"), float("nan")])
    assert difference(nans, nans, None, STRICT) == (
        "output: 2 of 3 eager values are NaN, so there is nothing to compare with"
    )
    assert difference(nans, nans, nans.double(), NAN_IS_FINE) is None


@pytest.mark.parametrize("tolerance", [STRICT, NAN_IS_FINE])
@pytest.mark.parametrize("wide", [None, torch.ones(3, dtype=torch.float64)])
def test_a_nan_that_eager_does_not_have_is_a_difference(
    tolerance: AccuracyTolerance, wide: torch.Tensor | None
) -> None:
    """In every precision, with a reference and without."""
    assert difference(torch.ones(3), torch.tensor([1.0, 1.0, float("nan")]), wide, tolerance) is not None


def test_nan_beside_a_wrong_value_is_a_difference() -> None:
    """Equal NaNs excuse nothing about the values beside them."""
    eager, wrong = torch.tensor([float("nan"), 1.0, 1.0]), torch.tensor([float("nan"), 1.0, 99.0])
    assert difference(eager, wrong, torch.ones(3, dtype=torch.float64), NAN_IS_FINE) is not None
    assert difference(eager, wrong.roll(1), torch.ones(3, dtype=torch.float64), NAN_IS_FINE) is not None


def test_infinities_are_equal_to_themselves_alone() -> None:
    """An overflow that compiled code does not have, or has elsewhere, is a difference."""
    infinite = torch.tensor([1.0, float("inf")])
    assert difference(infinite, infinite.clone(), None, STRICT) is None
    assert difference(infinite, -infinite, None, STRICT) is not None


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (torch.zeros(2, 3), "tensor of shape (2, 3) and torch.float32"),
        (torch.zeros(3, 2, dtype=torch.float64), "tensor of shape (3, 2) and torch.float64"),
        (None, "None"),
        ([torch.zeros(3, 2)], "sequence with 1 parts"),
    ],
)
def test_shape_and_dtype_count(result: object, message: str) -> None:
    """Values that broadcast or convert to the same are not the same."""
    found = difference(torch.zeros(3, 2), result, None, STRICT)
    assert found == f"output: {message} instead of tensor of shape (3, 2) and torch.float32"


def test_integers_and_booleans_are_compared_exactly() -> None:
    """No tolerance for indices and masks."""
    assert difference(torch.tensor([1, 10**6]), torch.tensor([1, 10**6 + 1]), None, LOOSE) == (
        "output: 1 of 2 values differ, most at [1]: 1000001 instead of 1000000"
    )
    assert difference(torch.tensor([True]), torch.tensor([False]), None, LOOSE) == (
        "output: 1 of 1 values differ, most at [0]: False instead of True"
    )
    assert difference(torch.tensor([3]), torch.tensor([3]), None, LOOSE) is None


def test_complex_and_sparse_and_quantized_tensors_are_compared_by_value() -> None:
    """Kinds of tensor that allclose does not take are turned into ones it does."""
    wave = torch.tensor([1 + 1j, 2 - 1j])
    assert difference(wave, wave * (1 + 1e-6), None, STRICT) is None
    assert difference(wave, wave.conj().resolve_conj(), wave.to(torch.complex128), STRICT) is not None
    sparse = torch.eye(3).to_sparse()
    assert difference(sparse, torch.eye(3).to_sparse(), None, STRICT) is None
    assert difference(sparse, (2 * torch.eye(3)).to_sparse(), None, STRICT) is not None


@dataclasses.dataclass
class Output:
    logits: torch.Tensor
    label: str = "cat"


@dataclasses.dataclass(slots=True)
class Slotted:
    logits: torch.Tensor


class ModelOutput(OrderedDict):
    """An output as transformers has them: a mapping that also has attributes."""


class Holder:
    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor
        self._private = object()


Named = namedtuple("Named", "first second")


@pytest.mark.parametrize(
    ("make", "place"),
    [
        (lambda x: [torch.ones(2), (x,)], "output[1][0]"),
        (lambda x: {"a": torch.ones(2), "b": {"c": [x]}}, "output['b']['c'][0]"),
        (Output, "output.logits"),
        (Slotted, "output.logits"),
        (lambda x: ModelOutput(loss=torch.ones(()), logits=x), "output['logits']"),
        (lambda x: Named(torch.ones(1), x), "output[1]"),
        (Holder, "output.tensor"),
        (lambda x: SimpleNamespace(deep=[Holder(x)]), "output.deep[0].tensor"),
    ],
    ids=["list", "dict", "dataclass", "slots", "ModelOutput", "namedtuple", "object", "namespace"],
)
def test_every_tensor_in_a_nest_is_compared(make, place: str) -> None:
    """Lists, mappings, dataclasses and plain objects are looked into, and the place is told."""
    right, wrong, wide = torch.ones(3), torch.full((3,), 7.0), torch.ones(3, dtype=torch.float64)
    assert difference(make(right), make(right.clone()), make(wide), STRICT) is None
    found = difference(make(right), make(wrong), make(wide), STRICT)
    assert found is not None
    assert found.startswith(f"{place}: 3 of 3 values differ, most at [0]: 7 instead of 1; ")


class WithAttributes(list):
    pass


class Options(dict):
    pass


class Units(np.ndarray):
    pass


class Weight(float):
    pass


class Mangled:
    __slots__ = ("__value",)

    def __init__(self, value: torch.Tensor) -> None:
        self.__value = value


class MangledToo(Mangled):
    def __init__(self, value: torch.Tensor) -> None:
        super().__init__(value)
        self.n = 1


class Key:
    pass


class Scaled(torch.Tensor):
    """Wraps a tensor; its scale is no tensor inside it, but a part of its context."""

    @staticmethod
    def __new__(cls, inner: torch.Tensor, scale: float):
        return torch.Tensor._make_wrapper_subclass(cls, inner.shape, dtype=inner.dtype, device=inner.device)

    def __init__(self, inner: torch.Tensor, scale: float) -> None:
        self.inner, self._scale = inner, scale

    def __tensor_flatten__(self):
        return ["inner"], {"scale": self._scale}

    @classmethod
    def __torch_dispatch__(cls, func, types, args, kwargs=None):
        raise NotImplementedError(func)


def with_attribute(value, name: str, held: torch.Tensor):
    setattr(value, name, held)
    return value


def units(x: torch.Tensor) -> Units:
    array = x.numpy().view(Units)
    array.unit = "m"
    return array


@pytest.mark.parametrize(
    ("make", "place"),
    [
        (lambda x: with_attribute(WithAttributes([1]), "scores", x), "output.scores"),
        (lambda x: with_attribute(WithAttributes([1]), "_scores", x), "output._scores"),
        (lambda x: with_attribute(Options(a=1), "scores", x), "output.scores"),
        (lambda x: with_attribute(Weight(1.5), "scores", x), "output.scores"),
        (lambda x: with_attribute(torch.ones(2), "mask", x), "output.mask"),
        (lambda x: Weight(x.sum()), "output"),
        (lambda x: np.ma.masked_array(x.numpy(), mask=[False, False, True]), "output (where not masked)"),
        (lambda x: np.ma.masked_array(np.ones(3), mask=(x > 1).numpy()), "output (mask)"),
        (units, "output"),
        (lambda x: np.rec.fromarrays([x.numpy()], names="a"), "output['a']"),
        (lambda x: x.numpy().astype(np.longdouble), "output"),
        (lambda x: pd.DataFrame(x.numpy()), "output (values)"),
        (lambda x: pd.Series(np.ones(3), index=x.numpy()), "output (index) (values)"),
        (MangledToo, "output._Mangled__value"),
        (lambda x: Scaled(torch.ones(2), float(x[0])), "output (context)['scale']"),
        (lambda x: {"a": x}.items(), "output['a']"),
        (lambda x: {"a": x}.values(), "output[0]"),
        (lambda x: {Key(): x}, "output[Key 0]"),
        (lambda x: {torch.tensor(1.00001): 1, torch.tensor(1.00002): x}, "output[Tensor 1]"),
        (lambda x: {torch.tensor(1.00001): x, torch.tensor(1.00002): 1}, "output[Tensor 0]"),
        (lambda x: (..., x), "output[1]"),
        (lambda x: {0.1 + 0.2, "a", float(x[0])}, "output"),
    ],
)
def test_no_part_of_a_result_is_overlooked(make, place: str) -> None:
    """Attributes beside items and values, arrays of any class, private slots, contexts, views, keys without a name."""
    right, wrong = torch.ones(3), torch.full((3,), 7.0)
    assert difference(make(right), make(right.clone()), None, STRICT) is None
    found = difference(make(right), make(wrong), None, STRICT)
    assert found is not None
    assert found.startswith(f"{place}: "), found


def test_rounding_is_rounding_wherever_a_number_stands() -> None:
    """In sets and in structured arrays, too; two eager runs have to agree exactly."""
    for one, two in (
        ({0.1 + 0.2, "a"}, {0.3, "a"}),
        *[[np.array([(x,)], dtype=[("a", "f8")]) for x in (0.1 + 0.2, 0.3)]],
    ):
        assert difference(one, two, None, STRICT) is None
        left, right = (IterationOutcome(results={"output": value}) for value in (one, two))
        assert compare_outcomes(left, right, None, STRICT, exact=True) is not None


class Lazily:
    """An object that has something to compare, and something private."""

    def __init__(self, private: object) -> None:
        self.n, self._private = 1, private
        self._own = self.method

    def method(self) -> None:
        pass


@pytest.mark.parametrize(
    "make",
    [
        lambda x: lambda: x,
        lambda x: iter([x]),
        lambda x: functools.partial(max, x),
        lambda x: [x].append,
        lambda x: {x},
        lambda x: {"deep": (lambda y=x: y)},
    ],
    ids=["closure", "iterator", "partial", "bound", "set", "default"],
)
def test_what_may_hold_a_result_is_judged_in_private_parts_too(make) -> None:
    """A function over a tensor is none of the harmless things that an object may have."""
    one, two = (Lazily(make(torch.ones(2))) for _ in range(2))
    with pytest.raises(CannotJudge, match=r"output\._private.* is a "):
        difference(one, two, None, STRICT)


@pytest.mark.parametrize("private", [math.sqrt, threading.Lock(), len, lambda: None, torch.relu, np.add])
def test_what_holds_no_result_may_be_private(private: object) -> None:
    """Locks, and functions that are the same for all."""
    assert difference(Lazily(private), Lazily(private), None, STRICT) is None


def test_what_the_compiler_notes_on_a_tensor_is_no_result() -> None:
    """Private attributes of tensors are torch's."""
    assert difference(with_attribute(torch.ones(2), "_dynamo_note", torch.ones(1)), torch.ones(2), None, STRICT) is None


def test_an_attribute_that_is_none_may_be_that_of_the_class() -> None:
    """A mapping that is rebuilt from its items has the same ones."""
    rebuilt = ModelOutput(a=torch.ones(1))
    assert difference(with_attribute(ModelOutput(a=torch.ones(1)), "extra", None), rebuilt, None, STRICT) is None
    assert difference(with_attribute(ModelOutput(a=torch.ones(1)), "a", torch.ones(1)), rebuilt, None, STRICT) is None


def test_what_answers_no_truth_or_is_too_deep_is_not_judged() -> None:
    """With the reason, and not as an error of this check's own."""

    class Vague:
        __slots__ = ()

        def __eq__(self, other: object) -> object:  # type: ignore[override]
            return np.ones(2)

        __hash__ = None  # type: ignore[assignment]

    deep: object = torch.ones(1)
    for _ in range(5000):
        deep = [deep]
    for value in (Vague(), deep):
        with pytest.raises(CannotJudge):
            difference(value, value, None, STRICT)


class Colour(enum.IntEnum):
    RED = 1
    BLUE = 2


def test_members_of_an_enumeration_are_equal_to_themselves() -> None:
    """Also where they are numbers."""
    assert difference(Colour.RED, Colour.RED, None, STRICT) is None
    assert difference(Colour.RED, Colour.BLUE, None, STRICT) is not None


def test_the_reference_of_a_nested_tensor_is_found_in_the_same_place() -> None:
    """Eager's own error excuses compiled's deep in a nest, too."""
    eager, compiled = {"a": [spread(1000, 0.01)]}, {"a": [spread(1000, 0.015)]}
    assert difference(eager, compiled, {"a": [spread(1000, 0).double()]}, STRICT) is None
    assert difference(eager, compiled, None, STRICT) is not None


@pytest.mark.parametrize(
    ("eager", "compiled", "message"),
    [
        ([1, 2], [1], "output: sequence with 1 parts instead of sequence with 2 parts"),
        ({"a": 1}, {"b": 1}, "output['a']: missing in the compiled result"),
        ([torch.ones(1)], torch.ones(1), "output: tensor of shape (1,) and torch.float32 instead of sequence with 1"),
        ([1], 1, "output: int instead of sequence with 1 parts"),
        (Output(torch.ones(1), "cat"), Output(torch.ones(1), "dog"), "output.label: 'dog' instead of 'cat'"),
        (1, 2, "output: 2 instead of 1"),
        (1, True, "output: bool instead of int"),
        (None, torch.ones(1), "output: tensor of shape (1,) and torch.float32 instead of None"),
        ([1.0], [1.5], "output[0]: 1.5 instead of 1.0"),
        (1.0, "1.0", "output: str instead of float"),
        (1j, 2j, "output: 2j instead of 1j"),
        (float("nan"), float("nan"), "output: nan instead of nan"),
        ({1, 2}, {1, 3}, "output: {1, 3} instead of {1, 2}"),
        (torch.float32, torch.float16, "output: torch.float16 instead of torch.float32"),
    ],
)
def test_structure_and_plain_values_count(eager: object, compiled: object, message: str) -> None:
    """An output that is missing, of another kind, or a number that is off is a difference."""
    found = difference(eager, compiled, None, STRICT)
    assert found is not None
    assert found.startswith(message)
    assert difference(eager, eager, None, NAN_IS_FINE) is None


def test_an_object_that_holds_itself_is_compared_once() -> None:
    """A cycle ends the comparison, not the worker."""
    left, right = Holder(torch.ones(1)), Holder(torch.zeros(1))
    left.me, right.me = left, right  # type: ignore[attr-defined]
    assert difference(left, left, None, STRICT) is None
    assert difference(left, right, None, STRICT) is not None


def test_rmse_is_the_root_of_the_mean_square() -> None:
    """Nothing differs by nothing."""
    assert rmse(torch.tensor([0.0, 0.0]), torch.tensor([3.0, 4.0])) == pytest.approx(12.5**0.5)
    assert rmse(torch.ones(0), torch.ones(0)) == 0.0


@pytest.mark.parametrize(
    "value", [iter([1]), (1 for _ in "a"), lambda: None, {torch.ones(1)}], ids=lambda value: type(value).__name__
)
def test_what_cannot_be_compared_is_never_equal(value: object) -> None:
    """The place and the type are in the message."""
    with pytest.raises(CannotJudge, match=r"output\[1\] is a "):
        difference([1, value], [1, value], None, STRICT)


def test_a_missing_gradient_and_a_zero_one_are_the_same() -> None:
    """And one that is missing where eager's is not zero is a difference."""
    zero, some = torch.zeros(2), torch.tensor([0.0, 3.0])
    missing = IterationOutcome(gradients={"gradient of w": None})
    for one, two in ((missing, IterationOutcome(gradients={"gradient of w": zero})), (missing, missing)):
        assert compare_outcomes(one, two, None, STRICT) is None
        assert compare_outcomes(two, one, None, STRICT) is None
    found = compare_outcomes(IterationOutcome(gradients={"gradient of w": some}), missing, None, STRICT)
    assert found == "gradient of w: 1 of 2 values differ, most at [1]: 0 instead of 3; tolerance 0.0001"


def test_infinities_leave_the_rest_to_be_compared() -> None:
    """RMSE is over the values that are finite, in eager and in float64."""
    wide = torch.cat([torch.full((1000,), 1.0, dtype=torch.float64), torch.tensor([float("-inf")]).double()])
    one, two = ((wide * (1 + error)).float() for error in (0.01, 0.015))
    assert difference(one, two, wide, STRICT) is None
    assert difference(one, (wide * 1.05).float(), wide, STRICT) is not None
    assert difference(one, two.nan_to_num(neginf=0.0), wide, STRICT) is not None


def test_a_float64_reference_of_another_function_is_recognized() -> None:
    """What is off by more than rounding is; a gradient that should cancel to zero is not held against it."""
    eager = IterationOutcome(
        results={"output": torch.ones(100)}, gradients={"a": torch.ones(9), "b": torch.full((9,), 1e-9)}
    )

    def wide(output: float, gradient: float) -> IterationOutcome:
        gradients = {"a": torch.full((9,), gradient).double(), "b": torch.full((9,), -1e-9).double()}
        return IterationOutcome(results={"output": torch.full((100,), output).double()}, gradients=gradients)

    assert another_function(eager, wide(1.01, 1.0)) is None
    assert another_function(eager, wide(1.3, 1.0)) == "the results in float64 differ by 23% of their size"
    assert another_function(eager, wide(1.0, 0.5)) == "the gradients in float64 differ by 100% of their size"


def _settings() -> tuple[object, ...]:
    import torch._inductor.config as inductor

    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    tf32 = (cudnn.conv.fp32_precision, matmul.fp32_precision)
    return (cudnn.deterministic, cudnn.benchmark, inductor.fallback_random, *tf32)


def test_determinism_sets_and_restores() -> None:
    """The settings of accuracy runs are gone when the clock starts, also after an error."""
    cudnn, before = torch.backends.cudnn, _settings()
    cudnn.benchmark = True
    ours = _settings()
    try:
        with contextlib.suppress(ZeroDivisionError), Determinism(torch.device("cpu")):
            assert _settings()[:3] == (True, False, True)
            assert "tf32" not in _settings()
            with cudnn.flags(enabled=True):  # reads the switches of the old interface
                pass
            raise ZeroDivisionError
        assert _settings()[:4] == ours[:4]
        assert "tf32" not in _settings()[4:]
        with cudnn.flags(enabled=True):
            pass
    finally:
        cudnn.benchmark = before[1]


def test_deterministic_algorithms_are_asked_for_on_an_accelerator_alone() -> None:
    """There with a warning where an operator has none; on a CPU they would change the code that is timed."""
    with Determinism(torch.device("cpu")):
        assert not torch.are_deterministic_algorithms_enabled()
    with Determinism(torch.device("cuda")):
        assert torch.are_deterministic_algorithms_enabled()
        assert torch.is_deterministic_algorithms_warn_only_enabled()
    assert not torch.are_deterministic_algorithms_enabled()


def test_either_interface_of_tf32_may_have_been_used_before(tmp_path) -> None:
    """A suite that wrote the new switches, or the old ones, finds them as they were."""
    script = tmp_path / "asks.py"
    script.write_text(
        "import sys, torch\n"
        "from torchperf_ci.worker.accuracy import Determinism\n"
        "matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn\n"
        "if sys.argv[1] == 'new':\n"
        "    matmul.fp32_precision, cudnn.conv.fp32_precision = 'tf32', 'ieee'\n"
        "    read = lambda: (matmul.fp32_precision, cudnn.conv.fp32_precision)\n"
        "else:\n"
        "    matmul.allow_tf32, cudnn.allow_tf32 = True, False\n"
        "    read = lambda: (matmul.allow_tf32, cudnn.allow_tf32)\n"
        "before = read()\n"
        "with Determinism(torch.device('cpu')):\n"
        "    assert read() in {('ieee', 'ieee'), (False, False)}, read()\n"
        "assert read() == before, read()\n"
    )
    for interface in ("new", "old"):
        subprocess.run([sys.executable, script, interface], check=True)


class WithoutFloat64(torch.Tensor):
    """A tensor as on MPS: float64 is only there once it was copied to the CPU."""

    def cpu(self) -> torch.Tensor:  # type: ignore[override]
        return self.as_subclass(torch.Tensor)

    def double(self) -> torch.Tensor:
        raise TypeError("Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64.")


def test_values_that_differ_are_described_on_devices_without_float64() -> None:
    """How many, where, and which."""
    one, two = (torch.tensor(values).as_subclass(WithoutFloat64) for values in ([1.0, 2.0, 3.0], [1.0, 2.0, 4.0]))
    reason = compare_outcomes(
        IterationOutcome(results={"output": one}),
        IterationOutcome(results={"output": two}),
        None,
        AccuracyTolerance(value=1e-4),
    )
    assert reason == "output: 1 of 3 values differ, most at [2]: 4 instead of 3; tolerance 0.0001"
