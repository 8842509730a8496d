"""Six kernels of a library, measured with `torchperf-ci run --inference --suites examples/kernels.py`."""

import re

import torch

SIZES = {"n": [128, 1024]}

PARAMS = {
    "softmax": {"n": [64, 256, 1024, 4096]},
    "layernorm": SIZES,
    "matmul": {"n": [64, 256], "dtype": ["float32", "bfloat16"]},
    "gelu": [{"n": 1024, "approximate": "none"}, {"n": 1024, "approximate": "tanh"}],
    "adam": SIZES,
    "tokenize": {"words": [1000]},
}

METRICS = {"tokens_per_second": {"unit": "1/s", "direction": "higher"}}


def softmax(batch_size, n):
    """Softmax over the rows of a matrix, written out."""

    def call(x):
        powers = torch.exp(x - x.amax(dim=-1, keepdim=True))
        return powers / powers.sum(dim=-1, keepdim=True)

    return {"call": call, "args": (torch.randn(64, n),), "bytes": 2 * 4 * 64 * n}


def layernorm(batch_size, n):
    """Layer normalisation without weights."""
    return lambda x: torch.nn.functional.layer_norm(x, (n,)), (torch.randn(64, n),)


def matmul(batch_size, n, dtype):
    """A product of square matrices: its arithmetic is counted."""
    return torch.matmul, (torch.randn(n, n), torch.randn(n, n))


def gelu(batch_size, n, approximate):
    """GELU, exact or by tanh."""
    return torch.nn.functional.gelu, (torch.randn(64, n),), {"approximate": approximate}


def adam(batch_size, n):
    """One step of Adam, always from the same fresh state."""
    weights, gradient = torch.zeros(n, n), torch.randn(n, n)

    def fresh():
        weight = weights.clone().requires_grad_()
        weight.grad = gradient
        return (torch.optim.Adam([weight]), weight), {}

    def step(optimizer, weight):
        optimizer.step()
        return weight

    return {"call": step, "setup": fresh}


def tokenize(batch_size, words):
    """Words and marks of a text, in plain Python; measured with `--compilers none`."""
    text = "The quick brown fox jumps over the lazy dog, again and again. " * (words // 12)
    pattern = re.compile(r"\w+|[^\w\s]")
    return {
        "call": lambda: pattern.findall(text),
        "check": lambda tokens: tokens[:2] == ["The", "quick"],
        "metrics": lambda tokens, seconds: {"tokens_per_second": len(tokens) / seconds},
    }


MODELS = {
    "softmax": softmax,
    "layernorm": layernorm,
    "matmul": matmul,
    "gelu": gelu,
    "adam": adam,
    "tokenize": tokenize,
}
