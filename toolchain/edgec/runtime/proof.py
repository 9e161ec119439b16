"""The smoke test in a process of its own: a graph that never ends, or wants all the memory, is refused and no more."""

from __future__ import annotations

from pathlib import Path

from edgec.core.confined import Confined, OverrunError
from edgec.core.errors import IntegrityError
from edgec.core.host import memory_bytes
from edgec.package import Trust, open_bundle, verify_signature
from edgec.package.manifest import RuntimeEntry
from edgec.runtime.model import load_model

__all__ = ["PROOF_S", "prove"]

PROOF_S = 300.0
"""Long enough for a slow device: it loads the graph once and runs some tens of images."""
_BUILD_S = 1800.0
"""Where an engine is built before that."""
_MEMORY_SHARE = 2
"""Half of the machine's memory: the version that runs keeps the rest."""
_CPU = ("CPUExecutionProvider",)


def prove(path: Path, *, trust: Trust | None = None, seconds: float | None = None) -> str:
    """Lets a bundle load and replay its golden images, in another process, with a deadline and a limit on memory.

    Args:
        path: The bundle.
        trust: Whose signature it must have, before anything of it runs; None asks for none.
        seconds: How long it may take; None takes 300 s, and 1,800 s where TensorRT's engine may have to be built.

    Returns:
        The bundle's digest.

    Raises:
        DataError: Nothing is there, or it is no bundle, or its engine cannot load it.
        IntegrityError: It is damaged, not signed as asked, answers differently here, or takes too long or too much.
        UnsupportedError: The graph is no classifier's, or its engine fails on it.
    """
    bundle = open_bundle(path)
    if trust is not None:
        verify_signature(bundle, trust)
    runtime = bundle.manifest.runtime
    usual_s = _BUILD_S if runtime.engine == "tensorrt" else PROOF_S
    try:
        with Confined(memory_bytes=_memory_bytes(runtime)) as process:
            process.call(_replay, path, bundle.digest, seconds=usual_s if seconds is None else seconds)
    except OverrunError as error:
        raise IntegrityError(f"'{path}': smoke test: {error}", hint="do not deploy it") from error
    return bundle.digest


def _memory_bytes(runtime: RuntimeEntry) -> int | None:
    """None where a GPU computes: its driver maps more than there is."""
    on_cpu = runtime.engine != "tensorrt" and tuple(runtime.providers) == _CPU and runtime.device == "CPU"
    return memory_bytes() // _MEMORY_SHARE if on_cpu else None


def _replay(path: Path, digest: str) -> None:
    model = load_model(path)
    if model.bundle.digest != digest:
        raise IntegrityError(f"'{path}' was replaced while it was read", hint="try again")
    model.smoke_test()
