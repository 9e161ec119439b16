"""What a model takes: bytes on disk, and memory of a process that runs nothing else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from edgec.core.errors import UnsupportedError
from edgec.core.inputs import InputSpec
from edgec.core.measurement import Machine, Measurement, Stage

__all__ = ["memory_measurement", "peak_memory_mb", "size_measurement"]


def size_measurement(path: Path, *, stage: Stage) -> Measurement:
    """`size_bytes`: a file's size on disk."""
    size = path.stat().st_size
    return Measurement(stage=stage, name="size_bytes", value=size, unit="bytes", n=1, where="on disk")


def memory_measurement(
    model: Path, spec: InputSpec, *, where: str, machine: Machine, preprocessing_in_graph: bool = False
) -> Measurement:
    """The row `peak_memory_mb` of the artifact, on the machine that this is.

    Args:
        model: The ONNX file.
        spec: The images that it takes.
        where: This machine.
        machine: Whether it is the target.
        preprocessing_in_graph: As `edgec.runtime.Session`.

    Raises:
        UnsupportedError: The process failed.
    """
    value = peak_memory_mb(model, spec, preprocessing_in_graph=preprocessing_in_graph)
    row = {"name": "peak_memory_mb", "value": value, "unit": "MB", "n": 1, "where": where, "machine": machine}
    return Measurement(stage=Stage.ARTIFACT, **row)


def peak_memory_mb(
    model: Path, spec: InputSpec, *, preprocessing_in_graph: bool = False, threads: int | None = None
) -> float:
    """The most memory that a fresh process holds while it loads a model and runs one image.

    Python and onnxruntime are counted, torch is not there: it is what a device has to spare.

    Args:
        model: The ONNX file.
        spec: The images that it takes.
        preprocessing_in_graph: As `edgec.runtime.Session`.
        threads: As `edgec.runtime.Session`.

    Raises:
        UnsupportedError: The process failed.
    """
    options = ["--raw"] if preprocessing_in_graph else []
    options += ["--threads", str(threads)] if threads else []
    command = [sys.executable, "-m", "edgec.evaluate.memory", str(model), spec.model_dump_json(), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        raise UnsupportedError(f"memory of '{model}' could not be measured: {reason[0]}")
    return int(done.stdout) / 1e6
