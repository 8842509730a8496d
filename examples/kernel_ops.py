"""A small library of kernels, as it may lie in your package. `kernels.py` measures it."""

import re

import torch

_TOKEN = re.compile(r"\w+|[^\w\s]")


def softmax(x):
    powers = torch.exp(x - x.amax(dim=-1, keepdim=True))
    return powers / powers.sum(dim=-1, keepdim=True)


def layernorm(x, eps=1e-5):
    centred = x - x.mean(dim=-1, keepdim=True)
    return centred * torch.rsqrt(centred.square().mean(dim=-1, keepdim=True) + eps)


def matmul(a, b):
    return a @ b


def gelu(x, approximate="none"):
    return torch.nn.functional.gelu(x, approximate=approximate)


def adam(weight, gradient, mean, square, lr=1e-3):
    mean.lerp_(gradient, 0.1)
    square.lerp_(gradient * gradient, 0.001)
    weight.sub_(lr * mean / (square.sqrt() + 1e-8))


def tokenize(text):
    return _TOKEN.findall(text)
