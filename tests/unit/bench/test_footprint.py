"""Bytes on disk, and memory of a process of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgec.bench.footprint import peak_memory_mb, size_measurement
from edgec.core.errors import UnsupportedError
from edgec.core.inputs import InputSpec
from edgec.core.measurement import Stage


def test_size_is_that_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"x" * 1234)
    row = size_measurement(tmp_path / "model.onnx", stage=Stage.TEACHER)
    assert (row.name, row.value, row.unit, row.stage) == ("size_bytes", 1234, "bytes", Stage.TEACHER)


def test_memory_is_that_of_the_runtime_alone_however_much_this_process_holds(
    tmp_path: Path, linear: Any, spec: InputSpec
) -> None:
    (tmp_path / "model.onnx").write_bytes(linear.onnx())
    held = np.ones(50_000_000)
    memory = peak_memory_mb(tmp_path / "model.onnx", spec)
    # Python, NumPy and onnxruntime take 50 to 90 MB; what this process holds is 400 MB.
    assert 20 < memory.value < 250 < held.nbytes / 1e6
    assert memory.low is not None
    assert memory.high is not None
    assert memory.low <= memory.value <= memory.high


def test_a_model_that_does_not_load_names_the_reason(tmp_path: Path, spec: InputSpec) -> None:
    (tmp_path / "model.onnx").write_bytes(b"nothing")
    with pytest.raises(UnsupportedError, match=r"memory of '.*model\.onnx' could not be measured: .*cannot load"):
        peak_memory_mb(tmp_path / "model.onnx", spec)
