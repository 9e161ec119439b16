"""The integers that weights are rounded to: which axis has scales of its own, and how far each scale reaches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float
    from onnx import NodeProto

    from edgec.core.target import Target

__all__ = ["LEAST_REACH", "WeightGrid", "channel_axis", "least_error_reach", "scaled_axis", "weight_grid"]

LEAST_REACH = 256 * np.finfo(np.float32).tiny
"""Below it the scale, a 254th, is no normal float32."""

_SHARES = np.linspace(0.4, 1.0, 61)
"""Reaches tried, as shares of the largest value: a hundredth apart."""


@dataclass(frozen=True, kw_only=True)
class WeightGrid:
    """Integers from -`high` to `high`, kept in a type that holds those up to `stored`: 7 and 127 for int4 in int8."""

    high: int
    stored: int


def weight_grid(target: Target) -> WeightGrid:
    """The grid of a target's weights."""
    stored = 64 if target.quantization.reduce_range else 127
    return WeightGrid(high=7 if target.quantization.weight_bits == 4 else stored, stored=stored)


def channel_axis(node: NodeProto) -> int:
    """Axis of the output channels in a weighted operator's weight."""
    if node.op_type == "Gemm":
        return 0 if any(a.name == "transB" and a.i for a in node.attribute) else 1
    return 0 if node.op_type == "Conv" else 1


def scaled_axis(node: NodeProto, target: Target) -> int | None:
    """The axis along which a weight has a scale per channel; None for one scale in all.

    TensorRT computes wrongly, without a word, with scales along another axis than 0 (docs/targets.md §3).
    """
    axis = channel_axis(node)
    wrong = target.runtime.engine == "tensorrt" and axis != 0
    return axis if target.quantization.per_channel and not wrong else None


def least_error_reach(
    weight: Float[np.ndarray, "..."], axis: int | None, grid: WeightGrid
) -> Float[np.ndarray, "channel"]:
    """What the grid's largest integer stands for, channel by channel, so that rounding loses least squared error.

    All-zero channels, which pruning leaves, take the widest channel's: their own would give a scale of 0.

    Args:
        weight: Of any shape.
        axis: As `scaled_axis` has it.
        grid: The integers.
    """
    rows = weight.reshape(1, -1) if axis is None else np.moveaxis(weight, axis, 0).reshape(weight.shape[axis], -1)
    rows = rows.astype(np.float64)
    largest = np.abs(rows).max(axis=1)
    largest[largest < LEAST_REACH] = max(largest.max(), LEAST_REACH)
    errors = np.stack([np.square(_rounded(rows, share * largest, grid) - rows).sum(axis=1) for share in _SHARES])
    return _SHARES[::-1][errors[::-1].argmin(axis=0)] * largest  # the widest among equals


def _rounded(rows: np.ndarray, reach: np.ndarray, grid: WeightGrid) -> np.ndarray:
    step = (reach / grid.high)[:, None]
    return np.clip(np.round(rows / step), -grid.high, grid.high) * step
