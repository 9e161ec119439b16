"""Agent and deployer among hostile registries and devices, and an agent that is killed: a few of each, for CI."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.network]

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


def told(script: str) -> dict[str, float]:
    """The rows of a quick run; `python benchmarks/SCRIPT` does it with hundreds."""
    command = [sys.executable, str(BENCHMARKS / script), "--quick", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return {row["what"]: row["value"] for row in json.loads(done.stdout.splitlines()[-1])["rows"]}


@pytest.mark.skipif(not shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:/usr/bin"), reason="sshd is not installed")
def test_hostile_peers_end_neither_agent_nor_deployer_and_hide_nobody() -> None:
    rows = told("hostile_peers.py")
    for what in (
        "hostile registries: agent ended by something unexpected",
        "hostile registries: look not over within 40 s",
        "hostile devices: unexpected",
        "hostile devices: not over within 60 s",
    ):
        assert rows[what] == 0, what
    assert rows["an honest registry afterwards: the bundle runs"] == 1
    assert rows["the honest device among them: updated"] == 1
    assert rows["most memory"] < 300


@pytest.mark.skipif(not shutil.which("docker-registry"), reason="docker-registry is not installed")
def test_a_killed_agent_leaves_a_whole_and_settled_version() -> None:
    assert told("agent_kills.py")["device without a whole, settled, healthy version"] == 0
