"""Export: one file per format."""

from __future__ import annotations

__all__: list[str] = []
