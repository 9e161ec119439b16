"""Runs a bundle, the part that a device installs: NumPy and onnxruntime, or OpenVINO or TensorRT where they are."""

from __future__ import annotations

from edgec.runtime.engine import is_installed
from edgec.runtime.model import Model, load_model, tolerance
from edgec.runtime.session import Session, softmax

__all__ = ["Model", "Session", "is_installed", "load_model", "softmax", "tolerance"]
