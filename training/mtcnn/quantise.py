"""Quantisation-aware training, and its result as ONNX with QuantizeLinear and DequantizeLinear.

Everything is int8 around zero, as TensorRT 8.2 demands of explicit quantisation: one scale for each
input of a layer, one for each output channel of a convolution's weights, one for a dense layer's.
Batch normalisation is folded in first, so that what is rounded in training is what is rounded in
the file. torch's own fake_quantize does the rounding; the rest is these few lines, because the
libraries that export Q/DQ all go through torch.onnx, and the kiosk's files are written by its
own Graph (opset 13, fixed names), which needs the scales and nothing else. What is not a weight is
kept small there, since P has 19 kB of them: no names of nodes, no attributes that say the default,
no zero points but the one that makes a rounded input int8.
"""
import copy
from pathlib import Path
from typing import Any, List, Tuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from engines.convert.graph import Graph
from training.mtcnn.nets import SIZES, Net, Outputs, finish, folded, for_the_kiosk

TOP = 127
SLOW = 0.99  # of the running maximum of a layer's input


class Rounded(nn.Module):
    """A convolution or dense layer whose input and weights are rounded to int8 in training."""

    def __init__(self, modules: List[nn.Module]) -> None:
        super().__init__()
        weight, bias = folded(modules)
        self.weight, self.bias = nn.Parameter(torch.from_numpy(weight)), nn.Parameter(torch.from_numpy(bias))
        layer: Any = modules[0]
        self.is_conv = isinstance(layer, nn.Conv2d)
        if self.is_conv:
            self.stride, self.padding, self.groups = layer.stride, layer.padding, layer.groups
            self.kernel_size = layer.kernel_size
        self.greatest: torch.Tensor
        self.register_buffer("greatest", torch.zeros(()))

    def scales(self) -> Tuple[torch.Tensor, torch.Tensor]:
        """Of the input (), of the weights (channels,), or () for a dense layer."""
        flat = self.weight.detach().abs().flatten(1)
        most = flat.amax(1) if self.is_conv else flat.amax()
        return self.greatest.clamp(min=1e-6) / TOP, most.clamp(min=1e-6) / TOP

    def forward(self, value: torch.Tensor) -> torch.Tensor:
        if self.training:
            here = value.detach().abs().amax().float()
            self.greatest.copy_(torch.where(self.greatest == 0, here, SLOW * self.greatest + (1 - SLOW) * here))
        scale, steps = self.scales()
        zero = torch.zeros((), dtype=torch.int32, device=value.device)
        value = torch.fake_quantize_per_tensor_affine(value.float(), scale, zero, -TOP, TOP)
        if not self.is_conv:
            weight = torch.fake_quantize_per_tensor_affine(self.weight, steps, zero, -TOP, TOP)
            return functional.linear(value, weight, self.bias)
        zeros = zero.expand(len(steps)).contiguous()
        weight = torch.fake_quantize_per_channel_affine(self.weight, steps, zeros, 0, -TOP, TOP)
        return functional.conv2d(value, weight, self.bias, self.stride, self.padding, 1, self.groups)


class QuantisedNet(nn.Module):
    """A trained Net, to be trained on with every layer rounded. Same inputs and outputs."""

    def __init__(self, net: Net) -> None:
        super().__init__()
        self.role, self.shape, self.stride = net.role, net.shape, net.stride
        self.kinds = [kind for kind, _ in net.steps()]
        self.layers = nn.ModuleList([Rounded(modules) for _, modules in net.steps()])
        self.heads = nn.ModuleDict({name: Rounded([head]) for name, head in net.heads.items()})

    def forward(self, pictures: torch.Tensor) -> Outputs:
        value = pictures
        for kind, layer in zip(self.kinds, self.layers):
            value = functional.relu(layer(value.flatten(1) if kind == "dense" else value))
        return {name: head(value) for name, head in self.heads.items()}


def export(net: QuantisedNet, path: Path) -> None:
    """Write `path` with Q/DQ nodes, in the interface of engines/convert/mtcnn.py."""
    net = copy.deepcopy(net).cpu().eval()
    graph = Graph("mtcnn_" + net.role)
    is_map = net.role == "pnet"
    size = 0 if is_map else SIZES[net.role]
    graph.weight("z", np.zeros((), np.int8))
    value = graph.input("input", ["N", 3, size or "H", size or "W"])
    for number, (kind, layer) in enumerate(zip(net.kinds, net.layers)):
        value = _rounded_input(graph, value, "a{}".format(number), layer)
        if kind == "dense":
            value = graph.add("Flatten", [value], "f", axis=1)
        value = graph.add("Relu", [_layer(graph, value, str(number), layer)], "r{}".format(number))
    first = next(iter(net.heads.values()))
    value = _rounded_input(graph, value, "h", first)
    head: Any
    for name, head in net.heads.items():
        weight, bias = for_the_kiosk(net.role, name, head.weight.detach().numpy(), head.bias.detach().numpy())
        head.weight.data, head.bias.data = torch.from_numpy(weight), torch.from_numpy(bias)
        finish(graph, name, _layer(graph, value, name[0], head), is_map)
    for node in graph.nodes:
        node.ClearField("name")
    graph.save(path)


def _rounded_input(graph: Graph, value: str, name: str, layer: Any) -> str:
    scale = graph.weight(name + "s", layer.scales()[0].numpy().astype(np.float32))
    rounded = graph.add("QuantizeLinear", [value, scale, "z"], name + "q")
    return graph.add("DequantizeLinear", [rounded, scale], name)


def _layer(graph: Graph, value: str, name: str, layer: Any) -> str:
    scale = layer.scales()[1].numpy().astype(np.float32)
    shape = (-1,) + (1,) * (layer.weight.dim() - 1) if scale.ndim else ()
    weight = layer.weight.detach().numpy() / scale.reshape(shape)
    whole = np.clip(np.round(weight), -TOP, TOP).astype(np.int8)
    names = [graph.weight("w" + name, whole), graph.weight("s" + name, scale)]
    attributes: Any = {"axis": 0} if scale.ndim else {}
    kernel = graph.add("DequantizeLinear", names, "d" + name, **attributes)
    bias = graph.weight("b" + name, layer.bias.detach().numpy().astype(np.float32))
    if layer.is_conv:
        attributes = {"strides": list(layer.stride)} if max(layer.stride) > 1 else {}
        if max(layer.padding) > 0:
            attributes["pads"] = list(layer.padding) * 2
        if layer.groups > 1:
            attributes["group"] = layer.groups
        return graph.add("Conv", [value, kernel, bias], "c" + name, **attributes)
    return graph.add("Gemm", [value, kernel, bias], "c" + name, transB=1)
