"""Runs a bundle, the part that a device installs: NumPy and onnxruntime, or OpenVINO or TensorRT where they are."""

from __future__ import annotations

from edgec.runtime.engines import is_installed
from edgec.runtime.files import predict_files
from edgec.runtime.model import UNKNOWN, Model, load_model, tolerance
from edgec.runtime.prediction import Prediction, prediction_of
from edgec.runtime.proof import prove
from edgec.runtime.session import Session, softmax
from edgec.runtime.stream import Frame, Stream, stream

__all__ = [
    "UNKNOWN",
    "Frame",
    "Model",
    "Prediction",
    "Session",
    "Stream",
    "is_installed",
    "load_model",
    "predict_files",
    "prediction_of",
    "prove",
    "softmax",
    "stream",
    "tolerance",
]
