"""The project that tests of tracing change: a package, a suite, a data file, and a library in C."""

from __future__ import annotations

import subprocess
from pathlib import Path

PACKAGE = '''
"""A package with many ways in which code can be told what to do."""
import ctypes, functools, json, os, random, time
from pathlib import Path

import torch

HERE = Path(__file__).parent
STEPS = 2
OFFSETS = {"low": 1.0, "high": [2.0, 3.0]}
DATA = json.loads((HERE / "data.json").read_text())
FLAG = os.environ.get("PROJECT_FLAG", "off")
LIBRARY = ctypes.CDLL(str(HERE / "libfast.so"))


def helper(x, scale=2.0):
    """Scale."""
    return x * scale


def key_of(item):
    return -item


def numbers(count):
    for number in range(count):
        yield number


def make_adder(amount):
    def add(x):
        return x + amount

    return add


def scaled(x, factor):
    return x * factor


def rare(x):
    return x - 1


def unrelated(x):
    return x / 3


class Settings:
    limit = 4

    def __init__(self):
        self.mode = "plain"


SETTINGS = Settings()
CHOICES = {"double": lambda x: x + x}
HALF = functools.partial(scaled, factor=0.5)
ADD = make_adder(1.0)


class Net(torch.nn.Module):
    repeats = 1

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(4, 4)

    def forward(self, x):
        if len(x) == 1000:
            x = rare(x)
        for _ in range(self.repeats):
            x = self.layer(x)
        for number in sorted(numbers(STEPS), key=key_of):
            x = x + number * OFFSETS["low"]
        if SETTINGS.mode == "plain":
            x = helper(x)
        return CHOICES["double"](HALF(ADD(torch.nn.functional.relu(x)))) + LIBRARY.answer()
'''

SUITE = """
import torch

from package import code


def net(batch_size):
    return code.Net(), (torch.ones(batch_size or 2, 4),)


MODELS = {"net": net}
"""

LIBRARY = "int answer(void) { return 42; }\n"
CODE, DATA, C = "package/code.py", "package/data.json", "package/fast.c"


class Project:
    """The files of a project by name, which a test changes before they are written."""

    def __init__(self) -> None:
        self.files = {CODE: PACKAGE, "package/__init__.py": "", "suite.py": SUITE, DATA: "[1, 2]", C: LIBRARY}

    def change(self, old: str, new: str, *, file: str = CODE) -> None:
        """Replace a text that is there once."""
        assert self.files[file].count(old) == 1, old
        self.files[file] = self.files[file].replace(old, new)

    def write(self, folder: Path) -> None:
        """Write the files and build the library, with debug information that names the folder."""
        for name, content in self.files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        source = folder / C
        command = ["gcc", "-g", "-shared", "-fPIC", "-o", str(source.with_name("libfast.so")), str(source)]
        subprocess.run(command, check=True)
