"""The text of /proc/cpuinfo becomes a name, features and an architecture."""

from pathlib import Path

import pytest

from edgec.core import host
from edgec.core.host import describe_host, parse_host, this_host

EPYC = """\
processor\t: 0
vendor_id\t: AuthenticAMD
model\t\t: 17
model name\t: AMD EPYC 9654 96-Core Processor
flags\t\t: fpu sse4_1 avx2 avx512f avx512_vnni

processor\t: 1
model name\t: AMD EPYC 9654 96-Core Processor
flags\t\t: fpu sse4_1 avx2 avx512f avx512_vnni
"""
CORE_I7 = "model name\t: Intel(R) Core(TM) i7-6700 CPU @ 3.40GHz\nflags\t\t: fpu sse4_1 avx2\n"
PI_5 = """\
processor\t: 0
BogoMIPS\t: 108.00
Features\t: fp asimd asimdhp asimddp
CPU implementer\t: 0x41
CPU part\t: 0xd0b

Revision\t: c04170
Model\t\t: Raspberry Pi 5 Model B Rev 1.0
"""
ARM_BOARD = "processor\t: 0\nFeatures\t: fp asimd\nCPU part\t: 0xd08\n"


@pytest.mark.parametrize(
    ("cpuinfo", "machine", "cores", "text"),
    [
        (EPYC, "x86_64", 2, "AMD EPYC 9654 96-Core Processor, 2 cores, x86_64"),
        (CORE_I7, "AMD64", 8, "Intel Core i7-6700, 8 cores, x86_64"),
        (PI_5, "aarch64", 4, "Raspberry Pi 5 Model B Rev 1.0, 4 cores, aarch64"),
        (ARM_BOARD, "arm64", 1, "Cortex-A72, 1 core, aarch64"),
        ("", "riscv64", 4, "unknown processor, 4 cores, riscv64"),
    ],
)
def test_a_machine_is_described_in_one_line(cpuinfo, machine, cores, text):
    assert parse_host(cpuinfo, machine=machine, cores=cores).text == text


@pytest.mark.parametrize(
    ("flags", "expected"),
    [("avx2", False), ("avx2 avx512f", False), ("avx2 avx_vnni", True), ("avx512f avx512_vnni", True), ("", False)],
)
def test_vnni_is_read_from_the_flags(flags, expected):
    assert parse_host(f"flags\t\t: {flags}\n", machine="x86_64", cores=1).has_vnni is expected


@pytest.mark.parametrize(
    ("flags", "expected"), [("avx512f avx512_bf16", True), ("avx512f avx512_vnni", False), ("", False)]
)
def test_bfloat16_is_read_from_the_flags(flags, expected):
    assert parse_host(f"flags\t\t: {flags}\n", machine="x86_64", cores=1).has_bfloat16 is expected


def test_features_of_arm_are_read():
    assert "asimddp" in parse_host(PI_5, machine="aarch64", cores=4).features


def test_this_machine_describes_itself():
    host = this_host()
    assert host.cores >= 1
    assert describe_host() == host.text
    assert "\n" not in host.text


def test_a_containers_limit_is_its_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "_CONTAINER_LIMIT", tmp_path / "memory.max")
    whole = host.memory_bytes()
    assert whole > 1 << 20
    for text, expected in (("max\n", whole), ("1048576\n", 1 << 20)):
        (tmp_path / "memory.max").write_text(text)
        assert host.memory_bytes() == expected
