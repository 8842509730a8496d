"""Options and parameters for `pytest_benchmarks`: which networks, on what, under which fuser and executor.

    pytest -p torchperf_ci.suites.fastrnns.pytest_plugin --pyargs torchperf_ci.suites.fastrnns.pytest_benchmarks \\
        --benchmark-json fastrnns.json

Needs pytest and pytest-benchmark in the Python that has torch.
"""

from __future__ import annotations

from dataclasses import fields

import pytest

from torchperf_ci.suites.fastrnns.catalog import VARIANTS, Executor, Fuser, Sizes, VariantGroup

DEFAULT_EXECUTOR = "default"
"""The value of the parameter `executor` when the fuser decides."""


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("fastrnns", "fastrnns benchmarks")
    group.addoption("--fuser", choices=[fuser.value for fuser in Fuser], default=Fuser.TE.value)
    executors = [DEFAULT_EXECUTOR, *(executor.value for executor in Executor)]
    group.addoption("--executor", choices=executors, default=DEFAULT_EXECUTOR)
    group.addoption("--nets", nargs="+", choices=_NETS, default=_DEFAULT_NETS, metavar="NET", help=", ".join(_NETS))
    group.addoption("--net-device", help="Where the networks run. Default: cuda where there is one, else cpu.")
    sizes = ", ".join(f"{size.name}={size.default}" for size in fields(Sizes))
    group.addoption("--net-sizes", type=_sizes, default=Sizes(), metavar="NAME=NUMBER,…", help=f"Default: {sizes}.")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Parametrize what asks for `net_name`, `executor` and `fuser`; these become the benchmark's `params`."""
    values = {
        "net_name": metafunc.config.getoption("nets"),
        "executor": [metafunc.config.getoption("executor")],
        "fuser": [metafunc.config.getoption("fuser")],
    }
    if values.keys() <= set(metafunc.fixturenames):
        for name, choices in values.items():
            metafunc.parametrize(name, choices, scope="class")


_DEFAULT_NETS = [*VARIANTS[VariantGroup.RNNS], *VARIANTS[VariantGroup.CNNS]]
_NETS = [*_DEFAULT_NETS, *VARIANTS[VariantGroup.VL]]


def _sizes(text: str) -> Sizes:
    """Return `Sizes` with what `name=number,…` changes. argparse turns the ValueError into a usage message."""
    given = dict(part.split("=", 1) for part in text.split(",") if part)
    numbers = {name: int(number) for name, number in given.items()}
    if unknown := numbers.keys() - {size.name for size in fields(Sizes)}:
        raise ValueError(f"there is no size {', '.join(sorted(unknown))}")
    if any(number < 1 for number in numbers.values()):
        raise ValueError("sizes start at 1")
    return Sizes(**numbers)
