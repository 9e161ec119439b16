"""TensorRT 10 and 11: runs a serialised engine on the GPU that it was built for.

Written by NVIDIA's documentation of `IExecutionContext.execute_async_v3`; no GPU with TensorRT was at hand to run it.
"""

from __future__ import annotations

import math
import weakref
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from edgec.core.errors import DataError, UnsupportedError
from edgec.runtime.engine import Port

__all__ = ["TensorRt", "cuda_bindings"]

_ITEM_BYTES = 4
"""Input and output are float32: what a graph computes in between does not show outside."""


class TensorRt:
    """A serialised engine; see `edgec.runtime.engine.Engine`.

    Buffers on the device are made once, for the largest batch of the engine's first optimisation profile.

    Args:
        model: The engine file, or its contents.

    Raises:
        DataError: The engine was built for another GPU or by another TensorRT, or has no input or no output.
        UnsupportedError: There is no GPU.
    """

    devices: tuple[str, ...] = ("GPU",)
    parallel = False

    def __init__(self, model: bytes | Path) -> None:
        trt: Any = import_module("tensorrt")
        self._cuda = _Cuda()
        self._logger = trt.Logger(trt.Logger.ERROR)
        self._runtime = trt.Runtime(self._logger)
        data = model if isinstance(model, bytes) else _read(model)
        self._engine: Any = self._runtime.deserialize_cuda_engine(data)
        if self._engine is None:
            raise DataError(
                f"TensorRT {trt.__version__} cannot load the engine",
                hint="engines fit one GPU and one TensorRT: build it on this device, from the bundle's build plan",
            )
        names = [self._engine.get_tensor_name(i) for i in range(self._engine.num_io_tensors)]
        taken = [name for name in names if self._engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT]
        self.inputs = tuple(self._port(name, trt) for name in taken)
        self.outputs = tuple(self._port(name, trt) for name in names if name not in taken)
        if not self.inputs or not self.outputs:
            raise DataError(f"the engine has {len(self.inputs)} inputs and {len(self.outputs)} outputs, expected both")
        self._context: Any = self._engine.create_execution_context()
        self._most = tuple(self._engine.get_tensor_profile_shape(taken[0], 0)[2])
        self.most: int | None = self._most[0]
        self._memory = {name: self._cuda.allocate(self._bytes(name)) for name in names}
        for name, address in self._memory.items():
            self._context.set_tensor_address(name, address)

    def run(self, tensor: np.ndarray) -> np.ndarray:
        """The first output for the first input."""
        source, result = self.inputs[0].name, self.outputs[0].name
        most, *plane = self._most
        if tensor.dtype != np.float32 or tensor.shape[1:] != tuple(plane) or not 0 < len(tensor) <= most:
            expected = f"float32 (1 to {most}, {', '.join(map(str, plane))})"
            raise DataError(f"input {tensor.dtype} {tensor.shape}: expected {expected}")
        tensor = np.ascontiguousarray(tensor)
        self._context.set_input_shape(source, tensor.shape)
        logits = np.empty(tuple(self._context.get_tensor_shape(result)), np.float32)
        self._cuda.to_device(self._memory[source], tensor)
        if not self._context.execute_async_v3(self._cuda.stream):
            raise UnsupportedError("TensorRT could not run the engine", hint="its log above says why")
        self._cuda.to_host(logits, self._memory[result])
        return logits

    def _port(self, name: str, trt: Any) -> Port:
        kind = self._engine.get_tensor_dtype(name)
        shape = tuple(None if size < 0 else int(size) for size in self._engine.get_tensor_shape(name))
        return Port(name=name, kind=str(kind), is_float=kind == trt.float32, shape=shape)

    def _bytes(self, name: str) -> int:
        """Of a tensor at the largest batch, whose size stands for every axis of any length."""
        shape = (self._most[0] if size < 0 else size for size in self._engine.get_tensor_shape(name))
        return math.prod(shape) * _ITEM_BYTES


class _Cuda:
    """Memory and one stream of the first GPU; all is given back when this value goes."""

    def __init__(self) -> None:
        self._api = cuda_bindings()
        self.stream = int(self._ask(self._api.cudaStreamCreate()))
        weakref.finalize(self, self._api.cudaStreamDestroy, self.stream)

    def allocate(self, size_bytes: int) -> int:
        """The address of so many bytes on the device."""
        address = int(self._ask(self._api.cudaMalloc(size_bytes)))
        weakref.finalize(self, self._api.cudaFree, address)
        return address

    def to_device(self, address: int, array: np.ndarray) -> None:
        """Copies an array to the device, in the stream."""
        kind = self._api.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._ask(self._api.cudaMemcpyAsync(address, array.ctypes.data, array.nbytes, kind, self.stream))

    def to_host(self, array: np.ndarray, address: int) -> None:
        """Fills an array from the device, once the stream is through."""
        kind = self._api.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._ask(self._api.cudaMemcpyAsync(array.ctypes.data, address, array.nbytes, kind, self.stream))
        self._ask(self._api.cudaStreamSynchronize(self.stream))

    def _ask(self, answer: tuple[Any, ...]) -> Any:
        """What a call gave beside its error code.

        Raises:
            UnsupportedError: The code is not success.
        """
        error, *values = answer
        if int(error):
            raise UnsupportedError(
                f"CUDA: {getattr(error, 'name', error)}", hint="nvidia-smi shows whether a GPU is there"
            )
        return values[0] if values else None


def cuda_bindings() -> Any:
    """cuda-python's runtime API, which moved in version 12.8."""
    try:
        return import_module("cuda.bindings.runtime")
    except ModuleNotFoundError:
        return import_module("cuda.cudart")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read '{path}': {error.strerror or error}", hint="check the path") from error
