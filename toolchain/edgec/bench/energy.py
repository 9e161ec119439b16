"""Energy of an inference, where the machine tells it."""

from __future__ import annotations

import time
from collections.abc import Callable

from edgec.bench.machine import EnergyMeter
from edgec.bench.repeats import FEWEST, Repeated

__all__ = ["measure_energy"]


def measure_energy(
    run: Callable[[], object],
    *,
    images: int = 1,
    times: int = FEWEST,
    seconds: float = 0.5,
    new_meter: Callable[[], EnergyMeter] = EnergyMeter,
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[Repeated | None, EnergyMeter]:
    """Joules of an image: what the machine took while the artifact ran again and again, over the number of images.

    That is the whole package or module, with whatever else ran on it.

    Args:
        run: One inference of the artifact.
        images: How many it takes at once.
        times: Measurements.
        seconds: How long each lasts; nothing runs where the machine does not tell.
        new_meter: Makes what tells, anew for each measurement.
        clock: Seconds that only ever grow.

    Returns:
        The energy, None where the machine does not tell, and the last meter, which says who told or why nobody did.
    """
    joules, meter = list[float](), new_meter()
    for _ in range(times):
        runs, meter = 0, new_meter()
        with meter:
            start = clock()
            while meter.reason is None and (not runs or clock() - start < seconds):
                run()
                runs += 1
        if meter.joules is None:
            return None, meter
        joules.append(meter.joules / (runs * images))
    return Repeated.of(joules), meter
