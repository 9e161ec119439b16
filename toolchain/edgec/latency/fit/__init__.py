"""Fits the latency model to a machine: small graphs, timed there, and least squares over them."""

from __future__ import annotations

__all__: list[str] = []
