"""The TensorRT runner against a GPU of paper: calls, shapes and copies; the arithmetic needs a real one."""

from __future__ import annotations

import ctypes
import sys
from enum import Enum, IntEnum
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edgec.core.errors import DataError, UnsupportedError
from edgec.core.inputs import InputSpec
from edgec.runtime import Session
from edgec.runtime.tensorrt import TensorRt

SPEC = InputSpec(height=2, width=2, channels=3)
MOST = 4


class Mode(Enum):
    INPUT = 0
    OUTPUT = 1


class Code(IntEnum):
    cudaSuccess = 0  # noqa: N815  # CUDA's names
    cudaErrorNoDevice = 100  # noqa: N815


class PaperCuda:
    """Device memory is this process's; a copy is a copy."""

    cudaMemcpyKind = SimpleNamespace(cudaMemcpyHostToDevice=1, cudaMemcpyDeviceToHost=2)  # noqa: N815

    def __init__(self) -> None:
        self.blocks: dict[int, Any] = {}
        self.code = Code.cudaSuccess

    def cudaStreamCreate(self) -> tuple[Any, ...]:  # noqa: N802
        return self.code, 1

    def cudaStreamDestroy(self, stream: int) -> tuple[Any, ...]:  # noqa: N802
        return (Code.cudaSuccess,)

    def cudaMalloc(self, size: int) -> tuple[Any, ...]:  # noqa: N802
        block = ctypes.create_string_buffer(size)
        self.blocks[ctypes.addressof(block)] = block
        return Code.cudaSuccess, ctypes.addressof(block)

    def cudaFree(self, address: int) -> tuple[Any, ...]:  # noqa: N802
        del self.blocks[address]
        return (Code.cudaSuccess,)

    def cudaMemcpyAsync(self, to: int, source: int, size: int, kind: int, stream: int) -> tuple[Any, ...]:  # noqa: N802
        ctypes.memmove(to, source, size)
        return (Code.cudaSuccess,)

    def cudaStreamSynchronize(self, stream: int) -> tuple[Any, ...]:  # noqa: N802
        return (Code.cudaSuccess,)


class PaperEngine:
    """An engine whose logits are the means of the channels."""

    num_io_tensors = 2

    def __init__(self) -> None:
        self.shapes = {"pixels": (-1, 3, 2, 2), "logits": (-1, 3)}
        self.batch, self.addresses, self.works = 0, {}, True

    def get_tensor_name(self, i: int) -> str:
        return list(self.shapes)[i]

    def get_tensor_mode(self, name: str) -> Mode:
        return Mode.INPUT if name == "pixels" else Mode.OUTPUT

    def get_tensor_dtype(self, name: str) -> str:
        return "float"

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return tuple(self.batch if size < 0 and self.batch else size for size in self.shapes[name])

    def get_tensor_profile_shape(self, name: str, profile: int) -> list[tuple[int, ...]]:
        return [(n, 3, 2, 2) for n in (1, 1, MOST)]

    def create_execution_context(self) -> PaperEngine:
        return self

    def set_tensor_address(self, name: str, address: int) -> None:
        self.addresses[name] = address

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> None:
        self.batch = shape[0]

    def execute_async_v3(self, stream: int) -> bool:
        sizes = {"pixels": self.batch * 12, "logits": self.batch * 3}
        views = {
            name: np.frombuffer((ctypes.c_float * size).from_address(self.addresses[name]), np.float32)
            for name, size in sizes.items()
        }
        views["logits"][:] = views["pixels"].reshape(self.batch, 3, 4).mean(axis=2).ravel()
        return self.works


@pytest.fixture
def paper(monkeypatch: pytest.MonkeyPatch) -> tuple[PaperEngine, PaperCuda]:
    found, cuda = PaperEngine(), PaperCuda()
    runtime = SimpleNamespace(deserialize_cuda_engine=lambda data: found if data == b"engine" else None)
    logger = type("Logger", (), {"ERROR": 1, "__init__": lambda self, level: None})
    names = {"__version__": "10.3.0", "Logger": logger, "Runtime": lambda log: runtime, "TensorIOMode": Mode}
    monkeypatch.setitem(sys.modules, "tensorrt", SimpleNamespace(**names, float32="float"))
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", cuda)
    return found, cuda


def tensors(count: int) -> np.ndarray:
    return np.random.default_rng(count).normal(size=(count, 3, 2, 2)).astype(np.float32)


@pytest.mark.parametrize("count", [1, 2, MOST])
def test_logits_are_the_engines(paper: Any, count: int) -> None:
    given = tensors(count)
    np.testing.assert_allclose(TensorRt(b"engine").run(given), given.mean(axis=(2, 3)), rtol=1e-6)


def test_smaller_batches_follow_larger_ones(paper: Any) -> None:
    engine, given = TensorRt(b"engine"), tensors(MOST)
    whole = engine.run(given)
    np.testing.assert_allclose(engine.run(given[1:2]), whole[1:2], rtol=1e-6)


def test_a_session_takes_no_more_at_once_than_the_engine_was_built_for(
    paper: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgec.runtime.engines.is_installed", lambda name: True)
    given = tensors(2 * MOST + 1)
    logits = Session(b"engine", SPEC, engine="tensorrt").logits(given)
    np.testing.assert_allclose(logits, given.mean(axis=(2, 3)), rtol=1e-6)


def test_ports_are_what_a_session_checks(paper: Any) -> None:
    engine = TensorRt(b"engine")
    assert [(port.name, port.is_float, port.shape) for port in (*engine.inputs, *engine.outputs)] == [
        ("pixels", True, (None, 3, 2, 2)),
        ("logits", True, (None, 3)),
    ]


@pytest.mark.parametrize(
    "tensor", [tensors(MOST + 1), tensors(1).astype(np.float64), np.zeros((1, 2, 2, 3), np.float32)]
)
def test_input_that_the_engine_was_not_built_for_is_refused(paper: Any, tensor: np.ndarray) -> None:
    with pytest.raises(DataError, match=r"input float\d+ \(.*\): expected float32 \(1 to 4, 3, 2, 2\)"):
        TensorRt(b"engine").run(tensor)


def test_an_engine_for_another_gpu_says_what_to_do(paper: Any) -> None:
    with pytest.raises(DataError, match=r"TensorRT 10\.3\.0 cannot load the engine") as caught:
        TensorRt(b"other")
    assert "build it on this device" in str(caught.value.hint)


def test_no_gpu_is_said(paper: tuple[PaperEngine, PaperCuda]) -> None:
    paper[1].code = Code.cudaErrorNoDevice
    with pytest.raises(UnsupportedError, match="CUDA: cudaErrorNoDevice"):
        TensorRt(b"engine")


def test_a_run_that_fails_is_said(paper: tuple[PaperEngine, PaperCuda]) -> None:
    engine = TensorRt(b"engine")
    paper[0].works = False
    with pytest.raises(UnsupportedError, match="TensorRT could not run the engine"):
        engine.run(tensors(1))


def test_memory_is_given_back(paper: tuple[PaperEngine, PaperCuda]) -> None:
    engine = TensorRt(b"engine")
    assert len(paper[1].blocks) == 2
    del engine
    assert not paper[1].blocks


@pytest.mark.tensorrt
def test_nvidias_package_has_what_is_called() -> None:
    """The names, as far as they can be seen without a GPU."""
    trt = pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed")
    assert hasattr(trt.Runtime, "deserialize_cuda_engine")
    engine = ("create_execution_context", "get_tensor_dtype", "get_tensor_mode", "get_tensor_name", "get_tensor_shape")
    assert [n for n in (*engine, "get_tensor_profile_shape", "num_io_tensors") if not hasattr(trt.ICudaEngine, n)] == []
    context = ("execute_async_v3", "get_tensor_shape", "set_input_shape", "set_tensor_address")
    assert [name for name in context if not hasattr(trt.IExecutionContext, name)] == []


@pytest.mark.tensorrt
@pytest.mark.gpu
def test_an_engine_runs_on_a_gpu(linear: Any, spec: InputSpec, pixels: np.ndarray) -> None:
    trt = pytest.importorskip("tensorrt", reason="TensorRT is not installed")
    pytest.importorskip("cuda", reason="cuda-python is not installed")
    builder = trt.Builder(trt.Logger(trt.Logger.ERROR))
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, trt.Logger(trt.Logger.ERROR))
    assert parser.parse(linear.onnx())
    config, profile = builder.create_builder_config(), builder.create_optimization_profile()
    profile.set_shape("input", (1, *spec.shape), (1, *spec.shape), (8, *spec.shape))
    config.add_optimization_profile(profile)
    data = bytes(builder.build_serialized_network(network, config))
    # TF32 keeps ten bits of each factor.
    np.testing.assert_allclose(Session(data, spec, engine="tensorrt").logits(pixels), linear.logits(pixels), atol=2e-2)
