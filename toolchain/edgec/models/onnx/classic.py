"""Classifiers of scikit-learn as skl2onnx writes them: linear ones become matrix products, label outputs go."""

from __future__ import annotations

import numpy as np
from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper

from edgec.graph.view import producers
from edgec.models.onnx.read import graphs_of

__all__ = ["plain_operators_"]

_ML = "ai.onnx.ml"
_ENDS = {"LOGISTIC": "Sigmoid", "SOFTMAX": "Softmax"}
_NORMS = {"L1": 1, "L2": 2}


def plain_operators_(graph: GraphProto) -> bool:
    """Writes ai.onnx.ml's linear operators as standard ones, and takes ZipMaps away. Whether there were linear ones.

    What else of that domain there is, such as trees, stays.
    """
    if not any(node.domain == _ML for part in graphs_of(graph) for node in part.node):
        return False
    _unzip_(graph)
    nodes, found = list[NodeProto](), False
    for node in graph.node:
        known = {
            "LinearClassifier": _linear,
            "Normalizer": _normalised,
            "Scaler": _scaled,
        }.get(node.op_type if node.domain == _ML else "")
        nodes += known(graph, node) if known else [node]
        found = found or known is not None
    del graph.node[:]
    graph.node.extend(nodes)
    return found


def _unzip_(graph: GraphProto) -> None:
    """A ZipMap's output is a list of tables; what it reads is the matrix of scores."""
    makers = producers(graph)
    for value in graph.output:
        maker = makers.get(value.name)
        if maker is not None and maker.op_type == "ZipMap":
            value.CopyFrom(helper.make_tensor_value_info(maker.input[0], TensorProto.FLOAT, None))
            graph.node.remove(maker)


def _attributes(node: NodeProto) -> dict[str, object]:
    return {each.name: helper.get_attribute_value(each) for each in node.attribute}


def _constant(graph: GraphProto, name: str, value: np.ndarray) -> str:
    graph.initializer.append(numpy_helper.from_array(value.astype(np.float32), name))
    return name


def _linear(graph: GraphProto, node: NodeProto) -> list[NodeProto]:
    """Scores by a Gemm; the labels that the node gives as well are left to it, should anybody read them."""
    given, scores = _attributes(node), node.output[1]
    bias = np.asarray(given["intercepts"])
    weight = np.asarray(given["coefficients"]).reshape(len(bias), -1)
    end = _ENDS.get(bytes(given.get("post_transform", b"NONE")).decode())  # pyright: ignore[reportArgumentType]
    raw = f"{scores}_raw" if end else scores
    inputs = [node.input[0], _constant(graph, f"{scores}_w", weight), _constant(graph, f"{scores}_b", bias)]
    labels = NodeProto()
    labels.CopyFrom(node)
    labels.output[1] = f"{scores}_of_labels"
    made = [labels, helper.make_node("Gemm", inputs, [raw], name=f"{scores}_product", transB=1)]
    return made + ([helper.make_node(end, [raw], [scores])] if end else [])


def _normalised(graph: GraphProto, node: NodeProto) -> list[NodeProto]:
    del graph
    norm = _NORMS.get(bytes(_attributes(node).get("norm", b"MAX")).decode())  # pyright: ignore[reportArgumentType]
    return (
        [helper.make_node("LpNormalization", node.input, node.output, node.name, p=norm, axis=-1)] if norm else [node]
    )


def _scaled(graph: GraphProto, node: NodeProto) -> list[NodeProto]:
    given, name = _attributes(node), node.output[0]
    offset, scale = (_constant(graph, f"{name}_{what}", np.asarray(given[what])) for what in ("offset", "scale"))
    return [
        helper.make_node("Sub", [node.input[0], offset], [f"{name}_moved"], name=f"{name}_moved"),
        helper.make_node("Mul", [f"{name}_moved", scale], [name], name=f"{name}_scaled"),
    ]
