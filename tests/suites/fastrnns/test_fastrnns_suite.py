"""The suite `fastrnns` under the contract of suites."""

from __future__ import annotations

import pytest
import torch

from torchperf_ci.core.records import Mode
from torchperf_ci.run.plan import Machine, Selection, SuiteListing, make_plan
from torchperf_ci.suites.fastrnns.catalog import VARIANTS
from torchperf_ci.suites.fastrnns.suite import BUILDERS, heads
from torchperf_ci.suites.registry import Suite, resolve
from torchperf_ci.worker.load import build

EVERY = [variant for names in VARIANTS.values() for variant in names]


@pytest.fixture(scope="module")
def suite() -> Suite:
    return resolve("fastrnns")


def test_suite_and_builders_have_the_catalogs_variants(suite: Suite) -> None:
    """The suite's name is fastrnns, and it holds every variant of the catalog and no other."""
    assert suite.name == "fastrnns"
    assert list(suite.models) == EVERY
    assert sorted(BUILDERS) == sorted(EVERY)
    assert [name for names in suite.groups.values() for name in names] == EVERY


@pytest.mark.parametrize("variant", EVERY)
def test_every_variant_trains_in_small(suite: Suite, variant: str) -> None:
    """A small training iteration leaves finite gradients in every parameter, under deterministic inputs."""
    workload = build(
        suite, variant, mode="training", device="cpu", dtype="float32", scale="small", batch_size=3, seed=0
    )
    assert workload.batch_size == 3
    outputs, loss = workload.iteration()()
    assert loss.isfinite()
    assert all(head.isfinite().all() for head in heads(outputs))
    gradients = [parameter.grad for parameter in workload.module.parameters()]
    assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients)
    again = build(suite, variant, mode="training", device="cpu", dtype="float32", scale="small", batch_size=3, seed=0)
    torch.testing.assert_close(next(again.module.parameters()), next(workload.module.parameters()), rtol=0, atol=0)


@pytest.mark.parametrize(("variant", "size"), [("cudnn", 8), ("jit_simple", 8), ("vl_py", 4), ("resnet18", 4)])
def test_a_models_own_batch_size_is_reported(suite: Suite, variant: str, size: int) -> None:
    """The batch size counts sequences or images, though time is the first dimension of an LSTM's input."""
    workload = build(
        suite, variant, mode="inference", device="cpu", dtype="float32", scale="small", batch_size=None, seed=0
    )
    assert workload.batch_size == size


@pytest.mark.parametrize("variant", ["cudnn", "jit", "vl_jit", "jit_layernorm_decom", "cudnn_layernorm"])
def test_variants_run_in_other_precisions(suite: Suite, variant: str) -> None:
    """bfloat16 and a float64 copy work, as the accuracy check needs them."""
    workload = build(
        suite, variant, mode="inference", device="cpu", dtype="bfloat16", scale="small", batch_size=2, seed=0
    )
    assert heads(workload.iteration()())[0].dtype == torch.bfloat16
    assert heads(workload.in_float64().iteration()())[0].dtype == torch.float64


def test_groups_are_filters() -> None:
    """`--filter` with a group's whole name keeps its models; a part of the name does not."""
    listing = SuiteListing(
        spec="fastrnns",
        name="fastrnns",
        models=tuple(EVERY),
        groups={group.value: names for group, names in VARIANTS.items()},
    )
    machine = Machine(devices={"cpu": 1}, compilers=("eager",), dtypes=("float32",))

    def kept(*filters: str) -> list[str]:
        import re

        selection = Selection(
            suites=("fastrnns",),
            mode=Mode.INFERENCE,
            compilers=("eager",),
            filters=tuple(re.compile(text) for text in filters),
        )
        return [planned.case.model for planned in make_plan(selection, [listing], machine).cases]

    assert kept("cnns") == ["resnet18", "resnet18_jit", "resnet50", "resnet50_jit"]
    assert kept("vl", "^py$") == ["py", "vl_cudnn", "vl_jit", "vl_py"]
    assert kept("50") == ["resnet50", "resnet50_jit"]
