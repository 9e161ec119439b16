"""Energy of an image: what the machine took over the runs made, and nothing where it does not tell."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgec.core.measurement import Machine, Stage
from edgec.evaluate.energy import energy_measurement
from edgec.evaluate.machine import EnergyMeter


class Device:
    """Every run takes 50 ms and 0.2 J, as RAPL counts them."""

    def __init__(self, root: Path) -> None:
        self.now = 0.0
        self.runs = 0
        self.counter = root / "sys/class/powercap/intel-rapl:0/energy_uj"
        self.counter.parent.mkdir(parents=True)
        self.counter.write_text("1000\n")

    def run(self) -> None:
        self.now += 0.05
        self.runs += 1
        self.counter.write_text(f"{1000 + self.runs * 200_000}\n")


def test_energy_is_that_of_the_runs_over_their_number(tmp_path: Path) -> None:
    device = Device(tmp_path)
    meter, clock = EnergyMeter(tmp_path, clock=lambda: device.now), lambda: device.now
    row = energy_measurement(device.run, where="here", machine=Machine.TARGET, seconds=1.0, meter=meter, clock=clock)
    assert row is not None
    assert (row.stage, row.name, row.unit, row.where) == (Stage.ARTIFACT, "energy_j", "J", "here")
    assert row.value == pytest.approx(0.2)
    assert row.n == device.runs == pytest.approx(20, abs=1)


def test_where_the_machine_does_not_tell_nothing_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda _: None)

    def run() -> None:
        pytest.fail("nobody asked for it")

    assert energy_measurement(run, where="here", machine=Machine.TARGET, meter=EnergyMeter(tmp_path)) is None
