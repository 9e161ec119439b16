"""OpenVINO: runs ONNX graphs on Intel's CPUs and GPUs, in int8 where Q/DQ pairs say so."""

from __future__ import annotations

import io
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from edgec.core.errors import DataError, UnsupportedError
from edgec.runtime.engine import Port, Settings

__all__ = ["OpenVino"]

openvino: Any = import_module("openvino")  # an extra: pyright runs without it
frontend: Any = import_module("openvino.frontend")

_FAILURES: tuple[type[Exception], ...] = (
    RuntimeError,
    *(getattr(frontend, name) for name in ("GeneralFailure", "InitializationFailure", "NotImplementedFailure")),
    *(getattr(frontend, name) for name in ("OpConversionFailure", "OpValidationFailure")),
)
"""What OpenVINO and its readers raise."""
_CPU = "CPU"
_PLACES = ("Exception from", "Check '", "FrontEnd API failed", "Model wasn't fully", "Summary:")
"""Lines of OpenVINO's messages that say where in its source it failed, not what."""


class OpenVino:
    """A graph in OpenVINO; see `edgec.runtime.engine.Engine`.

    On a CPU all that is not int8 is computed in float32: left to itself, OpenVINO takes bfloat16 where the CPU has it,
    and the classes would depend on the machine. A GPU computes it in float16.

    Args:
        model: The ONNX file, or its contents.
        settings: Its device is passed over where this machine has no such device: the CPU takes its place.

    Raises:
        DataError: OpenVINO cannot load the model.
    """

    most: int | None = None
    parallel = False

    def __init__(self, model: bytes | Path, settings: Settings) -> None:
        core = openvino.Core()
        device = settings.device if settings.device in core.available_devices else _CPU
        compiled = _compile(core, model, device, _options(device, settings.threads))
        self.devices: tuple[str, ...] = (device,)
        self.inputs = tuple(map(_port, compiled.inputs))
        self.outputs = tuple(map(_port, compiled.outputs))
        self._request: Any = compiled.create_infer_request()
        self._shape = self.inputs[0].shape[1:] if self.inputs else ()

    def run(self, tensor: np.ndarray) -> np.ndarray:
        """The first output for the first input."""
        if tensor.dtype != np.float32 or tensor.shape[1:] != self._shape:
            shape = ", ".join(map(str, self._shape))
            raise DataError(f"input {tensor.dtype} {tensor.shape}: expected float32 (n, {shape})")
        try:
            self._request.infer([np.ascontiguousarray(tensor)], share_inputs=True)
        except _FAILURES as error:
            raise UnsupportedError(f"OpenVINO {_version()}: {_line(error)}") from error
        return self._request.get_output_tensor(0).data.copy()


def _options(device: str, threads: int | None) -> dict[str, Any]:
    options: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY"}
    if device == _CPU:
        options["INFERENCE_PRECISION_HINT"] = "f32"
        # Pinned threads wait for their core where other processes run: on a busy machine they took five times as long.
        options["ENABLE_CPU_PINNING"] = False
        if threads:
            options["INFERENCE_NUM_THREADS"] = threads
    return options


def _compile(core: Any, model: bytes | Path, device: str, options: dict[str, Any]) -> Any:
    """By the reader of ONNX: `read_model` takes a text within the file that looks like OpenVINO's own format."""
    try:
        reader = frontend.FrontEndManager().load_by_framework("onnx")
        graph = reader.load(io.BytesIO(model) if isinstance(model, bytes) else str(model))
        return core.compile_model(reader.convert(graph), device, options)
    except _FAILURES as error:
        raise DataError(
            f"OpenVINO {_version()} cannot load the model: {_line(error)}",
            hint="run it in onnxruntime, which reads more operators and types: choose a target with that engine",
        ) from error


def _port(node: Any) -> Port:
    kind = node.get_element_type()
    axes = node.get_partial_shape()
    return Port(
        name=_name(node),
        kind=kind.get_type_name(),
        is_float=kind == openvino.Type.f32,
        shape=tuple(axis.get_length() if axis.is_static else None for axis in axes),
    )


def _name(node: Any) -> str:
    """As the ONNX file calls it; tensors that OpenVINO found to be the same share all of their names."""
    name = node.get_node().get_friendly_name().partition("/sink_port_")[0]
    return name if name in node.get_names() else min(node.get_names(), default=name)


def _version() -> str:
    return openvino.__version__.partition("-")[0]


def _line(error: Exception) -> str:
    """What went wrong."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = [line for line in lines if not line.startswith(_PLACES)]
    return (told or lines or [type(error).__name__])[0]
