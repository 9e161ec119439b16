"""A batch of any size, where a file is fixed to one: shapes that were written for one number of images are opened."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
from onnx import ModelProto, numpy_helper

from edgec.core.errors import EdgecError
from edgec.models.onnx.tidy import constants_of

__all__ = ["with_free_batch"]

Run = Callable[[ModelProto], np.ndarray]
_CLOSE = 1e-3
"""Share of the spread of the scores by which batches may differ from single images: other sums, other kernels."""


def with_free_batch(model: ModelProto, fixed: ModelProto, scores: np.ndarray, run: Run) -> ModelProto | None:
    """The model for batches of any size; None where its shapes cannot be opened.

    Args:
        model: Its input's batch is open; within, shapes may be written for one.
        fixed: The same with the batch for which it was written.
        scores: What that gave for some images.
        run: Gives what a model says of the same images in one batch.
    """
    for candidate in (lambda: model, lambda: _opened(model, fixed)):
        opened = candidate()
        try:
            found = run(opened)
        except EdgecError:
            continue
        if found.shape == scores.shape and np.abs(found - scores).max() <= _CLOSE * max(float(np.ptp(scores)), 1e-6):
            return opened
    return None


def _opened(model: ModelProto, fixed: ModelProto) -> ModelProto:
    """The model with the first side of every written shape left to be worked out."""
    known = onnx.shape_inference.infer_shapes(fixed, data_prop=True).graph
    shapes = {value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim] for value in known.value_info}
    shapes |= {value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim] for value in known.output}
    opened = ModelProto()
    opened.CopyFrom(model)
    constants = constants_of(opened.graph)
    for node in opened.graph.node:
        if node.op_type != "Reshape" or node.input[1] not in constants:
            continue
        sides = numpy_helper.to_array(constants[node.input[1]]).tolist()
        full = shapes.get(node.output[0], [])
        if not sides or sides[0] in (-1, 0) or len(full) != len(sides):
            continue
        if -1 in sides[1:] or 0 in sides[1:]:
            sides = [side if side > 0 else known_side for side, known_side in zip(sides, full, strict=True)]
        if all(side > 0 for side in sides[1:]):
            name = f"{node.output[0]}_open_shape"
            opened.graph.initializer.append(numpy_helper.from_array(np.array([-1, *sides[1:]], np.int64), name))
            node.input[1] = name
    return opened
