"""What the names of result files say."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torchperf_ci.core.csv_names import AskedNames, CsvFile, name_problem, parse_name, readings_of
from torchperf_ci.core.records import Mode, Testing

COMPILERS = (
    "eager",
    "aot_eager",
    "inductor",
    "inductor_no_cudagraphs",
    "inductor_with_cudagraphs",
    "inductor_with_cudagraphs_freezing_autotune",
    "inductor_max_autotune",
    "inductor_max_autotune_no_cudagraphs",
    "inductor_cpp_wrapper",
    "inductor_aot_inductor",
    "inductor_dynamic",
    "inductor_deterministic_perf",
    "ts_nvfuser_cudagraphs",
    "torchscript-onnx",
)
SUITES = ("torchbench", "huggingface", "huggingface_llm", "timm_models", "timm", "tiny", "fastrnns")
DTYPES = (
    *("float32", "float16", "bfloat16", "amp", "amp_bf16", "amp_fp16", "fp8", "fp8_e4m3", "fp8_e5m2"),
    *("float8_e4m3fn", "int8", "tf32", "notset"),
)
DEVICES = ("cpu", "cuda", "cuda-1", "cuda_h100", "xpu", "mps", "hpu", "rocm", "cpu_x86", "cpu_aarch64")
UNKNOWN = st.from_regex(r"[a-z]{1,4}\d?(_[a-z]{1,4}\d?){0,2}", fullmatch=True)


def csv_file(
    compiler: str, suite: str, dtype: str, device: str, mode=Mode.TRAINING, testing=Testing.ACCURACY
) -> CsvFile:
    """The file that is called so."""
    name = f"{compiler}_{suite}_{dtype}_{mode}_{device}_{testing}.csv"
    return CsvFile(name=name, compiler=compiler, suite=suite, dtype=dtype, mode=mode, device=device, testing=testing)


@given(
    *(st.sampled_from(names) for names in (COMPILERS, SUITES, DTYPES, DEVICES, tuple(Mode), tuple(Testing))),
)
def test_a_name_of_known_parts_says_them(compiler, suite, dtype, device, mode, testing):
    """Whatever suite runners write is read back part by part."""
    file = csv_file(compiler, suite, dtype, device, mode, testing)
    assert parse_name(file.name) == file


@given(st.sampled_from(COMPILERS), UNKNOWN, st.sampled_from(DTYPES), st.sampled_from(DEVICES), UNKNOWN)
def test_a_name_with_a_foreign_part_says_it_once_it_was_asked_for(compiler, suite, dtype, device, backend):
    """The fix that the problem recommends works: every name is read with the names that were asked for."""
    file = csv_file(backend, suite, dtype, device)
    asked = AskedNames(compilers=[backend], suites=[suite])
    assert file in readings_of(file.name, asked)
    read = parse_name(file.name)
    assert (read is None) == bool(name_problem(file.name))
    only_suite = csv_file(compiler, suite, dtype, device)
    assert only_suite in readings_of(only_suite.name, AskedNames(suites=[suite]))


@pytest.mark.parametrize(
    ("name", "compiler", "suite", "dtype"),
    [
        ("inductor_huggingface_amp_bf16_inference_xpu_accuracy.csv", "inductor", "huggingface", "amp_bf16"),
        ("inductor_zoo_amp_bf16_inference_xpu_accuracy.csv", "inductor", "zoo", "amp_bf16"),
        ("my_backend_huggingface_float32_training_cuda_accuracy.csv", "my_backend", "huggingface", "float32"),
        ("tensorrt_zoo_float32_training_cuda_accuracy.csv", "tensorrt", "zoo", "float32"),
        ("inductor_huggingface_my_type_training_cuda_accuracy.csv", "inductor", "huggingface", "my_type"),
        ("inductor_training_zoo_float32_inference_cpu_accuracy.csv", "inductor", "training_zoo", "float32"),
    ],
)
def test_one_unknown_part_is_what_is_left(name: str, compiler: str, suite: str, dtype: str):
    """Known parts are looked for first."""
    file = parse_name(name)
    assert file is not None
    assert (file.compiler, file.suite, file.dtype) == (compiler, suite, dtype)


def test_two_unknown_parts_side_by_side_are_a_problem_that_says_what_to_type():
    """A name that can be read in several ways is never read in a wrong one."""
    name = "my_back_end_my_suite_float32_training_cuda-1_accuracy.csv"
    assert parse_name(name) is None
    assert "several ways" in name_problem(name)
    assert "--compilers" in name_problem(name)
    for asked in (AskedNames(compilers=["my_back_end"]), AskedNames(suites=["my_suite"])):
        file = parse_name(name, asked)
        assert file is not None
        assert (file.compiler, file.suite, file.device) == ("my_back_end", "my_suite", "cuda-1")


def test_what_was_asked_for_does_not_cut_a_name_that_is_known():
    """A suite of a short name does not take the end of another one's."""
    file = parse_name("inductor_huggingface_llm_float32_inference_cpu_accuracy.csv", AskedNames(suites=["llm"]))
    assert file is not None
    assert file.suite == "huggingface_llm"


@pytest.mark.parametrize("name", ["geomean.csv", "inductor_float32_training_cuda_accuracy.csv", "x_accuracy.csv", ""])
def test_other_names_are_no_results(name: str):
    """A file that is named otherwise is not taken for results."""
    assert parse_name(name) is None
    assert "is not named" in name_problem(name)
