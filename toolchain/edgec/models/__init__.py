"""Teachers: architectures, weights, and where a classifier's features are."""

from __future__ import annotations

from edgec.models.config import ModelConfig

__all__ = ["ModelConfig"]
