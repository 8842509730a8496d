"""What tests of models need: one thread, and a miniature of pytorch/benchmark with its layout and interface."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Small tensors on one thread: on a busy machine OpenMP's threads wait for each other far longer than they work."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


MODEL = """
import torch

class Model:
    DEFAULT_TRAIN_BSIZE = 8
    DEFAULT_EVAL_BSIZE = 16
    {extra}

    def __init__(self, test, device, batch_size=None, extra_args=[], model_kwargs=None):
        assert test in ("train", "eval") and extra_args == []
        self.batch_size = batch_size or (self.DEFAULT_TRAIN_BSIZE if test == "train" else self.DEFAULT_EVAL_BSIZE)
        self.model = torch.nn.Linear(4, 4).to(device)
        self.inputs = (torch.randn(self.batch_size, 4, device=device),)
        {body}

    def get_module(self):
        return self.model, self.inputs
"""

MODELS = {
    "resnet18": {},
    "takes_a_dict": {"body": "self.inputs = {'input': self.inputs[0]}"},
    "fixed_batch": {"extra": "ALLOW_CUSTOMIZE_BSIZE = False"},
    "loads_weights": {
        "body": "self.model.load_state_dict(torch.hub.load_state_dict_from_url('https://example.org/w.pth'))"
    },
    "fetches_a_file": {"body": "torch.hub.download_url_to_file('https://example.org/data.bin', '/nowhere')"},
    "reads_a_file": {"body": "assert open('data/numbers.txt').read() == '42'"},
    "needs_a_package": {"body": "import no_such_package"},
    "hf_Bert": {},
    "yolov3": {"body": "self.model = torch.nn.Conv2d(3, 1, 8, stride=8)"},
}


@pytest.fixture
def torchbench(tmp_path: Path) -> Path:
    """The root of a checkout with the models above, a folder that is no model, and two canaries."""
    root = tmp_path / "benchmark"
    package = root / "torchbenchmark"
    for folder, names in (("models", MODELS), ("canary_models", {"torchrec_dlrm": {}, "unstable": {}})):
        for name, parts in names.items():
            (package / folder / name).mkdir(parents=True)
            text = MODEL.format(extra=parts.get("extra", ""), body=parts.get("body", ""))
            (package / folder / name / "__init__.py").write_text(text)
        (package / folder / "__init__.py").touch()
    (package / "models" / "notes").mkdir()
    (package / "__init__.py").touch()
    (root / "data").mkdir()
    (root / "data" / "numbers.txt").write_text("42")
    return root
