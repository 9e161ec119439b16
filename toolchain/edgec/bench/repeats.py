"""What is measured a few times over, such as memory and energy: the median, and how far chance moves it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from typing_extensions import Self

from edgec.core.measurement import Machine, Measurement, Stage
from edgec.evaluate.intervals import quantile_ranks

__all__ = ["FEWEST", "Repeated"]

FEWEST = 6
"""Measurements of which the least and the greatest bound the median at 95 %: all lie on one side of it once in 32."""


@dataclass(frozen=True, kw_only=True)
class Repeated:
    """The median of several measurements, with the 95 % interval that follows from their order alone.

    Attributes:
        low: Lower end; None, as is the upper one, where there are fewer than `FEWEST`.
        runs: Measurements.
    """

    value: float
    low: float | None
    high: float | None
    runs: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Self:
        """The median of at least one value."""
        ordered = np.sort(values)
        low, high = (None if rank is None else float(ordered[rank]) for rank in quantile_ranks(len(ordered), 0.5))
        value = float(np.quantile(ordered, 0.5, method="inverted_cdf"))
        return cls(value=value, low=low, high=high, runs=len(ordered))

    def measurement(self, name: str, unit: str, *, where: str, machine: Machine) -> Measurement:
        """The artifact's row in a report."""
        return Measurement(
            stage=Stage.ARTIFACT,
            name=name,
            value=self.value,
            unit=unit,
            n=self.runs,
            low=self.low,
            high=self.high,
            where=where,
            machine=machine,
        )
