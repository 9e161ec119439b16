"""What a graph takes from elsewhere is found wherever ONNX lets it stand; graphs that bring everything pass."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from edgec.core.errors import IntegrityError
from edgec.package import open_bundle
from edgec.package.graph import foreign_part

WEIGHTS = numpy_helper.from_array(np.arange(6, dtype=np.float32), "w")


def elsewhere() -> TensorProto:
    """A tensor whose values lie in another file."""
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[6], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="weights.bin")
    return tensor


def sparse(tensor: TensorProto) -> onnx.SparseTensorProto:
    return onnx.SparseTensorProto(values=tensor, indices=numpy_helper.from_array(np.arange(6)), dims=[9])


def graph(nodes: list[NodeProto], weights: list[TensorProto]) -> onnx.GraphProto:
    return helper.make_graph(nodes, "g", [], [], weights)


def model(nodes: list[NodeProto] | None = None, weights: list[TensorProto] | None = None) -> ModelProto:
    return helper.make_model(graph(nodes or [], weights or []))


def constant(**attribute: Any) -> NodeProto:
    return helper.make_node("Constant", [], ["c"], **attribute)


def as_weight(tensor: TensorProto) -> ModelProto:
    return model(weights=[WEIGHTS, tensor])


def as_sparse_weight(tensor: TensorProto) -> ModelProto:
    made = model()
    made.graph.sparse_initializer.append(sparse(tensor))
    return made


def as_attribute(tensor: TensorProto) -> ModelProto:
    return model([constant(value=tensor)])


def as_one_of_many(tensor: TensorProto) -> ModelProto:
    return model([constant(values=[WEIGHTS, tensor])])


def as_sparse_attribute(tensor: TensorProto) -> ModelProto:
    return model([constant(sparse_value=sparse(tensor))])


def in_a_branch(tensor: TensorProto) -> ModelProto:
    branch = graph([constant(value=tensor)], [])
    return model([helper.make_node("If", ["x"], ["y"], then_branch=branch, else_branch=graph([], []))])


def in_branches(tensor: TensorProto) -> ModelProto:
    return model([helper.make_node("X", [], [], branches=[graph([], []), graph([], [tensor])])])


def in_a_function(tensor: TensorProto) -> ModelProto:
    made = model()
    opsets = [helper.make_opsetid("", 18)]
    made.functions.append(helper.make_function("own", "f", [], ["c"], [constant(value=tensor)], opsets))
    return made


def in_training(tensor: TensorProto) -> ModelProto:
    made = model()
    made.training_info.add().algorithm.CopyFrom(graph([], [tensor]))
    return made


PLACES = (as_weight, as_sparse_weight, as_attribute, as_one_of_many, as_sparse_attribute, in_a_branch, in_branches)


@pytest.mark.parametrize("place", [*PLACES, in_a_function, in_training])
def test_weights_in_another_file_are_found(place: Callable[[TensorProto], ModelProto]) -> None:
    assert foreign_part(place(elsewhere()).SerializeToString()) == "file of its own"
    assert foreign_part(place(WEIGHTS).SerializeToString()) is None


def test_a_place_without_a_file_is_found() -> None:
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[6], data_location=TensorProto.EXTERNAL)
    assert foreign_part(as_weight(tensor).SerializeToString()) == "file of its own"


def test_a_compiled_engine_is_found() -> None:
    node = helper.make_node("EPContext", [], ["y"], domain="com.microsoft", ep_cache_context="../engine")
    assert foreign_part(model([constant(value=WEIGHTS), node]).SerializeToString()) == "compiled engine"


def test_a_graph_may_mention_what_it_does_not_do() -> None:
    made = model([constant(value_string="EPContext")], [WEIGHTS])
    made.doc_string = "external_data: EPContext"
    assert foreign_part(made.SerializeToString()) is None


def test_a_graph_behind_a_group_is_looked_at() -> None:
    """protobuf skips groups that it does not know and reads on."""
    group = bytes([100 << 3 & 0x7F | 0x80 | 3, 6, 100 << 3 & 0x7F | 0x80 | 4, 6])
    assert foreign_part(group + as_weight(elsewhere()).SerializeToString()) == "file of its own"


def test_branches_without_end_are_refused() -> None:
    inner = b""
    for _ in range(120):
        for number in (6, 5, 1):  # graph of an attribute, attribute of a node, node of a graph
            inner = bytes([number << 3 | 2]) + varint(len(inner)) + inner
    assert foreign_part(bytes([7 << 3 | 2]) + varint(len(inner)) + inner) == "graph nested too deep"


def varint(number: int) -> bytes:
    return bytes([number]) if number < 0x80 else bytes([number & 0x7F | 0x80]) + varint(number >> 7)


@pytest.mark.parametrize("data", [b"", b"m", b"\xff" * 20, b"\x3a\xff\xff\xff\x7f", b"\x00\x00"])
def test_what_is_no_protobuf_is_left_to_the_engine(data: bytes) -> None:
    assert foreign_part(data) is None


def test_a_bundle_with_weights_elsewhere_is_refused(make_bundle: Callable[..., Path]) -> None:
    bundle = make_bundle(files={"model.onnx": as_weight(elsewhere()).SerializeToString()})
    with pytest.raises(IntegrityError, match=r"'model.onnx' has a file of its own, expected a graph that brings every"):
        open_bundle(bundle).verify()
