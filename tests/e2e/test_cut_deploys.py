"""Deploys to a real sshd that are cut: deployer, connection and edgec on the device killed, the disk filled."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.network]

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
CUTS = 8
"""Two of each kind; `python benchmarks/deploy_cuts.py` has fifty."""


@pytest.mark.skipif(not shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:/usr/bin"), reason="sshd is not installed")
def test_a_cut_deploy_leaves_the_old_or_the_new_version_and_the_next_one_succeeds() -> None:
    command = [sys.executable, str(BENCHMARKS / "deploy_cuts.py"), "--cuts", str(CUTS), "--seed", "7", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout.splitlines()[-1])["rows"]
    told = {row["what"]: (row["value"], row["n"]) for row in rows}
    kinds = ("deployer", "connection", "device's edgec", "full disk")
    for kind in kinds:
        assert told[f"{kind}: neither old nor new served"] == (0, CUTS // len(kinds)), done.stderr
        assert told[f"{kind}: next deploy failed"] == (0, CUTS // len(kinds)), done.stderr
