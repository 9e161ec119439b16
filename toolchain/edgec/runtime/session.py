"""A thin layer over an onnxruntime session: providers, threads, batches, pixels to logits."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from edgec.core.errors import DataError, UnsupportedError
from edgec.core.inputs import InputSpec, normalise

__all__ = ["Session", "softmax"]

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


class Session:
    """A classifier's graph, ready to run.

    Args:
        model: The ONNX file, or its contents. The graph takes float32 [n, channels, height, width] and its first
            output is logits, float32 [n, classes].
        spec: The images that it takes.
        preprocessing_in_graph: True when the graph wants raw values 0 to 255 and normalises by itself.
        providers: Execution providers, best first; those that are not installed are passed over, the CPU comes last.
        threads: Threads within an operator; None leaves it to onnxruntime.
        batch: Most images run at once.

    Attributes:
        classes: Number of logits.
        providers: The execution providers in use, best first.

    Raises:
        DataError: onnxruntime cannot load the model.
        UnsupportedError: Its input or output is not as described above.
    """

    def __init__(
        self,
        model: bytes | Path,
        spec: InputSpec,
        *,
        preprocessing_in_graph: bool = False,
        providers: Sequence[str] = (_CPU,),
        threads: int | None = None,
        batch: int = 32,
    ) -> None:
        self.spec = spec
        self._raw = preprocessing_in_graph
        self._session: Any = _load(model, providers=providers, threads=threads)
        self._input, fixed_batch = _input(self._session, spec)
        self._outputs, self.classes = _output(self._session)
        self._batch = fixed_batch or batch

    @property
    def input(self) -> str:
        """Name of the graph's input."""
        return self._input

    @property
    def output(self) -> str:
        """Name of the graph's output that holds the logits."""
        return self._outputs[0]

    @property
    def providers(self) -> tuple[str, ...]:
        """The execution providers in use, best first."""
        return tuple(self._session.get_providers())

    def logits(self, images: np.ndarray) -> np.ndarray:
        """float32 [n, classes] for uint8 pixels [n, height, width, channels] or what `feed` made of them.

        Raises:
            DataError: Another shape or type.
            UnsupportedError: onnxruntime fails on the graph.
        """
        tensor = self.feed(images) if images.dtype == np.uint8 else images
        if 0 < len(tensor) <= self._batch:
            return self._run(tensor)
        if len(tensor) == 0:
            return np.empty((0, self.classes), np.float32)
        starts = range(0, len(tensor), self._batch)
        return np.concatenate([self._run(tensor[start : start + self._batch]) for start in starts])

    def feed(self, pixels: np.ndarray) -> np.ndarray:
        """The graph's input, float32 [n, channels, height, width], for uint8 [n, height, width, channels].

        Raises:
            DataError: Another shape.
        """
        expected = (self.spec.height, self.spec.width, self.spec.channels)
        if pixels.shape[1:] != expected:
            raise DataError(
                f"images {pixels.shape}: expected (n, {', '.join(map(str, expected))})",
                hint="decode them with edgec.core.images.decode_image",
            )
        if self._raw:
            return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2), dtype=np.float32)
        return normalise(pixels, self.spec)

    def _run(self, tensor: np.ndarray) -> np.ndarray:
        try:
            return self._session.run(self._outputs, {self._input: tensor})[0]
        except _native.InvalidArgument as error:
            raise DataError(
                f"input {tensor.dtype} {tensor.shape}: expected float32 (n, {', '.join(map(str, self.spec.shape))})"
            ) from error
        except _FAILURES as error:
            raise UnsupportedError(f"onnxruntime {onnxruntime.__version__}: {_line(error)}") from error


def softmax(logits: np.ndarray) -> np.ndarray:
    """Shares that sum to 1 in each row, [n, classes]; the row's maximum is taken off first, so none overflows."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    powers /= powers.sum(axis=1, keepdims=True)
    return powers


def _load(model: bytes | Path, *, providers: Sequence[str], threads: int | None) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _FATAL_ONLY
    options.intra_op_num_threads = threads or 0
    here = onnxruntime.get_available_providers()
    wanted = [name for name in dict.fromkeys((*providers, _CPU)) if name in here]
    try:
        return onnxruntime.InferenceSession(
            model if isinstance(model, bytes) else str(model),
            sess_options=options,
            providers=wanted,
            disabled_optimizers=[_ROUNDS_BIASES],
        )
    except _FAILURES as error:
        raise DataError(
            f"onnxruntime {onnxruntime.__version__} cannot load the model: {_line(error)}",
            hint="a newer onnxruntime may know its operators or opset",
        ) from error


def _input(session: onnxruntime.InferenceSession, spec: InputSpec) -> tuple[str, int | None]:
    """Name and fixed batch (None when dynamic) of the only input."""
    inputs = session.get_inputs()
    expected = f"float32 (n, {', '.join(map(str, spec.shape))})"
    if len(inputs) != 1:
        raise UnsupportedError(f"the model has {len(inputs)} inputs, expected one of {expected}")
    node = inputs[0]
    batch, *plane = node.shape or (None,)
    fits = len(plane) == len(spec.shape) and all(
        size == want for size, want in zip(plane, spec.shape, strict=True) if isinstance(size, int)
    )
    if node.type != _FLOAT or not fits:
        raise UnsupportedError(f"the model's input '{node.name}' is {node.type} {node.shape}, expected {expected}")
    if isinstance(batch, int) and batch != 1:
        raise UnsupportedError(f"the model's input '{node.name}' has a fixed batch of {batch}, expected 1 or dynamic")
    return node.name, 1 if batch == 1 else None


def _output(session: onnxruntime.InferenceSession) -> tuple[list[str], int]:
    """Name, as a list to run with, and classes of the first output."""
    node = session.get_outputs()[0]
    match node.shape:
        case [_, int(classes)] if node.type == _FLOAT:
            return [node.name], classes
        case shape:
            expected = "logits, float32 (n, classes)"
            raise UnsupportedError(f"the model's output '{node.name}' is {node.type} {shape}, expected {expected}")


def _line(error: Exception) -> str:
    """The text without onnxruntime's code and the lines below the first."""
    first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return first.split(" : ", maxsplit=3)[-1] if first.startswith("[ONNXRuntimeError]") else first
