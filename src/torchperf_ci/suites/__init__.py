"""Benchmark suites, imported by the worker inside the Python under test: standard library, torch, what a suite needs.

A suite is a module, or a single file, with a mapping `MODELS` from model names to functions `f(batch_size)`, and with
whatever else docs/suites.md lists; `program` reads what those functions return.
"""

SHARING_VARIABLE = "TORCHPERF_SHARING"
"""The number of processes that hold a model at the same time, in the environment of a comparison's workers."""

WORKING_TREE_VARIABLE = "TORCHPERF_WORKING_TREE"
"""Where the repository lies whose commits are compared: no code of a side may come from there, but for its own tree."""
