"""The engines: which of them are installed here, and a graph in one of them."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from edgec.core.errors import MissingDependencyError
from edgec.core.target import EngineName
from edgec.runtime.engine import Engine, Settings

__all__ = ["INSTALL", "NAMES", "is_installed", "load_engine"]

NAMES: Mapping[EngineName, str] = {"onnxruntime": "onnxruntime", "openvino": "OpenVINO", "tensorrt": "TensorRT"}
"""As they call themselves."""
_PACKAGES: Mapping[EngineName, tuple[str, ...]] = {
    "onnxruntime": ("onnxruntime",),
    "openvino": ("openvino",),
    "tensorrt": ("tensorrt", "cuda"),
}
INSTALL: Mapping[EngineName, str] = {
    "onnxruntime": "pip install onnxruntime",
    "openvino": "pip install 'edgec[openvino]'",
    "tensorrt": "TensorRT comes with JetPack; elsewhere pip install tensorrt cuda-python",
}
"""Where they come from."""


def is_installed(name: EngineName) -> bool:
    """Whether the engine's packages are here; none is imported."""
    return all(find_spec(package) is not None for package in _PACKAGES[name])


def load_engine(name: EngineName, model: bytes | Path, settings: Settings) -> Engine:
    """A graph in an engine.

    Args:
        name: The engine.
        model: An ONNX file, or its contents; for TensorRT a serialised engine.
        settings: How it is run.

    Raises:
        MissingDependencyError: The engine is not installed.
        DataError: It cannot load the model.
    """
    if not is_installed(name):
        raise MissingDependencyError(f"{NAMES[name]} is not installed", hint=INSTALL[name])
    if name == "openvino":
        from edgec.runtime.openvino import OpenVino

        return OpenVino(model, settings)
    if name == "tensorrt":
        from edgec.runtime.tensorrt import TensorRt

        return TensorRt(model)
    from edgec.runtime.onnx import OnnxRuntime

    return OnnxRuntime(model, settings)
