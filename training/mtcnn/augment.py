"""What cameras and people do to a face, on a whole batch of crops at once.

Light, colour, grey, blur, noise, JPEG's blocks, things in front of a face, and masks over its lower
half. Everything hangs on the generator that is handed in.
"""
import math
from typing import Callable, Tuple

import torch
from torch import Tensor
from torch.nn import functional

# How often each is done to a crop.
LIGHT, DARK, COLOUR, GREY, BLUR, NOISE, BLOCKS, OBJECT, MASK = 0.7, 0.12, 0.4, 0.12, 0.2, 0.3, 0.2, 0.12, 0.1
QUANTUM = torch.tensor(  # JPEG's luminance table (ITU-T T.81, annex K)
    [[16, 11, 10, 16, 24, 40, 51, 61], [12, 12, 14, 19, 26, 58, 60, 55], [14, 13, 16, 24, 40, 57, 69, 56],
     [14, 17, 22, 29, 51, 87, 80, 62], [18, 22, 37, 56, 68, 109, 103, 77], [24, 35, 55, 64, 81, 104, 113, 92],
     [49, 64, 78, 87, 103, 121, 120, 101], [72, 92, 95, 98, 112, 100, 103, 99]], dtype=torch.float32)  # fmt: skip


def augmented(crops: Tensor, offsets: Tensor, generator: torch.Generator) -> Tensor:
    """crops (N, 3, S, S) RGB 0..255, `offsets` (N, 4) of the faces (NaN without): the same shape, whole
    numbers 0..255. The faces stay where they are."""

    def uniform(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator, device=crops.device)

    count = len(crops)
    chance = uniform(9, count)[:, :, None, None, None]

    def where(number: int, share: float, new: Tensor, old: Tensor) -> Tensor:
        return torch.where(chance[number] < share, new, old)

    def each(low: float, high: float, channels: int = 1) -> Tensor:
        return uniform(count, channels, 1, 1) * (high - low) + low

    crops = _masked(crops, offsets, uniform, chance[8] < MASK)
    crops = _covered(crops, uniform, chance[7] < OBJECT)
    crops = where(3, GREY, _grey(crops), crops)
    crops = where(2, COLOUR, crops * each(0.75, 1.25, 3), crops)
    mean = crops.mean((1, 2, 3), keepdim=True)
    crops = where(0, LIGHT, (crops - mean) * each(0.6, 1.4) + mean + each(-45, 45), crops)
    bent = 255 * (crops.clamp(0, 255) / 255 + 1e-4) ** torch.exp(each(-0.5, 0.5))
    crops = where(1, DARK, bent * each(0.1, 0.5), crops)
    crops = where(4, BLUR, _blurred(crops), crops)
    noise = torch.randn(crops.shape, generator=generator, device=crops.device)
    crops = where(5, NOISE, crops + noise * each(0, 12), crops)
    if crops.shape[-1] % 8 == 0:
        crops = where(6, BLOCKS, _blocks(crops, each(0.5, 2.5)), crops)
    return crops.round().clamp(0, 255)


def _grey(crops: Tensor) -> Tensor:
    luminance = torch.tensor([0.299, 0.587, 0.114], device=crops.device).view(1, 3, 1, 1)
    return (crops * luminance).sum(1, keepdim=True).expand_as(crops)


def _blurred(crops: Tensor) -> Tensor:
    line = torch.tensor([0.25, 0.5, 0.25], device=crops.device)
    kernel = (line[:, None] * line).expand(3, 1, 3, 3)
    return functional.conv2d(functional.pad(crops, (1, 1, 1, 1), mode="replicate"), kernel, groups=3)


def _places(crops: Tensor) -> Tuple[Tensor, Tensor]:
    line = (torch.arange(crops.shape[-1], device=crops.device) + 0.5) / crops.shape[-1]
    return line.view(1, 1, 1, -1), line.view(1, 1, -1, 1)


def _covered(crops: Tensor, uniform: Callable[..., Tensor], chosen: Tensor) -> Tensor:
    """A rectangle of one colour, up to half as wide and high as the crop."""
    x, y = _places(crops)
    count = len(crops)
    centre, half = uniform(2, count, 1, 1, 1), uniform(2, count, 1, 1, 1) * 0.18 + 0.07
    inside = ((x - centre[0]).abs() < half[0]) & ((y - centre[1]).abs() < half[1])
    return torch.where(inside & chosen, uniform(count, 3, 1, 1) * 255, crops)


def _masked(crops: Tensor, offsets: Tensor, uniform: Callable[..., Tensor], chosen: Tensor) -> Tensor:
    """A mask over the lower half of each chosen face: one colour, shaded, its upper edge a bow."""
    x, y = _places(crops)
    left, top, right, bottom = [(offsets[:, side] + side // 2).view(-1, 1, 1, 1) for side in range(4)]
    across = (x - (left + right) / 2) / ((right - left) / 2).clamp(min=1e-3)
    edge = 0.45 + 0.15 * uniform(len(crops), 1, 1, 1) + 0.12 * across**2
    down = (y - top) / (bottom - top).clamp(min=1e-3)
    inside = (across.abs() < 0.95 - 0.35 * (down - 0.6).clamp(min=0)) & (down > edge) & (down < 1.02)
    light = crops.mean(1, keepdim=True) / 255
    colour = uniform(len(crops), 3, 1, 1) * 255 * (0.75 + 0.25 * light)
    return torch.where(inside & chosen, colour, crops)  # without a face: NaN, which is inside nothing


def _blocks(crops: Tensor, strength: Tensor) -> Tensor:
    """JPEG's quantisation of 8x8 blocks, on all three channels; strength (N, 1, 1, 1), 1 = quality 50."""
    row = torch.arange(8, device=crops.device, dtype=torch.float32)
    basis = torch.cos((2 * row[None] + 1) * row[:, None] * math.pi / 16) * 0.5
    basis[0] *= math.sqrt(0.5)
    count, channels, side, _ = crops.shape
    blocks = crops.reshape(count, channels, side // 8, 8, side // 8, 8).permute(0, 1, 2, 4, 3, 5) - 128
    table = QUANTUM.to(crops.device) * strength.view(-1, 1, 1, 1, 1, 1)
    kept = torch.round(basis @ blocks @ basis.T / table) * table
    return (basis.T @ kept @ basis + 128).permute(0, 1, 2, 4, 3, 5).reshape(crops.shape)
