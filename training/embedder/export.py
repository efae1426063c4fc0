"""A trained student as the kiosk's ONNX file: batch norm folded, weights in half precision, unit length at the end."""
import hashlib
import json
from pathlib import Path
from typing import Any, Dict

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

OPSET = 13  # the newest that TensorRT 8.2 reads whole
SMALLEST = 1e-12  # of the squared length, as in the converted FaceNet
WORTH_HALVING = 64  # numbers; smaller weights stay in full precision


def write(student: nn.Module, size: int, path: Path) -> None:
    """Input `input` (N, 3, size, size) float32, (x - 127.5) / 127.5, RGB; output `embedding` (N, D), unit length."""
    student = student.cpu().float().eval()
    torch.onnx.export(
        student,
        (torch.zeros(2, 3, size, size),),
        str(path),
        input_names=["input"],
        output_names=["prelogits"],
        dynamic_axes={"input": {0: "n"}, "prelogits": {0: "n"}},
        opset_version=OPSET,
        dynamo=False,
    )
    model = onnx.load(str(path))
    normalise(model)
    halve(model)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(path))


def record(path: Path, saved: Dict[str, Any], metrics: Dict[str, Any]) -> None:
    """PATH.json: what made the file (recipe with its seed, git revision), its figures and its SHA-256."""
    data = path.read_bytes()
    line = {"file": path.name, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest(), "metrics": metrics}
    line.update({name: saved[name] for name in ("spec", "revision", "recipe")})
    path.with_suffix(".json").write_text(json.dumps(line, indent=1) + "\n", encoding="utf-8")


def normalise(model: onnx.ModelProto) -> None:
    """Append x / sqrt(max(sum x^2, 1e-12)), under the names that the converted FaceNet has, too."""
    graph = model.graph
    graph.initializer.append(numpy_helper.from_array(np.array([1], np.int64), "L2Norm/axes"))
    graph.initializer.append(numpy_helper.from_array(np.array([SMALLEST], np.float32), "L2Norm/smallest"))
    value = graph.output[0].name
    for kind, inputs, name in (
        ("Mul", [value, value], "L2Norm/squares"),
        ("ReduceSum", ["L2Norm/squares", "L2Norm/axes"], "L2Norm/sum"),
        ("Max", ["L2Norm/sum", "L2Norm/smallest"], "L2Norm/max"),
        ("Sqrt", ["L2Norm/max"], "L2Norm/length"),
        ("Div", [value, "L2Norm/length"], "embedding"),
    ):
        graph.node.append(helper.make_node(kind, inputs, [name], name=name.replace("embedding", "L2Norm")))
    graph.output[0].name = "embedding"


def halve(model: onnx.ModelProto) -> None:
    """Keep weights as float16 with a Cast each: half the file, computed in float32 all the same."""
    casts = []
    for tensor in list(model.graph.initializer):
        weights = numpy_helper.to_array(tensor)
        if weights.dtype != np.float32 or weights.size < WORTH_HALVING:
            continue
        model.graph.initializer.remove(tensor)
        small = tensor.name + "/half"
        model.graph.initializer.append(numpy_helper.from_array(weights.astype(np.float16), small))
        casts.append(helper.make_node("Cast", [small], [tensor.name], name=tensor.name + "/cast", to=TensorProto.FLOAT))
    nodes = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend(casts + nodes)
