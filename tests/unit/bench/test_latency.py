"""Latency with a clock that the test turns."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from edgec.bench.latency import Latency, Turns, latency_measurements, measure_in_turns, measure_latency
from edgec.core.measurement import Kind, Stage
from edgec.core.measurement import Machine as MeasuredMachine


class Machine:
    """A clock, and an inference that moves it on by the next of some durations."""

    def __init__(self, durations_ms: Iterator[float]) -> None:
        self.now = 0.0
        self.runs = 0
        self._durations_ms = durations_ms

    def run(self) -> None:
        self.now += next(self._durations_ms) / 1e3
        self.runs += 1

    def measure(self, **limits: float) -> Latency:
        return measure_latency(self.run, clock=lambda: self.now, **limits)


def test_percentiles_are_those_of_the_timed_runs() -> None:
    timed = np.random.default_rng(0).permutation(np.arange(1.0, 402.0))
    machine = Machine(itertools.chain([200.0] * 20, timed))
    latency = machine.measure(warmup_s=0, min_runs=401, max_seconds=1000)
    assert (latency.warmup_runs, latency.runs) == (20, 401)
    assert latency.p50.value_ms == pytest.approx(201)
    assert latency.p90.value_ms == pytest.approx(361)
    assert latency.p95.value_ms == pytest.approx(381)
    assert latency.p99.value_ms == pytest.approx(397)
    # The normal approximation of the median's ranks: 200.5 ± 1.96 √(401 / 4).
    assert (latency.p50.low_ms, latency.p50.high_ms) == pytest.approx((181, 221), abs=1)


def test_warm_up_ends_when_times_have_settled() -> None:
    machine = Machine(itertools.chain([9.0] * 10, [5.0] * 10, [3.0] * 10, itertools.repeat(2.0)))
    latency = machine.measure(warmup_s=0, min_runs=5, max_seconds=10)
    assert latency.steady
    assert latency.warmup_runs == 50
    assert latency.p99.value_ms == pytest.approx(2)


def test_warm_up_lasts_at_least_as_long_as_asked() -> None:
    machine = Machine(itertools.repeat(1.0))
    assert machine.measure(warmup_s=0.25, min_runs=5, max_seconds=10).warmup_runs == 250


def test_a_machine_that_never_settles_is_measured_and_said_to_be_unsteady() -> None:
    machine = Machine(itertools.cycle([1.0] * 10 + [2.0] * 10))
    latency = machine.measure(warmup_s=0, min_runs=40, max_seconds=1)
    assert not latency.steady
    assert latency.runs == 40


def test_slow_inference_stops_at_the_time_limit_but_runs_once() -> None:
    machine = Machine(itertools.repeat(60_000.0))
    latency = machine.measure(warmup_s=0, min_runs=400, max_seconds=10)
    assert (latency.runs, latency.p50.value_ms) == (1, pytest.approx(60_000))
    assert machine.runs == latency.warmup_runs + 1


def test_too_few_runs_leave_the_upper_end_of_the_99th_percentile_open() -> None:
    latency = Machine(itertools.repeat(1.0)).measure(warmup_s=0, min_runs=100, max_seconds=10)
    assert latency.p50.high_ms == pytest.approx(1)
    assert latency.p99.high_ms is None


class Machines:
    """One clock and two inferences: each takes its time, times what the machine's load is at that moment."""

    def __init__(self, times_ms: tuple[float, float], load: Callable[[float], float] = lambda _: 1.0) -> None:
        self.now = 0.0
        self.order: list[int] = []
        self._times_ms, self._load = times_ms, load

    def _run(self, which: int) -> None:
        self.now += self._times_ms[which] * self._load(self.now) / 1e3
        self.order.append(which)

    def in_turns(self, **limits: float) -> list[Turns]:
        runs = [lambda: self._run(0), lambda: self._run(1)]
        return measure_in_turns(runs, clock=lambda: self.now, **limits)


def test_models_take_turns_to_and_fro() -> None:
    machines = Machines((1.0, 2.0))
    first, second = machines.in_turns(warmup_s=0, min_runs=20, min_turns=4, max_seconds=100)
    warm = first.latency.warmup_runs + second.latency.warmup_runs
    # Each round begins with the model that ended the last: 0 1, 1 0, 0 1, 1 0.
    assert [which for which, _ in itertools.groupby(machines.order[warm:])] == [0, 1, 0, 1, 0]
    assert len(first.medians_ms) == len(second.medians_ms) == 4
    assert first.medians_ms == pytest.approx([1] * 4)
    assert second.medians_ms == pytest.approx([2] * 4)


def test_the_head_of_a_turn_is_not_counted() -> None:
    machines = Machines((1.0, 1.0))
    first, second = machines.in_turns(warmup_s=0, min_runs=1, min_turns=6, max_seconds=100)
    counted = first.latency.runs + second.latency.runs
    warm = first.latency.warmup_runs + second.latency.warmup_runs
    # 5 ms of each turn's 15 are not counted; the clock's rounding may add a run to either part.
    assert (len(machines.order) - warm - counted) / counted == pytest.approx(0.5, abs=0.1)


def test_a_load_that_comes_and_goes_leaves_the_neighbours_alike() -> None:
    machines = Machines((2.0, 1.0), load=lambda now: 1 + 2 * (int(now / 0.3) % 2))
    first, second = machines.in_turns(warmup_s=0, min_runs=400, min_turns=30, max_seconds=100)
    ratios = np.divide(first.medians_ms, second.medians_ms)
    assert np.mean(np.isclose(ratios, 2, rtol=0.01)) > 0.85
    assert np.ptp(first.medians_ms) > 3


def test_every_model_has_a_turn_whatever_the_limit() -> None:
    first, second = Machines((60_000.0, 1.0)).in_turns(warmup_s=0, min_runs=400, max_seconds=10)
    assert (len(first.medians_ms), len(second.medians_ms)) == (1, 1)
    assert first.latency.runs == 1


def test_rows_are_measured_and_carry_the_number_of_runs() -> None:
    latency = Machine(itertools.repeat(1.5)).measure(warmup_s=0, min_runs=400, max_seconds=10)
    rows = latency_measurements(latency, where="this machine", machine=MeasuredMachine.OTHER)
    assert [row.name for row in rows] == [f"latency_ms_p{share}" for share in (50, 90, 95, 99)]
    assert {(row.stage, row.kind, row.unit, row.n) for row in rows} == {(Stage.ARTIFACT, Kind.MEASURED, "ms", 400)}
    assert all(row.low == pytest.approx(1.5) and row.high == pytest.approx(1.5) for row in rows)
