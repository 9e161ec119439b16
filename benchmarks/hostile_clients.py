"""`edgec serve` under some forty kinds of hostile client, one after the other, beside eight honest ones.

    python benchmarks/hostile_clients.py [--bundle DIR] [--seconds 5] [--only KIND…] [--same-address] [--quick]

The honest clients each keep a connection and ask for one image 20 times a second, from 127.0.0.1. The hostile ones
are a process of their own with a lower priority, as they would be elsewhere, and come from 127.0.0.66. Before each
kind, and at the end, the honest ones are alone for a while. Told are the honest requests that were not answered by
200, their 99th percentile against the one alone, and the memory of the server with its processes (resident, the most
of a sampling each 20 ms). Without --bundle, a quick build of the embedded digits is served.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.request import urlopen

import numpy as np

from edgec.package import open_bundle
from rows import Row, arguments, show
from support import client_kinds
from support.client_kinds import GONE, KINDS, Target, ask

__all__ = ["Seen", "attack", "served"]

HONEST = 8
EACH_S = 0.05
READY_S = 120
FROM = "127.0.0.66"


@dataclass(kw_only=True)
class Seen:
    """What the honest clients saw.

    Attributes:
        failed: Requests that were not answered by 200, each with what it got.
        memory_bytes: The most that the server and its processes held.
    """

    latencies_ms: list[float] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    memory_bytes: int = 0

    def add(self, other: Seen) -> None:
        """Takes in what was seen at another time."""
        self.latencies_ms += other.latencies_ms
        self.failed += other.failed
        self.memory_bytes = max(self.memory_bytes, other.memory_bytes)

    @property
    def p99_ms(self) -> float:
        """Of all requests, also of those that failed."""
        return float(np.quantile(self.latencies_ms, 0.99))


@contextmanager
def served(bundle: Path, log: Path, *options: str, command: Sequence[str] = ()) -> Iterator[tuple[Target, int]]:
    """A server that is ready, and its process; Python's arguments are `edgec serve`, unless others are given."""
    with log.open("w") as stderr:
        usual = ("-m", "edgec", "serve", str(bundle), "--port", "0", "--no-watch", *options)
        process = subprocess.Popen([sys.executable, *(command or usual)], stderr=stderr)
    try:
        deadline = time.monotonic() + READY_S
        while " answers, on " not in log.read_text():
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(log.read_text())
            time.sleep(0.05)
        port = int(log.read_text().partition("://127.0.0.1:")[2].split()[0])
        manifest = open_bundle(bundle).manifest
        spec = manifest.input
        shape = (spec.height, spec.width, spec.channels)
        yield Target(port=port, model=manifest.name, shape=shape, address=FROM), process.pid
    finally:
        process.terminate()
        process.wait(READY_S)


async def attack(target: Target, server: int, kind: str | None, *, seconds: float) -> Seen:
    """The honest clients for so long, beside those of a kind; alone without one."""
    hostile = _hostile(target, kind) if kind else None
    try:
        if hostile is not None and hostile.stdout is not None:
            await asyncio.to_thread(hostile.stdout.readline)  # it begins
        seen, until = Seen(), time.monotonic() + seconds
        watch = asyncio.create_task(_watch_memory(seen, server))
        await asyncio.gather(*(_be_honest(target, seen, until, i / HONEST) for i in range(HONEST)))
        watch.cancel()
        if hostile is not None and hostile.poll() is not None:
            raise SystemExit(f"the hostile client '{kind}' ended with {hostile.returncode}")
        return seen
    finally:
        if hostile is not None:
            hostile.kill()
            hostile.communicate()


def _hostile(target: Target, kind: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, client_kinds.__file__, kind, str(target.port), target.model]
    shape = ",".join(map(str, target.shape))
    return subprocess.Popen([*command, shape, target.address], stdout=subprocess.PIPE)


async def _be_honest(target: Target, seen: Seen, until: float, begin: float) -> None:
    payload = target.infer(bytes(target.image_bytes), header=0)
    connection = None
    await asyncio.sleep(begin * EACH_S)
    while (began := time.monotonic()) < until:
        try:
            connection = connection or await asyncio.open_connection("127.0.0.1", target.port)
            status = await asyncio.wait_for(ask(*connection, payload), 30)
            if status != 200:
                seen.failed.append(str(status))
        except (*GONE, asyncio.TimeoutError) as error:
            seen.failed.append(type(error).__name__)
            if connection is not None:
                connection[1].close()
            connection = None
        seen.latencies_ms.append((time.monotonic() - began) * 1e3)
        await asyncio.sleep(max(0.0, EACH_S - (time.monotonic() - began)))
    if connection is not None:
        connection[1].close()


async def _watch_memory(seen: Seen, server: int) -> None:
    while True:
        with suppress(OSError, ValueError):  # a thread or process has just ended
            seen.memory_bytes = max(seen.memory_bytes, _resident_bytes(server))
        await asyncio.sleep(0.02)


def _resident_bytes(server: int) -> int:
    """Of a process and of those that its threads started."""
    threads = Path(f"/proc/{server}/task").iterdir()
    children = {pid for thread in threads for pid in (thread / "children").read_text().split()}
    return sum(map(_pages_bytes, {str(server), *children}))


def _pages_bytes(pid: str) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each kind")
    parser.add_argument("--only", nargs="+", choices=sorted(KINDS), default=list(KINDS), metavar="KIND")
    parser.add_argument("--same-address", action="store_true", help="the hostile ones come from 127.0.0.1, too")
    given = parser.parse_args()
    seconds = 1.0 if given.quick else given.seconds
    with tempfile.TemporaryDirectory() as temporary:
        bundle = given.bundle or _digits(Path(temporary) / "digits")
        log = Path(temporary) / "log"
        with served(bundle, log) as (target, server):
            target = replace(target, address="127.0.0.1") if given.same_address else target
            alone, beside = asyncio.run(_measure(target, server, given.only, seconds))
            with urlopen(f"http://127.0.0.1:{target.port}/v2/health/ready") as answer:
                ready = answer.status == 200
        rows = _rows(alone, beside)
        rows.append(Row(what="lines in the log", value=len(log.read_text().splitlines()), unit="lines", n=len(beside)))
        rows.append(Row(what="ready afterwards", value=int(ready), unit="servers", n=1))
    show(rows, as_json=given.json, output=given.output)


def _digits(folder: Path) -> Path:
    small = ("--set", "compress.steps=20", "--set", "data.ood_count=60")
    command = [sys.executable, "-m", "edgec", "build", "--target", "host", "--output", str(folder), *small]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return folder


async def _measure(target: Target, server: int, kinds: Sequence[str], seconds: float) -> tuple[Seen, dict[str, Seen]]:
    """The honest clients alone, and beside each kind."""
    alone, beside = Seen(), {}
    await attack(target, server, None, seconds=1.0)  # warms up
    for kind in kinds:
        alone.add(await attack(target, server, None, seconds=seconds / 3))
        beside[kind] = await attack(target, server, kind, seconds=seconds)
    alone.add(await attack(target, server, None, seconds=seconds))
    return alone, beside


def _rows(alone: Seen, beside: dict[str, Seen]) -> list[Row]:
    everything = Seen()
    for seen in beside.values():
        everything.add(seen)
    failed, count = len(everything.failed), len(everything.latencies_ms)
    worst = max(beside.values(), key=lambda seen: seen.p99_ms)
    return [
        Row(what="alone: 99th percentile", value=alone.p99_ms, unit="ms", n=len(alone.latencies_ms)),
        *(_row(kind, seen, alone) for kind, seen in beside.items()),
        _row("all", everything, alone),
        _row("worst", worst, alone),
        Row(what="all: honest requests that failed", value=failed, unit="requests", n=count),
        Row(what="memory, with the reading process", value=everything.memory_bytes / 1e6, unit="MB, most", n=count),
    ]


def _row(what: str, seen: Seen, alone: Seen) -> Row:
    return Row(
        what=f"{what}: 99th percentile, {len(seen.failed)} failed, {seen.memory_bytes / 1e6:.0f} MB",
        value=seen.p99_ms,
        unit="ms",
        n=len(seen.latencies_ms),
        against="alone",
        ratio=seen.p99_ms / alone.p99_ms,
    )


if __name__ == "__main__":
    main()
