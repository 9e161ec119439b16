"""The latency model calibrated on this machine, against the zoo timed here: the part `--host` of `latency_model.py`.

Machines that are shared, as most virtual ones are, are now quick and now slow, for minutes at a time. So nets are timed
in rounds, half of them before the calibration and half after it, and the quietest counts, as it does in the
calibration; the slowest is shown beside it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from edgec.bench.latency import measure_latency
from edgec.core.target import Target, load_target
from edgec.latency.fit.sweep import calibrate_machine, clock_here
from edgec.latency.roofline import predict_latency
from edgec.runtime import Session
from nets import INPUT, ZOO, exported, quantised
from rows import Row

__all__ = ["compare"]

QUICK = ("resnet18", "mobilenet_v2", "efficientnet_b0")
ROUNDS = 6
TURN_S = 4.0
"""For a net, in each round."""


def compare(folder: Path, *, threads: int, quick: bool) -> list[Row]:
    """Times each net in float32 and in int8, and predicts it after a calibration."""
    host = load_target("host")
    nets = {
        (net, scheme): made(net, host, folder)
        for net in (QUICK if quick else ZOO)
        for scheme, made in (("FP32", exported), ("int8", quantised))
    }
    rounds = 2 if quick else ROUNDS
    before = [_round(nets.values(), threads) for _ in range(rounds // 2)]
    calibrated = calibrate_machine(host, clock_here(host, threads=threads))
    after = [_round(nets.values(), threads) for _ in range(rounds // 2)]
    target = host.model_copy(update={"compute": calibrated.compute})
    measured_ms = np.array([*before, *after])
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
    for ((net, scheme), path), times_ms in zip(nets.items(), measured_ms.T, strict=True):
        row = _row(f"{net} {scheme}, {threads} thread{'s' * (threads > 1)}", path, target, times_ms.tolist())
        rows.append(row)
        errors[scheme].append(abs(row.value / min(times_ms) - 1))
    groups = {**errors, "all": errors["FP32"] + errors["int8"]}
    return rows + [_summary(what, found) for what, found in groups.items()]


def _round(models: Iterable[Path], threads: int) -> list[float]:
    """The median of each model, in ms."""
    tensor = np.random.default_rng(1).normal(size=(1, *INPUT.shape)).astype(np.float32)
    medians = []
    for path in models:
        session = Session(path, INPUT, threads=threads)
        latency = measure_latency(lambda session=session: session.logits(tensor), max_seconds=TURN_S)
        medians.append(latency.p50.value_ms)
        print(f"{path.name}: {medians[-1]:.2f} ms", file=sys.stderr)
    return medians


def _row(what: str, path: Path, target: Target, times_ms: Sequence[float]) -> Row:
    predicted, quietest = predict_latency(path, target), min(times_ms)
    return Row(
        what=what,
        value=predicted.latency_ms,
        unit="ms, predicted",
        n=len(times_ms),
        low=predicted.low_ms,
        high=predicted.high_ms,
        against=f"measured {quietest:.4g} to {max(times_ms):.4g}",
        ratio=predicted.latency_ms / quietest,
    )


def _summary(what: str, sizes: Sequence[float]) -> Row:
    return Row(what=f"zoo, {what}", value=float(np.median(sizes)), unit="median error", n=len(sizes), high=max(sizes))
