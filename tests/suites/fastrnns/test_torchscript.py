"""Functions and modules under TorchScript behave like any other module; settings are applied or refused."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import pytest
import torch
from torch import nn

from torchperf_ci.suites.fastrnns import cells
from torchperf_ci.suites.fastrnns.catalog import Executor, Fuser, Sizes
from torchperf_ci.suites.fastrnns.suite import Scripted, SettingsGone, Traced, apply_settings, build

SIZES = Sizes(seq_length=3, input_size=4, hidden_size=4, mini_batch=2, images=2, image_size=32)


def small() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten())


@pytest.fixture
def image() -> torch.Tensor:
    return torch.randn(2, 3, 6, 6)


@pytest.fixture
def _settings() -> Iterator[None]:
    """Afterwards the switches are as torch has them at its start, as far as variants on a CPU can tell."""
    yield
    apply_settings(Fuser.TE, Executor.PROFILING)


def test_a_scripted_function_runs_as_a_graph() -> None:
    """What runs is TorchScript: its last executed graph has the loop and the products."""
    module, args = build("jit", SIZES)
    module(*args)
    graph = str(torch.jit.last_executed_optimized_graph())
    assert "prim::Loop" in graph
    assert "aten::mm" in graph


@pytest.mark.parametrize("variant", ["jit", "jit_multilayer", "jit_layernorm", "resnet18_jit"])
def test_copies_are_independent_and_compute_the_same(variant: str) -> None:
    """A copy, also one made after a call, has weights of its own and gives the same result."""
    module, args = build(variant, SIZES)
    module.eval()
    expected = _first(module(*args))
    copied = copy.deepcopy(module)
    torch.testing.assert_close(_first(copied(*args)), expected)
    with torch.no_grad():
        for parameter in copied.parameters():
            parameter.zero_()
    torch.testing.assert_close(_first(module(*args)), expected)
    assert not torch.equal(_first(copied(*args)), expected)


def test_a_traced_module_has_the_parameters_of_its_module(image: torch.Tensor) -> None:
    """The trace adds no parameter, before or after the first call, and gradients arrive in the module."""
    module = small()
    traced = Traced(module)
    before = [name for name, _ in traced.named_parameters()]
    traced(image).sum().backward()
    assert [name for name, _ in traced.named_parameters()] == before
    assert len(before) == len(list(module.parameters()))
    assert all(parameter.grad is not None for parameter in module.parameters())


def test_a_traced_module_follows_its_mode(image: torch.Tensor) -> None:
    """Batch norm uses the batch in training and the running statistics in evaluation, whenever it was traced."""
    traced, plain = Traced(small()), small()
    for mode in (True, False, True):
        torch.testing.assert_close(traced.train(mode)(image), plain.train(mode)(image))
    torch.testing.assert_close(traced.module[1].running_mean, plain[1].running_mean)


def test_a_traced_module_follows_a_cast(image: torch.Tensor) -> None:
    """After a call and a cast it computes in the new precision."""
    traced = Traced(small())
    traced(image)
    assert traced.double()(image.double()).dtype == torch.float64


@pytest.mark.parametrize("variant", ["jit", "vl_jit", "jit_multilayer", "resnet18_jit"])
def test_dynamo_sees_what_torchscript_was_made_of(variant: str) -> None:
    """torch.compile captures the operators of a TorchScript variant in one graph."""
    torch._dynamo.reset()
    module, args = build(variant, Sizes(**{**SIZES.as_json(), "min_length": 2, "max_length": 3}))
    module.eval()
    found = torch._dynamo.explain(module)(*args)
    assert found.graph_break_count == 0
    assert found.op_count > 10


def test_every_compilation_is_its_own() -> None:
    """The same function is compiled anew, so that settings made in between count."""
    first, second = Scripted(cells.loop), Scripted(cells.loop)
    assert first._function is not second._function


@pytest.mark.usefixtures("_settings")
@pytest.mark.parametrize(
    ("fuser", "executor", "expected"),
    [
        (Fuser.TE, None, (True, True, True)),
        (Fuser.OLD, None, (False, False, False)),
        (Fuser.NONE, None, (False, False, False)),
        (Fuser.NONE, Executor.PROFILING, (True, True, False)),
        (Fuser.TE, Executor.SIMPLE, (True, False, True)),
        (Fuser.TE, Executor.LEGACY, (False, False, True)),
    ],
)
def test_settings_set_torchs_switches(
    fuser: Fuser, executor: Executor | None, expected: tuple[bool, bool, bool]
) -> None:
    """The fuser sets profiling executor and mode, and tensor expressions; the executor overrides the first two."""
    apply_settings(fuser, executor)
    executor_was, mode_was = torch._C._jit_set_profiling_executor(*[True]), torch._C._jit_set_profiling_mode(*[True])
    assert (executor_was, mode_was, torch._C._jit_texpr_fuser_enabled()) == expected


@pytest.mark.usefixtures("_settings")
def test_pointwise_sizes_reach_the_fuser() -> None:
    """The sizes of the CUDA kernels are set where torch reads them."""
    before = torch._C._jit_get_te_cuda_pointwise_block_size()
    apply_settings(Fuser.TE, None, {"block_size": 123})
    assert torch._C._jit_get_te_cuda_pointwise_block_size() == 123
    torch._C._jit_set_te_cuda_pointwise_block_size(before)


@pytest.mark.usefixtures("_settings")
def test_a_switch_that_has_gone_is_refused_before_anything_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error names the setting and the missing function, and no switch was touched."""
    apply_settings(Fuser.OLD)
    with monkeypatch.context() as patched:
        patched.delattr(torch._C, "_jit_set_texpr_fuser_enabled")
        with pytest.raises(
            SettingsGone, match=r"fuser te, executor simple: torch .* no torch\._C\._jit_set_texpr_fuser"
        ):
            apply_settings(Fuser.TE, Executor.SIMPLE)
    assert torch._C._jit_texpr_fuser_enabled() is False


@pytest.mark.usefixtures("_settings")
@pytest.mark.parametrize("fuser", list(Fuser))
@pytest.mark.parametrize("executor", [None, *Executor])
def test_results_do_not_depend_on_settings(fuser: Fuser, executor: Executor | None) -> None:
    """Under every fuser and executor the results are those of plain Python."""
    apply_settings(fuser, executor)
    torch.manual_seed(0)
    module, args = build("jit_premul", SIZES)
    plain, _ = build("py", SIZES)
    plain.load_state_dict(module.state_dict())
    for _ in range(3):
        torch.testing.assert_close(_first(module(*args)), _first(plain(*args)))


def _first(output: object) -> torch.Tensor:
    return output if isinstance(output, torch.Tensor) else output[0]
