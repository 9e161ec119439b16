"""Predicted latency on the target as the price that a budget counts: of plans by estimate, of nets by their graphs."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgec.core.classifier import Classifier
from edgec.core.target import Target

if TYPE_CHECKING:
    from torch import nn

    from edgec.compress.price import Layers

__all__ = ["LATENCY_READS", "LatencyPrice"]

LATENCY_READS = (
    *("target.name", "target.title", "target.compute", "target.quantization", "target.runtime"),
    "config.export.preprocess_in_graph",
)
"""What a stage's key covers beside its own settings where it asks for this."""


class LatencyPrice:
    """Milliseconds of one image in the number formats that ship (`compress.price.Price`).

    Args:
        teacher: The whole net.
        target: The device.
        raw: Whether graphs take pixels from 0 to 255 and normalise them themselves.

    Raises:
        UnsupportedError: The target has no compute figures, or the teacher holds what cannot be predicted.
    """

    def __init__(self, teacher: Classifier, target: Target, *, raw: bool) -> None:
        from edgec.compress.price import layers_of
        from edgec.latency.narrowed import NarrowedLatency
        from edgec.latency.roofline import predict_latency

        self._teacher, self._target, self._raw = teacher, target, raw
        self._known: dict[object, float] = {}
        with tempfile.TemporaryDirectory(prefix="edgec-") as folder:
            graph = self._written(teacher.module, Path(folder))
            self._whole = predict_latency(graph, target).latency_ms
            self._planned = NarrowedLatency(graph, target, layers_of(teacher.module))

    @property
    def whole(self) -> float:
        """Of the teacher."""
        return self._whole

    def of_layers(self, layers: Layers) -> float:
        """By estimate."""
        return self._planned.ms(layers)

    def of_net(self, module: nn.Module) -> float:
        """By its own graph; nets of the same layers take the same."""
        from edgec.compress.price import layers_of
        from edgec.latency.roofline import predict_latency

        layers = tuple(layers_of(module).items())
        if layers not in self._known:
            with tempfile.TemporaryDirectory(prefix="edgec-") as folder:
                graph = self._written(module, Path(folder))
                self._known[layers] = predict_latency(graph, self._target).latency_ms
        return self._known[layers]

    def told(self, amount: float) -> str:
        """With where it would take that long."""
        return f"{amount:.3g} ms, as predicted on {self._target.title}"

    def _written(self, module: nn.Module, folder: Path) -> Path:
        from edgec.export.onnx import export_onnx
        from edgec.quantize.unobserved import quantize_unobserved

        plain, shipped = folder / "plain.onnx", folder / "shipped.onnx"
        opset = self._target.runtime.opset
        export_onnx(replace(self._teacher, module=module), plain, opset=opset, preprocess_in_graph=self._raw)
        quantize_unobserved(plain, self._target, output=shipped)
        return shipped
