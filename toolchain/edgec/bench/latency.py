"""How long an inference takes on this machine: warm-up until steady, percentiles with intervals, models in turn."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from edgec.core.measurement import Machine, Measurement, Stage
from edgec.evaluate.intervals import quantile_ranks

__all__ = ["Latency", "Percentile", "Turns", "latency_measurements", "measure_in_turns", "measure_latency"]

_BLOCK = 10
"""Runs whose median tells whether the machine is still getting faster."""
_STEADY = 0.05
"""Medians of two blocks this close, relative to the earlier, count as steady."""
_SETTLE_S = 0.005
"""Runs at the head of a turn that are not counted: caches hold the other model, and its threads still spin."""
_TURN_S = 0.01
"""Runs of a turn that are counted: long enough for a median, short enough that a machine is the same in two turns."""


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
        quantiles_ms: Observed times at every hundredth, from the shortest run to the longest.
        drift: Median of the last third of the runs over that of the first; 1 where there are fewer than three.
    """

    p50: Percentile
    p90: Percentile
    p95: Percentile
    p99: Percentile
    runs: int
    warmup_runs: int
    steady: bool
    drift: float = 1.0
    quantiles_ms: tuple[float, ...] = ()


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
    warm_up = _warm_up(run, clock, least_s=warmup_s, most_s=max_seconds / 2)
    times_ms: list[float] = []
    while not times_ms or (len(times_ms) < min_runs and clock() - start < max_seconds):
        times_ms.append(_time_ms(run, clock))
    return _latency(times_ms, warm_up)


@dataclass(frozen=True, kw_only=True)
class Turns:
    """Times of one of several models that took turns.

    Attributes:
        latency: Of all its counted runs.
        medians_ms: Of each of its turns; the turns of all models with the same position are neighbours in time.
    """

    latency: Latency
    medians_ms: tuple[float, ...]


def measure_in_turns(
    runs: Sequence[Callable[[], object]],
    *,
    warmup_s: float = 0.5,
    min_runs: int = 400,
    min_turns: int = 30,
    max_seconds: float = 10.0,
    clock: Callable[[], float] = time.perf_counter,
) -> list[Turns]:
    """Times several models under the same conditions: each runs for a few milliseconds, then the next, to and fro.

    Args:
        runs: One inference of each model, batch 1.
        warmup_s: Shortest warm-up of each; all together take at most half of `max_seconds`.
        min_runs: Runs of each to time.
        min_turns: Turns of each, however many runs they hold.
        max_seconds: Longest that all of it may take, but for a turn of each, which is made in any case.
        clock: Seconds that only ever grow.
    """
    start = clock()
    most_s = max_seconds / 2 / len(runs)
    warm_ups = [_warm_up(run, clock, least_s=warmup_s, most_s=most_s) for run in runs]
    turns: list[list[list[float]]] = [[] for _ in runs]
    order = list(range(len(runs)))
    while True:
        for i in order:
            turns[i].append(_take_turn(runs[i], clock))
        order.reverse()
        enough = len(turns[0]) >= min_turns and all(sum(map(len, taken)) >= min_runs for taken in turns)
        if enough or clock() - start >= max_seconds:
            break
    return [
        Turns(
            latency=_latency([time_ms for turn in taken for time_ms in turn], warm_up),
            medians_ms=tuple(map(statistics.median, taken)),
        )
        for taken, warm_up in zip(turns, warm_ups, strict=True)
    ]


def _take_turn(run: Callable[[], object], clock: Callable[[], float]) -> list[float]:
    """Times of the counted runs, at least one, after at least one that is not counted."""
    _fill(run, clock, _SETTLE_S)
    return _fill(run, clock, _TURN_S)


def _fill(run: Callable[[], object], clock: Callable[[], float], seconds: float) -> list[float]:
    start = clock()
    times_ms = [_time_ms(run, clock)]
    while clock() - start < seconds:
        times_ms.append(_time_ms(run, clock))
    return times_ms


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


def _latency(times_ms: Sequence[float], warm_up: tuple[int, bool]) -> Latency:
    """`times_ms` in the order in which they were taken, `warm_up` as `_warm_up` gives it."""
    ordered = np.sort(times_ms)
    return Latency(
        p50=_percentile(ordered, 0.5),
        p90=_percentile(ordered, 0.9),
        p95=_percentile(ordered, 0.95),
        p99=_percentile(ordered, 0.99),
        runs=len(ordered),
        warmup_runs=warm_up[0],
        steady=warm_up[1],
        drift=_drift(times_ms),
        quantiles_ms=tuple(np.quantile(ordered, np.linspace(0, 1, 101), method="inverted_cdf").tolist()),
    )


def _drift(times_ms: Sequence[float]) -> float:
    third = len(times_ms) // 3
    return statistics.median(times_ms[-third:]) / statistics.median(times_ms[:third]) if third else 1.0


def _percentile(ordered_ms: np.ndarray, quantile: float) -> Percentile:
    low, high = quantile_ranks(len(ordered_ms), quantile)
    return Percentile(
        # An observed time, which no end of the interval can pass; an interpolated one can lie below the lower end.
        value_ms=float(np.quantile(ordered_ms, quantile, method="inverted_cdf")),
        low_ms=None if low is None else float(ordered_ms[low]),
        high_ms=None if high is None else float(ordered_ms[high]),
    )


def latency_measurements(
    latency: Latency, *, where: str, machine: Machine, stage: Stage = Stage.ARTIFACT
) -> list[Measurement]:
    """`latency_ms_p50`, `latency_ms_p90`, `latency_ms_p95` and `latency_ms_p99`, as rows."""
    percentiles = {"p50": latency.p50, "p90": latency.p90, "p95": latency.p95, "p99": latency.p99}
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
            machine=machine,
        )
        for name, percentile in percentiles.items()
    ]
