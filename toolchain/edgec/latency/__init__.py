"""What is predicted of a device: work of a graph, fused operators, a roofline over both, advice."""

from __future__ import annotations

__all__: list[str] = []
