"""What --inspect and --verify of build_engines.py print."""
from collections import Counter
from pathlib import Path
from typing import Any, List

import numpy as np

from engines import plugin
from engines.backends.choose import Feeds
from engines.backends.network import Network, shape_text
from errors import ModelError

KINDS = {1: "FP32", 10: "FP16", 3: "INT8", 6: "INT32", 7: "INT64", 9: "BOOL"}  # of ONNX's TensorProto


def inspected(path: Path) -> List[str]:
    """Inputs, outputs, shapes, layers and precision of an ONNX file or a plan, in lines. Raises ModelError."""
    if not path.is_file():
        raise ModelError("{}: is not there.".format(path))
    return _plan(path) if path.suffix in (".plan", ".engine", ".trt") else _onnx(path)


def compared(name: str, gpu: Network, cpu: Network, runs: Feeds, role: str) -> List[str]:
    """How far two networks are apart on the inputs `runs[role]`, in a line for each output."""
    worst = {tensor.name: [0.0, 0.0, 1.0] for tensor in cpu.outputs}  # difference, largest value, cosine
    for feeds in runs[role]:
        wanted, found = cpu.run(feeds), gpu.run(feeds)
        for output, figures in worst.items():
            ours, theirs = found[output].astype(np.float64), wanted[output].astype(np.float64)
            if not ours.size:
                continue
            if role == "embedder":  # without the plugin they leave with their length
                ours, theirs = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (ours, theirs)]
                figures[2] = min(figures[2], float((ours * theirs).sum(axis=1).min()))
            difference = np.abs(ours - theirs).max()
            figures[0] = max(figures[0], float(difference if np.isfinite(difference) else np.inf))
            figures[1] = max(figures[1], float(np.abs(theirs).max()))
    return ["{} {}: largest difference {:.1e} at values up to {:.2f}{}".format(
        name, output, figures[0], figures[1], ", least cosine {:.6f}".format(figures[2]) if role == "embedder" else "")
        for output, figures in worst.items()]  # fmt: skip


def _onnx(path: Path) -> List[str]:
    import onnx

    try:
        model = onnx.load(str(path))
    except Exception as error:  # protobuf's, which differ between versions
        raise ModelError("{}: is no ONNX file ({}).".format(path, str(error).splitlines()[0])) from error
    weights = {item.name: item for item in model.graph.initializer}
    opsets = ", ".join("{} {}".format(item.domain or "onnx", item.version) for item in model.opset_import)
    lines = ["{}: ONNX, IR {}, operators of {}".format(path, model.ir_version, opsets)]
    for what, values in (("input", model.graph.input), ("output", model.graph.output)):
        for value in values:
            if value.name not in weights:
                kind = value.type.tensor_type
                sizes = [size.dim_value if size.HasField("dim_value") else size.dim_param or "any"
                         for size in kind.shape.dim]  # fmt: skip
                lines.append("  {} '{}' {} {}".format(what, value.name, shape_text(sizes), KINDS.get(kind.elem_type)))
    count = Counter(node.op_type for node in model.graph.node)
    lines.append("  {} nodes: {}".format(sum(count.values()), _counted(count)))
    numbers: Counter = Counter()
    for item in weights.values():
        numbers[KINDS.get(item.data_type, "other")] += int(np.prod(item.dims))
    lines.append("  weights: {}".format(_counted(numbers)))
    return lines


def _plan(path: Path) -> List[str]:
    from engines.backends.tensorrt import TensorrtNetwork
    from engines.plans.cache import module, read

    trt = module()
    plugin.load(trt)  # a plan that has no plugin needs none
    lines = ["{}: a plan".format(path)]
    try:
        key, plan = read(path)
        lines += ["  {}: {}".format(name, value) for name, value in sorted(key.items())]
    except ModelError as error:
        if "is damaged" in str(error):
            raise
        plan = path.read_bytes()  # of another program, as trtexec writes it
    with TensorrtNetwork(plan, path.name) as held:
        for what, tensors in (("input", held.inputs), ("output", held.outputs)):
            for tensor in tensors:
                text = "  {} '{}' {} {}".format(what, tensor.name, shape_text(tensor.shape), tensor.dtype)
                ends = held.limits.get(tensor.name)
                lines.append(text + (", {} to {}".format(*[shape_text(one) for one in ends]) if ends else ""))
        lines += ["  layer {}: {}".format(at, line) for at, line in enumerate(_layers(trt, held.engine))]
    return lines


def _layers(trt: Any, engine: Any) -> List[str]:
    inspector = engine.create_engine_inspector()
    return [str(inspector.get_layer_information(index, trt.LayerInformationFormat.ONELINE)).strip()
            for index in range(engine.num_layers)]  # fmt: skip


def _counted(count: Any) -> str:
    return ", ".join("{} {:,}".format(name, number) for name, number in count.most_common())
