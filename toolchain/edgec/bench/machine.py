"""The state of this machine while it is measured: clocks, power mode, temperature, and the energy that it takes.

Linux tells by sysfs, a Jetson by nvpmodel and tegrastats; what a machine does not tell is None.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from typing_extensions import Self

__all__ = ["EnergyMeter", "MachineState", "machine_state", "mean_power_w", "power_mode"]

_POWERCAP = "sys/class/powercap"
_RAIL = re.compile(r"\b(?:VDD_IN|POM_5V_IN|VIN_SYS_5V0|SYS5V) (\d+)(?:mW)?/")
"""The rail that feeds the whole module; its name changed with the generations of Jetson."""


@dataclass(frozen=True, kw_only=True)
class MachineState:
    """How a machine stands at one moment.

    Attributes:
        governor: The rule by which clocks are set, of all CPUs that agree, else all rules.
        clock_mhz: The fastest CPU's present clock.
        clock_limit_mhz: The highest clock that it may run at.
        temperature_c: The hottest thermal zone.
    """

    governor: str | None = None
    clock_mhz: float | None = None
    clock_limit_mhz: float | None = None
    temperature_c: float | None = None


def machine_state(root: Path = Path("/")) -> MachineState:
    """Reads it from sysfs; `root` is where the file system begins."""
    cpus = "sys/devices/system/cpu/cpu[0-9]*/cpufreq"
    governors = sorted(set(_read(root, f"{cpus}/scaling_governor")))
    zones = [value / 1e3 for value in _numbers(root, "sys/class/thermal/thermal_zone*/temp")]
    return MachineState(
        governor=", ".join(governors) or None,
        clock_mhz=_highest(_numbers(root, f"{cpus}/scaling_cur_freq"), scale=1e-3),
        clock_limit_mhz=_highest(_numbers(root, f"{cpus}/scaling_max_freq"), scale=1e-3),
        temperature_c=_highest(zones),
    )


def power_mode() -> str | None:
    """The name of a Jetson's power mode, as in `MAXN_SUPER`; None elsewhere."""
    if shutil.which("nvpmodel") is None:
        return None
    try:
        told = subprocess.run(["nvpmodel", "-q"], capture_output=True, text=True, check=False, timeout=10).stdout
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.search(r"NV Power Mode: *(\S+)", told)
    return found[1] if found else None


class EnergyMeter(AbstractContextManager["EnergyMeter"]):
    """Energy between entering and leaving: of the CPU's packages by RAPL, else of a Jetson's module by tegrastats.

    Args:
        root: Where the file system begins.
        clock: Seconds that only ever grow.

    Attributes:
        joules: None where neither is there or may be read.
        source: What told.
        reason: Why nothing told; None where something did.
    """

    def __init__(self, root: Path = Path("/"), *, clock: Callable[[], float] = time.perf_counter) -> None:
        self.joules: float | None = None
        self.source: str | None = None
        self.reason: str | None = None
        self._root, self._clock = root, clock
        self._before: dict[Path, int] = {}
        self._tegrastats: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        domains = sorted((self._root / _POWERCAP).glob("intel-rapl:[0-9]"))
        self._start = self._clock()
        try:
            self._before = {domain: _number(domain / "energy_uj") for domain in domains}
        except (OSError, ValueError):
            self.reason = "energy is not available here: RAPL's counters may only be read by root"
        if not domains and shutil.which("tegrastats"):
            self._log = tempfile.TemporaryFile()
            self._tegrastats = subprocess.Popen(["tegrastats", "--interval", "100"], stdout=self._log)
        elif not domains:
            self.reason = "energy is not available here: neither RAPL (powercap) nor tegrastats"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._before:
            self.joules = sum(self._spent(domain, before) for domain, before in self._before.items()) / 1e6
            self.source = "RAPL, CPU packages"
        if self._tegrastats is not None:
            self._tegrastats.terminate()
            self._tegrastats.wait()
            self._read_tegrastats()

    def _spent(self, domain: Path, before_uj: int) -> int:
        """Microjoules since then; the counter starts again at 0 when it is full."""
        spent = _number(domain / "energy_uj") - before_uj
        return spent if spent >= 0 else spent + _number(domain / "max_energy_range_uj")

    def _read_tegrastats(self) -> None:
        seconds = self._clock() - self._start
        with self._log as log:
            log.seek(0)
            watts = mean_power_w(log.read().decode(errors="replace"))
        if watts is None:
            self.reason = "energy is not available here: tegrastats names no rail that feeds the whole module"
        else:
            self.joules, self.source = watts * seconds, "tegrastats, whole module"


def mean_power_w(tegrastats: str) -> float | None:
    """Mean of the module's input rail over tegrastats' lines; None where no line has it."""
    readings = [int(milliwatts) for milliwatts in _RAIL.findall(tegrastats)]
    return sum(readings) / len(readings) / 1e3 if readings else None


def _read(root: Path, pattern: str) -> list[str]:
    texts = []
    for path in sorted(root.glob(pattern)):
        try:
            texts.append(path.read_text(encoding="ascii").strip())
        except (OSError, UnicodeDecodeError):  # thermal zones of parts that are switched off
            continue
    return texts


def _numbers(root: Path, pattern: str) -> list[float]:
    return [float(text) for text in _read(root, pattern) if re.fullmatch(r"-?\d+", text)]


def _number(path: Path) -> int:
    return int(path.read_text(encoding="ascii"))


def _highest(values: list[float], *, scale: float = 1.0) -> float | None:
    return max(values) * scale if values else None
