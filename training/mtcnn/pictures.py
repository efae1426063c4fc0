"""All training photos in the memory of one device, and crops of thousands of boxes at once.

What a network sees in training has to look as in the kiosk (engines/sampling/cpu.py), which samples
pyramid and R's crops bilinearly from the same halves and resizes O's crops by area. Each photo is
kept with its halves (means of 2x2 pixels). A crop is taken where 1 to 2 source pixels make one of
its own, as the mean of four bilinear samples whose distance grows from 0 (a plain copy) to one pixel
(a mean of 2x2).
"""
from typing import List, NamedTuple, Optional

import cv2
import numpy as np
import torch
from torch import Tensor

LEVELS = 6  # the photo and five halves: a box of 400 pixels still becomes a crop of 12


class View(NamedTuple):
    """How crops are taken: mirrored (N,) bool; turned by `angle` (N,) radians around their middle;
    `coarser` (N,): so many halves further down than fits, which blurs."""

    mirrored: Tensor
    angle: Tensor
    coarser: Tensor


class Pictures:
    """`images`: BGR (H, W, 3) uint8; `cropped`: outside of these lies their border, repeated; outside
    of the others black, as in the kiosk."""

    def __init__(self, images: List[np.ndarray], cropped: List[bool], device: str) -> None:
        pixels, starts, sizes = [], [], []
        start = 0
        for image in images:
            levels = _halves(np.ascontiguousarray(image[:, :, ::-1]))
            pixels += [level.reshape(-1, 3) for level in levels]
            sizes.append([level.shape[:2] for level in levels])
            ends = np.cumsum([level.shape[0] * level.shape[1] for level in levels])
            starts.append([start] + (start + ends[:-1]).tolist())
            start += int(ends[-1])
        self.pixels = torch.from_numpy(np.concatenate(pixels)).to(device)
        self.starts = torch.tensor(starts, device=device)
        self.heights, self.widths = torch.tensor(sizes, device=device).unbind(-1)
        self.cropped = torch.tensor(cropped, device=device)
        self.device = device

    def crops(self, photo: Tensor, boxes: Tensor, size: int, view: Optional[View] = None) -> Tensor:
        """Square boxes (N, 4), edges, of the photos (N,) as (N, 3, size, size) float32 RGB 0..255."""
        count = len(photo)
        if view is None:
            still = torch.zeros(count, device=self.device)
            view = View(still.bool(), still, still.long())
        sides = boxes[:, 2:] - boxes[:, :2]
        shrink = sides[:, 0] / size
        level = (torch.log2(shrink.clamp(min=1)).floor().long() + view.coarser).clamp(0, LEVELS - 1)
        zoom = torch.pow(2.0, level.float())  # pixels of the photo to one of the level
        spread = ((shrink / zoom).clamp(1, 2) - 1) / 2 / (shrink / zoom).clamp(min=1e-6)  # in pixels of the crop
        line = torch.arange(size, device=self.device) + 0.5
        total = torch.zeros(count, size, size, 3, device=self.device)
        # Middle and side of each crop in pixels of its level, shaped to go with (N, S, S) points.
        middle = ((boxes[:, :2] + boxes[:, 2:]) / 2 / zoom[:, None])[:, :, None, None]
        extent = (sides / zoom[:, None])[:, :, None, None]
        cosine, sine = torch.cos(view.angle)[:, None, None], torch.sin(view.angle)[:, None, None]
        for across in (-1, 1):
            for down in (-1, 1):
                u = ((line + across * spread[:, None]) / size - 0.5)[:, None, :]
                v = ((line + down * spread[:, None]) / size - 0.5)[:, :, None]
                u = torch.where(view.mirrored[:, None, None], -u, u)
                x = middle[:, 0] + extent[:, 0] * (u * cosine - v * sine)
                y = middle[:, 1] + extent[:, 1] * (u * sine + v * cosine)
                total += self._bilinear(photo, level, x - 0.5, y - 0.5)
        return total.permute(0, 3, 1, 2).mul(0.25)

    def _bilinear(self, photo: Tensor, level: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """The photos' levels at (N, S, S) points (0 0 = middle of the first pixel): (N, S, S, 3)."""
        near = torch.arange(2, device=x.device)
        column = (x.floor().long()[..., None] + near)[..., None, :]  # (N, S, S, 1, 2): the two next to each point
        row = (y.floor().long()[..., None] + near)[..., None]  # (N, S, S, 2, 1)
        shape = (-1, 1, 1, 1, 1)
        width, height = self.widths[photo, level].view(shape), self.heights[photo, level].view(shape)
        start, repeat = self.starts[photo, level].view(shape), self.cropped[photo].view(shape)
        across = (1 - (x[..., None, None] - column).abs()) * (((column >= 0) & (column < width)) | repeat)
        down = (1 - (y[..., None, None] - row).abs()) * (((row >= 0) & (row < height)) | repeat)
        column, row = torch.minimum(column.clamp(min=0), width - 1), torch.minimum(row.clamp(min=0), height - 1)
        found = self.pixels[(start + row * width + column).flatten(-2)].float()  # (N, S, S, 4, 3)
        return ((across * down).flatten(-2)[..., None] * found).sum(-2)


def _halves(image: np.ndarray) -> List[np.ndarray]:
    """The picture and LEVELS - 1 halves, each by area; at least one pixel is left."""
    levels = [image]
    while len(levels) < LEVELS:
        last = levels[-1]
        height, width = max(last.shape[0] // 2, 1), max(last.shape[1] // 2, 1)
        levels.append(cv2.resize(last[: 2 * height, : 2 * width], (width, height), interpolation=cv2.INTER_AREA))
    return levels
