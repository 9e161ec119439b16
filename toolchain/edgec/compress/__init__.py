"""Compression: few-sample methods, one file each, and OE-FSMC, which wraps any of them."""

from __future__ import annotations

from edgec.compress.config import FinetuneConfig, MirConfig, OefsmcConfig
from edgec.learn.config import Budget, DistillConfig

__all__ = ["Budget", "DistillConfig", "FinetuneConfig", "MirConfig", "OefsmcConfig"]
