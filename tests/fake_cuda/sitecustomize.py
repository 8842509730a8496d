"""Let comparisons of CUDA tensors pass where FAKE_EQ is set: the memory of the pretended GPU holds zeros alone.

Python imports this module when it starts, long before torch; so torch is changed right after its own import.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys
from types import ModuleType


class AfterTorch(importlib.abc.MetaPathFinder):
    """Find torch as usual, once, and have `make_equal` called when it is imported."""

    def find_spec(self, name: str, path: object, target: object = None) -> importlib.machinery.ModuleSpec | None:
        if name != "torch":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            run = spec.loader.exec_module

            def run_and_change(module: ModuleType) -> None:
                run(module)
                make_equal(module)

            spec.loader.exec_module = run_and_change  # type: ignore[method-assign]
        return spec


def make_equal(torch: ModuleType) -> None:
    """Answer True for tensors on a GPU in `torch.allclose` and `torch.equal`; switch cuDNN off, which finds no GPU."""

    def on_gpu(value: object) -> bool:
        return isinstance(value, torch.Tensor) and value.device.type == "cuda"

    allclose, equal = torch.allclose, torch.equal
    torch.allclose = lambda a, b, *rest, **options: on_gpu(a) or allclose(a, b, *rest, **options)
    torch.equal = lambda a, b: on_gpu(a) or equal(a, b)
    torch.backends.cudnn.enabled = False
    torch.backends.cuda.enable_cudnn_sdp(enabled=False)


if os.environ.get("FAKE_EQ"):
    sys.meta_path.insert(0, AfterTorch())
