"""What is asked for becomes cases, in a fixed order and in shards that lose nothing; what does not fit is told."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torchperf_ci.core.errors import UsageProblem
from torchperf_ci.core.records import Mode
from torchperf_ci.machine.accelerators import Signs
from torchperf_ci.run.plan import CPP_COMPILER, Machine, Plan, Selection, SuiteListing, make_plan, partition, suite_spec

MACHINE = Machine(devices={"cpu": 1}, compilers=("eager", "aot_eager", "inductor"), dtypes=("float32", "amp"))
GPUS = Machine(devices={"cpu": 1, "cuda": 2}, compilers=MACHINE.compilers, dtypes=MACHINE.dtypes)
TINY = SuiteListing(spec="tiny", name="tiny", models=("mlp", "lstm", "unet"), quick=("^mlp$", "^un"))
OTHER = SuiteListing(spec="/x/other.py", name="other", models=("resnet50", "resnet18"), preload=("a", "b"))


def selected(**options: object) -> Selection:
    options = {"suites": ("tiny",), "mode": Mode.INFERENCE, "compilers": ("eager",), **options}
    return Selection(**options)  # type: ignore[arg-type]


def planned(*suites: SuiteListing, machine: Machine = MACHINE, **options: object) -> Plan:
    return make_plan(selected(**options), suites or (TINY,), machine)


def models(plan: Plan) -> list[str]:
    return [f"{item.case.suite}/{item.case.model}" for item in plan.cases]


def refusal(*suites: SuiteListing, machine: Machine = MACHINE, **options: object) -> str:
    with pytest.raises(UsageProblem) as refused:
        planned(*suites, machine=machine, **options)
    return str(refused.value)


def test_a_plan_is_every_combination_once_models_together() -> None:
    """Suite, then model by name, device, dtype and compiler; what is named twice is run once."""
    plan = planned(
        TINY,
        OTHER,
        machine=GPUS,
        devices=("cpu", "cuda:1", "cpu"),
        dtypes=("amp", "float32"),
        compilers=("inductor", "eager", "inductor"),
    )
    assert len(plan.cases) == len(set(plan.cases)) == 5 * 2 * 2 * 2
    assert list(dict.fromkeys(models(plan))) == [
        "tiny/lstm",
        "tiny/mlp",
        "tiny/unet",
        "other/resnet18",
        "other/resnet50",
    ]
    assert [f"{item.case.device} {item.case.dtype} {item.case.compiler}" for item in plan.cases[:8]] == [
        *("cpu amp inductor", "cpu amp eager", "cpu float32 inductor", "cpu float32 eager"),
        *("cuda:1 amp inductor", "cuda:1 amp eager", "cuda:1 float32 inductor", "cuda:1 float32 eager"),
    ]
    assert {item.spec for item in plan.cases} == {"tiny", "/x/other.py"}
    assert {item.case.mode for item in plan.cases} == {Mode.INFERENCE}
    assert plan.preload == ("a", "b", CPP_COMPILER)


@pytest.mark.parametrize(
    ("device", "compiler", "is_asked"),
    [("cpu", "inductor", True), ("cpu", "aot_eager", False), ("cuda:1", "inductor", False)],
)
def test_the_cpp_compiler_is_asked_once_where_inductor_needs_it(device: str, compiler: str, *, is_asked: bool) -> None:
    """That is for code that runs on the CPU."""
    plan = planned(machine=GPUS, devices=(device,), compilers=(compiler,))
    assert (CPP_COMPILER in plan.preload) is is_asked


def test_without_a_device_the_accelerator_is_taken_if_there_is_one() -> None:
    """Else the CPU."""
    assert {item.case.device for item in planned().cases} == {"cpu"}
    assert {item.case.device for item in planned(machine=GPUS).cases} == {"cuda"}


@pytest.mark.parametrize(
    ("options", "left"),
    [
        ({"filters": (re.compile("m"),)}, ["lstm", "mlp"]),
        ({"filters": (re.compile("^u"), re.compile("stm$"))}, ["lstm", "unet"]),
        ({"exclude": ("mlp", "unet")}, ["lstm"]),
        ({"quick": True}, ["mlp", "unet"]),
        ({"quick": True, "filters": (re.compile("l"),)}, ["mlp"]),
        ({"quick": True, "exclude": ("mlp",)}, ["unet"]),
    ],
)
def test_models_are_chosen(options: dict[str, object], left: list[str]) -> None:
    """A filter searches anywhere in a name, one of them is enough; exclude takes whole names; quick is its suite's."""
    assert [name.partition("/")[2] for name in models(planned(**options))] == left


def test_quick_keeps_everything_of_a_suite_that_names_nothing() -> None:
    """There is no shorter way through it."""
    assert len(planned(OTHER, quick=True).cases) == 2


def test_an_excluded_model_need_not_be_in_every_suite() -> None:
    """In one of them is enough."""
    assert models(planned(TINY, OTHER, exclude=("lstm",)))[0] == "tiny/mlp"


@given(st.lists(st.text(min_size=1, max_size=3), unique=True, max_size=40), st.integers(1, 12))
def test_partitions_are_disjoint_and_complete(names: list[str], total: int) -> None:
    """All shards together are everything, in sorted order, whatever the numbers."""
    shards = [partition(names, index=index, total=total) for index in range(total)]
    assert [name for shard in shards for name in shard] == sorted(names)


@pytest.mark.parametrize(
    ("count", "total", "sizes"), [(10, 3, [3, 3, 4]), (9, 3, [3, 3, 3]), (2, 3, [0, 0, 2]), (11, 4, [2, 2, 2, 5])]
)
def test_the_last_partition_takes_the_rest(count: int, total: int, sizes: list[int]) -> None:
    """Chunks of n // total, as in PyTorch's CI: a shard there holds the same models here."""
    names = [f"m{number:02}" for number in range(count)]
    assert [len(partition(names, index=index, total=total)) for index in range(total)] == sizes


def test_every_suite_is_partitioned_by_itself() -> None:
    """Shards of a run with several suites together are the run without shards."""
    whole = planned(TINY, OTHER).cases
    shards = [planned(TINY, OTHER, partition_id=index, total_partitions=2).cases for index in range(2)]
    assert [len(shard) for shard in shards] == [2, 3]
    assert sorted(item.case for shard in shards for item in shard) == sorted(item.case for item in whole)


def test_a_partition_without_a_model_is_told() -> None:
    """It is a mistake in the numbers, not a pass."""
    assert refusal(partition_id=0, total_partitions=4) == (
        "partition 0 of 4 has no model: there are fewer models than partitions; use fewer"
    )


@pytest.mark.parametrize("total", [1, 3])
def test_nothing_left_is_told_with_what_there_is(total: int) -> None:
    """In partitions, too, it is the filter that is named."""
    assert refusal(TINY, OTHER, filters=(re.compile("lstm"),), exclude=("lstm",), total_partitions=total) == (
        "no model is left after --filter, --exclude and --quick. "
        "Models by suite: tiny: mlp lstm unet, other: resnet50 resnet18"
    )


def test_everything_that_does_not_fit_is_told_at_once() -> None:
    """One message, a line each, with the nearest name and the choices."""
    message = refusal(
        TINY,
        TINY,
        compilers=("eager", "inductr", "zzz"),
        dtypes=("float23",),
        devices=("cuda",),
        exclude=("lstn",),
        filters=(re.compile("vit"), re.compile("mlp")),
    )
    assert message.splitlines() == [
        "unknown compiler 'inductr'. Did you mean inductor? There are: eager, aot_eager, inductor.",
        "unknown compiler 'zzz'. There are: eager, aot_eager, inductor.",
        "unknown dtype 'float23'. Did you mean float32? There are: float32, amp.",
        "there is no device 'cuda' here. There are: cpu.",
        "two suites are called 'tiny'; results are identified by that name, so rename one, or run them separately",
        "--exclude 'lstn': no suite has such a model. Did you mean lstm? There are: mlp, lstm, unet.",
        "--filter 'vit': it matches no model. There are: mlp, lstm, unet.",
    ]


@pytest.mark.parametrize(
    ("device", "message"),
    [
        ("cuda:2", "there is no device 'cuda:2' here: 2 of type cuda, counted from 0."),
        ("cpu:1", "there is no device 'cpu:1' here: 1 of type cpu, counted from 0."),
        *(
            (device, f"there is no device {device!r} here. There are: cpu, cuda (2).")
            for device in (
                "mps",
                "",
                ":",
                "cuda:",
                "cuda:x",
                "cuda:-1",
                "cuda:²",
                "cuda:0:0",
                "cuda:9999999",
            )
        ),
    ],
)
def test_a_device_that_is_not_there_is_told(device: str, message: str) -> None:
    """Also one that torch would not even take for a device."""
    assert refusal(machine=GPUS, devices=(device,)) == message


@pytest.mark.parametrize(
    ("device", "meant"),
    [
        ("gpu", "cuda"),
        ("cuda0", "cuda:0"),
        ("CUDA_1", "cuda:1"),
        ("CPU", "cpu"),
        ("rocm", "cuda"),
        ("cudo", "cuda"),
        ("cuda:01", "cuda:1"),
    ],
)
def test_a_device_by_another_name_is_told_ours(device: str, meant: str) -> None:
    """As far as it is here: nobody is sent to a device that is not."""
    assert f"Did you mean {meant}?" in refusal(machine=GPUS, devices=(device,))
    assert ("Did you mean" in refusal(devices=(device,))) is (meant == "cpu")


def test_a_message_names_the_option_that_the_command_has() -> None:
    """Some call it --device."""
    machine = Machine(
        devices={"cpu": 1}, compilers=("eager",), dtypes=("float32",), torch="2", signs=Signs(unusable="no driver")
    )
    for devices in ((), ("cuda",)):
        message = refusal(machine=machine, devices=devices, device_option="--device")
        assert "with --device cpu" in message
        assert "--devices" not in message


def test_a_name_for_a_device_that_is_not_here_is_no_slip_of_the_keyboard() -> None:
    """Who types gpu does not mean cpu."""
    said = refusal(devices=("gpu",))
    assert "For torch it is cuda, and there is none" in said
    assert "Did you mean" not in said


def test_a_torch_without_cuda_is_the_reason_for_no_cuda() -> None:
    """It is said where it is known, and where nothing else is."""
    cpu_build = replace(MACHINE, torch="2.13.0+cpu", without_cuda=True)
    for device in ("cuda", "gpu", "cuda:1"):
        assert "This torch (2.13.0+cpu) is built without CUDA" in refusal(machine=cpu_build, devices=(device,))
    assert "without CUDA" not in refusal(machine=cpu_build, devices=("mps",))
    driver = replace(cpu_build, signs=Signs(listed={"nvidia-smi": "GPU 0"}))
    assert "install a torch that is built for it" in refusal(machine=driver, devices=("cuda",))


@pytest.mark.parametrize(
    ("dtype", "meant"), [("fp16", "float16"), ("half", "float16"), ("BF16", "bfloat16"), ("float", "float32")]
)
def test_a_dtype_by_another_name_is_told_ours(dtype: str, meant: str) -> None:
    """The names that papers and other tools use."""
    machine = Machine(devices={"cpu": 1}, compilers=MACHINE.compilers, dtypes=("float32", "float16", "bfloat16", "amp"))
    assert f"unknown dtype {dtype!r}. Did you mean {meant}?" in refusal(machine=machine, dtypes=(dtype,))


@pytest.mark.parametrize("device", ["cpu", "cpu:0", "cuda", "cuda:0", "cuda:1"])
def test_a_device_that_is_there_is_taken(device: str) -> None:
    """With and without its number."""
    assert {item.case.device for item in planned(machine=GPUS, devices=(device,)).cases} == {device}


@pytest.mark.parametrize(
    ("skip", "reasons"),
    [
        ({"model": "mlp", "reason": "why", "device": None, "mode": None}, {"mlp": "why"}),
        ({"model": "mlp", "reason": "why", "device": "cuda", "mode": "inference"}, {"mlp": "why"}),
        ({"model": "mlp", "reason": "why", "device": "cpu", "mode": None}, {}),
        ({"model": "mlp", "reason": "why", "device": None, "mode": "training"}, {}),
        ({"model": "absent", "reason": "why", "device": None, "mode": None}, {}),
        ({"model": "unet", "reason": "", "device": None, "mode": None}, {"unet": "skipped by the suite"}),
    ],
)
def test_what_a_suite_leaves_out_stays_in_the_plan_with_the_reason(
    skip: dict[str, str | None], reasons: dict[str, str]
) -> None:
    """By model, kind of device and mode: a row will say so."""
    suite = SuiteListing(spec="tiny", name="tiny", models=TINY.models, skips=(skip,))
    plan = planned(suite, machine=GPUS, devices=("cuda:1",))
    assert len(plan.cases) == 3
    assert {item.case.model: item.skip for item in plan.cases if item.skip is not None} == reasons


def test_a_suite_file_is_found_from_everywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker may run in another folder; names and modules stay as they are."""
    monkeypatch.chdir(tmp_path)
    assert suite_spec("here/mine.py") == str(tmp_path / "here/mine.py")
    assert suite_spec("/there/mine.py") == "/there/mine.py"
    assert [suite_spec(text) for text in ("tiny", "package.module")] == ["tiny", "package.module"]
