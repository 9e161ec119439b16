"""ModelOpt's ONNX quantiser: S8S8, where TensorRT wants its roundings; what is not int8 stays float32."""

from __future__ import annotations

from importlib.metadata import version

from modelopt.onnx.quantization import quantize  # pyright: ignore[reportMissingImports]
from runner import Job, run


def main() -> None:
    run(quantise, version=f"nvidia-modelopt {version('nvidia-modelopt')}")


def quantise(job: Job) -> None:
    quantize(
        str(job.model),
        quantize_mode="int8",
        calibration_data=job.pixels(),
        calibration_method=job.method,
        calibration_eps=["cpu"],
        high_precision_dtype="fp32",
        output_path=str(job.output),
    )


if __name__ == "__main__":
    main()
