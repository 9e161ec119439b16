"""What a model takes: bytes on disk, and memory of a process that runs nothing else."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from edgec.bench.repeats import FEWEST, Repeated
from edgec.core.errors import UnsupportedError
from edgec.core.inputs import InputSpec
from edgec.core.measurement import Measurement, Stage

__all__ = ["peak_memory_mb", "size_measurement"]


def size_measurement(path: Path, *, stage: Stage) -> Measurement:
    """`size_bytes`: a file's size on disk."""
    size = path.stat().st_size
    return Measurement(stage=stage, name="size_bytes", value=size, unit="bytes", n=1, where="on disk")


def peak_memory_mb(
    model: Path,
    spec: InputSpec,
    *,
    times: int = FEWEST,
    preprocessing_in_graph: bool = False,
    threads: int | None = None,
) -> Repeated:
    """The most memory that a fresh process holds while it loads a model and runs one image; of several such processes.

    Python and onnxruntime are counted, torch is not there: it is what a device has to spare.

    Args:
        model: The ONNX file.
        spec: The images that it takes.
        times: Processes, one after the other.
        preprocessing_in_graph: As `edgec.runtime.Session`.
        threads: As `edgec.runtime.Session`.

    Raises:
        UnsupportedError: A process failed.
    """
    options = ["--raw"] if preprocessing_in_graph else []
    options += ["--threads", str(threads)] if threads else []
    command = [sys.executable, "-m", "edgec.bench.memory", str(model), spec.model_dump_json(), *options]
    return Repeated.of([_peak_mb(command, model) for _ in range(times)])


def _peak_mb(command: Sequence[str], model: Path) -> float:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        raise UnsupportedError(f"memory of '{model}' could not be measured: {reason[0]}")
    return int(done.stdout) / 1e6
