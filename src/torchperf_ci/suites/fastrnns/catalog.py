"""List what there is to measure, and at which sizes. Standard library only, so that the command line needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import Enum
from types import MappingProxyType


class VariantGroup(str, Enum):
    """Variants that are asked for together."""

    RNNS = "rnns"
    CNNS = "cnns"
    VL = "vl"

    __str__ = str.__str__

    @property
    def label(self) -> str:
        """Return the group's name in results, where its backward passes are `{label}-backward`."""
        return _LABELS[self]


_LABELS = {VariantGroup.RNNS: "lstm", VariantGroup.CNNS: "resnet", VariantGroup.VL: "vl_lstm"}

VARIANTS: Mapping[VariantGroup, tuple[str, ...]] = MappingProxyType(
    {
        VariantGroup.RNNS: (
            "cudnn",
            "aten",
            "jit",
            "jit_premul",
            "jit_premul_bias",
            "jit_simple",
            "jit_multilayer",
            "jit_layernorm",
            "jit_layernorm_decom",
            "jit_dropout",
            "cudnn_dropout",
            "cudnn_layernorm",
            "py",
        ),
        VariantGroup.CNNS: ("resnet18", "resnet18_jit", "resnet50", "resnet50_jit"),
        VariantGroup.VL: ("vl_cudnn", "vl_jit", "vl_py"),
    }
)
"""Every variant, by group, in the order they are measured."""


class Fuser(str, Enum):
    """The fusers of operators under TorchScript."""

    TE = "te"
    OLD = "old"
    NONE = "none"

    __str__ = str.__str__


class Executor(str, Enum):
    """The executors of a graph in TorchScript; overrides what the fuser implies."""

    LEGACY = "legacy"
    SIMPLE = "simple"
    PROFILING = "profiling"

    __str__ = str.__str__


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """Shapes: inputs are (seq_length, mini_batch, input_size); `vl` sequences have `min_length` to `max_length` steps.

    ResNets get `images` images of `image_size` pixels squared.
    """

    seq_length: int = 100
    num_layers: int = 1
    input_size: int = 512
    hidden_size: int = 512
    mini_batch: int = 64
    min_length: int = 30
    max_length: int = 99
    images: int = 32
    image_size: int = 224

    def as_json(self) -> dict[str, int]:
        return asdict(self)


UNUSABLE_SETTINGS = "unusable_settings"
"""A worker's status when this torch lacks a switch that was asked for: it holds for every variant."""


def group_of(variant: str) -> VariantGroup:
    """Return the group that `variant`, a name of `VARIANTS`, belongs to."""
    return next(group for group, names in VARIANTS.items() if variant in names)
