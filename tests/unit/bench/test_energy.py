"""Energy of an image: what the machine took over the runs made, and nothing where it does not tell."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgec.bench.energy import measure_energy
from edgec.bench.machine import EnergyMeter
from edgec.core.measurement import Machine, Stage


class Device:
    """Every run takes 50 ms and at first 0.2 J, then more by 10 mJ each second, as RAPL counts them."""

    def __init__(self, root: Path) -> None:
        self.now = 0.0
        self.runs = 0
        self.spent_uj = 1000.0
        self.counter = root / "sys/class/powercap/intel-rapl:0/energy_uj"
        self.counter.parent.mkdir(parents=True)
        self.counter.write_text("1000\n")

    def run(self) -> None:
        self.now += 0.05
        self.runs += 1
        self.spent_uj += 200_000 + 10_000 * int(self.now)
        self.counter.write_text(f"{self.spent_uj:.0f}\n")


def test_energy_is_the_median_of_several_measurements_with_an_interval(tmp_path: Path) -> None:
    device = Device(tmp_path)
    clock = lambda: device.now  # noqa: E731 - a clock
    energy, meter = measure_energy(
        device.run, images=2, times=7, seconds=0.99, new_meter=lambda: EnergyMeter(tmp_path, clock=clock), clock=clock
    )
    assert energy is not None
    assert (energy.runs, meter.source) == (7, "RAPL, CPU packages")
    # Seconds 0 to 6 in turn; a run that ends one second counts for the next.
    assert energy.value == pytest.approx(0.115, abs=0.001)
    assert (energy.low, energy.high) == (pytest.approx(0.1, abs=0.001), pytest.approx(0.13, abs=0.001))
    row = energy.measurement("energy_j", "J", where="here", machine=Machine.TARGET)
    assert (row.stage, row.name, row.unit, row.n, row.where) == (Stage.ARTIFACT, "energy_j", "J", 7, "here")
    assert (row.low, row.high) == (energy.low, energy.high)


def test_where_the_machine_does_not_tell_nothing_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda _: None)

    def run() -> None:
        pytest.fail("nobody asked for it")

    energy, meter = measure_energy(run, new_meter=lambda: EnergyMeter(tmp_path))
    assert energy is None
    assert meter.reason is not None
