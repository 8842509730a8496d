"""ResNet-18 and ResNet-50 with torchvision's layers and parameter names, for Pythons that have no torchvision.

Images are (batch, 3, height, width), results (batch, classes). The architecture is that of He et al., "Deep Residual
Learning for Image Recognition" (2015), with the stride of a bottleneck in its 3×3 convolution; state dicts go both
ways between these models and torchvision's.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

STAGES = ((64, 1), (128, 2), (256, 2), (512, 2))
"""Width and stride of each of the four stages."""


def _convolution(inputs: int, outputs: int, size: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, bias=False)


def _projection(inputs: int, outputs: int, stride: int) -> nn.Sequential | None:
    """Return a module that brings the shortcut to the shape of the block's result; None where it has that shape."""
    if stride == 1 and inputs == outputs:
        return None
    return nn.Sequential(_convolution(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs))


class BasicBlock(nn.Module):
    """Two 3×3 convolutions and a shortcut."""

    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = _convolution(inputs, width, 3, stride), nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.conv2, self.bn2 = _convolution(width, width, 3), nn.BatchNorm2d(width)
        self.downsample = _projection(inputs, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(x)) + shortcut)  # type: ignore[no-any-return]  # nn.Module.__call__ is untyped


class Bottleneck(nn.Module):
    """1×1, 3×3 and 1×1 convolutions, the last four times as wide, and a shortcut."""

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = width * self.expansion
        self.conv1, self.bn1 = _convolution(inputs, width, 1), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = _convolution(width, width, 3, stride), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = _convolution(width, outputs, 1), nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _projection(inputs, outputs, stride)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        return self.relu(self.bn3(self.conv3(x)) + shortcut)  # type: ignore[no-any-return]  # nn.Module.__call__ is untyped


def _stage(block: type[BasicBlock | Bottleneck], inputs: int, width: int, stride: int, count: int) -> nn.Sequential:
    rest = (block(width * block.expansion, width, 1) for _ in range(1, count))
    return nn.Sequential(block(inputs, width, stride), *rest)


class ResNet(nn.Module):
    """A stem, four stages of blocks, and a classifier. `counts`: blocks per stage."""

    def __init__(self, block: type[BasicBlock | Bottleneck], counts: Sequence[int], *, classes: int = 1000) -> None:
        super().__init__()
        self.conv1, self.bn1 = _convolution(3, 64, 7, 2), nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        inputs = (64, *(width * block.expansion for width, _ in STAGES))
        self.layer1, self.layer2, self.layer3, self.layer4 = (
            _stage(block, inputs[number], *STAGES[number], count) for number, count in enumerate(counts)
        )
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(inputs[-1], classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(self.avgpool(x).flatten(1))  # type: ignore[no-any-return]  # nn.Module.__call__ is untyped


def resnet18(*, classes: int = 1000) -> ResNet:
    """Make ResNet-18: 11,689,512 parameters with 1000 classes."""
    return ResNet(BasicBlock, (2, 2, 2, 2), classes=classes)


def resnet50(*, classes: int = 1000) -> ResNet:
    """Make ResNet-50: 25,557,032 parameters with 1000 classes."""
    return ResNet(Bottleneck, (3, 4, 6, 3), classes=classes)
