"""The ONNX graph as TensorRT should see it: constants folded, the norm as a plugin, FP16 where it must be
in the graph. The file itself stays what it is."""
import tempfile
import warnings
from pathlib import Path
from typing import Any, Tuple

from engines.plugin import graph
from errors import ModelError


def prepared(path: Path, plugin: bool, half: bool) -> Tuple[bytes, int]:
    """The ONNX file at `path` for TensorRT, and how many norms it ends in.

    plugin: the norm at its end as a node L2Norm, which sums in FP32; else it is left out. half: a graph in
    FP16 but for its inputs, its outputs and the norm, for versions that take the precision from it (11).
    Raises ModelError for a file that is no ONNX.
    """
    import onnx

    try:
        model = onnx.load(str(path))
    except Exception as error:  # protobuf's, which differ between versions
        raise ModelError("{}: is no ONNX file ({}).".format(path, str(error).splitlines()[0])) from error
    norms = graph.bare(model)
    model = apart(folded(model))
    if half:
        model = halved(model)
    if plugin:
        graph.plug(model, norms)
    return model.SerializeToString(), len(norms)


def folded(model: Any) -> Any:
    """What depends on weights alone computed: TensorRT wants the weights of a convolution as they are."""
    import onnx
    import onnxruntime

    with tempfile.TemporaryDirectory(prefix="kiosk-") as folder:
        target = Path(folder) / "folded.onnx"
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(target)
        options.log_severity_level = 3
        onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        made = onnx.load(str(target))
    used = {node.domain for node in made.graph.node} | {""}
    opsets = [item for item in made.opset_import if item.domain in used]
    del made.opset_import[:]
    made.opset_import.extend(opsets)
    return made


def apart(model: Any) -> Any:
    """Free sizes of inputs with a name each: TensorRT takes those of one name for equal, and some exporters
    call height and width alike ('?'), which ends at the first picture that is no square."""
    for one in model.graph.input:
        for axis, size in enumerate(one.type.tensor_type.shape.dim):
            if not size.HasField("dim_value"):
                size.dim_param = "{}_{}".format(one.name, axis)
    return model


def halved(model: Any) -> Any:
    """The graph in FP16, its inputs and outputs in FP32."""
    from onnxruntime.transformers.float16 import convert_float_to_float16

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # weights below FP16's smallest number become 0, and each is told
        made = convert_float_to_float16(model, keep_io_types=True, disable_shape_infer=True)
    _sort(made)  # it appends its casts, and gives some names twice
    for number, node in enumerate(made.graph.node):
        node.name = "{}_{}".format(node.name, number)
    return made


def _sort(model: Any) -> None:
    """Each node behind those whose outputs it takes."""
    waiting = [type(node).FromString(node.SerializeToString()) for node in model.graph.node]
    made = {output for node in waiting for output in node.output}
    del model.graph.node[:]
    while waiting:
        ready = [node for node in waiting if not made.intersection(node.input)]
        if not ready:
            raise ModelError("The graph has a circle.")
        model.graph.node.extend(ready)
        made.difference_update(output for node in ready for output in node.output)
        waiting = [node for node in waiting if made.intersection(node.output)]
