"""How robust compressed classifiers are against class imbalance in what they are trained on (Ali et al. 2024)."""

from __future__ import annotations

__all__: list[str] = []
