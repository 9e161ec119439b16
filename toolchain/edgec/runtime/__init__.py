"""Runs a bundle: NumPy and onnxruntime only, the part that a device installs."""

from __future__ import annotations

from edgec.runtime.model import Model, load_model, tolerance
from edgec.runtime.session import Session, softmax

__all__ = ["Model", "Session", "load_model", "softmax", "tolerance"]
