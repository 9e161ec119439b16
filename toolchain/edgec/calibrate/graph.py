"""The graph as the quantiser sees it: constants and batch norms folded, shapes known, the exporter's notes gone."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnx import ModelProto

__all__ = ["prepare"]

_SMALL_BYTES = 4096
"""Constants that may say something of shapes are smaller."""


def prepare(model: Path) -> ModelProto:
    """Folds and shape-infers an FP32 model, without touching the file or its folder.

    The rewrites are those that onnxruntime makes in standard operators only, so the opset stays. Equal files give
    equal graphs, and names of tensors that survive stay as they are.
    """
    import onnx

    with tempfile.TemporaryDirectory(prefix="edgec-") as folder:
        folded = onnx.load(_fold(model, Path(folder) / "folded.onnx"))
    _forget_notes(folded)
    for node in folded.graph.node:
        node.name = node.name or f"node_of_{node.output[0]}"
    return _with_shapes(folded)


def _fold(model: Path, folded: Path) -> Path:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(folded)
    options.log_severity_level = 3
    onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    return folded


def _with_shapes(model: ModelProto) -> ModelProto:
    """The model with the shapes of its tensors; large weights stay out of inference, which would copy them twice."""
    import onnx

    aside = {each.name: each.raw_data for each in model.graph.initializer if len(each.raw_data) > _SMALL_BYTES}
    for each in model.graph.initializer:
        if each.name in aside:
            each.ClearField("raw_data")
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
    for each in inferred.graph.initializer:
        if each.name in aside:
            each.raw_data = aside[each.name]
    return inferred


def _forget_notes(model: ModelProto) -> None:
    """Drops what differs between machines (stack traces, paths) and the operator sets that no node uses."""
    import onnx

    used = {node.domain for node in model.graph.node} | {""}
    sets = [onnx.helper.make_opsetid(o.domain, o.version) for o in model.opset_import if o.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(sets)
    for holder in (model, model.graph, *model.graph.node, *model.graph.input, *model.graph.output):
        holder.ClearField("doc_string")
        holder.ClearField("metadata_props")
    del model.graph.value_info[:]
