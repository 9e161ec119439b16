"""What a benchmark makes of its measurements: throughput, notes on drift and heat."""

import numpy as np
import pytest

from edgec.bench.bundle import BatchResult, _notes
from edgec.bench.latency import Latency, Percentile, measure_latency
from edgec.bench.machine import EnergyMeter, MachineState

COOL, HOT = (
    MachineState(governor="performance", clock_mhz=2400, clock_limit_mhz=2400, temperature_c=celsius)
    for celsius in (41, 79)
)


def latency(*, drift=1.0, steady=True):
    middle = Percentile(value_ms=4.0, low_ms=3.9, high_ms=4.1)
    return Latency(p50=middle, p90=middle, p95=middle, p99=middle, runs=100, warmup_runs=20, steady=steady, drift=drift)


def notes(result, *, before=COOL, after=HOT):
    return _notes([BatchResult(batch=8, latency=result, energy_j=None)], before, after, EnergyMeter())


def test_throughput_counts_images():
    assert BatchResult(batch=8, latency=latency(), energy_j=None).images_per_s == pytest.approx(2000)


def test_a_steady_measurement_needs_no_word():
    assert notes(latency(drift=1.04)) == []


def test_a_drift_is_told_with_the_heat():
    (note,) = notes(latency(drift=1.31))
    assert note.startswith(
        "batch 8: the last third of the runs was 31% slower than the first (41 °C before, 79 °C after)"
    )


def test_an_unsettled_warm_up_and_a_lazy_governor_are_told():
    state = MachineState(governor="powersave", clock_mhz=800, clock_limit_mhz=2400, temperature_c=40)
    first, second = notes(latency(steady=False), before=state, after=state)
    assert first == "batch 8: times had not settled when the warm-up was over, measure for longer"
    assert second.startswith("clocks follow the governor 'powersave'")


def test_what_is_not_available_is_named():
    nothing = MachineState()
    assert notes(latency(), before=nothing, after=nothing) == ["clocks and temperature: not available here"]


@pytest.mark.parametrize(("slowdown", "drift"), [(0.0, 1.0), (1.0, 11 / 7)])
def test_drift_compares_the_thirds_of_the_runs(slowdown, drift):
    """Runs that get slower evenly, from 10 ms on, to twice as long: the thirds' medians are 7/6 and 11/6 of that."""
    # A third of 99 runs: its median is the middle one, off by less than a step of 1/99.
    runs, now = 99, [0.0]
    times = [0.010] * 20 + list(0.010 * (1 + slowdown * np.arange(runs) / runs))

    def run():
        now[0] += times.pop(0) if times else 0.010

    found = measure_latency(run, warmup_s=0.0, min_runs=runs, max_seconds=1000, clock=lambda: now[0])
    assert found.drift == pytest.approx(drift, rel=0.02)
