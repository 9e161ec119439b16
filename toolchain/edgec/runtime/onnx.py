"""onnxruntime: runs ONNX graphs on every machine that edgec knows."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from edgec.core.errors import DataError, UnsupportedError
from edgec.runtime.engine import Port, Settings

__all__ = ["OnnxRuntime"]

_native: Any = import_module("onnxruntime.capi.onnxruntime_pybind11_state")

_CPU = "CPUExecutionProvider"
_FLOAT = "tensor(float)"
_FATAL_ONLY = 4
_FAILURES: tuple[type[Exception], ...] = tuple(
    getattr(_native, name)
    for name in (
        *("EPFail", "EngineError", "Fail", "InvalidArgument", "InvalidGraph", "InvalidProtobuf", "ModelLoaded"),
        *("NoModel", "NoSuchFile", "NotImplemented", "RuntimeException"),
    )
    if hasattr(_native, name)
)
"""What onnxruntime raises; its classes share no base but Exception."""
_ROUNDS_BIASES = "WeightBiasQuantization"
"""An optimiser that rounds biases to int32, also where a graph for TensorRT leaves them in floating point, and so gives
some images another class than TensorRT would. Where int8 kernels want rounded biases, the graph says so itself."""
_BYTES_ALONE = {
    "session.load_model_format": "ONNX",
    "session.model_external_initializers_file_folder_path": "/dev/null",
}
"""Bytes are read as ONNX, not as onnxruntime's own format, and weights of their own file have no folder to lie in: else
it would be the current one. From 1.24.3 on, onnxruntime refuses absolute paths and `..` as well."""

_CAUSES = (
    ("is not a registered function/op", "export it with operators of ONNX alone, none of another library"),
    ("Unsupported model IR version", "export it with an older IR version, or install a newer onnxruntime"),
    ("is under development", "export it with an older opset, or install a newer onnxruntime"),
    ("Could not find an implementation", "export it in float32: this operator has no kernel for these types"),
    ("xternal", "its weights lie in another file: keep both in one folder, or export it into one file"),
    ("Protobuf parsing failed", "the file is damaged or no ONNX: copy or export it again"),
    ("NoSuchFile", "check the path"),
)
"""Signs in onnxruntime's messages, and what helps."""


class OnnxRuntime:
    """A graph in onnxruntime; see `edgec.runtime.engine.Engine`.

    Args:
        model: The ONNX file, or its contents.
        settings: Execution providers that are not installed are passed over, the CPU comes last.

    Raises:
        DataError: onnxruntime cannot load the model.
    """

    most: int | None = None
    parallel = True

    def __init__(self, model: bytes | Path, settings: Settings) -> None:
        self._session: Any = _load(model, settings)
        self.devices: tuple[str, ...] = tuple(self._session.get_providers())
        self.inputs = tuple(map(_port, self._session.get_inputs()))
        self.outputs = tuple(map(_port, self._session.get_outputs()))
        self._input = self.inputs[0].name if self.inputs else ""
        self._wanted = [port.name for port in self.outputs[:1]]

    def run(self, tensor: np.ndarray) -> np.ndarray:
        """The first output for the first input."""
        return self._run(self._wanted, tensor)[0]

    def run_all(self, tensor: np.ndarray) -> dict[str, np.ndarray]:
        """Every output by name, for the first input."""
        names = [port.name for port in self.outputs]
        return dict(zip(names, self._run(names, tensor), strict=True))

    def _run(self, names: list[str], tensor: np.ndarray) -> list[np.ndarray]:
        try:
            return self._session.run(names, {self._input: tensor})
        except _native.InvalidArgument as error:
            shape = ", ".join(map(str, self.inputs[0].shape[1:]))
            raise DataError(f"input {tensor.dtype} {tensor.shape}: expected float32 (n, {shape})") from error
        except _FAILURES as error:
            raise UnsupportedError(f"onnxruntime {onnxruntime.__version__}: {_line(error)}") from error


def _load(model: bytes | Path, settings: Settings) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _FATAL_ONLY
    options.intra_op_num_threads = settings.threads or 0
    for name, value in _BYTES_ALONE.items() if isinstance(model, bytes) else ():
        options.add_session_config_entry(name, value)
    here = onnxruntime.get_available_providers()
    wanted = [name for name in dict.fromkeys((*settings.providers, _CPU)) if name in here]
    try:
        return onnxruntime.InferenceSession(
            model if isinstance(model, bytes) else str(model),
            sess_options=options,
            providers=wanted,
            disabled_optimizers=[_ROUNDS_BIASES],
        )
    except _FAILURES as error:
        line = _line(error)
        raise DataError(
            f"onnxruntime {onnxruntime.__version__} cannot load the model: {line}", hint=_hint(line)
        ) from error


def _hint(line: str) -> str:
    """What to do about a graph that is not loaded, by what onnxruntime says of it."""
    return next((hint for sign, hint in _CAUSES if sign in line), "export the model again: the graph is at fault")


def _port(node: Any) -> Port:
    return Port(name=node.name, kind=node.type, is_float=node.type == _FLOAT, shape=tuple(node.shape or ()))


def _line(error: Exception) -> str:
    """The text without onnxruntime's code and the lines below the first."""
    first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return first.split(" : ", maxsplit=3)[-1] if first.startswith("[ONNXRuntimeError]") else first
