"""Builds the engine where TensorRT is: one path for versions 10 and 11, which take every precision from the graph.

Written by NVIDIA's API documentation. The path was run with tensorrt-rtx, which shares that API; no machine with the
full TensorRT was at hand.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from edgec.core.digest import digest_file, digest_value
from edgec.core.errors import MissingDependencyError, UnsupportedError
from edgec.core.files import write_bytes
from edgec.core.progress import Progress, Silent
from edgec.core.target import Target

__all__ = ["EngineSpec", "build_engine", "cached_engine", "compute_capability", "engine_key", "load_tensorrt"]

MOST = 8
"""Largest batch where none is asked for."""
TIMING_CACHE = "timing.cache"
_WITHOUT_TIMINGS = frozenset({"tensorrt_rtx"})
"""Its timing caches do nothing, since version 1.2."""
_WORKSPACE_SHARE = 4
"""A Jetson's memory serves CPU and GPU: a quarter of it for scratch space leaves room for both."""
_WORKSPACE_MB = 1024
_MAJOR, _MINOR = 75, 76
"""cudaDevAttrComputeCapabilityMajor and -Minor, of CUDA's enumeration cudaDeviceAttr."""


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


def engine_key(model: Path, spec: EngineSpec, *, version: str, capability: str) -> str:
    """What an engine depends on: the graph, what it is built for, TensorRT's version and the GPU's architecture."""
    return digest_value(["engine", digest_file(model), spec.most, spec.workspace_mb, version, capability])


def cached_engine(
    model: Path, spec: EngineSpec, folder: Path, *, api: Any, capability: str, progress: Progress | None = None
) -> Path:
    """The engine of a graph, built now if the folder does not hold it.

    Args:
        model: ONNX, strongly typed: with Q/DQ for int8, and float16 where that is meant.
        spec: What to build for.
        folder: Engines by key, and the timing cache that all of them share.
        api: As `load_tensorrt` gives it.
        capability: As `compute_capability` gives it.
        progress: Told how far the builder is.

    Raises:
        UnsupportedError: The parser or the builder refuses the graph.
    """
    key = engine_key(model, spec, version=api.__version__, capability=capability)
    engine = folder / f"{key[:32]}.engine"
    if not engine.exists():
        folder.mkdir(parents=True, exist_ok=True)
        timings = folder / f"{api.__version__}-{capability}-{TIMING_CACHE}"
        write_bytes(engine, build_engine(model, spec, api=api, timings=timings, progress=progress or Silent()))
    return engine


def build_engine(model: Path, spec: EngineSpec, *, api: Any, timings: Path, progress: Progress) -> bytes:
    """The serialised engine of a graph.

    Args:
        model: ONNX.
        spec: What to build for.
        api: TensorRT 10 or 11.
        timings: The timing cache, read where it is there and written anew: a second build of a like graph is quick.
        progress: Told how far the builder is.

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
    monitor = _monitor(api, progress.note)
    config.progress_monitor = monitor
    keeps_timings = api.__name__ not in _WITHOUT_TIMINGS
    if keeps_timings:
        cache = config.create_timing_cache(timings.read_bytes() if timings.exists() else b"")
        config.set_timing_cache(cache, ignore_mismatch=False)
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        raise UnsupportedError(
            f"TensorRT {api.__version__} cannot build '{model.name}'",
            hint="its log above says why; memory is one reason",
        )
    if keeps_timings:
        write_bytes(timings, bytes(config.get_timing_cache().serialize()))
    return bytes(engine)


def _parsed(model: Path, builder: Any, log: Any, api: Any) -> tuple[Any, Any]:
    """The network, and the parser, which holds its weights and must live as long."""
    # Version 11 knows no other networks, and has the flag still.
    network = builder.create_network(1 << int(api.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = api.OnnxParser(network, log)
    if not parser.parse_from_file(str(model)):
        refused = [parser.get_error(i).desc() for i in range(parser.num_errors)] or ["no reason given"]
        raise UnsupportedError(f"TensorRT {api.__version__} refuses '{model.name}': {refused[0]}")
    return network, parser


def compute_capability(cuda: Any) -> str:
    """That of the first GPU, as in `8.7`.

    Args:
        cuda: cuda-python's runtime API.

    Raises:
        UnsupportedError: There is no GPU.
    """
    numbers = []
    for attribute in (_MAJOR, _MINOR):
        error, value = cuda.cudaDeviceGetAttribute(cuda.cudaDeviceAttr(attribute), 0)
        if int(error):
            raise UnsupportedError(
                f"CUDA: {getattr(error, 'name', error)}", hint="nvidia-smi shows whether a GPU is there"
            )
        numbers.append(int(value))
    return ".".join(map(str, numbers))


def _monitor(api: Any, tell: Callable[[str], None]) -> Any:
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
