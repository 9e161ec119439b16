"""What the machine tells of itself: sysfs as files in a folder, tegrastats as text."""

import shutil
import stat

import pytest

from edgec.bench.machine import EnergyMeter, MachineState, machine_state, mean_power_w, power_mode

TEGRASTATS = """\
RAM 2000/7620MB GR3D_FREQ 99% cpu@51.2C VDD_IN 5000mW/5000mW VDD_CPU_GPU_CV 1000mW/1000mW
RAM 2000/7620MB GR3D_FREQ 99% cpu@51.3C VDD_IN 7000mW/6000mW VDD_CPU_GPU_CV 2000mW/1500mW
"""


def put(root, path, text):
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def test_clocks_governor_and_heat_are_read(tmp_path):
    for cpu, clock in enumerate((1_500_000, 2_400_000)):
        folder = f"sys/devices/system/cpu/cpu{cpu}/cpufreq"
        put(tmp_path, f"{folder}/scaling_governor", "ondemand\n")
        put(tmp_path, f"{folder}/scaling_cur_freq", f"{clock}\n")
        put(tmp_path, f"{folder}/scaling_max_freq", "2400000\n")
    put(tmp_path, "sys/class/thermal/thermal_zone0/temp", "48500\n")
    put(tmp_path, "sys/class/thermal/thermal_zone1/temp", "51250\n")
    assert machine_state(tmp_path) == MachineState(
        governor="ondemand", clock_mhz=2400, clock_limit_mhz=2400, temperature_c=51.25
    )


def test_what_a_machine_does_not_tell_is_none(tmp_path):
    assert machine_state(tmp_path) == MachineState()
    put(tmp_path, "sys/class/thermal/thermal_zone0/temp", "not a number\n")
    assert machine_state(tmp_path).temperature_c is None


def test_rapl_counts_the_packages_and_survives_a_full_counter(tmp_path):
    domains = [f"sys/class/powercap/intel-rapl:{package}" for package in (0, 1)]
    for domain, energy_uj in zip(domains, (1_000_000, 9_500_000), strict=True):
        put(tmp_path, f"{domain}/energy_uj", f"{energy_uj}\n")
        put(tmp_path, f"{domain}/max_energy_range_uj", "10000000\n")
    with EnergyMeter(tmp_path) as meter:
        put(tmp_path, f"{domains[0]}/energy_uj", "4000000\n")
        put(tmp_path, f"{domains[1]}/energy_uj", "500000\n")
    assert meter.joules == pytest.approx(3 + 1)
    assert (meter.source, meter.reason) == ("RAPL, CPU packages", None)


def test_a_machine_without_counters_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with EnergyMeter(tmp_path) as meter:
        pass
    assert meter.joules is None
    assert meter.reason == "energy is not available here: neither RAPL (powercap) nor tegrastats"


def test_the_mean_of_the_rail_that_feeds_the_module():
    assert mean_power_w(TEGRASTATS) == pytest.approx(6)
    assert mean_power_w(TEGRASTATS.replace("VDD_IN", "VDD_OTHER")) is None
    assert mean_power_w("RAM 1/2MB POM_5V_IN 2500/2400 POM_5V_GPU 100/100") == pytest.approx(2.5)


def script(folder, name, text):
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def test_tegrastats_is_asked_where_there_is_no_rapl(tmp_path, monkeypatch):
    script(tmp_path, "tegrastats", f"cat <<'END'\n{TEGRASTATS}END\nexec sleep 5")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    times = iter([10.0, 12.0])
    with EnergyMeter(tmp_path / "none", clock=lambda: next(times)) as meter:
        while "7000mW" not in "".join(map(chr, _peek(meter))):
            pass
    assert meter.joules == pytest.approx(12)
    assert meter.source == "tegrastats, whole module"


def _peek(meter):
    """What the stand-in has written so far."""
    import os

    return os.pread(meter._log.fileno(), 4096, 0)


def test_the_power_mode_is_asked_of_nvpmodel(tmp_path, monkeypatch):
    script(tmp_path, "nvpmodel", "echo 'NV Power Mode: MAXN_SUPER'; echo 2")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert power_mode() == "MAXN_SUPER"


def test_elsewhere_there_is_no_power_mode(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert power_mode() is None
