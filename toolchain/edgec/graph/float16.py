"""float16 as a GPU computes it, on a CPU: every result is rounded, and what is too large becomes infinite."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnx import NodeProto

__all__ = ["ROUNDED", "as_computed_in_float16"]

ROUNDED = "float16, rounded after every operator"
"""For people, in a measurement's `where`."""

_MOVERS = frozenset(
    {
        "Clip",
        "Concat",
        "Flatten",
        "Gather",
        "Identity",
        "MaxPool",
        "Pad",
        "Relu",
        "Reshape",
        "Slice",
        "Split",
        "Squeeze",
    }
    | {"Transpose", "Unsqueeze"}
)
"""Operators that give nothing that they were not given, so that nothing is left to round."""
_AXIS = "float16.axis"


def as_computed_in_float16(model: Path | bytes) -> bytes:
    """The graph in float32, with every result that was float16 rounded to float16.

    onnxruntime has hardly any float16 kernels for CPUs. It computes a float16 graph in float32 and drops the casts
    between operators, also such as stand in the graph: a value above 65,504, which is infinite on the device, passes
    unharmed. Here each result goes to float16 and back, with an axis put in and taken out between the two casts, since
    onnxruntime takes two in a row for nothing. Sums inside an operator stay in float32.

    Args:
        model: ONNX of opset 13 or newer with float16 in it, as `edgec.quantize` writes it: the file or its contents.
            One without float16 computes what it did.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    given = onnx.load_from_string(model) if isinstance(model, bytes) else onnx.load(model)
    half = onnx.shape_inference.infer_shapes(given)
    graph = half.graph
    halves = {v.name for v in graph.value_info if v.type.tensor_type.elem_type == TensorProto.FLOAT16}
    nodes = [part for node in graph.node for part in _rounded(_widened(node), halves)]
    constants = [
        numpy_helper.from_array(numpy_helper.to_array(tensor).astype("float32"), tensor.name)
        if tensor.data_type == TensorProto.FLOAT16
        else tensor
        for tensor in graph.initializer
    ]
    constants.append(helper.make_tensor(_AXIS, TensorProto.INT64, [1], [0]))
    wide = helper.make_graph(nodes, graph.name, graph.input, graph.output, constants)
    return helper.make_model(wide, opset_imports=half.opset_import, ir_version=half.ir_version).SerializeToString()


def _widened(node: NodeProto) -> NodeProto:
    """The node with float32 in the place of float16; a cast to float16 becomes one to float32, and is rounded."""
    import onnx
    from onnx import TensorProto, numpy_helper

    wide = onnx.NodeProto()
    wide.CopyFrom(node)
    for attribute in wide.attribute:
        if attribute.name in ("to", "dtype", "output_dtype") and attribute.i == TensorProto.FLOAT16:
            attribute.i = TensorProto.FLOAT
        if attribute.t.data_type == TensorProto.FLOAT16:
            attribute.t.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(attribute.t).astype("float32")))
    return wide


def _rounded(node: NodeProto, halves: set[str]) -> Iterator[NodeProto]:
    """The node, and what rounds those of its results that were float16."""
    from onnx import TensorProto, helper

    results = [] if node.op_type in _MOVERS else [(i, name) for i, name in enumerate(node.output) if name in halves]
    for i, name in results:
        node.output[i] = f"{name}.exact"
    yield node
    for _, name in results:
        yield helper.make_node("Cast", [f"{name}.exact"], [f"{name}.half"], to=TensorProto.FLOAT16)
        yield helper.make_node("Unsqueeze", [f"{name}.half", _AXIS], [f"{name}.apart"])
        yield helper.make_node("Cast", [f"{name}.apart"], [f"{name}.wide"], to=TensorProto.FLOAT)
        yield helper.make_node("Squeeze", [f"{name}.wide", _AXIS], [name])
