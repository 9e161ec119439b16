"""TensorRT engines where they are built: once on the device for each graph, GPU and version, then kept."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from edgec.core.files import write_bytes
from edgec.package import Bundle
from edgec.runtime.engine_build import EngineSpec, Tell, build_engine, engine_key, load_tensorrt, read_gpu
from edgec.runtime.tensorrt import cuda_bindings

__all__ = ["TIMING_CACHE", "device_engine", "engines_folder"]

TIMING_CACHE = "timing.cache"
_PRIVATE = 0o700
"""An engine is code: no other user may put one there."""


def device_engine(bundle: Bundle, *, folder: Path | None, tell: Tell, anew: bool = False) -> bytes:
    """The engine of a bundle's graph for this device's GPU, built now if none is kept for it.

    It is built again when the graph, TensorRT's version, the GPU or the plan's largest batch change. Where the folder
    cannot be written, the engine is built and not kept.

    Args:
        bundle: A bundle with a graph for TensorRT, and the plan that says for which batches.
        folder: Engines by key, and the timing caches that they share; None takes `engines_folder`.
        tell: Told that a build begins, and how far it is.
        anew: Whether one that is kept is replaced: it could not be loaded.

    Raises:
        MissingDependencyError: TensorRT is not installed.
        UnsupportedError: It is too old, there is no GPU, or it refuses the graph.
    """
    folder = engines_folder() if folder is None else folder
    api, gpu = load_tensorrt(), read_gpu(cuda_bindings())
    model = bundle.read_bytes(bundle.manifest.model.file)
    spec = EngineSpec.planned(bundle.manifest.runtime.build_plan)
    key = engine_key(model, spec, version=api.__version__, gpu=gpu)
    kept = folder / f"{key[:32]}.engine"
    if not anew and kept.is_file():
        return kept.read_bytes()
    tell(f"building a TensorRT {api.__version__} engine for {gpu.name}, once: this takes minutes")
    with suppress(OSError):
        folder.mkdir(mode=_PRIVATE, parents=True, exist_ok=True)
    timings = folder / f"{api.__version__}-{gpu.capability}-{TIMING_CACHE}"
    engine = build_engine(model, spec, api=api, timings=timings, tell=tell)
    try:
        write_bytes(kept, engine)
    except OSError as error:
        tell(f"the engine cannot be kept in '{folder}': {error.strerror or error}; EDGEC_CACHE names another folder")
    return engine


def engines_folder() -> Path:
    """Where engines are kept: below `EDGEC_CACHE`, else in the user's cache folder."""
    given = os.environ.get("EDGEC_CACHE")
    if given:
        return Path(given) / "engines"
    caches = os.environ.get("XDG_CACHE_HOME")
    return (Path(caches) if caches else Path.home() / ".cache") / "edgec" / "engines"
