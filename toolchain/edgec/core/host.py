"""What this machine is: the text that stands beside a measurement, and the CPU features that pick a number format."""

from __future__ import annotations

import os
import platform
import re
import resource
import sys
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Host", "describe_host", "memory_bytes", "parse_host", "peak_bytes", "this_host", "usable_cores"]

_CPUINFO = Path("/proc/cpuinfo")
_PROCESS = Path("/proc/self/status")
_CONTAINER_LIMIT = Path("/sys/fs/cgroup/memory.max")
_ARCHITECTURES = {"amd64": "x86_64", "arm64": "aarch64"}
"""Names that other systems give to the two architectures of the profiles."""
_ARM_PARTS = {"0xd03": "Cortex-A53", "0xd07": "Cortex-A57", "0xd08": "Cortex-A72", "0xd0b": "Cortex-A76"}
"""`CPU part` of implementer 0x41: Arm's MIDR_EL1 part numbers, as in Linux' arch/arm64/include/asm/cputype.h."""


@dataclass(frozen=True, kw_only=True)
class Host:
    """A machine as its operating system describes it.

    Attributes:
        cpu: The CPU's or the board's name.
        cores: Logical CPUs that this process may use.
        architecture: `x86_64`, `aarch64` or whatever the machine calls itself.
        features: CPU feature flags, in Linux' spelling; empty where the system does not list them.
    """

    cpu: str
    cores: int
    architecture: str
    features: frozenset[str]

    @property
    def text(self) -> str:
        """One line, as in `AMD EPYC, 2 cores, x86_64`."""
        return f"{self.cpu}, {self.cores} core{'' if self.cores == 1 else 's'}, {self.architecture}"

    @property
    def has_vnni(self) -> bool:
        """Whether x86's 8-bit dot products add up in 32 bits (AVX512-VNNI, AVX-VNNI) and so cannot saturate."""
        return not self.features.isdisjoint({"avx512_vnni", "avx_vnni"})

    @property
    def saturates(self) -> bool:
        """Whether pairs of 8-bit products are added in 16 bits, where they can overflow: x86 without VNNI."""
        return self.architecture in ("x86_64", "AMD64") and not self.has_vnni

    @property
    def has_bfloat16(self) -> bool:
        """Whether x86 multiplies in bfloat16 itself; without that, it is slower than float32."""
        return "avx512_bf16" in self.features


def describe_host() -> str:
    """This machine in one line."""
    return this_host().text


def this_host() -> Host:
    """This machine."""
    cpuinfo = _CPUINFO.read_text(encoding="utf-8", errors="replace") if _CPUINFO.is_file() else ""
    return parse_host(cpuinfo, machine=platform.machine(), cores=usable_cores())


def parse_host(cpuinfo: str, *, machine: str, cores: int) -> Host:
    """A machine from the text of `/proc/cpuinfo` (empty where there is none), its architecture and its cores."""
    fields: dict[str, str] = {}
    for key, value in re.findall(r"^([^\t\n:]+?)[ \t]*:[ \t]*(.*)$", cpuinfo, flags=re.MULTILINE):
        fields.setdefault(key, value.strip())
    part = _ARM_PARTS.get(fields.get("CPU part", ""))
    name = fields.get("model name") or fields.get("Model") or part or "unknown processor"
    return Host(
        cpu=_shorten(name),
        cores=cores,
        architecture=_ARCHITECTURES.get(machine.lower(), machine.lower()),
        features=frozenset((fields.get("flags") or fields.get("Features") or "").split()),
    )


def _shorten(name: str) -> str:
    """A CPU's name without trade marks and its nominal clock."""
    return " ".join(re.sub(r"\((R|TM|tm)\)| CPU\b| @.*$", " ", name).split())


def usable_cores() -> int:
    """Logical CPUs that this process may run on; macOS has no affinity to ask for."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory_bytes() -> int:
    """Memory of this machine, or of the container that this process runs in."""
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = _CONTAINER_LIMIT.read_text(encoding="ascii").strip() if _CONTAINER_LIMIT.is_file() else ""
    return min(whole, int(limit)) if limit.isdigit() else whole


def peak_bytes() -> int:
    """The high-water mark of this process's memory.

    Linux' `ru_maxrss` keeps the mark of the process that forked this one across exec; `VmHWM` starts anew.
    """
    if _PROCESS.is_file() and (found := re.search(r"^VmHWM:\s+(\d+) kB", _PROCESS.read_text(), flags=re.MULTILINE)):
        return int(found[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
