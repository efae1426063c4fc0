"""The networks that learn. All take (N, 3, S, S) RGB, (x - 127.5) / 127.5, and give (N, D), not normalised.

`KioskNet` is the kiosk's own: residual blocks of one kind, batch norm everywhere, since it folds into the
convolutions, so that only operators of TensorRT 8.2 are left. `InceptionResnetV1` is the shape of the
official FaceNet (Szegedy et al. 2016 as in davidsandberg/facenet).
"""
from typing import Any, Dict, List, Sequence, Tuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from errors import UsageError


def convolution(entering: int, leaving: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Convolution and batch norm, padded to keep the size."""
    layer = nn.Conv2d(entering, leaving, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(leaving))


class Excitation(nn.Module):
    """Squeeze-and-excitation (Hu et al. 2018): channels weighted by what the whole picture holds."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(width, width // 4, 1)
        self.excite = nn.Conv2d(width // 4, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        pooled = functional.relu(self.squeeze(x.mean((2, 3), keepdim=True)))
        return x * functional.hardsigmoid(self.excite(pooled))


class Residual(nn.Module):
    """x + layers(x)."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


def next_block(width: int, kernel: int, expansion: int, excite: bool) -> nn.Module:
    """A wide depthwise convolution, then two 1x1 around one activation (ConvNeXt, Liu et al. 2022)."""
    wide = width * expansion
    return Residual(
        convolution(width, width, kernel, groups=width), Excitation(width) if excite else nn.Identity(),
        convolution(width, wide, 1), nn.Hardswish(), convolution(wide, width, 1),
    )  # fmt: skip


def inverted_block(width: int, kernel: int, expansion: int, excite: bool) -> nn.Module:
    """1x1 out, depthwise, 1x1 back (MobileNetV3, Howard et al. 2019)."""
    wide = width * expansion
    return Residual(
        convolution(width, wide, 1), nn.Hardswish(), convolution(wide, wide, kernel, groups=wide), nn.Hardswish(),
        Excitation(wide) if excite else nn.Identity(), convolution(wide, width, 1),
    )  # fmt: skip


def bottleneck_block(width: int, kernel: int, expansion: int, excite: bool) -> nn.Module:
    """1x1 down to 1 / `expansion`, a full convolution, 1x1 back (ResNet, He et al. 2016)."""
    narrow = width // expansion
    return Residual(
        convolution(width, narrow, 1), nn.Hardswish(), convolution(narrow, narrow, kernel), nn.Hardswish(),
        convolution(narrow, width, 1), Excitation(width) if excite else nn.Identity(),
    )  # fmt: skip


BLOCKS = {"next": next_block, "inverted": inverted_block, "bottleneck": bottleneck_block}


class KioskNet(nn.Module):
    """112x112 in: `stem` channels at 56x56, then stages of `depths` blocks of `widths` channels at 28, 14 and 7."""

    def __init__(
        self,
        block: str,
        stem: int,
        widths: Sequence[int],
        depths: Sequence[int],
        kernels: Sequence[int],
        expansions: Sequence[int],
        excite: bool = True,
        dimension: int = 512,
    ) -> None:
        super().__init__()
        layers: List[nn.Module] = [convolution(3, stem, 3, 2), nn.Hardswish(), next_block(stem, 3, 2, False)]
        width = stem
        for wider, depth, kernel, expansion in zip(widths, depths, kernels, expansions):
            layers += [convolution(width, wider, 3, 2), nn.Hardswish()]
            layers += [BLOCKS[block](wider, kernel, expansion, excite) for _ in range(depth)]
            width = wider
        self.body = nn.Sequential(*layers)
        # Each place of the 7x7 map has its own weight, since faces are aligned (MobileFaceNet, Chen et al. 2018).
        self.pool = nn.Sequential(
            convolution(width, 2 * width, 1), nn.Hardswish(),
            nn.Conv2d(2 * width, 2 * width, 7, groups=2 * width, bias=False), nn.BatchNorm2d(2 * width),
        )  # fmt: skip
        self.embed = nn.Linear(2 * width, dimension)

    def forward(self, x: Tensor) -> Tensor:
        return self.embed(self.pool(self.body(x)).flatten(1))


def build(spec: Dict[str, Any], dimension: int = 512) -> nn.Module:
    """A student from its recipe: {type: facenext, stem: 24, ...}. Raises UsageError for an unknown type."""
    from training.embedder.inception import InceptionResnetV1

    types: Dict[str, Any] = {"kiosk_net": KioskNet, "inception_resnet_v1": InceptionResnetV1}
    arguments = dict(spec)
    kind = arguments.pop("type", None)
    if kind not in types:
        raise UsageError("student.type is '{}'; choose from {}.".format(kind, ", ".join(types)))
    return types[kind](dimension=dimension, **arguments)


def cost(network: nn.Module, size: int) -> Tuple[float, float]:
    """Millions of multiply-adds for one picture of size x size, and millions of parameters."""
    counted = [0]

    def count(layer: Any, _: Any, out: Tensor) -> None:
        places = out[0][0].numel() if isinstance(layer, nn.Conv2d) else 1
        counted[0] += places * layer.weight.numel()

    hooks = [
        layer.register_forward_hook(count)
        for layer in network.modules()
        if isinstance(layer, (nn.Conv2d, nn.Linear))
    ]
    training = network.training
    with torch.no_grad():
        network.eval()(torch.zeros(1, 3, size, size, device=next(network.parameters()).device))
    network.train(training)
    for hook in hooks:
        hook.remove()
    return counted[0] / 1e6, sum(weight.numel() for weight in network.parameters()) / 1e6
