"""Views of training crops, made on the GPU: what a kiosk's camera and detector do to a face.

Every function takes and gives a batch (B, 3, H, W) float32 RGB in 0..1 and draws from torch's
generator of the device, so a seed repeats a run. Strengths that came from a source: geometry and
colours as in the first embedder of this project (its model card), which jitter more than our detector
does on the validation photos.
"""
import math

import torch
from torch import Tensor
from torch.nn import functional

from training.embedder.faces import MARGIN, SIDE

FACE = SIDE - 2 * MARGIN  # the aligned face, 112 pixels


def views(crops: Tensor, size: int, mixed: float = 0.5, clear: float = 0.0) -> Tensor:
    """Crops (B, 128, 128, 3) uint8 -> (B, 3, size, size) float32: jittered, changed, covered, mixed.

    `mixed` is the share of pictures that become a mixture of two people (mix-up, Zhang et al. 2018):
    teacher and student both see the mixture, so it needs no label. `clear` is the share that is jittered
    alone before that: most pictures at a door are good ones, and on these an embedder is judged.
    """
    jittered = jitter(crops.permute(0, 3, 1, 2).float() / 255, size)
    x = colours(jittered)
    x = covered(x)
    x = blurred(x)
    x = noisy(x)
    x = compressed(x)
    x = torch.where(_some(x, clear), jittered, x)
    return mixture(x.clamp(0, 1), mixed)


def plain(crops: Tensor, size: int = FACE) -> Tensor:
    """The aligned face alone, unchanged: (B, 128, 128, 3) uint8 -> (B, 3, size, size) float32 in 0..1."""
    x = crops[:, MARGIN:-MARGIN, MARGIN:-MARGIN].permute(0, 3, 1, 2).float() / 255
    return x if size == FACE else functional.interpolate(x, size=(size, size), mode="bilinear", align_corners=False)


def jitter(x: Tensor, size: int) -> Tensor:
    """The aligned face turned (sd 0.06 rad), scaled (6 %), moved (3.5 % of half the width), half mirrored."""
    count = len(x)
    normal = lambda deviation: torch.randn(count, device=x.device) * deviation  # noqa: E731
    angle, scale = normal(0.06), torch.exp(normal(0.06)) * FACE / SIDE
    mirror = (torch.rand(count, device=x.device) < 0.5).float() * 2 - 1
    cosine, sine = torch.cos(angle) * scale, torch.sin(angle) * scale
    first = torch.stack([cosine * mirror, -sine, normal(0.035)], 1)
    second = torch.stack([sine * mirror, cosine, normal(0.035)], 1)
    grid = functional.affine_grid(torch.stack([first, second], 1), [count, 3, size, size], align_corners=False)
    return functional.grid_sample(x, grid, align_corners=False, padding_mode="border")


def colours(x: Tensor) -> Tensor:
    """Brightness, saturation, contrast, gamma for 70 %; dusk for 10 %; grey for 8 %."""
    changed = x * _between(x, 0.6, 1.4) + _between(x, -0.12, 0.12)
    grey = changed.mean(1, keepdim=True)
    changed = grey + (changed - grey) * _between(x, 0.4, 1.5)
    middle = changed.mean((1, 2, 3), keepdim=True)
    changed = middle + (changed - middle) * _between(x, 0.6, 1.4)
    changed = changed.clamp(1e-3, 1) ** torch.exp(_between(x, -0.5, 0.5))
    x = torch.where(_some(x, 0.7), changed, x)
    x = torch.where(_some(x, 0.1), x * _between(x, 0.12, 0.5), x)
    return torch.where(_some(x, 0.08), x.mean(1, keepdim=True).expand_as(x), x)


def covered(x: Tensor) -> Tensor:
    """A mask over mouth and nose for 8 %, dark or tinted glasses for 6 %, a flat rectangle for 12 %."""
    size = x.shape[-1]
    line = torch.linspace(-1, 1, size, device=x.device)
    across, down = line.view(1, 1, 1, -1), line.view(1, 1, -1, 1)
    colour = torch.rand(len(x), 3, 1, 1, device=x.device)
    # In the template the nose's tip lies at y = 0.28 of -1..1, the mouth at 0.65, the eyes at -0.08 and +-0.31.
    edge = _between(x, -0.02, 0.3) + 0.25 * across**2
    folds = 1 + 0.15 * torch.sin(down * _between(x, 8, 30))
    mask = (down > edge) & (across.abs() < _between(x, 0.55, 0.85))
    x = torch.where(mask & _some(x, 0.08), colour * folds, x)
    radius, high = _between(x, 0.16, 0.27), _between(x, -0.16, -0.02)
    lens = ((across.abs() - 0.31) ** 2 + ((down - high) * 1.2) ** 2) < radius**2
    bridge = ((down - high).abs() < 0.035) & (across.abs() < 0.31)
    tint = _between(x, 0.0, 0.8)
    x = torch.where((lens | bridge) & _some(x, 0.06), x * tint + colour * (1 - tint) * 0.3, x)
    left, top = _between(x, -1, 0.6), _between(x, -1, 0.6)
    inside = (across > left) & (across < left + _between(x, 0.3, 1.4))
    inside = inside & (down > top) & (down < top + _between(x, 0.3, 0.9))
    return torch.where(inside & _some(x, 0.12), colour.expand_as(x), x)


def blurred(x: Tensor) -> Tensor:
    """Fewer pixels (20 to 80 a side, and back) for a quarter of the batch; motion for an eighth."""
    size, share = x.shape[-1], len(x) // 8
    if share == 0:
        return x
    parts = [x[: 2 * share], x[2 * share : 3 * share], x[3 * share :]]
    few = []
    for part in parts[0].chunk(4):
        side = int(torch.randint(20, 81, (1,)).item())
        small = functional.interpolate(part, size=(side, side), mode="area")
        few.append(functional.interpolate(small, size=(size, size), mode="bilinear", align_corners=False))
    length = int(torch.randint(1, 4, (1,)).item()) * 2 + 1
    angle = float(torch.rand(1).item()) * math.pi
    moved = functional.conv2d(parts[1], _streak(length, angle, x), padding=length // 2, groups=3)
    return torch.cat(few + [moved, parts[2]])


def _streak(length: int, angle: float, like: Tensor) -> Tensor:
    """A line through the middle of a square kernel: motion blur, (3, 1, length, length)."""
    half = length // 2
    steps = torch.linspace(-half, half, 4 * length)
    column, row = (steps * math.cos(angle)).round().long() + half, (steps * math.sin(angle)).round().long() + half
    kernel = torch.zeros(length, length)
    kernel[row, column] = 1
    return (kernel / kernel.sum()).to(like).expand(3, 1, length, length).contiguous()


def noisy(x: Tensor) -> Tensor:
    """Sensor noise of up to 6 % for 20 %."""
    return torch.where(_some(x, 0.2), x + torch.randn_like(x) * _between(x, 0, 0.06), x)


# Annex K of the JPEG standard: luminance quantisation at quality 50.
LUMINANCE = [
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55,
    14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51, 87, 80, 62,
    18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92,
    49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99,
]  # fmt: skip


def compressed(x: Tensor) -> Tensor:
    """What JPEG of quality 15 to 75 loses, for a fifth of the batch: each 8x8 block's DCT is rounded."""
    count, size = len(x) // 5, x.shape[-1]
    if count == 0 or size % 8:
        return x
    place = torch.arange(8, device=x.device, dtype=torch.float32)
    basis = torch.cos((2 * place + 1) * place.view(-1, 1) * math.pi / 16) / 2
    basis[0] /= math.sqrt(2)
    quality = torch.empty(count, 1, 1, 1, 1, 1, device=x.device).uniform_(15, 75)
    scale = torch.where(quality < 50, 50 / quality, 2 - quality / 50)
    table = torch.tensor(LUMINANCE, device=x.device, dtype=torch.float32).view(1, 1, 1, 8, 1, 8) * scale
    blocks = x[-count:].reshape(count, 3, size // 8, 8, size // 8, 8) * 255 - 128
    spectrum = torch.einsum("ui,ncyixj,vj->ncyuxv", basis, blocks, basis)
    spectrum = (spectrum / table).round() * table
    blocks = torch.einsum("ui,ncyuxv,vj->ncyixj", basis, spectrum, basis)
    return torch.cat([x[:-count], (blocks.reshape(count, 3, size, size) + 128) / 255])


def mixture(x: Tensor, share: float) -> Tensor:
    """`share` of the pictures mixed with another one of the batch, weights after Beta(0.7, 0.7)."""
    if share <= 0:
        return x
    shape = torch.full((len(x), 1, 1, 1), 0.7, device=x.device)
    weight = torch.distributions.Beta(shape, shape).sample()
    weight = torch.where(_some(x, share), weight, torch.ones_like(weight))
    return weight * x + (1 - weight) * x[torch.randperm(len(x), device=x.device)]


def _some(x: Tensor, share: float) -> Tensor:
    return torch.rand(len(x), 1, 1, 1, device=x.device) < share


def _between(x: Tensor, low: float, high: float) -> Tensor:
    return torch.empty(len(x), 1, 1, 1, device=x.device).uniform_(low, high)
