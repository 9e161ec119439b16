"""Graphs on their way, run in onnxruntime; and the file as it was given, which that graph must match."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, TensorProto
from onnx.reference import ReferenceEvaluator

from edgec.models.onnx.layout import Layout
from edgec.models.onnx.read import tensors_of
from edgec.runtime.engine import Settings
from edgec.runtime.onnx import OnnxRuntime

__all__ = ["Given", "run_all"]

_TIES: dict[int, float] = {TensorProto.FLOAT16: 1e-2, TensorProto.BFLOAT16: 8e-2}
"""Share of the spread of the logits within which a class is a matter of rounding: some steps of the type."""
_TIE = 1e-3
_BATCH = 32
_SETTINGS = Settings(providers=(), threads=None, device="CPU")


def run_all(model: ModelProto, images: np.ndarray, *, batch: int | None = None) -> dict[str, np.ndarray]:
    """Every output of a graph for its one input, in the order of the images.

    Args:
        model: With one input.
        images: As it takes them, a multiple of the batch.
        batch: How many it takes at once; any number where it is None.

    Raises:
        DataError: onnxruntime does not load it, or the images do not fit.
        UnsupportedError: It fails while running.
    """
    engine, size = OnnxRuntime(model.SerializeToString(), _SETTINGS), batch or len(images)
    runs = [engine.run_all(images[start : start + size]) for start in range(0, len(images), size)]
    return {name: np.concatenate([np.atleast_1d(run[name]) for run in runs]) for name in runs[0]}


class Given:
    """A file that runs as it is.

    Args:
        model: As it was read; its outputs are replaced.
        layout: How it takes images.
        output: The tensor with its scores.
        threshold: Of a single output for two classes, the value from which it says the second.

    Attributes:
        tie: Share of the logits' spread below which two classes are as good as equal.
    """

    def __init__(self, model: ModelProto, layout: Layout, output: str, threshold: float | None) -> None:
        del model.graph.output[:]
        model.graph.output.append(onnx.helper.make_empty_tensor_value_info(output))
        self.tie = max((_TIES.get(tensor.data_type, _TIE) for tensor in tensors_of(model)), default=_TIE)
        self._model = model.SerializeToString()
        self._layout = layout
        self._threshold = threshold

    @cached_property
    def _engine(self) -> OnnxRuntime:
        return OnnxRuntime(self._model, _SETTINGS)

    def classes(self, pixels: np.ndarray) -> np.ndarray:
        """Int [n], the class of each image, uint8 [n, height, width, channels].

        Raises:
            DataError: onnxruntime does not load the file.
            UnsupportedError: It fails while running.
        """
        return self._classes(pixels, lambda images: next(iter(self._engine.run_all(images).values())))

    def classes_by_reference(self, pixels: np.ndarray) -> np.ndarray:
        """The same by onnx's own evaluator: slow, and made for the types that onnxruntime has no kernels for."""
        evaluator = ReferenceEvaluator(onnx.load_from_string(self._model))
        name = self._layout.name
        return self._classes(pixels, lambda images: _first(evaluator.run(None, {name: images})))

    def _classes(self, pixels: np.ndarray, run: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        images, size, found = self._layout.feed(pixels), self._layout.batch or _BATCH, list[np.ndarray]()
        for start in range(0, len(images), size):
            part = images[start : start + size]
            filled = part if self._layout.batch is None else np.resize(part, (size, *part.shape[1:]))
            found.append(run(filled).reshape(len(filled), -1)[: len(part)])
        rows = np.concatenate(found)
        return rows.argmax(axis=1) if self._threshold is None else (rows[:, 0] > self._threshold).astype(np.int64)


def _first(outputs: Any) -> np.ndarray:
    return np.asarray(outputs[0], np.float32)
