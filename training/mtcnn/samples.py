"""Samples for P, R and O: boxes drawn around faces, at random and among the previous stage's finds.

Nothing is written: a batch is drawn, labelled and cut on the device when it is needed, the same one
for the same seed. Labels are Zhang et al.'s: IoU with the best face 0.65 and more (a recipe may ask
for less) is a face, from 0.4 up to there a part of one (it teaches the box only), under 0.3
background, the rest teaches nothing; nor does what lies in an ignored region. The IoU is that with
the square around the face's box: crops are square, and no square has an IoU of 0.65 with the narrow
box of a profile.
"""
import math
from typing import NamedTuple, Optional, Sequence, Tuple

import numpy as np
import torch
from torch import Tensor

from training.mtcnn.annotations import Photo, turned
from training.mtcnn.pictures import Pictures, View

Pair = Tuple[Tensor, Tensor]
FACE, PART, BACKGROUND = 0.65, 0.4, 0.3
MIX = {"tight": 0.25, "loose": 0.2, "near": 0.15, "random": 0.4}  # shares of a batch without finds
MINED = 0.5  # share of the previous stage's finds in a batch, where there are some
CROPPED = 0.35  # share of aligned faces among the tight boxes: they are many, and all alike in pose
PROFILE = 0.4  # so far aside (annotations.turned) is a profile
SMALLEST = 10.0  # pixels of the smallest random box
SWAPPED = (1, 0, 2, 4, 3)  # the five points of a mirrored face
LEANING = 0.25  # share of the samples that are turned by up to `lean`
NOISE = 0.06  # finds are moved by so much of their side, so that they are not learned by heart


class Samples(NamedTuple):
    """`crops` (N, 3, S, S) RGB 0..255; `face` (N,) 1 face, 0 background, -1 teaches no class;
    `offsets` (N, 4) corner shifts of the target box, in sides of the crop, NaN for background;
    `landmarks` (N, 5, 2) in fractions of the crop, NaN where there are none."""

    crops: Tensor
    face: Tensor
    offsets: Tensor
    landmarks: Tensor


class Finds(NamedTuple):
    """What a stage let through of each photo: `photo` (N,) its row, `boxes` (N, 4) squares, edges."""

    photo: np.ndarray
    boxes: np.ndarray


class Sampler:
    """Photos, their faces and the finds on one device. `seed` alone decides what is drawn. A face in profile is drawn
    `oftener` times more than one from in front, and turns, beyond those of up to 25 degrees, reach `lean` degrees.
    From an IoU of `face` on a sample is a face."""

    def __init__(self, photos: Sequence[Photo], size: int, seed: int, device: str = "cpu",
                 finds: Optional[Finds] = None, oftener: float = 0.0, lean: float = 0.0,
                 face: float = FACE) -> None:  # fmt: skip
        self.size, self.device, self.lean, self.least = size, device, lean, face
        self.pictures = Pictures([one.image() for one in photos], [one.cropped for one in photos], device)
        most = max([len(one.targets) for one in photos] + [1])
        self.targets = torch.from_numpy(np.stack([_filled(one.targets, most) for one in photos])).to(device)
        self.ignored = torch.from_numpy(np.stack([_filled(one.ignore, most, True) for one in photos])).to(device)
        self.points = torch.from_numpy(np.stack([_filled(one.landmarks, most, np.nan) for one in photos])).to(device)
        photo, row = (~self.ignored).nonzero(as_tuple=True)
        whole = ~self.pictures.cropped[photo]
        self._groups = [torch.stack([photo[group], row[group]]) for group in (whole, ~whole)]
        aside = np.stack([_filled(turned(one.landmarks), most) for one in photos])
        weights = 1 + oftener * torch.from_numpy(aside).to(device)[photo, row].div(PROFILE).clamp(max=1) ** 2
        self._sums = [weights[group].double().cumsum(0) for group in (whole, ~whole)] if oftener else None
        self._whole = (~self.pictures.cropped).nonzero()[:, 0]
        self._finds = None
        if finds is not None and len(finds.photo):
            self._finds = (torch.from_numpy(finds.photo).to(device), torch.from_numpy(finds.boxes).float().to(device))
        self.generator = torch.Generator(device)
        self.generator.manual_seed(seed)

    def draw(self, count: int, view: bool = True) -> Samples:
        """`count` samples; `view`: mirrored, turned and blurred at random."""
        photo, boxes = self._boxes(count)
        looked = self._view(count) if view else None
        crops = self.pictures.crops(photo, boxes, self.size, looked)
        return self._labelled(photo, boxes, crops, looked)

    def _boxes(self, count: int) -> Pair:
        mined = int(count * MINED) if self._finds is not None else 0
        shares = {name: int((count - mined) * share) for name, share in MIX.items()}
        shares["random"] += count - mined - sum(shares.values())
        parts = [self._jittered(shares["tight"], 0.22, 0.13), self._jittered(shares["loose"], 0.45, 0.35),
                 self._jittered(shares["near"], 1.2, 1.0), self._anywhere(shares["random"])]  # fmt: skip
        if self._finds is not None:
            row = self._integers(len(self._finds[0]), mined)
            parts.append((self._finds[0][row], self._moved(self._finds[1][row], NOISE, NOISE)))
        return torch.cat([one[0] for one in parts]), torch.cat([one[1] for one in parts])

    def _jittered(self, count: int, zoom: float, shift: float) -> Pair:
        """Squares around faces, their log side changed by up to `zoom`, their middle by `shift` sides."""
        split = [count - int(count * CROPPED), int(count * CROPPED)]
        if not self._groups[0].shape[1] or not self._groups[1].shape[1]:
            split = [count, 0] if self._groups[0].shape[1] else [0, count]
        drawn = [group[:, self._faces(number, part)] for number, (group, part) in enumerate(zip(self._groups, split))
                 if part]  # fmt: skip
        photo, row = torch.cat(drawn, 1) if drawn else torch.zeros(2, 0, dtype=torch.long, device=self.device)
        return photo, self._moved(_squares(self.targets[photo, row]), zoom, shift)

    def _faces(self, group: int, count: int) -> Tensor:
        """Rows of whole photos' faces (0) or of aligned ones (1), each as often as it weighs."""
        if self._sums is None:
            return self._integers(self._groups[group].shape[1], count)
        sums = self._sums[group]
        return torch.searchsorted(sums, (self._uniform(count) + 1).double() / 2 * sums[-1]).clamp(max=len(sums) - 1)

    def _moved(self, boxes: Tensor, zoom: float, shift: float) -> Tensor:
        sides = boxes[:, 2:] - boxes[:, :2]
        centres = (boxes[:, 2:] + boxes[:, :2]) / 2 + sides * self._uniform(len(boxes), 2) * shift
        half = sides * torch.exp(self._uniform(len(boxes), 1) * zoom) / 2
        return torch.cat([centres - half, centres + half], 1)

    def _anywhere(self, count: int) -> Pair:
        photo = self._whole[self._integers(len(self._whole), count)] if len(self._whole) else self._whole
        extent = torch.stack([self.pictures.widths[photo, 0], self.pictures.heights[photo, 0]], 1).float()
        share = (self._uniform(len(photo), 1) + 1) / 2
        longest = extent.min(1, keepdim=True).values.clamp(min=SMALLEST + 1)
        half = SMALLEST * (longest / SMALLEST) ** share / 2
        centres = extent / 2 + self._uniform(len(photo), 2) * (extent / 2 - half * 0.8).clamp(min=0)
        return photo, torch.cat([centres - half, centres + half], 1)

    def _view(self, count: int) -> View:
        chance = (self._uniform(count, 3) + 1) / 2
        angle = self._uniform(count, 1)[:, 0] * math.radians(25) * (chance[:, 1] < 0.4)
        if self.lean:
            far = self._uniform(count, 2)
            angle = torch.where(far[:, 0] < LEANING * 2 - 1, far[:, 1] * math.radians(self.lean), angle)
        return View(chance[:, 0] < 0.5, angle, (chance[:, 2] < 0.12).long())

    def _labelled(self, photo: Tensor, boxes: Tensor, crops: Tensor, view: Optional[View]) -> Samples:
        targets, ignored = self.targets[photo], self.ignored[photo]
        real = targets[..., 2] > targets[..., 0]
        shared, union, area = _shared(boxes, targets)
        overlap = shared / union
        square, both, _ = _shared(boxes, _squares(targets))
        best, row = torch.where(real & ~ignored, square / both, torch.zeros_like(overlap)).max(1)
        over = torch.where(real & ignored, shared / area[:, None], torch.zeros_like(overlap)).max(1).values
        hidden = torch.where(real & ignored, overlap, torch.zeros_like(overlap)).max(1).values
        background = (best < BACKGROUND) & (over < BACKGROUND) & (hidden < BACKGROUND) & ~self.pictures.cropped[photo]
        face = torch.full_like(photo, -1)
        face[background] = 0
        face[best >= self.least] = 1
        taught = best >= PART
        rows = torch.arange(len(photo), device=self.device)
        side = (boxes[:, 2:] - boxes[:, :2])[:, None]
        corners = (targets[rows, row].view(-1, 2, 2) - boxes[:, None, :2]) / side
        points = (self.points[photo, row] - boxes[:, None, :2]) / side
        if view is not None:
            corners, points = _seen(corners, points, view)
        offsets = corners.reshape(-1, 4) - torch.tensor([0.0, 0.0, 1.0, 1.0], device=self.device)
        lost = torch.full((), math.nan, device=self.device)
        return Samples(crops, face, torch.where(taught[:, None], offsets, lost),
                       torch.where(taught[:, None, None], points, lost))  # fmt: skip

    def _uniform(self, *shape: int) -> Tensor:
        return torch.rand(shape, generator=self.generator, device=self.device) * 2 - 1

    def _integers(self, limit: int, count: int) -> Tensor:
        return torch.randint(max(limit, 1), (count,), generator=self.generator, device=self.device)


def _seen(corners: Tensor, points: Tensor, view: View) -> Pair:
    """Target corners (N, 2, 2) and points (N, 5, 2), fractions of the crop, as the view shows them: a
    turned face keeps the size of its upright box."""
    sign = torch.where(view.mirrored, -1.0, 1.0)[:, None]
    cosine, sine = torch.cos(view.angle)[:, None], torch.sin(view.angle)[:, None]

    def turned(places: Tensor) -> Tensor:  # the crop shows at (u, v) what lies at (u cos - v sin, u sin + v cos)
        x, y = places[..., 0] - 0.5, places[..., 1] - 0.5
        return torch.stack([sign * (x * cosine + y * sine), y * cosine - x * sine], -1) + 0.5

    half = (corners[:, 1:] - corners[:, :1]) / 2
    centre = turned((corners[:, 1:] + corners[:, :1]) / 2)
    mirrored = torch.where(view.mirrored[:, None, None], points[:, list(SWAPPED)], points)
    return torch.cat([centre - half, centre + half], 1), turned(mirrored)


def _shared(boxes: Tensor, others: Tensor) -> Tuple[Tensor, Tensor, Tensor]:
    """Of boxes (N, 4) with their own others (N, F, 4): shared area, area of both, area of `boxes`."""
    near = torch.maximum(boxes[:, None, :2], others[..., :2])
    far = torch.minimum(boxes[:, None, 2:], others[..., 2:])
    shared = (far - near).clamp(min=0).prod(-1)
    area = (boxes[:, 2:] - boxes[:, :2]).prod(-1)
    return shared, (area[:, None] + (others[..., 2:] - others[..., :2]).prod(-1) - shared).clamp(min=1e-6), area


def _squares(boxes: Tensor) -> Tensor:
    half = (boxes[..., 2:] - boxes[..., :2]).amax(-1, keepdim=True) / 2
    centres = (boxes[..., 2:] + boxes[..., :2]) / 2
    return torch.cat([centres - half, centres + half], -1)


def _filled(rows: np.ndarray, most: int, value: float = 0) -> np.ndarray:
    full = np.full((most,) + rows.shape[1:], value, rows.dtype)
    full[: len(rows)] = rows
    return full
