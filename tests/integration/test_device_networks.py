"""Deploys to devices that have networks of their own: namespaces with a cable to this machine that can be pulled."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from edgec.deploy import Site
from edgec.package import open_bundle
from support import sshd

Edgec = Callable[..., Any]
OLD = {"filler_bytes": 1_000, "seed": 0}
NEW = {"filler_bytes": 20_000_000, "seed": 1}
"""Takes long enough for somebody to pull a cable meanwhile."""

pytestmark = [pytest.mark.network, pytest.mark.slow]


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


@contextlib.contextmanager
def cable(number: int) -> Iterator[tuple[str, str, str]]:
    """A namespace at the other end of a cable: its name, the device's address, this machine's end."""
    name = f"edgec-{os.getpid()}-{number}"
    here, there = f"ec{os.getpid() % 100_000}h{number}", f"ec{os.getpid() % 100_000}d{number}"
    address = f"10.231.{number}."
    ip("netns", "add", name)
    try:
        ip("link", "add", here, "type", "veth", "peer", "name", there)
        ip("link", "set", there, "netns", name)
        ip("address", "add", f"{address}1/30", "dev", here)
        ip("link", "set", here, "up")
        ip("-n", name, "address", "add", f"{address}2/30", "dev", there)
        ip("-n", name, "link", "set", there, "up")
        yield name, f"{address}2", here
    finally:
        subprocess.run(["ip", "link", "delete", here], check=False, capture_output=True)
        subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)


@pytest.fixture
def cabled(bed: Any) -> Iterator[list[tuple[Any, str]]]:
    """Three devices, each with this machine's end of its cable."""
    with contextlib.ExitStack() as stack:
        if not shutil.which("ip"):
            pytest.skip("ip, of iproute2, is not installed")
        try:
            cables = [stack.enter_context(cable(number)) for number in range(3)]
        except subprocess.CalledProcessError as error:
            pytest.skip(f"no network namespaces here: {error.stderr.strip()}")
        devices = []
        for number, (name, address, here) in enumerate(cables):
            within = ("ip", "netns", "exec", name)
            devices.append((stack.enter_context(bed.host(f"device-{number}", address=address, within=within)), here))
        yield devices


def test_a_device_whose_cable_is_pulled_is_told_and_as_before_and_the_others_are_updated(
    edgec: Edgec, bed: Any, cabled: list[tuple[Any, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgec.deploy import rollout, ssh

    monkeypatch.setattr(ssh, "KEEPALIVE_S", 0.5)
    monkeypatch.setattr(ssh, "CONNECT_S", 3.0)
    monkeypatch.setattr(rollout, "RETRY_S", 0.1)
    old, new = sshd.make_bundle(tmp_path / "old", **OLD), sshd.make_bundle(tmp_path / "new", **NEW)
    for host, _ in cabled:
        site = Site(host.root, smoke_test=lambda folder: None)
        site.activate(site.install(old))
    victim, cable_end = cabled[1]

    def pull() -> None:
        part = victim.root / "incoming"
        while not (part.is_dir() and any(file.stat().st_size for file in part.iterdir())):
            time.sleep(0.001)
        ip("link", "set", cable_end, "down")

    puller = threading.Thread(target=pull, daemon=True)
    puller.start()
    options = (*bed.options, "--python", str(victim.python), "--json")
    outcome = edgec("deploy", new, *(host.url for host, _ in cabled), *options)
    puller.join(timeout=10)
    assert outcome.exit_code == 5
    assert [row["result"] for row in outcome.last["devices"]] == ["updated", "failed", "updated"]
    wanted, before = open_bundle(new).digest, open_bundle(old).digest
    assert [sshd.digest_at(host.root) for host, _ in cabled] == [wanted, before, wanted]
    ip("link", "set", cable_end, "up")
    again = edgec("deploy", new, victim.url, *options)
    assert again.exit_code == 0, again.stderr
    assert sshd.digest_at(victim.root) == wanted
