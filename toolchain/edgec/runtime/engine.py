"""What a session needs of whatever computes the graph, and which of them are installed here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

import numpy as np

from edgec.core.errors import MissingDependencyError
from edgec.core.target import EngineName

__all__ = ["INSTALL", "NAMES", "Engine", "Port", "Settings", "is_installed", "load_engine"]

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


@dataclass(frozen=True, kw_only=True)
class Port:
    """An input or output of a graph.

    Attributes:
        kind: Its type, as the engine calls it.
        is_float: Whether that is float32.
        shape: An axis of any length is no integer.
    """

    name: str
    kind: str
    is_float: bool
    shape: tuple[int | str | None, ...]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a graph is run. An engine passes over what it does not know.

    Attributes:
        providers: onnxruntime's execution providers, best first.
        threads: Threads within an operator; None leaves it to the engine.
        device: What OpenVINO computes on, `CPU` or `GPU`.
    """

    providers: tuple[str, ...]
    threads: int | None
    device: str


class Engine(Protocol):
    """A graph, loaded.

    Attributes:
        devices: What computes it, best first: execution providers, or the names of devices.
        inputs: All that it takes.
        outputs: All that it gives; the first holds the logits.
        most: Images that it runs at once; None sets no limit.
        parallel: Whether several threads may run it at the same time.
    """

    devices: tuple[str, ...]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    most: int | None
    parallel: bool

    def run(self, tensor: np.ndarray) -> np.ndarray:
        """The first output for the first input, a fresh array.

        Raises:
            DataError: Another shape or type than the graph takes.
            UnsupportedError: The engine fails on the graph.
        """
        ...


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
