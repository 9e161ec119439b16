"""Builds the engine where TensorRT is: one path for versions 10 and 11, which take every precision from the graph.

Written by NVIDIA's API documentation. The path was run with tensorrt-rtx, which shares that API; no machine with the
full TensorRT was at hand.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from edgec.core.digest import digest_bytes, digest_value
from edgec.core.errors import MissingDependencyError, UnsupportedError
from edgec.core.files import write_bytes
from edgec.core.target import Target
from edgec.package import BuildPlan

__all__ = ["EngineSpec", "Gpu", "Tell", "build_engine", "engine_key", "load_tensorrt", "read_gpu"]

Tell = Callable[[str], None]
"""Takes a line for the person who waits."""

MOST = 8
"""Largest batch where none is asked for."""
_WITHOUT_TIMINGS = frozenset({"tensorrt_rtx"})
"""Its timing caches do nothing, since version 1.2."""
_WORKSPACE_SHARE = 4
"""A Jetson's memory serves CPU and GPU: a quarter of it for scratch space leaves room for both."""
_WORKSPACE_MB = 1024


@dataclass(frozen=True, kw_only=True)
class EngineSpec:
    """What an engine is built for.

    Attributes:
        most: Largest batch; the engine takes 1 to that, and is fastest at 1.
        workspace_mb: Scratch memory that its kernels may take.
    """

    most: int = MOST
    workspace_mb: int = _WORKSPACE_MB

    @classmethod
    def of(cls, target: Target, *, most: int = MOST) -> EngineSpec:
        """By the memory of a profile."""
        memory_mb = target.memory_mb
        return cls(most=most, workspace_mb=_WORKSPACE_MB if memory_mb is None else memory_mb // _WORKSPACE_SHARE)

    @classmethod
    def planned(cls, plan: BuildPlan | None) -> EngineSpec:
        """By a bundle's build plan: the largest batch of its `--maxShapes`."""
        asked = (re.match(r"--maxShapes=[^:]+:(\d+)x", argument) for argument in (plan.arguments if plan else ()))
        return cls(most=next((int(found[1]) for found in asked if found), MOST))

    def shapes(self, shape: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
        """Least, usual and largest shape of an input; three equal ones where its batch is fixed."""
        first, *rest = shape
        return tuple((size, *rest) for size in (1, 1, self.most)) if first < 0 else (shape,) * 3


def load_tensorrt() -> Any:
    """NVIDIA's package.

    Raises:
        MissingDependencyError: It is not installed.
        UnsupportedError: It is older than 10.
    """
    if find_spec("tensorrt") is None:
        raise MissingDependencyError(
            "building an engine needs TensorRT, which is not installed",
            hint="JetPack brings it; elsewhere pip install 'edgec[tensorrt]'; or run the bundle's trtexec line",
        )
    api = importlib.import_module("tensorrt")
    if int(api.__version__.partition(".")[0]) < 10:
        raise UnsupportedError(
            f"TensorRT {api.__version__} is installed, expected 10 or newer",
            hint="run the trtexec line of the bundle's manifest instead: it serves TensorRT 8 as well",
        )
    return api


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """The GPU that an engine is built for.

    Attributes:
        name: As its driver calls it.
        capability: Of its architecture, as in `8.7`.
    """

    name: str
    capability: str


def engine_key(model: bytes, spec: EngineSpec, *, version: str, gpu: Gpu) -> str:
    """What an engine depends on: the graph, what it is built for, TensorRT's version and the GPU."""
    return digest_value(
        ["engine", digest_bytes(model), spec.most, spec.workspace_mb, version, gpu.name, gpu.capability]
    )


def build_engine(model: bytes, spec: EngineSpec, *, api: Any, timings: Path, tell: Tell) -> bytes:
    """The serialised engine of a graph.

    Args:
        model: ONNX, strongly typed: with Q/DQ for int8, and float16 where that is meant.
        spec: What to build for.
        api: TensorRT 10 or 11.
        timings: The timing cache, read where it is there and written anew: a second build of a like graph is quick.
        tell: Told how far the builder is.

    Raises:
        UnsupportedError: The parser or the builder refuses the graph.
    """
    log = api.Logger(api.Logger.ERROR)
    builder = api.Builder(log)
    network, _parser = _parsed(model, builder, log, api)
    config = builder.create_builder_config()
    config.set_memory_pool_limit(api.MemoryPoolType.WORKSPACE, spec.workspace_mb << 20)
    profile = builder.create_optimization_profile()
    for i in range(network.num_inputs):
        entry = network.get_input(i)
        profile.set_shape(entry.name, *spec.shapes(tuple(entry.shape)))
    config.add_optimization_profile(profile)
    monitor = _monitor(api, tell)
    config.progress_monitor = monitor
    keeps_timings = api.__name__ not in _WITHOUT_TIMINGS
    if keeps_timings:
        cache = config.create_timing_cache(timings.read_bytes() if timings.exists() else b"")
        config.set_timing_cache(cache, ignore_mismatch=False)
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        raise UnsupportedError(
            f"TensorRT {api.__version__} cannot build the engine",
            hint="its log above says why; memory is one reason",
        )
    if keeps_timings:
        with suppress(OSError):  # a folder that cannot be written costs time, not the engine
            write_bytes(timings, bytes(config.get_timing_cache().serialize()))
    return bytes(engine)


def _parsed(model: bytes, builder: Any, log: Any, api: Any) -> tuple[Any, Any]:
    """The network, and the parser, which holds its weights and must live as long."""
    # Version 11 knows no other networks, and has the flag still.
    network = builder.create_network(1 << int(api.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = api.OnnxParser(network, log)
    if not parser.parse(model):
        refused = [parser.get_error(i).desc() for i in range(parser.num_errors)] or ["no reason given"]
        raise UnsupportedError(f"TensorRT {api.__version__} refuses the graph: {refused[0]}")
    return network, parser


def read_gpu(cuda: Any) -> Gpu:
    """The first GPU.

    Args:
        cuda: cuda-python's runtime API.

    Raises:
        UnsupportedError: There is none.
    """
    error, found = cuda.cudaGetDeviceProperties(0)
    if int(error):
        raise UnsupportedError(f"CUDA: {getattr(error, 'name', error)}", hint="nvidia-smi shows whether a GPU is there")
    name = found.name.decode(errors="replace") if isinstance(found.name, bytes) else str(found.name)
    return Gpu(name=name.rstrip("\0"), capability=f"{found.major}.{found.minor}")


def _monitor(api: Any, tell: Tell) -> Any:
    """Tells of the builder's outermost phases; the builder calls it from threads of its own."""

    class Monitor(api.IProgressMonitor):  # the base is native
        def __init__(self) -> None:
            api.IProgressMonitor.__init__(self)

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            if parent_phase is None:
                tell(f"{phase_name}: {num_steps} steps")

        def step_complete(self, phase_name: str, step: int) -> bool:
            del phase_name, step
            return True

        def phase_finish(self, phase_name: str) -> None:
            del phase_name

    return Monitor()
