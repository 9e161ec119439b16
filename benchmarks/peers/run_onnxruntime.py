"""onnxruntime's `quantize_static`, as its guide has it: prepared, then Q/DQ, U8S8, weights per channel."""

from __future__ import annotations

import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process
from runner import Job, run

METHODS = {
    "minmax": CalibrationMethod.MinMax,
    "percentile": CalibrationMethod.Percentile,
    "entropy": CalibrationMethod.Entropy,
}


def main() -> None:
    run(quantise, version=f"onnxruntime {version('onnxruntime')}")


def quantise(job: Job) -> None:
    with tempfile.TemporaryDirectory() as folder:
        prepared = Path(folder) / "prepared.onnx"
        quant_pre_process(job.model, prepared)
        quantize_static(
            prepared,
            job.output,
            Reader(job),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=METHODS[job.method],
        )


class Reader(CalibrationDataReader):
    """The images one by one."""

    def __init__(self, job: Job) -> None:
        self._feeds = job.feeds()

    def get_next(self) -> Any:
        """The next image, None after the last."""
        return next(self._feeds, None)


if __name__ == "__main__":
    main()
