"""What a view's embedding should be: several embedders of the catalogue, asked together.

Their unit vectors are joined, and what all faces have in common is taken off: their mean, and the few
directions in which they differ most, which tell light, age and the like rather than people ("all but the
top", Mu and Viswanath 2018). PCA turns the rest to at most 512 numbers, which keep every cosine up to the
energy that it drops (figure: `kept`).
"""
from pathlib import Path
from typing import List, Optional, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from engines import build, catalogue
from training.embedder.onnx_module import OnnxModule

DIMENSION = 512
CHUNK = 1024  # pictures at once while fitting
TOP = 3  # directions taken off: of 0 to 5 best on held-out people, no worse on those the training crops name


class Teachers(nn.Module):
    """(B, 3, 112, 112) RGB in 0..1 -> (B, D) of unit length."""

    def __init__(self, names: Sequence[str], models_dir: Optional[Path] = None) -> None:
        super().__init__()
        self.names = list(names)
        self.networks = nn.ModuleList()
        self.mean: Optional[Tensor] = None
        self.basis: Optional[Tensor] = None
        self.kept = 1.0
        entries = [catalogue.entry(name, "embedder", "teachers") for name in names]
        for number, entry in enumerate(entries):
            self.networks.append(OnnxModule(build.ensure(entry["name"], models_dir=models_dir)["embedder"]))
            for key in ("mean", "std"):
                self.register_buffer("{}{}".format(key, number), torch.tensor(entry[key]).float().reshape(1, -1, 1, 1))
        # Transformers need full precision: half of it loses their layer norms. Plain convolutions do not.
        self.halves = [not network.attention for network in self.networks]
        self.dimension = min(DIMENSION, sum(entry["dimension"] for entry in entries) - TOP)
        self.requires_grad_(False)
        self.eval()

    def joined(self, x: Tensor) -> Tensor:
        """All unit vectors side by side, together of unit length."""
        parts: List[Tensor] = []
        for number, network in enumerate(self.networks):
            pixels = (x * 255 - getattr(self, "mean{}".format(number))) / getattr(self, "std{}".format(number))
            with torch.autocast(x.device.type, torch.float16, enabled=x.is_cuda and self.halves[number]):
                out = network(pixels.contiguous())
            parts.append(functional.normalize(out.float(), dim=1))
        return torch.cat(parts, 1) / len(parts) ** 0.5

    def forward(self, x: Tensor) -> Tensor:
        y = self.joined(x)
        if self.mean is not None and self.basis is not None:
            y = (y - self.mean) @ self.basis
        return functional.normalize(y, dim=1)

    @torch.no_grad()
    def fit(self, pictures: Tensor) -> None:
        """Find mean and basis from aligned faces (N, 3, 112, 112), some ten thousand."""
        y = torch.cat([self.joined(part) for part in pictures.split(CHUNK)])
        self.mean = y.mean(0)
        y = y - self.mean
        directions = torch.linalg.eigh(y.T @ y)[1].flip(1)[:, TOP:]  # the strongest first
        self.basis = directions[:, : self.dimension].contiguous()
        self.kept = float((y @ self.basis).square().sum() / (y @ directions).square().sum())
