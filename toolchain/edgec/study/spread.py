"""Mean, deviation and interval over seeds."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

__all__ = ["Spread", "spread_of", "spreads_of"]


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Mean and sample deviation (n − 1) of n values; a single one has no deviation."""

    mean: float
    deviation: float | None
    n: int

    @property
    def interval(self) -> tuple[float, float] | None:
        """Student's 95 % interval of the true mean; None of a single value."""
        if self.deviation is None:
            return None
        from scipy.special import stdtrit

        half = float(stdtrit(self.n - 1, 0.975)) * self.deviation / math.sqrt(self.n)
        return self.mean - half, self.mean + half


def spread_of(values: Sequence[float]) -> Spread:
    """The spread of one value or more."""
    deviation = statistics.stdev(values) if len(values) > 1 else None
    return Spread(mean=statistics.fmean(values), deviation=deviation, n=len(values))


def spreads_of(values: Iterable[Mapping[str, float]], names: Sequence[str]) -> dict[str, Spread]:
    """The spread of every measure that some values have."""
    values = list(values)
    columns = {name: [value[name] for value in values if name in value] for name in names}
    return {name: spread_of(column) for name, column in columns.items() if column}
