"""P, R and O as recipes describe them, and their way to the kiosk's ONNX interface.

A net is written as its layers: 'c16k4s2' is a convolution to 16 channels, kernel 4, stride 2 (p1:
padded by 1); 'd3' a depthwise convolution with kernel 3. Each is followed by batch normalisation
and ReLU: on a CPU the original's PReLU costs as much as its convolutions. Strides stand in for its
pooling. R and O end in one dense layer, P in the map itself. In the exported file batch
normalisation is part of the convolution.
"""
import re
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

import numpy as np
import torch
from torch import nn

from engines.convert.graph import Graph
from errors import UsageError

SIZES = {"pnet": 12, "rnet": 24, "onet": 48}
HEADS = (("probability", 2), ("regression", 4), ("landmarks", 10))
SHRUNK = 0.3  # a usual scale of the pyramid, between 12/40 and 12/20
LAYER = re.compile(r"([cd])(\d+)?(?:k(\d+))?(?:s(\d+))?(?:p(\d+))?$")
Outputs = Dict[str, torch.Tensor]


class Layer(NamedTuple):
    depthwise: bool
    channels: int
    kernel: int
    stride: int
    padding: int


def parsed(text: str) -> Layer:
    """One layer of a recipe. Raises UsageError for what is none."""
    match = LAYER.match(text)
    if match is None or match.group(2) is None:
        raise UsageError("'{}' is no layer; layers are like c16k3s2p1 and d3s1.".format(text))
    kind, first, kernel, stride, padding = match.groups()
    if kind == "d":
        return Layer(True, 0, int(first), int(stride or 1), int(padding or 0))
    return Layer(False, int(first), int(kernel or 1), int(stride or 1), int(padding or 0))


class Net(nn.Module):
    """`role` is pnet, rnet or onet. Takes (N, 3, H, W) RGB (x - 127.5) / 128; gives 'probability'
    logits (N, 2, ...), 'regression' (N, 4, ...), O also 'landmarks' (N, 10), x1..x5 y1..y5."""

    def __init__(self, role: str, body: List[str], dense: int = 0) -> None:
        super().__init__()
        self.role, self.body_text = role, list(body)
        layers: List[nn.Module] = []
        channels, side = 3, SIZES[role]
        self.stride = 1
        for layer in map(parsed, body):
            after = channels if layer.depthwise else layer.channels
            layers += [
                nn.Conv2d(channels, after, layer.kernel, layer.stride, layer.padding,
                          groups=channels if layer.depthwise else 1, bias=False),
                nn.BatchNorm2d(after),
                nn.ReLU(),
            ]  # fmt: skip
            channels, side = after, (side + 2 * layer.padding - layer.kernel) // layer.stride + 1
            self.stride *= layer.stride
        if role == "pnet" and side != 1:
            raise UsageError("pnet: {} sees {} cells of 12 pixels, not 1.".format(body, side))
        self.body = nn.Sequential(*layers)
        self.dense: Optional[nn.Sequential] = None
        if role != "pnet":
            self.dense = nn.Sequential(nn.Flatten(), nn.Linear(channels * side * side, dense, bias=False),
                                       nn.BatchNorm1d(dense), nn.ReLU())  # fmt: skip
            channels = dense
        heads = HEADS if role == "onet" else HEADS[:2]
        self.heads = nn.ModuleDict(
            {name: nn.Conv2d(channels, count, 1) if self.dense is None else nn.Linear(channels, count)
             for name, count in heads}
        )  # fmt: skip

    def forward(self, pictures: torch.Tensor) -> Outputs:
        features = self.body(pictures)
        if self.dense is not None:
            features = self.dense(features)
        return {name: head(features) for name, head in self.heads.items()}

    def steps(self) -> List[Tuple[str, List[nn.Module]]]:
        """The layers in order, as ('conv' or 'dense', [layer, batch normalisation])."""
        found: List[Tuple[str, List[nn.Module]]] = []
        for module in list(self.body) + (list(self.dense) if self.dense is not None else []):
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                found.append(("conv" if isinstance(module, nn.Conv2d) else "dense", [module]))
            elif isinstance(module, (nn.BatchNorm2d, nn.BatchNorm1d)):
                found[-1][1].append(module)
        return found

    def shape(self) -> Dict[str, Any]:
        """role, body and dense as the modules are now (pruning narrows them): Net(**shape) fits them."""
        body = []
        convolutions = [module for module in self.body if isinstance(module, nn.Conv2d)]
        for layer, text in zip(convolutions, self.body_text):
            body.append(text if text[0] == "d" else re.sub(r"^c\d+", "c{}".format(layer.out_channels), text))
        dense = [module.out_features for module in self.dense or [] if isinstance(module, nn.Linear)]
        return {"role": self.role, "body": body, "dense": dense[0] if dense else 0}


def save(net: Net, path: Path) -> None:
    """The shape and the weights, as load() wants them."""
    torch.save({"shape": net.shape(), "state": net.state_dict()}, str(path))


def load(path: Path) -> Net:
    """A net that save() wrote. Raises UsageError when the file is missing."""
    if not path.is_file():
        raise UsageError("{}: is missing; train that net first.".format(path))
    saved = torch.load(str(path), map_location="cpu", weights_only=True)
    net = Net(**saved["shape"])
    net.load_state_dict(saved["state"])
    return net


def folded(modules: List[nn.Module]) -> Tuple[np.ndarray, np.ndarray]:
    """Weight and bias of a layer with its batch normalisation, float32."""
    layer: Any = modules[0]
    weight = layer.weight.detach().double()
    bias = layer.bias.detach().double() if layer.bias is not None else torch.zeros(len(weight)).double()
    if len(modules) > 1:
        norm: Any = modules[1]
        gain = norm.weight.detach().double() / torch.sqrt(norm.running_var.double() + norm.eps)
        weight = weight * gain.view([-1] + [1] * (weight.dim() - 1))
        bias = (bias - norm.running_mean.double()) * gain + norm.bias.detach().double()
    return weight.float().cpu().numpy(), bias.float().cpu().numpy()


def export(net: Net, path: Path) -> None:
    """Write `path` in the interface of engines/convert/mtcnn.py."""
    net = net.cpu().eval()
    graph = Graph("mtcnn_" + net.role)
    size = SIZES[net.role] if net.dense is not None else 0
    value = graph.input("input", ["N", 3, size or "H", size or "W"])
    for number, (kind, modules) in enumerate(net.steps(), 1):
        weight, bias = folded(modules)
        name = kind + str(number)
        if kind == "dense":
            if number == len(net.steps()):
                value = graph.add("Flatten", [value], "flatten", axis=1)
            value = graph.dense(value, name, weight, bias)
        else:
            names = [graph.weight(name + ".weight", weight), graph.weight(name + ".bias", bias)]
            value = conv(graph, value, name, modules[0], names)
        value = graph.add("Relu", [value], "relu{}".format(number))
    for name, head in net.heads.items():
        weight, bias = for_the_kiosk(net.role, name, *folded([head]))
        add: Any = graph.conv if net.dense is None else graph.dense
        finish(graph, name, add(value, name + "_raw", weight, bias), net.dense is None)
    graph.save(path)


def conv(graph: Graph, value: str, name: str, layer: Any, weights: List[str]) -> str:
    return graph.add("Conv", [value] + weights, name, kernel_shape=list(layer.kernel_size), strides=list(layer.stride),
                     pads=list(layer.padding) * 2, group=layer.groups)  # fmt: skip


def for_the_kiosk(role: str, head: str, weight: np.ndarray, bias: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    """Weight and bias of a head with what the kiosk reads folded in.

    Logits become their differences, of which a sigmoid is the softmax over two. P's corner shifts
    are learned in cells of 12 pixels from the cell's edges; MTCNN counts them in 11 pixels from the
    middle of its first and last one, in a picture that was shrunk by about SHRUNK.
    """
    if head == "probability":
        turn = np.array([[1, -1], [-1, 1]], np.float32)
        return np.tensordot(turn, weight, 1), turn @ bias
    if role == "pnet" and head == "regression":
        weight, bias = weight * np.float32(12 / 11), bias * np.float32(12 / 11)
        bias[:2] -= (1 - SHRUNK) / 11
    return weight, bias


def finish(graph: Graph, name: str, value: str, is_map: bool) -> None:
    """Make `value` the output `name`; differences of logits become probabilities."""
    if name == "probability":
        graph.add("Sigmoid", [value], "sigmoid", name)
    else:
        graph.nodes[-1].output[0] = name
    channels = dict(HEADS)[name]
    graph.output(name, ["N", channels, "h", "w"] if is_map else ["N", channels])
