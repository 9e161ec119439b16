"""ONNX graphs: how their tensors hang together, how they are prepared, what computes in which precision."""

from __future__ import annotations

__all__: list[str] = []
