"""What is measured on a machine: times, memory, energy, its state, and whether int8 pays there."""

from __future__ import annotations

__all__: list[str] = []
