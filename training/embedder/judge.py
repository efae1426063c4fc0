"""Embedders of the catalogue, and exported students, on held-out crops: the figures of the model card."""
from pathlib import Path
from typing import Any, Dict, Optional

import numpy as np

from engines import build, catalogue
from engines.backends.choose import open_network
from engines.embed import Embedder
from settings import Settings
from training.embedder import evaluate
from training.embedder.faces import MARGIN, Faces

OWN = {"size": 112, "template": "arcface", "mean": 127.5, "std": 127.5, "threshold": 0.3}


def figures(name: str, hard: Faces, groups: Optional[Faces], models_dir: Optional[Path]) -> Dict[str, Any]:
    """Verification on `hard`, and by group (the `source` of `groups`) at the threshold that a thousandth of
    the hard set's impostors pass."""
    settings = Settings()
    if name.endswith(".onnx"):
        entry, path = dict(OWN, name=Path(name).stem), Path(name)
    else:
        entry = catalogue.entry(name, "embedder", "models")
        path = build.ensure(name, settings, models_dir)["embedder"]
    network = open_network(path, settings)
    embedder = Embedder(network, dict({"dimension": network.outputs[0].shape[-1]}, **entry))
    try:
        result: Dict[str, Any] = evaluate.verification(embed(embedder, hard.images), hard.identity)
        if groups is not None:
            plain, seen = embed(embedder, groups.images), embedder.embed_chips(as_seen(groups.images))
            result["groups"] = evaluate.by_group(plain, seen, groups.source, result["threshold_1e3"])
    finally:
        embedder.close()
    return result


def as_seen(images: np.ndarray) -> np.ndarray:
    """The same faces as a kiosk may see them (augment.views, nothing mixed, seed 0): (N, 112, 112, 3) uint8 BGR."""
    import torch

    from training.embedder import augment

    torch.manual_seed(0)
    views = augment.views(torch.from_numpy(images), augment.FACE, mixed=0)
    return np.ascontiguousarray((views.permute(0, 2, 3, 1).numpy()[..., ::-1] * 255).round().astype(np.uint8))


def embed(embedder: Embedder, images: np.ndarray) -> np.ndarray:
    """Crops (N, 128, 128, 3) uint8 RGB -> (N, D) of unit length."""
    return embedder.embed_chips(np.ascontiguousarray(images[:, MARGIN:-MARGIN, MARGIN:-MARGIN, ::-1]))
