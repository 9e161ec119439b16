"""float16 as a GPU computes it, on a CPU: every result is rounded, and what is too large becomes infinite."""

from __future__ import annotations

from pathlib import Path

__all__ = ["as_computed_in_float16"]


def as_computed_in_float16(model: Path) -> bytes:
    """A float16 graph that rounds after every operator, whoever runs it.

    onnxruntime has hardly any float16 kernels for CPUs. It computes in float32 and drops the casts between operators:
    a value above 65,504, which is infinite on the device, passes unharmed. Casts that stand in the graph are kept. Sums
    inside an operator stay in float32.

    Args:
        model: ONNX in float16, as `edgec.quantize` writes it.
    """
    import onnx
    from onnx import TensorProto, helper

    graph_model = onnx.shape_inference.infer_shapes(onnx.load(model))
    graph = graph_model.graph
    halves = {v.name for v in graph.value_info if v.type.tensor_type.elem_type == TensorProto.FLOAT16}
    nodes = []
    for node in graph.node:
        nodes.append(node)
        for i, name in enumerate(node.output):
            if name in halves:
                exact, wide = f"{name}.exact", f"{name}.wide"
                node.output[i] = exact
                nodes.append(helper.make_node("Cast", [exact], [wide], to=TensorProto.FLOAT))
                nodes.append(helper.make_node("Cast", [wide], [name], to=TensorProto.FLOAT16))
    del graph.node[:], graph.value_info[:]
    graph.node.extend(nodes)
    return graph_model.SerializeToString()
