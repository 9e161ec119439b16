"""What exporters write in many ways and the pipeline reads in one: constants, functions, names, biases, dead ends."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx.inliner
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from edgec.graph.view import attribute, producers
from edgec.models.onnx.read import graphs_of

__all__ = ["constants_of", "name_nodes_", "prune_", "spell_out_products_", "tidied"]

_CONSTANTS_ARE_NO_INPUTS = 4
"""The first IR version in which they need not be."""
_VALUES = {"value_float": np.float32, "value_floats": np.float32, "value_int": np.int64, "value_ints": np.int64}


def tidied(model: ModelProto) -> ModelProto:
    """The model with functions written out and every constant an initialiser that is no input."""
    model = onnx.inliner.inline_local_functions(model) if model.functions else model
    graph = model.graph
    del model.training_info[:]
    del model.metadata_props[:]
    for node in [node for node in graph.node if node.op_type == "Constant"]:
        tensor = _constant(node)
        if tensor is not None:
            graph.initializer.append(tensor)
            graph.node.remove(node)
    known = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in known]
    del graph.input[:]
    graph.input.extend(inputs)
    del graph.value_info[:]
    known_from = helper.find_min_ir_version_for(model.opset_import, ignore_unknown=True)
    model.ir_version = max(known_from, _CONSTANTS_ARE_NO_INPUTS)
    return model


def _constant(node: NodeProto) -> TensorProto | None:
    """What a Constant holds; None for what is no plain tensor."""
    given = node.attribute[0]
    if given.name == "value":
        tensor = TensorProto()
        tensor.CopyFrom(given.t)
        tensor.name = node.output[0]
        return tensor
    if given.name not in _VALUES:
        return None
    value = np.array(helper.get_attribute_value(given), _VALUES[given.name])
    return numpy_helper.from_array(value, node.output[0])


def constants_of(graph: GraphProto) -> dict[str, TensorProto]:
    """Constants by name."""
    return {tensor.name: tensor for tensor in graph.initializer}


def prune_(graph: GraphProto) -> None:
    """Drops nodes and constants from which no way leads to an output."""
    makers, wanted = producers(graph), set[str]()
    left = [value.name for value in graph.output]
    while left:
        name = left.pop()
        if name not in wanted:
            wanted.add(name)
            left += _read_by(makers[name]) if name in makers else []
    nodes = [node for node in graph.node if wanted & set(node.output)]
    tensors = [tensor for tensor in graph.initializer if tensor.name in wanted]
    del graph.node[:]
    graph.node.extend(nodes)
    del graph.initializer[:]
    graph.initializer.extend(tensors)


def _read_by(node: NodeProto) -> list[str]:
    """Names that a node reads, those that its branches and loops read included."""
    inner = [each.g for each in node.attribute if each.type == AttributeProto.GRAPH]
    within = [name for graph in inner for part in graphs_of(graph) for one in part.node for name in one.input]
    outs = [value.name for graph in inner for value in graph.output]
    return [name for name in (*node.input, *within, *outs) if name]


def name_nodes_(graph: GraphProto) -> None:
    """Gives every node a name of its own, after its output where it has none or shares it."""
    taken = Counter(node.name for node in graph.node)
    for node in graph.node:
        if not node.name or taken[node.name] > 1:
            node.name = f"{node.op_type}_of_{next(filter(None, node.output), 'nothing')}"


def spell_out_products_(model: ModelProto) -> bool:
    """Brings every Gemm to one form: a bias [K], no factors. Whether there was anything to do."""
    graph, found = model.graph, False
    constants, reads = constants_of(graph), Counter(name for node in graph.node for name in node.input)
    for node in graph.node:
        if node.op_type != "Gemm" or node.input[1] not in constants:
            continue
        weight = numpy_helper.to_array(constants[node.input[1]])
        given = {each.name: each.f for each in node.attribute if each.name in ("alpha", "beta")}
        alpha, beta = given.get("alpha", 1.0), given.get("beta", 1.0)
        count = weight.shape[0 if attribute(node, "transB", 0) else 1]
        bias = constants.get(node.input[2]) if len(node.input) > 2 else None
        if len(node.input) > 2 and node.input[2] and bias is None:
            continue
        value = None if bias is None else numpy_helper.to_array(bias)
        if value is not None and value.size not in (1, count):
            continue
        if alpha != 1:
            node.input[1] = _replaced(graph, node.input[1], weight * weight.dtype.type(alpha), reads)
            found = True
        if value is not None and (beta != 1 or value.shape != (count,)):
            flat = np.broadcast_to(value.reshape(-1) * value.dtype.type(beta), (count,))
            node.input[2] = _replaced(graph, node.input[2], np.ascontiguousarray(flat), reads)
            found = True
        keep = [each for each in node.attribute if each.name not in ("alpha", "beta")]
        del node.attribute[:]
        node.attribute.extend(keep)
    return found


def _replaced(graph: GraphProto, name: str, value: np.ndarray, reads: Counter[str]) -> str:
    """The name of a constant with this value: the old name, where nothing else reads it."""
    if reads[name] == 1:
        for tensor in graph.initializer:
            if tensor.name == name:
                tensor.CopyFrom(numpy_helper.from_array(value, name))
        return name
    reads[name] -= 1
    own = f"{name}_{reads[name]}_flat"
    graph.initializer.append(numpy_helper.from_array(value, own))
    return own
