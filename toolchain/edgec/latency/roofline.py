"""Latency of a classifier on a device that is not here: a roofline over its ONNX graph (Williams et al., CACM 2009).

Bare, a roofline is wrong by up to 50 times for small networks (MobileNetV2 in int8 uses 2 % of an Orin's peak): so each
operator pays a floor, reaches only the share of the peak that operators of its class reach, and wastes a part of that
when it is small. The parameters are fitted to latencies that others published, or to graphs that were timed on the
device itself (`costs`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Literal

from edgec.core.compute import Compute, Efficiency
from edgec.core.errors import UnsupportedError
from edgec.core.measurement import Kind, Machine, Measurement, Stage
from edgec.core.target import Target
from edgec.latency.workload import OperatorClass, Traffic, Work, read_workload

__all__ = [
    "OperatorCost",
    "Precision",
    "Prediction",
    "compute_of",
    "cost_of",
    "moved_bytes",
    "moving_ms",
    "net_costs",
    "padded",
    "peak_of",
    "precision_of",
    "predict_latency",
]

_NORMAL_95 = 1.96


class Precision(str, Enum):
    """Which of the device's peaks an operator runs against."""

    INT8 = "int8"
    FP16 = "fp16"
    FP32 = "fp32"


@dataclass(frozen=True, kw_only=True)
class OperatorCost:
    """One operator's share of a prediction.

    Attributes:
        work: What it asks of the device.
        moved_bytes: What goes through memory, weights included.
        latency_ms: Its time, floor included.
        floor_ms: The part of it that any operator takes.
        wasted: How many times longer it computes than a large operator of its class would for the same products.
        padded: The part of `wasted` that padding its channels costs.
        bound_by: What most of its time is.
    """

    work: Work
    precision: Precision
    moved_bytes: int
    latency_ms: float
    floor_ms: float
    wasted: float
    padded: float
    bound_by: Literal["compute", "memory", "floor"]

    @property
    def name(self) -> str:
        """The node's name."""
        return self.work.name

    @property
    def op_type(self) -> str:
        """ONNX operator."""
        return self.work.op_type

    @property
    def kind(self) -> OperatorClass:
        """Its class."""
        return self.work.kind

    @property
    def macs(self) -> int:
        """Multiply-accumulates; 0 for elementwise operators."""
        return self.work.macs


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What a model probably takes on a device, and where the time goes.

    Attributes:
        latency_ms: One inference of the whole batch.
        low_ms: Lower end of the 95 % interval that the residuals of the fit give, wider for a net that is smaller or
            larger than those fitted to; None where the profile has no spread.
        high_ms: Upper end.
        operators: Slowest first.
        where: The device's title.
    """

    latency_ms: float
    low_ms: float | None
    high_ms: float | None
    batch: int
    operators: tuple[OperatorCost, ...]
    where: str

    def measurement(self, stage: Stage) -> Measurement:
        """The row for `report.json`. `n` is 0, because nothing was run."""
        return Measurement(
            stage=stage,
            name="latency_ms_p50",
            value=self.latency_ms,
            unit="ms",
            n=0,
            low=self.low_ms,
            high=self.high_ms,
            kind=Kind.PREDICTED,
            where=self.where,
            machine=Machine.TARGET,
        )


def predict_latency(model: Path, target: Target, *, batch: int = 1) -> Prediction:
    """Predicts how long one inference takes on a device.

    Operators run one after another, each in

        t = max(operations / (peak * efficiency), bytes / bandwidth) + floor

    For a product of M rows, N outputs and K terms, operations = 2 (MNK + waste), channels padded to the step of the
    number format (`core.compute.Waste`, `Fill`); for other operators, their elements times an effort. The peak is that
    of the number format, or of the vector units for everything but matrix products; the efficiency that of its class.
    Where the profile knows a cache, weights / bandwidth is added, and only the other bytes count in the maximum;
    weights of small nets may come faster (`core.target.Resident`). A product is int8 when both factors come out of a
    DequantizeLinear and the device has int8; else 16-bit when the graph or the target's scheme says so; else float32.
    What a runtime fuses costs neither operations nor a floor (`fusion`).

    Args:
        model: An ONNX file, float or with Q/DQ.
        target: A profile with `compute`.
        batch: Images at once; a dynamic batch dimension is bound to it.

    Raises:
        UnsupportedError: The profile has no compute figures, or the graph's work cannot be counted.
        DataError: Not an ONNX file.
    """
    compute = compute_of(target)
    half = target.quantization.computes_in_half
    workload = read_workload(model, batch=batch, engine=target.runtime.engine)
    costs = net_costs(workload, compute, half=half)
    latency_ms = sum(cost.latency_ms for cost in costs)
    spread = compute.spread_at(sum(cost.macs for cost in costs))
    factor = math.exp(_NORMAL_95 * spread) if spread else None
    return Prediction(
        latency_ms=latency_ms,
        low_ms=latency_ms / factor if factor else None,
        high_ms=latency_ms * factor if factor else None,
        batch=batch,
        operators=tuple(sorted(costs, key=lambda cost: -cost.latency_ms)),
        where=target.title,
    )


def compute_of(target: Target) -> Compute:
    """What latencies on a target are predicted from.

    Raises:
        UnsupportedError: The profile has no compute figures.
    """
    if target.compute is None:
        raise UnsupportedError(
            f"target '{target.name}' has no compute figures, so its latency cannot be predicted",
            hint="measure on the device, or write a profile with a [compute] table",
        )
    return target.compute


def net_costs(workload: Sequence[Work], compute: Compute, *, half: bool) -> list[OperatorCost]:
    """Times of a net's operators, in its order."""
    compute = compute.for_weights(sum(moved_bytes(work.weights, compute, half=half) for work in workload))
    return [cost_of(work, compute, half=half) for work in workload]


def cost_of(work: Work, compute: Compute, *, half: bool) -> OperatorCost:
    """Time of one operator; `half` where the device runs float32 graphs in 16 bits."""
    precision = precision_of(work, compute, half=half)
    padding, wasted = _waste(work, compute, precision)
    moved = moved_bytes(work.traffic, compute, half=half)
    operations = 2 * work.macs * wasted
    if not work.macs and not work.fused:
        operations = work.effort * _effort(work, compute, precision)
    speed = peak_of(work, compute, precision) * 1e12 * _efficiency(work, compute, precision)
    compute_ms = operations / speed * 1e3
    loading_ms, memory_ms = (ms / compute.bandwidth_share for ms in moving_ms(work, compute, half=half))
    floor_ms = 0.0 if work.fused else compute.floor_us / 1e3
    parts: dict[float, Literal["compute", "memory", "floor"]] = {
        floor_ms: "floor",
        loading_ms + memory_ms: "memory",
        compute_ms: "compute",
    }
    return OperatorCost(
        work=work,
        precision=precision,
        moved_bytes=moved,
        latency_ms=loading_ms + max(compute_ms, memory_ms) + floor_ms,
        floor_ms=floor_ms,
        wasted=wasted,
        padded=padding,
        bound_by=parts[max(parts)],
    )


def precision_of(work: Work, compute: Compute, *, half: bool) -> Precision:
    """The number format that an operator runs in."""
    if work.runs_on_bytes and compute.int8_tops is not None:
        return Precision.INT8
    if (half or work.half) and compute.fp16_tflops is not None:
        return Precision.FP16
    return Precision.FP32


def peak_of(work: Work, compute: Compute, precision: Precision) -> float:
    """The peak that an operator runs against, in tera-operations a second."""
    if compute.vector_tflops is not None and (work.kind.is_depthwise or work.kind is OperatorClass.ELEMENTWISE):
        return compute.vector_tflops
    peaks = {Precision.INT8: compute.int8_tops, Precision.FP16: compute.fp16_tflops}
    return peaks.get(precision) or compute.fp32_tflops


def _effort(work: Work, compute: Compute, precision: Precision) -> float:
    """How many times the arithmetic that is assumed of an operator it takes on the device."""
    table = compute.int8_effort if precision is Precision.INT8 else compute.effort
    return table.get(work.op_type, 1.0)


def _efficiency(work: Work, compute: Compute, precision: Precision) -> float:
    table: Efficiency = compute.efficiency
    if precision is Precision.INT8 and compute.int8_efficiency is not None:
        table = compute.int8_efficiency
    return table.of(work.kind.value)


def _waste(work: Work, compute: Compute, precision: Precision) -> tuple[float, float]:
    """How many times more products are computed than counted: by padding, and in all."""
    if not work.macs:
        return 1.0, 1.0
    fill = (precision is Precision.INT8 and compute.int8_fill) or compute.fill
    step = 1 if work.kind.is_depthwise else getattr(fill, f"{precision.value}_step")
    outputs, depth = padded(work.outputs, step), padded(work.channels, step) * work.window
    whole = work.rows * outputs * depth
    waste = fill.of(work.kind.value)
    beside = work.rows * (outputs * waste.per_output + depth * waste.per_input + waste.per_row)
    if work.rows > 1:
        beside += outputs * depth * waste.per_weight
    return whole / work.macs, (whole + beside) / work.macs


def padded(channels: int, step: int) -> int:
    """Channels rounded up to a multiple; up to four, which first layers have, are padded to four at most."""
    step = min(step, 4) if channels <= 4 else step
    return -(-channels // step) * step


def moving_ms(work: Work, compute: Compute, *, half: bool) -> tuple[float, float]:
    """What moving takes at full bandwidth: before an operator computes, and meanwhile."""
    everything, weights = (moved_bytes(traffic, compute, half=half) for traffic in (work.traffic, work.weights))
    if compute.cache_gb_per_s is None:
        return 0.0, everything / compute.bandwidth_gb_per_s / 1e6
    return weights / compute.bandwidth_gb_per_s / 1e6, (everything - weights) / compute.cache_gb_per_s / 1e6


def moved_bytes(traffic: Traffic, compute: Compute, *, half: bool) -> int:
    """Bytes moved; without int8 units, quantised tensors stay in floating point."""
    single = 2 if half else 4
    byte = 1 if compute.int8_tops is not None else single
    return traffic.byte * byte + traffic.half * 2 + traffic.single * single
