"""The three networks of the original MTCNN (Zhang et al. 2016) to ONNX.

The weights exist as PyTorch state dicts (facenet-pytorch) and as caffemodels (the authors'), the
latter also with each PReLU written out as ReLU(x) - a ReLU(-x) for runtimes without one; all three
hold the same numbers. Both end here in one layout: an upright NCHW picture, native PRelu, and an
ordinary C, H, W flatten before the first dense layer.

Input of all: 'input' (N, 3, H, W) float32, RGB, (x - 127.5) / 128; H, W free for P-Net (12 or
more), 24 for R-Net, 48 for O-Net. Outputs: 'probability' (N, 2, ...) softmax, [1] = face;
'regression' (N, 4, ...) corner shifts in box widths and heights; O-Net 'landmarks' (N, 10),
x1..x5 y1..y5 in fractions of the box.
"""
import re
from pathlib import Path
from typing import Callable, Dict, List, NamedTuple, Tuple

import numpy as np

from engines.convert import caffe_file, torch_file
from engines.convert.graph import Axes, Graph
from errors import ModelError


class Plan(NamedTuple):
    """What a network is made of, after its prototxt."""

    size: int  # side of the input in pixels; 0 = free
    convolutions: Tuple[Tuple[int, ...], ...]  # weight shapes
    pools: Tuple[int, ...]  # kernel of the pooling after each convolution, 0 = none; stride 2, ceil mode
    dense: Tuple[int, ...]  # outputs and inputs of the dense layer that follows, or ()
    heads: Tuple[Tuple[str, str, int], ...]  # layer, ONNX output, channels


PLANS = {
    "pnet": Plan(
        0, ((10, 3, 3, 3), (16, 10, 3, 3), (32, 16, 3, 3)), (2, 0, 0), (),
        (("conv4_1", "probability", 2), ("conv4_2", "regression", 4))),
    "rnet": Plan(
        24, ((28, 3, 3, 3), (48, 28, 3, 3), (64, 48, 2, 2)), (3, 3, 0), (128, 576),
        (("dense5_1", "probability", 2), ("dense5_2", "regression", 4))),
    "onet": Plan(
        48, ((32, 3, 3, 3), (64, 32, 3, 3), (64, 64, 3, 3), (128, 64, 2, 2)), (3, 3, 2, 0), (256, 1152),
        (("dense6_1", "probability", 2), ("dense6_2", "regression", 4), ("dense6_3", "landmarks", 10))),
}  # fmt: skip
Weights = Dict[str, np.ndarray]
SLOPE = re.compile(r"(prelu|scale)(\d)(?:_([12]))?$")  # of a layer's name in lower case


def convert(source: Path, target: Path, role: str) -> None:
    """Write `source` (.pt or .caffemodel) as ONNX; `role` is pnet, rnet or onet.

    Raises ModelError when the file is damaged or its tensors are not those of that network.
    """
    try:
        if source.suffix == ".caffemodel":
            weights = from_caffe(caffe_file.read(source))
        else:
            weights = from_torch(torch_file.read(source))
    except (ValueError, IndexError) as error:
        raise ModelError("{}: is not the {} of MTCNN ({}).".format(source, role, error)) from error
    graph(role, weights, str(source)).save(target)


def from_torch(tensors: Weights) -> Weights:
    """The state dict, its first dense layer turned from the W, H, C flatten to C, H, W."""
    weights = dict(tensors)
    for name in [name for name in weights if name in ("dense4.weight", "dense5.weight")]:
        outputs, inputs = weights[name].shape
        old = weights[name].reshape(outputs, 3, 3, inputs // 9)
        weights[name] = old.transpose(0, 3, 2, 1).reshape(outputs, inputs)
    return weights


def from_caffe(layers: Dict[str, List[np.ndarray]]) -> Weights:
    """Caffe's networks see the picture with x and y swapped, so kernels and flatten are turned.

    One exception, measured: det1_relu.caffemodel (tensorrt_demos, MTCNN_FaceDetection_TensorRT) holds
    P-Net's kernels upright already, while det2_relu and det3_relu are as the authors' files.
    """
    weights: Weights = {}
    upright = "scale1_1" in layers and "conv4-1" in layers
    first_dense = "conv5" if "conv6-1" in layers else "conv4"
    for layer, blobs in layers.items():
        slope = SLOPE.match(layer.lower())
        if slope:
            kind, number, part = slope.groups()
            if part != "1":  # scaleK_1 is the fixed -1 of a written-out PReLU, scaleK_2 is minus its slope
                weights["prelu{}.weight".format(number)] = blobs[0].reshape(-1) * (1 if kind == "prelu" else -1)
            continue
        name, kernel = layer.replace("-", "_"), blobs[0]
        if kernel.ndim == 4 and kernel.shape[:2] != (1, 1):
            kernel = kernel if upright else kernel.transpose(0, 1, 3, 2)
        else:
            name, kernel = name.replace("conv", "dense"), kernel.reshape(kernel.shape[-2:])
            if layer == first_dense:  # the convolution before it hands over C, W, H
                kernel = kernel.reshape(len(kernel), -1, 3, 3).transpose(0, 1, 3, 2).reshape(kernel.shape)
        weights[name + ".weight"] = kernel
        weights[name + ".bias"] = blobs[1].reshape(-1)
    return weights


def _shapes(plan: Plan) -> Dict[str, Tuple[int, ...]]:
    """Name and shape of every tensor that the plan asks for."""
    layers = {"conv{}".format(number): shape for number, shape in enumerate(plan.convolutions, 1)}
    last = len(plan.convolutions) + 1
    width = plan.convolutions[-1][0]
    if plan.dense:
        layers["dense{}".format(last)] = plan.dense
        width = plan.dense[0]
    shapes: Dict[str, Tuple[int, ...]] = {}
    for number, shape in enumerate(layers.values(), 1):
        shapes["prelu{}.weight".format(number)] = shape[:1]
    for name, _, channels in plan.heads:
        layers[name] = (channels, width) if plan.dense else (channels, width, 1, 1)
    for name, shape in layers.items():
        shapes[name + ".weight"] = shape
        shapes[name + ".bias"] = shape[:1]
    return shapes


def _check(source: str, role: str, plan: Plan, weights: Weights) -> None:
    for name, shape in _shapes(plan).items():
        found = weights[name].shape if name in weights else None
        if found != shape:
            raise ModelError("{}: is not the {} of MTCNN: its {} is {}, not {}.".format(
                source, role, name, "missing" if found is None else "x".join(map(str, found)),
                "x".join(map(str, shape))))  # fmt: skip


def graph(role: str, weights: Weights, source: str) -> Graph:
    """The weights in this module's layout as a graph; `source` is what an error calls them."""
    plan = PLANS[role]
    _check(source, role, plan, weights)

    def pair(name: str) -> Tuple[np.ndarray, np.ndarray]:
        return weights[name + ".weight"].astype(np.float32), weights[name + ".bias"].astype(np.float32)

    def prelu(value: str, number: int, axes: int) -> str:
        slope = weights["prelu{}.weight".format(number)].astype(np.float32)
        name = net.weight("prelu{}.slope".format(number), slope.reshape((-1,) + (1,) * (axes - 2)))
        return net.add("PRelu", [value, name], "prelu{}".format(number))

    net = Graph("mtcnn_" + role)
    value = net.input("input", ["N", 3, plan.size or "H", plan.size or "W"])
    for number, pool in enumerate(plan.pools, 1):
        value = prelu(net.conv(value, "conv{}".format(number), *pair("conv{}".format(number))), number, 4)
        if pool:
            value = net.add("MaxPool", [value], "pool{}".format(number), kernel_shape=[pool, pool],
                              strides=[2, 2], ceil_mode=1)  # fmt: skip
    if plan.dense:
        number = len(plan.pools) + 1
        value = net.add("Flatten", [value], "flatten", axis=1)
        value = prelu(net.dense(value, "dense{}".format(number), *pair("dense{}".format(number))), number, 2)
    for name, output, channels in plan.heads:
        layer: Callable[..., str] = net.dense if plan.dense else net.conv
        if output == "probability":
            net.add("Softmax", [layer(value, name, *pair(name))], "softmax", output, axis=1)
        else:
            layer(value, name, *pair(name), output=output)
        net.output(output, _map(plan, channels))
    return net


def _map(plan: Plan, channels: int) -> Axes:
    return ["N", channels] if plan.size else ["N", channels, "h", "w"]
