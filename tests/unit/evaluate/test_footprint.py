"""Bytes on disk, and memory of a process of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgec.core.errors import UnsupportedError
from edgec.core.inputs import InputSpec
from edgec.core.measurement import Machine, Stage
from edgec.evaluate.footprint import memory_measurement, size_measurement


def test_size_is_that_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"x" * 1234)
    row = size_measurement(tmp_path / "model.onnx", stage=Stage.TEACHER)
    assert (row.name, row.value, row.unit, row.stage) == ("size_bytes", 1234, "bytes", Stage.TEACHER)


def test_memory_is_that_of_the_runtime_alone_however_much_this_process_holds(
    tmp_path: Path, linear: Any, spec: InputSpec
) -> None:
    (tmp_path / "model.onnx").write_bytes(linear.onnx())
    held = np.ones(50_000_000)
    row = memory_measurement(tmp_path / "model.onnx", spec, where="here", machine=Machine.OTHER)
    assert row.name == "peak_memory_mb"
    # Python, NumPy and onnxruntime take 50 to 90 MB; what this process holds is 400 MB.
    assert 20 < row.value < 250 < held.nbytes / 1e6


def test_a_model_that_does_not_load_names_the_reason(tmp_path: Path, spec: InputSpec) -> None:
    (tmp_path / "model.onnx").write_bytes(b"nothing")
    with pytest.raises(UnsupportedError, match=r"memory of '.*model\.onnx' could not be measured: .*cannot load"):
        memory_measurement(tmp_path / "model.onnx", spec, where="here", machine=Machine.OTHER)
