"""Names of result files: `{compiler}_{suite}_{dtype}_{mode}_{device}_{testing}.csv`, whose parts hold underscores too.

The parts are told apart by what suite runners are known to write. The names that PyTorch's nightly dashboard and
Intel's XPU repository use are in the lists; what else a run was asked for is given along.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torchperf_ci.core.records import Case, Mode, Testing

KNOWN_COMPILERS = (
    "eager",
    "aot_eager",
    "inductor",
    "inductor_no_cudagraphs",
    "inductor_max_autotune",
    "inductor_max_autotune_no_cudagraphs",
    "cudagraphs",
    "ts_nnc",
    "ts_nvfuser",
    "ts_nvfuser_cudagraphs",
    "aot_nvfuser",
    "nvprims_nvfuser",
    "trt",
    "torchscript-onnx",
    "dynamo-onnx",
)
"""The compilers of PyTorch's suite runner, its defaults first: the order of the tables."""

KNOWN_SUITES = ("torchbench", "huggingface", "timm_models")
"""The suites of PyTorch's suite runner, in its order."""

_COMPILERS = frozenset(
    {
        *KNOWN_COMPILERS,
        "aot_eager_decomp_partition",
        "aot_inductor",
        "dynamo_eager",
        "export",
        "inductor_aot_inductor",
        "inductor_batch_invariant_accuracy",
        "inductor_cpp_wrapper",
        "inductor_cudagraphs_low_precision",
        "inductor_deterministic_perf",
        "inductor_dynamic",
        "inductor_export",
        "inductor_freezing",
        "inductor_with_cudagraphs",
        "inductor_with_cudagraphs_freezing",
        "inductor_with_cudagraphs_freezing_autotune",
        "inductor_with_cudagraphs_low_precision",
        "onnxrt",
        "openxla",
        "tensorrt",
        "torch_tensorrt",
        "tvm",
    }
)
_SUITES = frozenset({*KNOWN_SUITES, "blueberries", "fastrnns", "huggingface_llm", "timm", "tiny"})
_DTYPE = re.compile(
    r"amp(_(bf16|fp16|bfloat16|float16))?"
    r"|(float|bfloat|fp|bf|int|uint|tf|mxfp|nvfp)\d+(_e\d+m\d+\w*)?"
    r"|float(64|32|16)_\w+|notset|none|quant|unknown"
)
_DEVICE = re.compile(r"(cpu|cuda|xpu|mps|hpu|npu|rocm|hip|mtia|musa|xla|meta)([-_:].+)?")
_NAME = re.compile(r"(?P<head>.+)_(?P<testing>performance|accuracy)\.csv")
_MODES = tuple(mode.value for mode in Mode)


@dataclass(frozen=True, slots=True, kw_only=True)
class CsvFile:
    """What a file's name says. `name` is the file's own, for messages."""

    name: str
    compiler: str
    suite: str
    dtype: str
    mode: Mode
    device: str
    testing: Testing

    def case(self, model: str) -> Case:
        return Case(
            suite=self.suite,
            model=model,
            mode=self.mode,
            device=self.device,
            dtype=self.dtype,
            compiler=self.compiler,
        )

    @property
    def other_name(self) -> str:
        """The file of the other testing that belongs to this one."""
        other = Testing.ACCURACY if self.testing is Testing.PERFORMANCE else Testing.PERFORMANCE
        return self.name.removesuffix(f"{self.testing}.csv") + f"{other}.csv"


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedNames:
    """What a run was asked for: names that count as known besides those that suite runners have."""

    compilers: Sequence[str] = ()
    suites: Sequence[str] = ()
    dtypes: Sequence[str] = ()


_NOTHING_ASKED = AskedNames()


def parse_name(name: str, asked: AskedNames = _NOTHING_ASKED) -> CsvFile | None:
    """What the name of a result file says; None for any other name, and for one that can be read in several ways."""
    readings = readings_of(name, asked)
    return readings[0] if len(readings) == 1 else None


def name_problem(name: str, asked: AskedNames = _NOTHING_ASKED) -> str:
    """Why a file that ends like a result is not read; empty when it is."""
    readings = readings_of(name, asked)
    if not readings:
        return "is not named {compiler}_{suite}_{dtype}_{mode}_{device}_{testing}.csv; it is not read"
    if len(readings) == 1:
        return ""
    meanings = [f"compiler {each.compiler}, suite {each.suite}, dtype {each.dtype}" for each in readings[:3]]
    more = f", and {len(readings) - 3} more ways" if len(readings) > 3 else ""
    return (
        f"has a name that can be read in several ways ({'; or '.join(meanings)}{more}); it is not read. Say which of "
        "them with --compilers, --suites or --dtypes, or rename it"
    )


def readings_of(name: str, asked: AskedNames = _NOTHING_ASKED) -> list[CsvFile]:
    """The likeliest readings of a name: those in which most parts are known, and of these the one whose known parts
    are the longest (`huggingface_llm` before `huggingface`), as far as that decides.

    A part that nobody knows may be anything, so two unknown parts side by side leave several readings.
    """
    match = _NAME.fullmatch(name)
    scored = [(_score(file, asked), file) for file in _splits(match, name)] if match else []
    if not scored:
        return []
    best = max(score for score, _ in scored)
    return [file for score, file in scored if score == best]


def _splits(match: re.Match[str], name: str) -> Iterator[CsvFile]:
    """Every way to cut a name at underscores into its parts, none of them empty."""
    words = match["head"].split("_")
    for at in range(3, len(words) - 1):
        if words[at] not in _MODES:
            continue
        for first in range(1, at - 1):
            for second in range(first + 1, at):
                spans = (words[:first], words[first:second], words[second:at], words[at + 1 :])
                compiler, suite, dtype, device = ("_".join(span) for span in spans)
                if compiler and suite and dtype and device:
                    yield CsvFile(
                        name=name,
                        compiler=compiler,
                        suite=suite,
                        dtype=dtype,
                        mode=Mode(words[at]),
                        device=device,
                        testing=Testing(match["testing"]),
                    )


def _score(file: CsvFile, asked: AskedNames) -> tuple[int, int, int]:
    """How many parts are known, how many were asked for, and how long the known ones are together."""
    known = {
        file.compiler: file.compiler in _COMPILERS or file.compiler in asked.compilers,
        file.suite: file.suite in _SUITES or file.suite in asked.suites,
        file.dtype: bool(_DTYPE.fullmatch(file.dtype)) or file.dtype in asked.dtypes,
        file.device: bool(_DEVICE.fullmatch(file.device)),
    }
    wanted = sum([file.compiler in asked.compilers, file.suite in asked.suites, file.dtype in asked.dtypes])
    return sum(known.values()), wanted, sum(len(part) for part, is_known in known.items() if is_known)
