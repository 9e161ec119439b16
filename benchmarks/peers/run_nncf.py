"""NNCF's `quantize` on its ONNX backend: preset `mixed` for CPUs, with bias correction, fast or accurate."""

from __future__ import annotations

from importlib.metadata import version

import nncf  # pyright: ignore[reportMissingImports]
import onnx
from runner import INPUT, Job, run

METHODS = ("fast", "accurate", "uncorrected")
"""How the bias is corrected; NNCF's default is the fast way."""


def main() -> None:
    run(quantise, version=f"nncf {version('nncf')}")


def quantise(job: Job) -> None:
    if job.method not in METHODS:
        raise ValueError(f"method '{job.method}': expected one of {', '.join(METHODS)}")
    images = job.pixels()
    quantised = nncf.quantize(
        onnx.load(job.model),
        nncf.Dataset(images, lambda image: {INPUT: image[None]}),
        preset=nncf.QuantizationPreset.MIXED,
        target_device=nncf.TargetDevice.CPU,
        subset_size=len(images),
        fast_bias_correction=job.method != "accurate",
        advanced_parameters=nncf.AdvancedQuantizationParameters(disable_bias_correction=job.method == "uncorrected"),
    )
    onnx.save(quantised, job.output)


if __name__ == "__main__":
    main()
