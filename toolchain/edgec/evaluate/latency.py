"""How long an inference takes on this machine: warm-up until steady, percentiles with intervals."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from edgec.core.measurement import Measurement, Stage
from edgec.evaluate.intervals import quantile_ranks

__all__ = ["Latency", "Percentile", "latency_measurements", "measure_latency"]

_BLOCK = 10
"""Runs whose median tells whether the machine is still getting faster."""
_STEADY = 0.05
"""Medians of two blocks this close, relative to the earlier, count as steady."""


@dataclass(frozen=True, kw_only=True)
class Percentile:
    """A percentile of the runs' times, with the 95 % interval that follows from their order alone.

    An end is None where there are too few runs to bound it. The interval takes runs for independent: where a machine
    slows down for seconds at a time, it is too narrow.
    """

    value_ms: float
    low_ms: float | None
    high_ms: float | None


@dataclass(frozen=True, kw_only=True)
class Latency:
    """Times of single inferences.

    Attributes:
        runs: Timed runs.
        warmup_runs: Runs before, not counted.
        steady: Whether the warm-up ended because times had settled, not because its time was up.
    """

    p50: Percentile
    p90: Percentile
    p99: Percentile
    runs: int
    warmup_runs: int
    steady: bool


def measure_latency(
    run: Callable[[], object],
    *,
    warmup_s: float = 0.5,
    min_runs: int = 400,
    max_seconds: float = 10.0,
    clock: Callable[[], float] = time.perf_counter,
) -> Latency:
    """Times one inference at a time.

    Warms up for `warmup_s` and on until two blocks of runs take the same time, at most half of `max_seconds`; then
    times `min_runs` runs, or as many as the rest of `max_seconds` allows, and at least one.

    Args:
        run: One inference of the artifact, batch 1.
        warmup_s: Shortest warm-up.
        min_runs: Runs to time. 400 are enough to bound the 99th percentile from above.
        max_seconds: Longest that all of it may take, but for a run under way.
        clock: Seconds that only ever grow.
    """
    start = clock()
    warmup_runs, steady = _warm_up(run, clock, least_s=warmup_s, most_s=max_seconds / 2)
    times_ms: list[float] = []
    while not times_ms or (len(times_ms) < min_runs and clock() - start < max_seconds):
        times_ms.append(_time_ms(run, clock))
    ordered = np.sort(times_ms)
    return Latency(
        p50=_percentile(ordered, 0.5),
        p90=_percentile(ordered, 0.9),
        p99=_percentile(ordered, 0.99),
        runs=len(times_ms),
        warmup_runs=warmup_runs,
        steady=steady,
    )


def _warm_up(
    run: Callable[[], object], clock: Callable[[], float], *, least_s: float, most_s: float
) -> tuple[int, bool]:
    """Runs made, and whether their times settled."""
    start = clock()
    before = float("inf")
    runs = 0
    while clock() - start < most_s:
        now = statistics.median(_time_ms(run, clock) for _ in range(_BLOCK))
        runs += _BLOCK
        steady = abs(before - now) <= _STEADY * before < float("inf")
        if steady and clock() - start >= least_s:
            return runs, True
        before = now
    return runs, False


def _time_ms(run: Callable[[], object], clock: Callable[[], float]) -> float:
    start = clock()
    run()
    return (clock() - start) * 1e3


def _percentile(ordered_ms: np.ndarray, quantile: float) -> Percentile:
    low, high = quantile_ranks(len(ordered_ms), quantile)
    return Percentile(
        # An observed time, which no end of the interval can pass; an interpolated one can lie below the lower end.
        value_ms=float(np.quantile(ordered_ms, quantile, method="inverted_cdf")),
        low_ms=None if low is None else float(ordered_ms[low]),
        high_ms=None if high is None else float(ordered_ms[high]),
    )


def latency_measurements(latency: Latency, *, where: str, stage: Stage = Stage.ARTIFACT) -> list[Measurement]:
    """`latency_ms_p50`, `latency_ms_p90` and `latency_ms_p99`, as rows."""
    percentiles = {"p50": latency.p50, "p90": latency.p90, "p99": latency.p99}
    return [
        Measurement(
            stage=stage,
            name=f"latency_ms_{name}",
            value=percentile.value_ms,
            unit="ms",
            n=latency.runs,
            low=percentile.low_ms,
            high=percentile.high_ms,
            where=where,
        )
        for name, percentile in percentiles.items()
    ]
