"""Latency of a classifier on a device that is not here: a roofline over its ONNX graph (Williams et al., CACM 2009).

Bare, a roofline is wrong by up to 50 times for small networks (MobileNetV2 in int8 uses 2 % of an Orin's peak): so each
operator pays a floor, and reaches only the share of the peak that operators of its class reach.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Literal

from edgec.core.errors import UnsupportedError
from edgec.core.measurement import Kind, Measurement, Stage
from edgec.core.target import Compute, Scheme, Target
from edgec.evaluate.workload import OperatorClass, Traffic, Work, read_workload

__all__ = ["OperatorCost", "Precision", "Prediction", "predict_latency"]


class Precision(str, Enum):
    """Which of the device's peaks an operator runs against."""

    INT8 = "int8"
    FP16 = "fp16"
    FP32 = "fp32"


@dataclass(frozen=True, kw_only=True)
class OperatorCost:
    """One operator's share of a prediction.

    Attributes:
        macs: Multiply-accumulates; 0 for elementwise operators.
        moved_bytes: What goes through memory, weights included.
        latency_ms: Its time, floor included.
        bound_by: What most of that time is.
    """

    name: str
    op_type: str
    kind: OperatorClass
    precision: Precision
    macs: int
    moved_bytes: int
    latency_ms: float
    bound_by: Literal["compute", "memory", "floor"]


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What a model probably takes on a device, and where the time goes.

    Attributes:
        latency_ms: One inference of the whole batch.
        operators: Slowest first.
        where: The device's title.
    """

    latency_ms: float
    batch: int
    operators: tuple[OperatorCost, ...]
    where: str

    def measurement(self, stage: Stage) -> Measurement:
        """The row for `report.json`. `n` is 0, because nothing was run; there is no interval."""
        return Measurement(
            stage=stage,
            name="latency_ms_p50",
            value=self.latency_ms,
            unit="ms",
            n=0,
            kind=Kind.PREDICTED,
            where=self.where,
        )


def predict_latency(model: Path, target: Target, *, batch: int = 1) -> Prediction:
    """Predicts how long one inference takes on a device.

    Operators run one after another, each in

        t = max(operations / (peak * efficiency), bytes / bandwidth) + floor

    with operations = 2 * MACs (elementwise: the elements of the largest tensor), the peak of the operator's precision
    and the efficiency of its class. An operator is int8 when both factors come out of a DequantizeLinear and the device
    has int8; else 16-bit when the graph or the target's scheme says so; else float32. What a runtime fuses is free,
    see `read_workload`.

    Args:
        model: An ONNX file, float or with Q/DQ.
        target: A profile with `compute`.
        batch: Images at once; a dynamic batch dimension is bound to it.

    Raises:
        UnsupportedError: The profile has no compute figures, or the graph's work cannot be counted.
        DataError: Not an ONNX file.
    """
    if target.compute is None:
        raise UnsupportedError(
            f"target '{target.name}' has no compute figures, so its latency cannot be predicted",
            hint="measure on the device, or write a profile with a [compute] table",
        )
    half = target.quantization.scheme is Scheme.FLOAT16
    costs = [_cost(work, target.compute, half=half) for work in read_workload(model, batch=batch)]
    return Prediction(
        latency_ms=sum(cost.latency_ms for cost in costs),
        batch=batch,
        operators=tuple(sorted(costs, key=lambda cost: -cost.latency_ms)),
        where=target.title,
    )


def _cost(work: Work, compute: Compute, *, half: bool) -> OperatorCost:
    """Time of one operator; `half` where the device runs float32 graphs in 16 bits."""
    precision, peak = _precision(work, compute, half=half)
    efficiency = getattr(compute.efficiency, work.kind.value)
    moved_bytes = _bytes(work.traffic, compute, half=half)
    compute_ms = (2 * work.macs or work.elements) / (peak * 1e12 * efficiency) * 1e3
    memory_ms = moved_bytes / (compute.bandwidth_gb_per_s * 1e9) * 1e3
    floor_ms = 0.0 if work.fused else compute.floor_us / 1e3
    parts: dict[float, Literal["compute", "memory", "floor"]] = {
        floor_ms: "floor",
        memory_ms: "memory",
        compute_ms: "compute",
    }
    return OperatorCost(
        name=work.name,
        op_type=work.op_type,
        kind=work.kind,
        precision=precision,
        macs=work.macs,
        moved_bytes=moved_bytes,
        latency_ms=max(compute_ms, memory_ms) + floor_ms,
        bound_by=parts[max(parts)],
    )


def _precision(work: Work, compute: Compute, *, half: bool) -> tuple[Precision, float]:
    """The precision that an operator runs in, and the device's peak there in tera-operations a second."""
    if work.quantized and compute.int8_tops is not None:
        return Precision.INT8, compute.int8_tops
    if (half or work.half) and compute.fp16_tflops is not None:
        return Precision.FP16, compute.fp16_tflops
    return Precision.FP32, compute.fp32_tflops


def _bytes(traffic: Traffic, compute: Compute, *, half: bool) -> int:
    """Bytes moved; without int8 units, quantised tensors stay in floating point."""
    single = 2 if half else 4
    byte = 1 if compute.int8_tops is not None else single
    return traffic.byte * byte + traffic.half * 2 + traffic.single * single
