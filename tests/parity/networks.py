"""The networks in torch, written after their papers and public descriptions: what our ONNX is compared with."""
from typing import Dict, List, Tuple, Union

import torch
from torch import nn

Pair = Union[int, Tuple[int, int]]


class Mtcnn(nn.Module):
    """P-, R- or O-Net; the flatten is in the order W, H, C, as the state dicts of facenet-pytorch want it."""

    def __init__(self, role: str) -> None:
        super().__init__()
        widths, kernels, pools, dense = {
            "pnet": ([3, 10, 16, 32], [3, 3, 3], [2, 0, 0], ()),
            "rnet": ([3, 28, 48, 64], [3, 3, 2], [3, 3, 0], (576, 128)),
            "onet": ([3, 32, 64, 64, 128], [3, 3, 3, 2], [3, 3, 2, 0], (1152, 256)),
        }[role]
        self.pools, self.dense_name = pools, ""
        for number, kernel in enumerate(kernels, 1):
            setattr(self, "conv{}".format(number), nn.Conv2d(widths[number - 1], widths[number], kernel))
            setattr(self, "prelu{}".format(number), nn.PReLU(widths[number]))
        if dense:
            last = len(kernels) + 1
            self.dense_name = "dense{}".format(last)
            setattr(self, self.dense_name, nn.Linear(*dense))
            setattr(self, "prelu{}".format(last), nn.PReLU(dense[1]))
        head = "conv4" if role == "pnet" else "dense5" if role == "rnet" else "dense6"
        self.heads = {"probability": head + "_1", "regression": head + "_2"}
        if role == "onet":
            self.heads["landmarks"] = head + "_3"
        for name, size in zip(self.heads.values(), (2, 4, 10)):
            setattr(self, name, nn.Linear(dense[1], size) if dense else nn.Conv2d(32, size, 1))

    def forward(self, x: torch.Tensor) -> Dict[str, torch.Tensor]:
        for number, pool in enumerate(self.pools, 1):
            x = getattr(self, "prelu{}".format(number))(getattr(self, "conv{}".format(number))(x))
            if pool:
                x = nn.functional.max_pool2d(x, pool, 2, ceil_mode=True)
        if self.dense_name:
            x = getattr(self, self.dense_name)(x.permute(0, 3, 2, 1).reshape(len(x), -1))
            x = getattr(self, "prelu" + self.dense_name[-1])(x)
        found = {output: getattr(self, name)(x) for output, name in self.heads.items()}
        found["probability"] = found["probability"].softmax(dim=1)
        return found


class Convolution(nn.Module):
    def __init__(self, entering: int, leaving: int, kernel: Pair, stride: int = 1, padding: Pair = 0) -> None:
        super().__init__()
        self.conv = nn.Conv2d(entering, leaving, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(leaving, eps=0.001)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.bn(self.conv(x)))


class Block(nn.Module):
    """A residual block: x + scale * conv2d(branches), ReLU unless it is the last."""

    def __init__(self, width: int, branches: List[nn.Module], joined: int, scale: float, last: bool = False) -> None:
        super().__init__()
        for number, branch in enumerate(branches):
            setattr(self, "branch{}".format(number), branch)
        self.count, self.scale, self.last = len(branches), scale, last
        self.conv2d = nn.Conv2d(joined, width, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        joined = torch.cat([getattr(self, "branch{}".format(number))(x) for number in range(self.count)], 1)
        x = x + self.scale * self.conv2d(joined)
        return x if self.last else torch.relu(x)


class Mixed(nn.Module):
    """A reduction: branches beside a 3x3 pooling of stride 2."""

    def __init__(self, *branches: nn.Module) -> None:
        super().__init__()
        for number, branch in enumerate(branches):
            setattr(self, "branch{}".format(number), branch)
        self.count = len(branches)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        ends = [getattr(self, "branch{}".format(number))(x) for number in range(self.count)]
        return torch.cat([*ends, nn.functional.max_pool2d(x, 3, 2)], 1)


def block35() -> Block:
    return Block(256, [
        Convolution(256, 32, 1),
        nn.Sequential(Convolution(256, 32, 1), Convolution(32, 32, 3, padding=1)),
        nn.Sequential(Convolution(256, 32, 1), Convolution(32, 32, 3, padding=1), Convolution(32, 32, 3, padding=1)),
    ], 96, 0.17)  # fmt: skip


def block17() -> Block:
    return Block(896, [
        Convolution(896, 128, 1),
        nn.Sequential(Convolution(896, 128, 1), Convolution(128, 128, (1, 7), padding=(0, 3)),
                      Convolution(128, 128, (7, 1), padding=(3, 0))),
    ], 256, 0.10)  # fmt: skip


def block8(scale: float = 0.20, last: bool = False) -> Block:
    return Block(1792, [
        Convolution(1792, 192, 1),
        nn.Sequential(Convolution(1792, 192, 1), Convolution(192, 192, (1, 3), padding=(0, 1)),
                      Convolution(192, 192, (3, 1), padding=(1, 0))),
    ], 384, scale, last)  # fmt: skip


class FaceNet(nn.Module):
    """Inception-ResNet-v1 (Szegedy et al. 2016) with FaceNet's 512-wide bottleneck and L2 norm."""

    def __init__(self) -> None:
        super().__init__()
        self.conv2d_1a = Convolution(3, 32, 3, 2)
        self.conv2d_2a = Convolution(32, 32, 3)
        self.conv2d_2b = Convolution(32, 64, 3, padding=1)
        self.conv2d_3b = Convolution(64, 80, 1)
        self.conv2d_4a = Convolution(80, 192, 3)
        self.conv2d_4b = Convolution(192, 256, 3, 2)
        self.repeat_1 = nn.Sequential(*[block35() for _ in range(5)])
        self.mixed_6a = Mixed(
            Convolution(256, 384, 3, 2),
            nn.Sequential(Convolution(256, 192, 1), Convolution(192, 192, 3, padding=1), Convolution(192, 256, 3, 2)),
        )
        self.repeat_2 = nn.Sequential(*[block17() for _ in range(10)])
        self.mixed_7a = Mixed(
            nn.Sequential(Convolution(896, 256, 1), Convolution(256, 384, 3, 2)),
            nn.Sequential(Convolution(896, 256, 1), Convolution(256, 256, 3, 2)),
            nn.Sequential(Convolution(896, 256, 1), Convolution(256, 256, 3, padding=1), Convolution(256, 256, 3, 2)),
        )
        self.repeat_3 = nn.Sequential(*[block8() for _ in range(5)])
        self.block8 = block8(1.0, last=True)
        self.last_linear = nn.Linear(1792, 512, bias=False)
        self.last_bn = nn.BatchNorm1d(512, eps=0.001)

    def forward(self, x: torch.Tensor) -> Dict[str, torch.Tensor]:
        x = self.conv2d_2b(self.conv2d_2a(self.conv2d_1a(x)))
        x = self.conv2d_4b(self.conv2d_4a(self.conv2d_3b(nn.functional.max_pool2d(x, 3, 2))))
        x = self.mixed_7a(self.repeat_2(self.mixed_6a(self.repeat_1(x))))
        x = self.block8(self.repeat_3(x)).mean((2, 3))
        x = self.last_bn(self.last_linear(x))
        return {"embedding": x / x.square().sum(1, keepdim=True).clamp(min=1e-12).sqrt()}
