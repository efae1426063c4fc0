"""Inception-ResNet-v1, the shape of the official FaceNet: 160x160 in, 512 out.

Layer for layer as in davidsandberg/facenet `src/models/inception_resnet_v1.py`: residual scales 0.17,
0.10 and 0.20, batch norm of epsilon 0.001. Its batch norms have no gain there; `gain` gives them one,
and `scale` multiplies all residual scales, to find out what makes it learn slowly.
"""
from typing import Any, List, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

EPSILON = 0.001


class Layer(nn.Module):
    """Convolution, batch norm, ReLU. `padding` as in TensorFlow: the same size where True, else valid."""

    def __init__(self, entering: int, leaving: int, kernel: Any, stride: int, padding: bool, gain: bool) -> None:
        super().__init__()
        sides = kernel if isinstance(kernel, tuple) else (kernel, kernel)
        around = tuple(side // 2 for side in sides) if padding else (0, 0)
        self.convolution = nn.Conv2d(entering, leaving, sides, stride, around, bias=False)
        self.norm = nn.BatchNorm2d(leaving, eps=EPSILON)
        self.norm.weight.requires_grad = gain

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.norm(self.convolution(x)))


class Branches(nn.Module):
    """Rows of layers side by side, joined; with `scale` a residual block, with `pool` a reduction."""

    def __init__(
        self, entering: int, rows: Sequence[Sequence[Any]], gain: bool, scale: float = 0, pool: bool = False,
        last: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        self.rows = nn.ModuleList()
        joined = 0
        for row in rows:
            layers: List[nn.Module] = []
            width = entering
            for leaving, kernel, stride in row:
                layers.append(Layer(width, leaving, kernel, stride, stride == 1, gain))
                width = leaving
            self.rows.append(nn.Sequential(*layers))
            joined += width
        self.scale, self.pool, self.last = scale, pool, last
        self.join = nn.Conv2d(joined, entering, 1) if scale else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        ends = [row(x) for row in self.rows]
        if self.pool:
            ends.append(functional.max_pool2d(x, 3, 2))
        out = self.join(torch.cat(ends, 1))
        if not self.scale:
            return out
        out = x + self.scale * out
        return out if self.last else functional.relu(out)


class InceptionResnetV1(nn.Module):
    """(N, 3, 160, 160) -> (N, D), not normalised."""

    def __init__(self, gain: bool = False, scale: float = 1.0, dimension: int = 512) -> None:
        super().__init__()
        stem: List[Any] = [
            (32, 3, 2, False), (32, 3, 1, False), (64, 3, 1, True), "pool",
            (80, 1, 1, False), (192, 3, 1, False), (256, 3, 2, False),
        ]  # fmt: skip
        layers: List[nn.Module] = []
        width = 3
        for one in stem:
            if one == "pool":
                layers.append(nn.MaxPool2d(3, 2))
            else:
                leaving, kernel, stride, padding = one
                layers.append(Layer(width, leaving, kernel, stride, padding, gain))
                width = leaving
        block35: List[Any] = [[(32, 1, 1)], [(32, 1, 1), (32, 3, 1)], [(32, 1, 1), (32, 3, 1), (32, 3, 1)]]
        block17: List[Any] = [[(128, 1, 1)], [(128, 1, 1), (128, (1, 7), 1), (128, (7, 1), 1)]]
        block8: List[Any] = [[(192, 1, 1)], [(192, 1, 1), (192, (1, 3), 1), (192, (3, 1), 1)]]
        mixed6: List[Any] = [[(384, 3, 2)], [(192, 1, 1), (192, 3, 1), (256, 3, 2)]]
        mixed7: List[Any] = [
            [(256, 1, 1), (384, 3, 2)], [(256, 1, 1), (256, 3, 2)], [(256, 1, 1), (256, 3, 1), (256, 3, 2)],
        ]  # fmt: skip
        layers += [Branches(256, block35, gain, 0.17 * scale) for _ in range(5)]
        layers.append(Branches(256, mixed6, gain, pool=True))
        layers += [Branches(896, block17, gain, 0.10 * scale) for _ in range(10)]
        layers.append(Branches(896, mixed7, gain, pool=True))
        layers += [Branches(1792, block8, gain, 0.20 * scale) for _ in range(5)]
        layers.append(Branches(1792, block8, gain, 1.0, last=True))
        self.body = nn.Sequential(*layers)
        self.embed = nn.Linear(1792, dimension, bias=False)
        self.norm = nn.BatchNorm1d(dimension, eps=EPSILON)
        self.norm.weight.requires_grad = gain

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.embed(self.body(x).mean((2, 3))))
