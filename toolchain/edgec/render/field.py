"""The axes of a field of marks: an amount, such as a latency, against a share, such as the worst class's."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Axes"]

_TICKS = 6
_STEPS = (0.01, 0.02, 0.05, 0.1, 0.2)
"""Between shares on the axis."""


@dataclass(frozen=True, kw_only=True)
class Axes:
    """Amounts from 0 to the right, shares from the bottom to 1, both with a little room.

    Attributes:
        end: The amount at the right.
        start: The share at the bottom.
        step: Between shares that are named.
    """

    end: float
    start: float
    step: float

    @classmethod
    def over(cls, amounts: Sequence[float], shares: Sequence[float]) -> Axes:
        """Axes that hold all of them."""
        lowest = min(shares)
        step = next((step for step in _STEPS if (1 - lowest) / step <= _TICKS), _STEPS[-1])
        start = max(0.0, step * math.floor(lowest / step - 0.2))
        return cls(end=1.08 * max(amounts, default=1.0), start=start, step=step)

    def x(self, amount: float) -> float:
        """In percent from the left."""
        return round(100 * amount / self.end, 2)

    def y(self, share: float) -> float:
        """In percent from the top."""
        return round(100 * (1 - share) / (1 - self.start), 2)

    @property
    def ticks_x(self) -> list[tuple[float, str]]:
        """1, 2 or 5 times a power of ten apart: places and texts."""
        power = 10.0 ** math.floor(math.log10(self.end / 3))
        step = next(step * power for step in (1, 2, 5, 10) if self.end / (step * power) <= _TICKS)
        return [(self.x(i * step), f"{i * step:g}") for i in range(int(self.end / step) + 1)]

    @property
    def ticks_y(self) -> list[tuple[float, str]]:
        """Places and texts."""
        shares = [1 - i * self.step for i in range(round((1 - self.start) / self.step) + 1)]
        return [(self.y(share), f"{100 * share:.0f} %") for share in shares]
