"""What each method of few-sample compression reaches, alone and under OE-FSMC (arXiv 2502.05832)."""

from __future__ import annotations

__all__: list[str] = []
