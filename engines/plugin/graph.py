"""The L2 norm at the end of an embedder's ONNX graph, in its two forms.

Native: operators that every runtime knows (x, the sum of its squares, a lower bound, the root, the
quotient). Plugged: one node L2Norm, which is TensorRT's plugin of that name. `bare` leaves the norm out, for
a TensorRT without the plugin: the embedder normalises on the CPU anyway. `bare` and `plug` turn the
first form into the second, `native` the second into the first.
"""
from typing import Any, Dict, List, NamedTuple, Optional

import numpy as np

from engines.plugin import EPSILON, NAME

DOMAIN = "kiosk"  # ONNX wants one for operators that are not its own; TensorRT ignores it
BOUNDS = ("Clip", "Max", "Add", "Sqrt", "Identity")  # what may lie between the sum and the quotient


class _Norm(NamedTuple):
    """A norm that was found: the node that makes the graph's output, its input, its epsilon."""

    node: Any
    value: str
    epsilon: float


def bare(model: Any) -> Dict[str, float]:
    """Leave out each norm that makes an output of the ONNX `model`: the epsilon of each, by output."""
    from onnx import helper

    norms = _native(model) + [_Norm(node, node.input[0], _epsilon(node)) for node in _plugins(model)]
    for norm in norms:
        _replace(model, norm.node, [helper.make_node("Identity", [norm.value], [norm.node.output[0]])])
    _prune(model)
    _forget_domain(model)
    return {norm.node.output[0]: norm.epsilon for norm in norms}


def plug(model: Any, norms: Dict[str, float]) -> None:
    """Put a node L2Norm before each output in `norms`, with its epsilon."""
    from onnx import helper

    for output, epsilon in norms.items():
        raw = output + "_raw"
        for node in model.graph.node:
            for names in (node.input, node.output):
                renamed = [raw if name == output else name for name in names]
                del names[:]
                names.extend(renamed)
        model.graph.node.append(helper.make_node(NAME, [raw], [output], name=output, domain=DOMAIN, epsilon=epsilon))
    _forget_domain(model)
    if norms:
        model.opset_import.append(helper.make_opsetid(DOMAIN, 1))


def native(model: Any) -> int:
    """Turn each node L2Norm into operators of ONNX; how many there were."""
    from onnx import helper, numpy_helper

    opset = next(item.version for item in model.opset_import if item.domain in ("", "ai.onnx"))
    found = _plugins(model)
    for node in found:
        value, name = node.input[0], node.output[0]
        least = numpy_helper.from_array(np.array(_epsilon(node), np.float32), name + "_epsilon")
        model.graph.initializer.append(least)
        sum_inputs: List[str] = [name + "_squares"]
        sum_axes: Dict[str, Any] = {"axes": [-1]}
        if opset >= 13:
            model.graph.initializer.append(numpy_helper.from_array(np.array([-1], np.int64), name + "_axes"))
            sum_inputs, sum_axes = sum_inputs + [name + "_axes"], {}
        _replace(model, node, [
            helper.make_node("Mul", [value, value], [name + "_squares"]),
            helper.make_node("ReduceSum", sum_inputs, [name + "_sum"], keepdims=1, **sum_axes),
            helper.make_node("Max", [name + "_sum", least.name], [name + "_bound"]),
            helper.make_node("Sqrt", [name + "_bound"], [name + "_length"]),
            helper.make_node("Div", [value, name + "_length"], [name]),
        ])  # fmt: skip
    _forget_domain(model)
    return len(found)


def _native(model: Any) -> List[_Norm]:
    makers = {output: node for node in model.graph.node for output in node.output}
    constants = _constants(model)
    ends = [makers[output.name] for output in model.graph.output if output.name in makers]
    found = [_match(node, makers, constants) for node in ends]
    return [norm for norm in found if norm is not None]


def _plugins(model: Any) -> List[Any]:
    return [node for node in model.graph.node if node.op_type == NAME]


def _forget_domain(model: Any) -> None:
    kept = [item for item in model.opset_import if item.domain != DOMAIN]
    del model.opset_import[:]
    model.opset_import.extend(kept)


def _match(node: Any, makers: Dict[str, Any], constants: Dict[str, np.ndarray]) -> Optional[_Norm]:
    """The norm that `node` ends, if it does: x / root(bound(sum of squares of x)), in any usual spelling."""
    if node.op_type == "LpNormalization":
        attributes = _attributes(node)
        if attributes.get("p", 2) == 2 and attributes.get("axis", -1) in (-1, 1):
            return _Norm(node, node.input[0], EPSILON)
    if node.op_type != "Div":
        return None
    value, divisor = node.input
    epsilon, rooted = EPSILON, False
    step = makers.get(divisor)
    while step is not None and step.op_type in BOUNDS:
        if step.op_type == "Sqrt":
            rooted = True
        bound = _bound(step, constants)
        if bound is not None:
            epsilon = bound if rooted else bound**2  # walking up: below the root it bounds the length
        step = makers.get(_variable(step, constants))
    if step is None or not _over_last_axis(step, constants):
        return None
    inner = makers.get(step.input[0])
    if step.op_type == ("ReduceSumSquare" if rooted else "ReduceL2"):
        same = step.input[0] == value
    else:
        same = step.op_type == "ReduceSum" and rooted and inner is not None and _squares(inner, constants) == value
    return _Norm(node, value, epsilon) if same else None


def _bound(step: Any, constants: Dict[str, np.ndarray]) -> Optional[float]:
    """The least value that a Clip or Max lets through, or that an Add adds."""
    if step.op_type == "Clip":
        attribute = _attributes(step).get("min")
        least = constants.get(step.input[1]) if len(step.input) > 1 and step.input[1] else attribute
        return None if least is None else float(np.asarray(least).item())
    if step.op_type in ("Max", "Add"):
        numbers = [constants[name] for name in step.input if name in constants]
        return float(numbers[0].item()) if len(numbers) == 1 and numbers[0].size == 1 else None
    return None


def _variable(step: Any, constants: Dict[str, np.ndarray]) -> str:
    names = [name for name in step.input if name and name not in constants]
    return names[0] if len(names) == 1 else ""


def _squares(node: Any, constants: Dict[str, np.ndarray]) -> Optional[str]:
    """x where `node` is x * x or x ** 2."""
    if node.op_type == "Mul" and node.input[0] == node.input[1]:
        return node.input[0]
    if node.op_type == "Pow" and node.input[1] in constants and constants[node.input[1]].tolist() in (2, [2]):
        return node.input[0]
    return None


def _over_last_axis(step: Any, constants: Dict[str, np.ndarray]) -> bool:
    """Embeddings have two axes, so the last is also number 1."""
    attributes = _attributes(step)
    axes = attributes.get("axes")
    if axes is None and len(step.input) > 1 and step.input[1] in constants:
        axes = constants[step.input[1]].ravel().tolist()
    return list(axes or []) in ([-1], [1]) and attributes.get("keepdims", 1) == 1


def _constants(model: Any) -> Dict[str, np.ndarray]:
    from onnx import numpy_helper

    found = {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            found[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
    return found


def _attributes(node: Any) -> Dict[str, Any]:
    from onnx import helper

    return {item.name: helper.get_attribute_value(item) for item in node.attribute}


def _epsilon(node: Any) -> float:
    return float(_attributes(node).get("epsilon", EPSILON))


def _replace(model: Any, node: Any, made: List[Any]) -> None:
    """Put `made` in the place of `node`; the order of the nodes must stay topological."""
    nodes: List[Any] = []
    for one in model.graph.node:
        nodes += made if one is node or one == node else [one]
    _set_nodes(model, nodes)


def _prune(model: Any) -> None:
    """Remove nodes and weights that nothing reads any more."""
    outputs = {output.name for output in model.graph.output}
    while True:
        read = outputs | {name for node in model.graph.node for name in node.input}
        kept = [node for node in model.graph.node if any(name in read for name in node.output)]
        if len(kept) == len(model.graph.node):
            break
        _set_nodes(model, kept)
    weights = [item for item in model.graph.initializer if item.name in read]
    del model.graph.initializer[:]
    model.graph.initializer.extend(weights)


def _set_nodes(model: Any, nodes: List[Any]) -> None:
    copies = [type(node).FromString(node.SerializeToString()) for node in nodes]
    del model.graph.node[:]
    model.graph.node.extend(copies)
