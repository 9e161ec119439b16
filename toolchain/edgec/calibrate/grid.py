"""The integers that a target rounds activations to (docs/methods.md §5)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgec.core.target import Scheme

if TYPE_CHECKING:
    from edgec.core.target import Target

__all__ = ["Grid", "activation_grid"]


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Integers from `low` to `high`; real = scale * (integer - zero_point).

    Attributes:
        low: Smallest integer.
        high: Largest integer.
        symmetric: The zero-point is 0, so a range reaches equally far to both sides.
    """

    low: int
    high: int
    symmetric: bool

    @property
    def steps(self) -> int:
        """Scale steps from end to end."""
        return self.high - self.low


def activation_grid(target: Target) -> Grid | None:
    """The grid of a target's activations; None where activations stay in floating point.

    TensorRT refuses any zero-point but 0. onnxruntime takes one, which gives the values after a ReLU all 255 steps
    instead of 127 and lets the ReLU disappear into the rounding.
    """
    if target.quantization.scheme is Scheme.U8S8:
        return Grid(low=0, high=255, symmetric=False)
    if target.quantization.scheme is Scheme.S8S8:
        if target.runtime.engine == "tensorrt":
            return Grid(low=-127, high=127, symmetric=True)
        return Grid(low=-128, high=127, symmetric=False)
    return None
