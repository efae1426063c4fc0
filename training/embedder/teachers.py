"""What a view's embedding should be: several embedders of the catalogue, asked together.

Their unit vectors are joined and turned to at most 512 numbers by a PCA without centring, which keeps
every cosine as it was up to the energy that it drops (figure: `kept`).
"""
import functools
from pathlib import Path
from typing import Callable, Dict, List, Optional, Sequence

import numpy as np
import onnx
import torch
from onnx2torch import convert
from torch import Tensor, fx, nn
from torch.nn import functional

from engines import build, catalogue

DIMENSION = 512
CHUNK = 1024  # pictures at once while fitting


class Teachers(nn.Module):
    """(B, 3, 112, 112) RGB in 0..1 -> (B, D) of unit length."""

    def __init__(self, names: Sequence[str], models_dir: Optional[Path] = None) -> None:
        super().__init__()
        self.names = list(names)
        self.networks = nn.ModuleList()
        self.basis: Optional[Tensor] = None
        self.kept = 1.0
        entries = [catalogue.entry(name, "embedder", "teachers") for name in names]
        for number, entry in enumerate(entries):
            self.networks.append(as_module(build.ensure(entry["name"], models_dir=models_dir)["embedder"]))
            for key in ("mean", "std"):
                self.register_buffer("{}{}".format(key, number), torch.tensor(entry[key]).float().reshape(1, -1, 1, 1))
        # Transformers need full precision: half of it loses their layer norms. Plain convolutions do not.
        self.halves = [not any(isinstance(layer, nn.Softmax) for layer in one.modules()) for one in self.networks]
        self.dimension = min(DIMENSION, sum(entry["dimension"] for entry in entries))
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
        return functional.normalize(y if self.basis is None else y @ self.basis, dim=1)

    @torch.no_grad()
    def fit(self, pictures: Tensor) -> None:
        """Find the basis from aligned faces (N, 3, 112, 112), some ten thousand."""
        if sum(1 for _ in self.networks) == 1:
            return
        y = torch.cat([self.joined(part) for part in pictures.split(CHUNK)])
        basis = torch.linalg.eigh(y.T @ y)[1][:, -self.dimension :].contiguous()
        self.kept = float((y @ basis).square().sum() / y.square().sum())
        self.basis = basis


def as_module(path: Path) -> nn.Module:
    """An ONNX file as a torch module. Its constants and widened half weights become initializers, and
    empty optional inputs go: onnx2torch takes no others."""
    model = onnx.load(str(path))
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    kept = []
    for node in model.graph.node:
        if node.op_type == "Constant" or (node.op_type in ("Cast", "Identity") and node.input[0] in weights):
            tensor = node.attribute[0].t if node.op_type == "Constant" else weights[node.input[0]]
            value = onnx.numpy_helper.to_array(tensor)
            value = value.astype(np.float32) if node.op_type == "Cast" else value
            model.graph.initializer.append(onnx.numpy_helper.from_array(value, node.output[0]))
            continue
        while node.input and not node.input[-1]:
            node.input.pop()
        kept.append(node)
    del model.graph.node[:]
    model.graph.node.extend(kept)
    return _fixed_shapes(convert(model))


def _fixed_shapes(module: fx.GraphModule) -> fx.GraphModule:
    """Reshapes, splits and powers by numbers in place of tensors, which torch.compile cannot see into."""
    layers = dict(module.named_modules())
    for node in list(module.graph.nodes):
        replace = FIXED.get(type(layers.get(node.target)).__name__)
        if node.op == "call_module" and replace and len(node.args) == 2:
            sizes = functools.reduce(getattr, node.args[1].target.split("."), module).tolist()  # type: ignore[operator]
            with module.graph.inserting_before(node):
                fixed = module.graph.call_function(replace, (node.args[0], sizes))
            if replace is _split:
                fixed.args += (layers[node.target].axis,)
            node.replace_all_uses_with(fixed)
            module.graph.erase_node(node)
    module.recompile()
    return module


def _reshape(x: Tensor, sizes: List[int]) -> Tensor:
    return x.reshape([x.shape[place] if size == 0 else size for place, size in enumerate(sizes)])


def _split(x: Tensor, sizes: List[int], axis: int) -> Sequence[Tensor]:
    return x.split(sizes, axis)


FIXED: Dict[str, Callable] = {"OnnxReshape": _reshape, "OnnxSplit13": _split, "OnnxPow": torch.pow}
