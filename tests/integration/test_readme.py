"""README's commands for devices, as they stand there, on real sshd processes; the others run in `tests/unit/docs`."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from edgec.deploy import Site
from edgec.package import open_bundle, write_archive

pytestmark = pytest.mark.network

README = Path(__file__).parents[2] / "README.md"
BUNDLE = Path("build/digits-jetson-orin-nano-8gb")


def lines() -> list[str]:
    (block,) = re.findall(r"^```console devices\n(.*?)^```$", README.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    return [line.removeprefix("$ ") for line in block.splitlines()]


def test_the_devices_of_the_readme_are_deployed_to_and_rolled_back(
    edgec: Callable[..., Any], bed: Any, sshd: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_archive(sshd.make_bundle(tmp_path / BUNDLE), tmp_path / f"{BUNDLE}.edgec")
    before = sshd.make_bundle(tmp_path / "before", seed=1, filler_bytes=100)
    running = []
    with ExitStack() as stack:
        hosts = {name: stack.enter_context(bed.host(name)) for name in ("cell-1", "cell-2")}
        for host in hosts.values():
            site = Site(host.root, smoke_test=lambda folder: None)
            site.activate(site.install(before))
        for line in lines():
            program, *words = shlex.split(line)
            if program != "edgec":
                subprocess.run([program, *words], check=True, capture_output=True)
                continue
            urls = {f"ssh://edgec@{name}/srv/edgec": host.url for name, host in hosts.items()}
            given = [urls.get(word, word) for word in words]
            there = [*bed.options, "--python", hosts["cell-1"].python] if given != words else []
            outcome = edgec(*given, *there)
            assert outcome.exit_code == 0, (line, outcome.stderr)
            running.append([sshd.digest_at(host.root) for host in hosts.values()])
    old, new = open_bundle(before).digest, open_bundle(BUNDLE).digest
    assert running == [[old, old], [new, new], [new, new], [old, new]]
    assert (BUNDLE / "signature.json").exists()
