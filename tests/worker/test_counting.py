"""What an iteration does is counted: the same in every process, and one more is seen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from torchperf_ci.worker.counting import count_kernel_calls, normalise_code

SUITE = str(Path(__file__).parent / "counting_suite.py")


@pytest.fixture
def count(load, tmp_path: Path):
    """`count("usual", compiler="inductor")`: compiles a model in a worker of its own, and counts."""

    def start(
        model: str,
        *,
        arm: str | None = None,
        accuracy: bool = False,
        cache: str = "",
        order: tuple[str, ...] = ("eager", "compiled"),
        **more: Any,
    ) -> dict:
        folder = tmp_path / (cache or f"{model}{len(list(tmp_path.iterdir()))}")
        folder.mkdir(exist_ok=True)
        ask = load(model, spec=SUITE, cache_dir=str(folder), **more)
        ask("eager")
        if accuracy:
            ask("accuracy")
        ask.steps("compile", "settle")
        counted = ask("count", arm=arm, detail=True)
        sweep = ask("sample", order=[order])
        assert (sweep["recompiled"], sweep["recompiles"]) == (False, 0)
        return counted

    return start


def test_training_counts_the_same_in_two_processes(count) -> None:
    """Forward and backward, with and without an accuracy check before; nothing is compiled again by counting."""
    one = count("usual", mode="training")
    assert one == count("usual", mode="training", accuracy=True)
    assert one["remarks"] == []
    assert one["metrics"]["operators"] == sum(calls for _, calls in one["operators"])
    assert one["metrics"]["flops"] == 2 * 4 * 8 * 16 * 5  # forward twice, gradients of weights twice, of one input
    assert one["metrics"]["allocations"] > 0
    assert one["metrics"]["allocated_bytes"] > 4 * 4 * (16 + 8)
    assert "generated_kernels" not in one["metrics"]
    assert "kernel_launches" not in one["metrics"]
    assert set(one["digests"]) == {"operators"}


def test_generated_code_is_the_same_from_an_empty_cache_and_from_a_full_one(count, tmp_path: Path) -> None:
    """Its kernels are counted; the compiled code runs as it is, and dispatches only what has no kernel of its own."""
    one = count("usual", compiler="inductor", cache="one")
    sources = [path.read_text() for path in (tmp_path / "one").rglob("*.cpp")]
    assert sources
    assert not any("__avx_chk_kernel" in source for source in sources)  # the C++ compiler was asked before all cases
    assert one == count("usual", compiler="inductor", cache="two", accuracy=True)
    assert one == count("usual", compiler="inductor", cache="one")
    assert one["remarks"] == []
    assert one["metrics"]["generated_kernels"] == 2
    assert all("addmm" in name for name, _ in one["operators"])
    assert set(one["digests"]) == {"operators", "generated_code"}
    assert "cpp_fused" in one["code"]
    more = count("one_more_kernel", compiler="inductor")
    assert more["metrics"]["generated_kernels"] == 3
    assert more["digests"]["generated_code"] != one["digests"]["generated_code"]


def test_one_more_operator_and_another_argument_are_seen(count) -> None:
    """In the arm that is compiled and in the eager one; with as many operators the digest differs."""
    for arm in ("eager", "compiled"):
        usual = count("usual", arm=arm)
        assert count("one_more_operator", arm=arm)["metrics"]["operators"] == usual["metrics"]["operators"] + 1
        other = count("other_constant", arm=arm)
        assert other["metrics"] == usual["metrics"]
        assert other["digests"] != usual["digests"]


def test_what_cannot_be_counted_has_a_remark(count) -> None:
    """The rest is counted, and the worker goes on."""
    counted = count("refuses_modes", arm="eager")
    assert "allocations" in counted["metrics"]
    assert "operators" not in counted["metrics"]
    assert "flops" not in counted["metrics"]
    assert len(counted["remarks"]) == 2
    assert all("no modes here" in remark for remark in counted["remarks"])


def test_what_other_threads_do_is_never_left_out_in_silence(count) -> None:
    """Neither arm has a count that one of them lacks a part of."""
    for arm in ("eager", "compiled"):
        counted = count("in_threads", arm=arm)
        assert counted["metrics"] == {}
        assert counted["digests"] == {}
        assert [("operators" in remark, "threads" in remark) for remark in counted["remarks"]] == [(True, True)]


def test_attention_on_a_cpu_has_floating_point_operations(count) -> None:
    """By torch's formulas: two products of two heads forward; five of them backward, where the first is done again."""
    linear, attention = 2 * 4 * 8 * 16 * 2, 2 * 2 * (2 * 8 * 2) * 2
    assert count("attention")["metrics"]["flops"] == linear + attention
    trained = count("attention", mode="training")
    assert trained["metrics"]["flops"] == 2 * 4 * 8 * 16 * 5 + attention + attention * 5 // 2
    assert trained["remarks"] == []


def test_an_operator_of_a_higher_order_is_one_operator(count) -> None:
    """It is logged with the code of its branches, alike in every process."""
    one = count("branches", order=("compiled",))
    assert one["remarks"] == []
    assert ["cond", 1] in one["operators"]
    assert one == count("branches", order=("compiled",))


CODE = """
# AOT ID: ['0_inference']
cpp_fused_relu_0 = async_compile.cpp_pybinding(['float*'], r'''
#include "/tmp/torchinductor_me/2r/c2rnilspx43ivnzu4uieul65kx65dfhfbptbh5og4wk6rqebuxoo.h"
// a remark
extern "C"  void  kernel(float* in_out_ptr0) { in_out_ptr0[0] = x0 // 2; }
''')
triton_poi_fused_1 = async_compile.triton('triton_poi_fused_1', '''
    inductor_meta={'backend_hash': 'F00', 'kernel_name': 'triton_poi_fused_1'}
def triton_poi_fused_1(in_ptr0):
''', device_str='cuda')
def call(args):
    cpp_fused_relu_0(buf0)
    cpp_fused_relu_0(buf1)
    triton_poi_fused_1.run(buf0, stream=stream0)
"""


def test_code_is_normalised_and_its_kernels_are_counted_by_call() -> None:
    """Folders, hashes and remarks go; a division stays. A kernel that is called twice counts twice."""
    text = normalise_code(CODE)
    moved = (
        CODE.replace("/tmp/torchinductor_me/2r/c2rn", "/home/x/y/7b/cabc")
        .replace("F00", "BAR")
        .replace("0_inf", "3_inf")
    )
    assert normalise_code(moved.replace("// a remark", "// another")) == text
    assert "#include" in text
    assert "x0 // 2" in text
    assert normalise_code(CODE.replace("x0 // 2", "x0 // 4")) != text
    assert count_kernel_calls(text) == 3
    assert count_kernel_calls("def call(args): pass") == 0
