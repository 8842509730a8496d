"""The compilers' artefacts of real compilations."""

from __future__ import annotations

import logging

import torch

from torchperf_ci.worker.compile import CompileLog


def breaks(x: torch.Tensor) -> torch.Tensor:
    x = x.sin()
    torch._dynamo.graph_break()
    return x.cos()


def test_graphs_breaks_and_recompiles_are_heard() -> None:
    """With their places; a break that dynamo has named is not counted again when it gives a frame up."""
    log = CompileLog(lambda path: path.rpartition("/")[2])
    log.start()
    torch._dynamo.reset()
    try:
        compiled = torch.compile(breaks, backend="eager")
        compiled(torch.ones(3))
        compiled(torch.ones(5))
        heard = log.reply()
    finally:
        torch._dynamo.reset()
        internal = torch._logging._internal
        internal.log_state.artifact_names.discard("recompiles")
        for name in internal.log_registry.artifact_log_qnames:
            logging.getLogger(name).removeHandler(log)
        torch._inductor.config.cpp.enable_kernel_profile = False
    line = breaks.__code__.co_firstlineno
    assert heard["breaks"][0] == ("Call to `torch._dynamo.graph_break()`", f"test_artefacts.py:{line + 2}")
    assert [line for line, _ in heard["graphs"][0] if ".sin()" in line]
    assert {place for _, place in heard["graphs"][0] if place} == {f"test_artefacts.py:{line + 1}"}
    function, place, guards = heard["recompiles"][0]
    assert (function, place) == ("breaks", f"test_artefacts.py:{line}")
    assert "size mismatch" in guards
    assert heard["phases"]["_compile.compile_inner"] > 0
