"""What the nets are taught by: class, box and points, and a teacher's word on each."""
import math
from typing import Any, Dict, Optional

import torch
from torch import Tensor
from torch.nn import functional

from training.mtcnn.nets import Outputs
from training.mtcnn.samples import Samples

HARD = 0.7  # share of the samples with the greatest loss that teach the class (Zhang et al. 2016)
GAMMA = 2.0  # of the focal loss (Lin et al. 2017)
WING, BEND = 0.1, 0.02  # of the wing loss (Feng et al. 2018), in sides of the crop: 10 of 100 pixels, 2
SOFT = 2.0  # temperature of a teacher's logits


def total(outputs: Outputs, samples: Samples, recipe: Dict[str, Any], taught: Optional[Outputs] = None) -> Tensor:
    """The sum that is trained on. `outputs` are a net's, flattened; `taught` its teacher's."""
    weights = recipe["weights"]
    loss = weights["class"] * class_loss(outputs["probability"], samples.face, recipe["class_loss"])
    known = ~torch.isnan(samples.offsets[:, 0])
    if known.any():
        found, wanted = outputs["regression"][known], samples.offsets[known]
        box_loss = diou if recipe["box_loss"] == "diou" else smooth
        loss = loss + weights["box"] * box_loss(found, wanted)
    if "landmarks" in outputs:
        loss = loss + weights["landmarks"] * wing(outputs["landmarks"], samples.landmarks)
    if taught is not None:
        loss = loss + weights["teacher"] * distillation(outputs, taught, known)
    return loss


def class_loss(logits: Tensor, face: Tensor, kind: str) -> Tensor:
    """Cross entropy over the hardest samples ('ohem') or weighted by how wrong they are ('focal')."""
    judged = face >= 0
    each = functional.cross_entropy(logits[judged].float(), face[judged], reduction="none")
    if not len(each):
        return logits.sum() * 0
    if kind == "focal":
        return ((1 - torch.exp(-each)) ** GAMMA * each).sum() / (face == 1).sum().clamp(min=1)
    return each.topk(max(int(len(each) * HARD), 1)).values.mean()


def smooth(found: Tensor, wanted: Tensor) -> Tensor:
    """Smooth L1, bent at a twentieth of the crop; five times, to weigh as much as the others."""
    return functional.smooth_l1_loss(found.float(), wanted.float(), beta=0.05) * 5


def diou(found: Tensor, wanted: Tensor) -> Tensor:
    """Distance-IoU (Zheng et al. 2020) of boxes given as corner shifts of the crop (N, 4)."""
    crop = torch.tensor([0.0, 0.0, 1.0, 1.0], device=found.device)
    first, second = found.float() + crop, wanted + crop
    shared = (torch.minimum(first[:, 2:], second[:, 2:]) - torch.maximum(first[:, :2], second[:, :2])).clamp(min=0)
    areas = [(box[:, 2:] - box[:, :2]).clamp(min=0).prod(1) for box in (first, second)]
    overlap = shared.prod(1) / (areas[0] + areas[1] - shared.prod(1)).clamp(min=1e-6)
    hull = torch.maximum(first[:, 2:], second[:, 2:]) - torch.minimum(first[:, :2], second[:, :2])
    apart = (first[:, :2] + first[:, 2:] - second[:, :2] - second[:, 2:]) / 2
    return (1 - overlap + (apart**2).sum(1) / (hull**2).sum(1).clamp(min=1e-6)).mean()


def wing(found: Tensor, points: Tensor) -> Tensor:
    """found (N, 10), x1..x5 y1..y5; points (N, 5, 2), NaN where there are none."""
    known = ~torch.isnan(points).flatten(1).any(1)
    if not known.any():
        return found.sum() * 0
    away = (found[known].float() - points[known].transpose(1, 2).flatten(1)).abs()
    bent = WING * torch.log(1 + away / BEND)
    joined = WING - WING * math.log(1 + WING / BEND)
    return torch.where(away < WING, bent, away - joined).mean() * 10


def distillation(outputs: Outputs, taught: Outputs, face: Tensor) -> Tensor:
    """The teacher's softened classes everywhere, its box and points where there is a face."""
    loss = functional.kl_div(functional.log_softmax(outputs["probability"].float() / SOFT, 1),
                             functional.softmax(taught["probability"].float() / SOFT, 1),
                             reduction="batchmean") * SOFT**2  # fmt: skip
    for name in ("regression", "landmarks"):
        if name in outputs and face.any():
            loss = loss + smooth(outputs[name][face], taught[name][face])
    return loss
