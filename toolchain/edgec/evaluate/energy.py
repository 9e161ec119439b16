"""Energy of an inference, where the machine tells it."""

from __future__ import annotations

import time
from collections.abc import Callable

from edgec.core.measurement import Machine, Measurement, Stage
from edgec.evaluate.machine import EnergyMeter

__all__ = ["energy_measurement"]


def energy_measurement(
    run: Callable[[], object],
    *,
    where: str,
    machine: Machine,
    seconds: float = 1.0,
    meter: EnergyMeter | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Measurement | None:
    """`energy_j` of an image: what the machine took while the artifact ran again and again, over the number of runs.

    That is the whole package or module, with whatever else ran on it.

    Args:
        run: One inference of the artifact, batch 1.
        where: This machine.
        machine: Whether it is the target.
        seconds: How long it runs; nothing does where the machine does not tell.
        meter: What tells.
        clock: Seconds that only ever grow.

    Returns:
        None where the machine does not tell.
    """
    meter = meter or EnergyMeter()
    runs = 0
    with meter:
        start = clock()
        while meter.reason is None and (not runs or clock() - start < seconds):
            run()
            runs += 1
    if meter.joules is None or not runs:
        return None
    value = meter.joules / runs
    return Measurement(
        stage=Stage.ARTIFACT, name="energy_j", value=value, unit="J", n=runs, where=where, machine=machine
    )
