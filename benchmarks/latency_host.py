"""The latency model calibrated on this machine, against the zoo timed here: the part `--host` of `latency_model.py`."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from edgec.core.target import load_target
from edgec.evaluate.latency import measure_latency
from edgec.evaluate.roofline import predict_latency
from edgec.evaluate.sweep import calibrate_machine
from edgec.runtime import Session
from nets import INPUT, exported, quantised
from rows import Row

__all__ = ["compare"]

ZOO = (
    *("resnet18", "resnet50", "mobilenet_v2", "mobilenet_v3_large", "efficientnet_b0", "regnet_y_400mf"),
    *("shufflenet_v2_x1_0", "densenet121", "convnext_tiny", "vgg16", "vit_b_16"),
)
QUICK = ("resnet18", "mobilenet_v2", "efficientnet_b0")


def compare(folder: Path, *, threads: int, quick: bool) -> list[Row]:
    """Calibrates, then predicts and times each net in float32 and in int8."""
    host = load_target("host")
    calibrated = calibrate_machine(host, threads=threads)
    target = host.model_copy(update={"compute": calibrated.compute})
    rows = [
        Row(
            what="fit to the sweep",
            value=calibrated.median_error,
            unit="median error",
            n=calibrated.probes,
            high=calibrated.worst_error,
        )
    ]
    errors: dict[str, list[float]] = {"FP32": [], "int8": []}
    for net in QUICK if quick else ZOO:
        for scheme, path in (("FP32", exported(net, host, folder)), ("int8", quantised(net, host, folder))):
            predicted = predict_latency(path, target).latency_ms
            session = Session(path, INPUT, threads=threads)
            tensor = np.random.default_rng(1).normal(size=(1, *INPUT.shape)).astype(np.float32)
            latency = measure_latency(lambda s=session, t=tensor: s.logits(t), max_seconds=4 if quick else 10)
            measured = latency.p50
            errors[scheme].append(predicted / measured.value_ms - 1)
            print(f"{net} {scheme}: {measured.value_ms:.2f} ms, predicted {predicted:.2f}", file=sys.stderr)
            rows.append(
                Row(
                    what=f"{net} {scheme}, {threads} thread{'s' * (threads > 1)}",
                    value=predicted,
                    unit="ms, predicted",
                    n=latency.runs,
                    low=measured.low_ms,
                    high=measured.high_ms,
                    against=f"measured {measured.value_ms:.4g}",
                    ratio=predicted / measured.value_ms,
                )
            )
    groups = {**errors, "all": errors["FP32"] + errors["int8"]}
    return rows + [_summary(what, np.abs(found)) for what, found in groups.items()]


def _summary(what: str, sizes: np.ndarray) -> Row:
    return Row(
        what=f"zoo, {what}", value=float(np.median(sizes)), unit="median error", n=len(sizes), high=float(sizes.max())
    )
