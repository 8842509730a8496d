"""A suite of six kernels: torchperf-ci run --inference --suites examples/kernels.py --compilers inductor."""

import torch
from kernel_ops import adam, gelu, layernorm, matmul, softmax, tokenize

PARAMS = {
    "softmax": {"n": [64, 256, 1024, 4096]},
    "layernorm": {"n": [128, 1024]},
    "matmul": {"n": [64, 256], "dtype": ["float32", "bfloat16"]},
    "gelu": [{"n": 1024, "approximate": "none"}, {"n": 1024, "approximate": "tanh"}],
    "adam": {"n": [128, 1024]},
    "tokenize": {"words": [1000]},
}

METRICS = {"tokens_per_second": {"unit": "1/s", "direction": "higher"}}


def make_softmax(batch_size, n):
    """Softmax over rows, with the bytes that it reads and writes."""
    return {"call": softmax, "args": (torch.randn(64, n),), "bytes": 2 * 4 * 64 * n, "items": 64}


def make_layernorm(batch_size, n):
    """Layer normalisation of rows."""
    return layernorm, (torch.randn(64, n),)


def make_matmul(batch_size, n, dtype):
    """A product of square matrices, whose arithmetic is counted."""
    return matmul, (torch.randn(n, n), torch.randn(n, n))


def make_gelu(batch_size, n, approximate):
    """GELU, exact or by tanh."""
    return gelu, (torch.randn(64, n),), {"approximate": approximate}


def make_adam(batch_size, n):
    """A step of Adam, which changes what it is given: every call has a fresh state."""
    gradient = torch.randn(n, n)

    def setup():
        return (torch.zeros(n, n), gradient, torch.zeros(n, n), torch.zeros(n, n)), {}

    return {"call": adam, "setup": setup}


def make_tokenize(batch_size, words):
    """Words and marks of a text, in plain Python: for the compiler `none`."""
    text = "The quick brown fox jumps over the lazy dog, again and again. " * (words // 12)
    return {
        "call": tokenize,
        "args": (text,),
        "check": lambda tokens: tokens[:2] == ["The", "quick"],
        "metrics": lambda tokens, seconds: {"tokens_per_second": len(tokens) / seconds},
    }


MODELS = {
    "softmax": make_softmax,
    "layernorm": make_layernorm,
    "matmul": make_matmul,
    "gelu": make_gelu,
    "adam": make_adam,
    "tokenize": make_tokenize,
}
