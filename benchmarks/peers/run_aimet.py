"""AIMET's simulation, exported as Q/DQ: batch norms folded, U8S8, weights per channel, int4 where the method says so.

With sequential MSE, its way to few bits, and on demand with AdaRound.
"""

from __future__ import annotations

import tempfile
from importlib.metadata import version
from pathlib import Path

import aimet_onnx  # pyright: ignore[reportMissingImports]
import onnx
from aimet_onnx.batch_norm_fold import fold_all_batch_norms_to_weight  # pyright: ignore[reportMissingImports]
from aimet_onnx.common import quantsim_config  # pyright: ignore[reportMissingImports]
from runner import Job, run

SCHEMES = {"minmax": "min_max", "sqnr": "tf_enhanced", "seqmse": "min_max", "adaround": "min_max"}
CONFIG = Path(quantsim_config.__file__).with_name("default_config_per_channel.json")


def main() -> None:
    run(quantise, version=f"aimet-onnx {version('aimet-onnx')}")


def quantise(job: Job) -> None:
    method, _, bits = job.method.partition(" ")
    model = onnx.load(job.model)
    fold_all_batch_norms_to_weight(model)
    with tempfile.TemporaryDirectory() as folder:
        simulation = aimet_onnx.QuantizationSimModel(
            model,
            param_type=bits or "int8",
            activation_type="int8",
            quant_scheme=SCHEMES[method],
            config_file=str(CONFIG),
            path=folder,
        )
        if method == "seqmse":
            aimet_onnx.apply_seq_mse(simulation, list(job.feeds()))
        if method == "adaround":
            aimet_onnx.apply_adaround(simulation, list(job.feeds()))
        simulation.compute_encodings(list(job.feeds()))
        onnx.save(simulation.to_onnx_qdq(), job.output)


if __name__ == "__main__":
    main()
