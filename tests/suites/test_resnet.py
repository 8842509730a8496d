"""ResNet-18 and ResNet-50: torchvision's parameters, shapes and arithmetic."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the name everybody knows

from torchperf_ci.suites.resnet import ResNet, resnet18, resnet50


@pytest.mark.parametrize(
    ("make", "parameters", "tensors"), [(resnet18, 11_689_512, 122), (resnet50, 25_557_032, 320)], ids=["18", "50"]
)
def test_parameter_counts_are_torchvisions(make: type[ResNet], parameters: int, tensors: int) -> None:
    """The numbers of parameters and of entries of the state dict are those of torchvision's models."""
    model = make()
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters
    assert len(model.state_dict()) == tensors


def test_names_are_torchvisions() -> None:
    """A state dict's names are torchvision's, so that weights can go both ways."""
    assert [name for name, _ in resnet18().named_parameters()][:15] == [
        "conv1.weight",
        "bn1.weight",
        "bn1.bias",
        "layer1.0.conv1.weight",
        "layer1.0.bn1.weight",
        "layer1.0.bn1.bias",
        "layer1.0.conv2.weight",
        "layer1.0.bn2.weight",
        "layer1.0.bn2.bias",
        "layer1.1.conv1.weight",
        "layer1.1.bn1.weight",
        "layer1.1.bn1.bias",
        "layer1.1.conv2.weight",
        "layer1.1.bn2.weight",
        "layer1.1.bn2.bias",
    ]
    shapes = {name: tuple(tensor.shape) for name, tensor in resnet50().state_dict().items()}
    assert shapes["layer1.0.downsample.0.weight"] == (256, 64, 1, 1)
    assert shapes["layer2.0.conv1.weight"] == (128, 256, 1, 1)
    assert shapes["layer2.0.conv2.weight"] == (128, 128, 3, 3)
    assert shapes["layer4.2.conv3.weight"] == (2048, 512, 1, 1)
    assert shapes["layer3.0.downsample.1.running_mean"] == (1024,)
    assert shapes["fc.weight"] == (1000, 2048)


@pytest.mark.parametrize("make", [resnet18, resnet50])
def test_forward_is_the_published_network(make: type[ResNet]) -> None:
    """The result is what the layers give when they are written out one by one from the state dict."""
    torch.manual_seed(0)
    model = make(classes=7).double().eval()
    x = torch.randn(2, 3, 40, 48, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(model(x), _written_out(dict(model.state_dict()), x))


def test_all_parameters_get_gradients() -> None:
    """A backward pass in training mode reaches every parameter."""
    model = resnet18(classes=3)
    model(torch.randn(2, 3, 32, 32)).sum().backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in model.parameters())


def _written_out(weights: dict[str, Tensor], x: Tensor) -> Tensor:
    x = F.max_pool2d(_convolved(weights, x, "conv1", "bn1", stride=2).relu(), 3, 2, 1)
    for stage in range(1, 5):
        blocks = {name.split(".")[1] for name in weights if name.startswith(f"layer{stage}.")}
        for block in sorted(blocks):
            prefix = f"layer{stage}.{block}."
            stride = 2 if stage > 1 and block == "0" else 1
            inside = {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
            x = (_body(inside, x, stride) + _shortcut(inside, x, stride)).relu()
    return F.linear(x.mean((2, 3)), weights["fc.weight"], weights["fc.bias"])


def _body(weights: dict[str, Tensor], x: Tensor, stride: int) -> Tensor:
    if "conv3.weight" not in weights:
        x = _convolved(weights, x, "conv1", "bn1", stride=stride).relu()
        return _convolved(weights, x, "conv2", "bn2")
    x = _convolved(weights, x, "conv1", "bn1").relu()
    x = _convolved(weights, x, "conv2", "bn2", stride=stride).relu()
    return _convolved(weights, x, "conv3", "bn3")


def _shortcut(weights: dict[str, Tensor], x: Tensor, stride: int) -> Tensor:
    if "downsample.0.weight" not in weights:
        return x
    return _convolved(weights, x, "downsample.0", "downsample.1", stride=stride)


def _convolved(weights: dict[str, Tensor], x: Tensor, conv: str, norm: str, *, stride: int = 1) -> Tensor:
    kernel = weights[f"{conv}.weight"]
    x = F.conv2d(x, kernel, stride=stride, padding=kernel.shape[-1] // 2)
    mean, variance = weights[f"{norm}.running_mean"], weights[f"{norm}.running_var"]
    x = (x - mean[:, None, None]) / (variance + 1e-5).sqrt()[:, None, None]
    return x * weights[f"{norm}.weight"][:, None, None] + weights[f"{norm}.bias"][:, None, None]
