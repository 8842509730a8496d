"""Nine small real models in plain torch, a few milliseconds each on a CPU: every kind of layer that matters, quickly.

Shapes are (batch, …) first; images are (batch, channels, height, width); tokens are int64.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the name everybody knows

from torchperf_ci.suites import resnet

QUICK = ("^mlp$", "^convnet$", "^causal_attention$")

Made = tuple[nn.Module, tuple[Tensor, ...]]


def mlp(batch_size: int | None) -> Made:
    """Four linear layers with GELU, 512 features wide: the smallest thing worth fusing."""
    width = 512
    layers: list[nn.Module] = []
    for _ in range(4):
        layers += [nn.Linear(width, width), nn.GELU()]
    return nn.Sequential(*layers, nn.Linear(width, 10)), (torch.randn(batch_size or 256, width),)


def convnet(batch_size: int | None) -> Made:
    """Three convolutions with batch norm and pooling, and a classifier."""

    def block(inputs: int, outputs: int) -> nn.Sequential:
        return nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(), nn.MaxPool2d(2)
        )

    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))
    return nn.Sequential(block(3, 16), block(16, 32), block(32, 64), head), (torch.randn(batch_size or 16, 3, 32, 32),)


def resnet18(batch_size: int | None) -> Made:
    """ResNet-18 (11.7 million parameters) on 64×64 images."""
    return resnet.resnet18(), (torch.randn(batch_size or 1, 3, 64, 64),)


class _Lstm(nn.Module):
    """One LSTM layer as a loop over cells (dynamo does not trace nn.LSTM), and a classifier on its last step."""

    def __init__(self, inputs: int = 64, width: int = 128) -> None:
        super().__init__()
        self.width = width
        self.from_input = nn.Linear(inputs, 4 * width)
        self.from_hidden = nn.Linear(width, 4 * width)
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        hidden = cell = x.new_zeros(x.shape[0], self.width)
        for step in self.from_input(x).unbind(1):
            take, forget, candidate, give = (step + self.from_hidden(hidden)).chunk(4, dim=1)
            cell = torch.sigmoid(forget) * cell + torch.sigmoid(take) * torch.tanh(candidate)
            hidden = torch.sigmoid(give) * torch.tanh(cell)
        return self.head(hidden)  # type: ignore[no-any-return]  # nn.Module.__call__ is untyped


def lstm(batch_size: int | None) -> Made:
    """A hand-written LSTM over 16 steps."""
    return _Lstm(), (torch.randn(batch_size or 32, 16, 64),)


class _Attention(nn.Module):
    """Multi-head self-attention through scaled_dot_product_attention."""

    def __init__(self, width: int, heads: int, *, causal: bool) -> None:
        super().__init__()
        self.heads, self.causal = heads, causal
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        split = self.qkv(x).view(batch, length, 3, self.heads, width // self.heads)
        query, key, value = split.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=self.causal)
        return self.out(mixed.transpose(1, 2).reshape(batch, length, width))  # type: ignore[no-any-return]


class _Block(nn.Module):
    """Attention and feed-forward, each normalized first and added back."""

    def __init__(self, width: int, heads: int, *, causal: bool) -> None:
        super().__init__()
        self.attend = nn.Sequential(nn.LayerNorm(width), _Attention(width, heads, causal=causal))
        self.feed = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attend(x)
        return x + self.feed(x)  # type: ignore[no-any-return]


class _Encoder(nn.Module):
    """Token embedding, two encoder blocks, mean pooling and a classifier."""

    def __init__(self, width: int = 128, vocabulary: int = 1000, length: int = 64) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        self.positions = nn.Parameter(torch.zeros(length, width))
        self.blocks = nn.Sequential(*(_Block(width, 4, causal=False) for _ in range(2)))
        self.head = nn.Linear(width, 10)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.blocks(self.tokens(tokens) + self.positions)
        return self.head(x.mean(dim=1))  # type: ignore[no-any-return]


def transformer_encoder(batch_size: int | None) -> Made:
    """A two-layer transformer encoder over 64 tokens."""
    return _Encoder(), (torch.randint(0, 1000, (batch_size or 4, 64)),)


def causal_attention(batch_size: int | None) -> Made:
    """One decoder block with causal attention over 128 positions."""
    return _Block(128, 4, causal=True), (torch.randn(batch_size or 4, 128, 128),)


class _UNet(nn.Module):
    """Two steps down, two up, with skip connections."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.down1, self.down2 = self._convs(3, width), self._convs(width, 2 * width)
        self.middle = self._convs(2 * width, 4 * width)
        self.up2 = nn.ConvTranspose2d(4 * width, 2 * width, 2, 2)
        self.join2 = self._convs(4 * width, 2 * width)
        self.up1 = nn.ConvTranspose2d(2 * width, width, 2, 2)
        self.join1 = self._convs(2 * width, width)
        self.head = nn.Conv2d(width, 2, 1)

    @staticmethod
    def _convs(inputs: int, outputs: int) -> nn.Sequential:
        return nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU(), nn.Conv2d(outputs, outputs, 3, padding=1), nn.ReLU()
        )

    def forward(self, x: Tensor) -> Tensor:
        fine = self.down1(x)
        coarse = self.down2(F.max_pool2d(fine, 2))
        x = self.up2(self.middle(F.max_pool2d(coarse, 2)))
        x = self.up1(self.join2(torch.cat([x, coarse], dim=1)))
        return self.head(self.join1(torch.cat([x, fine], dim=1)))  # type: ignore[no-any-return]


def unet(batch_size: int | None) -> Made:
    """A small U-Net on 96×96 images."""
    return _UNet(), (torch.randn(batch_size or 1, 3, 96, 96),)


class _Recommender(nn.Module):
    """Bags of categories and dense features, their pairwise products, and an MLP: the shape of DLRM."""

    def __init__(self, tables: int = 8, rows: int = 10_000, width: int = 32) -> None:
        super().__init__()
        self.tables = nn.ModuleList(nn.EmbeddingBag(rows, width, mode="sum") for _ in range(tables))
        self.dense = nn.Sequential(nn.Linear(13, 64), nn.ReLU(), nn.Linear(64, width), nn.ReLU())
        pairs = (tables + 1) * tables // 2
        self.top = nn.Sequential(nn.Linear(width + pairs, 128), nn.ReLU(), nn.Linear(128, 1), nn.Sigmoid())
        self.register_buffer("lower", torch.tril_indices(tables + 1, tables + 1, offset=-1), persistent=False)

    def forward(self, dense: Tensor, categories: Tensor) -> Tensor:
        x = self.dense(dense)
        features = torch.stack([x, *(table(categories[:, i]) for i, table in enumerate(self.tables))], dim=1)
        products = torch.bmm(features, features.transpose(1, 2))
        crossed = products[:, self.lower[0], self.lower[1]]  # type: ignore[index]  # a buffer, which torch types loosely
        return self.top(torch.cat([x, crossed], dim=1))  # type: ignore[no-any-return]


def recommender(batch_size: int | None) -> Made:
    """An embedding-bag recommender: 8 tables of 10,000 rows, 4 categories a bag."""
    batch = batch_size or 128
    return _Recommender(), (torch.randn(batch, 13), torch.randint(0, 10_000, (batch, 8, 4)))


class _Break(nn.Module):
    """Two linear layers with a branch on data between them."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(512, 512), nn.Linear(512, 512)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        if x.sum() > 0:  # a branch on data: dynamo leaves the graph here
            x = F.gelu(x)
        return self.second(x)  # type: ignore[no-any-return]


def graph_break(batch_size: int | None) -> Made:
    """Breaks the graph on purpose, so that a report without a graph break means something."""
    return _Break(), (torch.randn(batch_size or 256, 512),)


MODELS: dict[str, Callable[[int | None], tuple[Any, ...]]] = {
    make.__name__: make
    for make in (
        mlp,
        convnet,
        resnet18,
        lstm,
        transformer_encoder,
        causal_attention,
        unet,
        recommender,
        graph_break,
    )
}
