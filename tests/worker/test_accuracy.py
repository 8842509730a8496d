"""Two results are the same by the rules of PyTorch's accuracy runs, and a difference is told with its place."""

from __future__ import annotations

import contextlib
import dataclasses
from collections import OrderedDict, namedtuple
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from torchperf_ci.worker.accuracy import Determinism, Tolerance, difference, rmse

STRICT = Tolerance(value=1e-4)
LOOSE = Tolerance(value=1e-3)
NAN_IS_FINE = Tolerance(value=1e-3, nan_equals_nan=True)


def spread(count: int, error: float, *, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Ones that are `error` too large."""
    return torch.full((count,), 1.0 + error, dtype=torch.float64).to(dtype)


def test_what_is_close_is_the_same_without_a_reference() -> None:
    """The tolerance is absolute plus relative, as in allclose."""
    eager = torch.tensor([0.0, 100.0])
    assert difference(eager, torch.tensor([0.00009, 100.01]), None, STRICT) is None
    assert difference(eager, torch.tensor([0.0, 100.02]), None, STRICT) == (
        "output: differs by up to 0.02 at tolerance 0.0001"
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
    assert found == "output: RMSE to float64 is 0.05, eager's is 0.01, allowed 0.02"


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
        ((1000,), torch.float32, Tolerance(value=2e-2)),
    ],
    ids=["small", "float16", "bfloat16", "1x1", "wide tolerance"],
)
def test_three_times_is_allowed_where_rounding_weighs_more(
    shape: tuple[int, ...], dtype: torch.dtype, tolerance: Tolerance
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
    assert found.startswith("output: differs by up to 0.005")


def test_cosine_similarity_decides_where_it_is_asked_for() -> None:
    """From 0.99 on it is the same, whatever the length."""
    cosine = Tolerance(value=1e-4, cosine=True)
    eager = torch.tensor([1.0, 0.0])
    assert difference(eager, torch.tensor([5.0, 0.5]), None, cosine) is None
    assert difference(eager, torch.tensor([1.0, 0.2]), None, cosine) == "output: cosine similarity 0.9806 is under 0.99"
    assert difference(torch.zeros(3), torch.zeros(3), None, cosine) is None
    assert difference(eager, torch.tensor([1.0, float("nan")]), None, cosine) is not None
    noise = torch.tensor([1e-9, -2e-9, 3e-9])
    assert difference(noise, -noise, None, cosine) is None
    holes = torch.tensor([1.0, float("nan")], dtype=torch.float16)
    assert difference(holes, holes.clone(), None, replace(cosine, nan_equals_nan=True)) is None


def test_eager_values_that_are_nan_compare_with_nothing_in_float32() -> None:
    """A model whose results are NaN does not pass because compiled is NaN as well."""
    nans = torch.tensor([1.0, float("nan"), float("nan")])
    assert difference(nans, nans, None, STRICT) == (
        "output: 2 of 3 eager values are NaN, so there is nothing to compare with"
    )
    assert difference(nans, nans, nans.double(), NAN_IS_FINE) is None


@pytest.mark.parametrize("tolerance", [STRICT, NAN_IS_FINE])
@pytest.mark.parametrize("wide", [None, torch.ones(3, dtype=torch.float64)])
def test_a_nan_that_eager_does_not_have_is_a_difference(tolerance: Tolerance, wide: torch.Tensor | None) -> None:
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
        (torch.zeros(2, 3), "output: shape (2, 3) instead of (3, 2)"),
        (torch.zeros(3, 2, dtype=torch.float64), "output: torch.float64 instead of torch.float32"),
        (None, "output: NoneType instead of a tensor"),
        ([torch.zeros(3, 2)], "output: list instead of a tensor"),
    ],
)
def test_shape_and_dtype_count(result: object, message: str) -> None:
    """Values that broadcast or convert to the same are not the same."""
    assert difference(torch.zeros(3, 2), result, None, STRICT) == message


def test_integers_and_booleans_are_compared_exactly() -> None:
    """No tolerance for indices and masks."""
    assert difference(torch.tensor([1, 10**6]), torch.tensor([1, 10**6 + 1]), None, LOOSE) == (
        "output: integer values differ"
    )
    assert difference(torch.tensor([True]), torch.tensor([False]), None, LOOSE) == "output: integer values differ"
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
    assert found == f"{place}: RMSE to float64 is 6, eager's is 0, allowed 1e-05"


def test_the_reference_of_a_nested_tensor_is_found_in_the_same_place() -> None:
    """Eager's own error excuses compiled's deep in a nest, too."""
    eager, compiled = {"a": [spread(1000, 0.01)]}, {"a": [spread(1000, 0.015)]}
    assert difference(eager, compiled, {"a": [spread(1000, 0).double()]}, STRICT) is None
    assert difference(eager, compiled, None, STRICT) is not None


@pytest.mark.parametrize(
    ("eager", "compiled", "message"),
    [
        ([1, 2], [1], "output: the structure differs"),
        ({"a": 1}, {"b": 1}, "output: the structure differs"),
        ([torch.ones(1)], torch.ones(1), "output: the structure differs"),
        ([1], 1, "output: the structure differs"),
        (Output(torch.ones(1), "cat"), Output(torch.ones(1), "dog"), "output.label: values differ"),
        (1, 2, "output: values differ"),
        (1, True, "output: values differ"),
        (None, torch.ones(1), "output: values differ"),
        ([1.0], [1.5], "output[0]: 1.5 instead of 1.0"),
        (1.0, "1.0", "output: 1.0 instead of 1.0"),
        (1j, 2j, "output: 2j instead of 1j"),
        (float("nan"), float("nan"), "output: nan instead of nan"),
    ],
)
def test_structure_and_plain_values_count(eager: object, compiled: object, message: str) -> None:
    """An output that is missing, of another kind, or a number that is off is a difference."""
    assert difference(eager, compiled, None, STRICT) == message
    assert difference(eager, eager, None, NAN_IS_FINE) is None


def test_an_object_that_holds_itself_is_compared_once() -> None:
    """A cycle ends the comparison, not the worker."""
    left, right = Holder(torch.ones(1)), Holder(torch.zeros(1))
    left.me, right.me = left, right  # type: ignore[attr-defined]
    assert difference(left, left, None, STRICT) is None
    assert difference(left, right, None, STRICT) is not None


def test_rmse_is_the_root_of_the_mean_square() -> None:
    """Complex numbers count by their distance."""
    assert rmse(torch.tensor([0.0, 0.0]), torch.tensor([3.0, 4.0])) == pytest.approx(12.5**0.5)
    assert rmse(torch.tensor([0j]), torch.tensor([3 + 4j])) == pytest.approx(5.0)


def test_determinism_sets_and_restores() -> None:
    """The settings of accuracy runs are gone when the clock starts, also after an error."""
    import torch._inductor.config as inductor

    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul

    def settings() -> tuple[object, ...]:
        tf32 = (cudnn.fp32_precision, matmul.fp32_precision)
        return (cudnn.deterministic, cudnn.benchmark, inductor.fallback_random, *tf32)

    before = settings()
    cudnn.benchmark, matmul.fp32_precision = True, "tf32"
    ours = settings()
    try:
        with contextlib.suppress(ZeroDivisionError), Determinism():
            assert settings() == (True, False, True, "ieee", "ieee")
            raise ZeroDivisionError
        assert settings() == ours
    finally:
        cudnn.benchmark, matmul.fp32_precision = before[1], before[4]
