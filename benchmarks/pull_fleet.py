"""A fleet that pulls: what looks and a rollout ask of a registry, and how long until all devices have a new bundle.

    python benchmarks/pull_fleet.py [--quick] [--bundle BUNDLE] [--json]

Devices are tasks that speak HTTP to a real docker-registry on loopback. As with `edgec agent`, a look is a connection
of its own and a HEAD, 15 % earlier or later at random, and a device whose tag moved fetches the manifest and every file
and compares their SHA-256. First, looks and updates follow each other without a pause: what the registry can serve
here, beside whatever else runs. Then a small fleet looks every 20 s, and the tag is moved: how long until all have
the new bundle, in periods. Figures for 10,000 devices that look every 5 minutes are arithmetic on these. Left out are
the devices' smoke tests, and networks. Without --bundle, files of random bytes are sent, of the sizes in SIZES.
Needs Debian's docker-registry.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from edgec.core.inputs import InputSpec
from edgec.core.progress import Silent
from edgec.core.target import Scheme
from edgec.deploy.agent import JITTER
from edgec.deploy.modelpack import MEDIA_TYPE, read_artifact
from edgec.deploy.oci import Repository
from edgec.deploy.reference import Reference
from edgec.deploy.transfer import push_bundle
from edgec.package import Description, ModelEntry, OutputEntry, RuntimeEntry, TargetEntry, open_bundle, pack_bundle
from rows import Row, arguments, show

FLEET, EVERY_S = 10_000, 300.0
"""What is spoken of in the end."""
PARALLEL = 32
"""Devices at once where bundles are pushed over SSH."""
SIZES = {"model.onnx": 300_000, "report.html": 150_000, "report.json": 50_000, "golden.npz": 50_000}
PERIOD_S = 20.0
LOOKING, UPDATING = 32, 8
"""Connections at once where looks, or updates, follow each other."""
HEADERS = "User-Agent: python-requests/2.34.2\r\nAccept-Encoding: identity\r\nConnection: keep-alive\r\n"


@dataclass(kw_only=True)
class Tally:
    """What all devices saw."""

    looks_ms: list[float] = field(default_factory=list)
    look_bytes: int = 0
    update_bytes: int = 0
    updated: list[float] = field(default_factory=list)
    open: int = 0
    most_open: int = 0
    failures: int = 0


class Device:
    """One that follows the tag."""

    def __init__(self, port: int, tally: Tally, digest: str) -> None:
        self.port, self.tally, self.digest = port, tally, digest
        self.bytes = 0

    async def follow(self, draw: random.Random) -> None:
        """Looks, period after period."""
        await asyncio.sleep(draw.uniform(0, PERIOD_S))
        while True:
            await self.look()
            await asyncio.sleep(PERIOD_S * draw.uniform(1 - JITTER, 1 + JITTER))

    async def hurry(self, seconds: float, known: str) -> None:
        """Looks without a pause, each time from the same knowledge."""
        started = time.perf_counter()
        while time.perf_counter() - started < seconds:
            self.digest = known
            await self.look()

    async def look(self) -> None:
        """One look, and an update where the tag moved."""
        self.tally.open += 1
        self.tally.most_open = max(self.tally.most_open, self.tally.open)
        started, self.bytes = time.perf_counter(), 0
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            with contextlib.closing(writer):
                headers, _ = await self.ask(reader, writer, "HEAD", "manifests/stable")
                self.tally.looks_ms.append(1e3 * (time.perf_counter() - started))
                self.tally.look_bytes += self.bytes
                if headers["docker-content-digest"] != self.digest:
                    await self.update(reader, writer, headers["docker-content-digest"])
        except (OSError, asyncio.IncompleteReadError, ValueError):
            self.tally.failures += 1
        finally:
            self.tally.open -= 1

    async def update(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, digest: str) -> None:
        """Fetches and compares all files."""
        self.bytes = 0
        _, manifest = await self.ask(reader, writer, "GET", f"manifests/{digest}")
        require(manifest, digest)
        for blob in read_artifact(manifest, where="registry").layers.values():
            _, data = await self.ask(reader, writer, "GET", f"blobs/{blob.digest}")
            require(data, blob.digest)
        self.digest = digest
        self.tally.update_bytes += self.bytes
        self.tally.updated.append(time.perf_counter())

    async def ask(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, method: str, path: str
    ) -> tuple[dict[str, str], bytes]:
        """One request."""
        host = f"Host: 127.0.0.1:{self.port}\r\nAccept: {MEDIA_TYPE}\r\n"
        request = f"{method} /v2/cameras/digits/{path} HTTP/1.1\r\n{host}{HEADERS}\r\n".encode()
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        status, *lines = head.decode().split("\r\n")
        if " 200 " not in status:
            raise ValueError(status)
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        body = b"" if method == "HEAD" else await reader.readexactly(int(headers["content-length"]))
        self.bytes += len(request) + len(head) + len(body)
        return headers, body


@dataclass(frozen=True, kw_only=True)
class Seen:
    """The three parts of the measurement."""

    looks_s: float
    updates_s: float
    looks: Tally
    updates: Tally
    fleet: Tally
    devices: int
    moved: float
    size_bytes: int


def require(data: bytes, digest: str) -> None:
    if f"sha256:{hashlib.sha256(data).hexdigest()}" != digest:
        raise ValueError(digest)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--bundle", type=Path, help="take the sizes of this one's files")
    given = parser.parse_args()
    if shutil.which("docker-registry") is None:
        sys.exit("docker-registry is not installed: apt-get install docker-registry")
    with tempfile.TemporaryDirectory() as folder, registry(Path(folder)) as port:
        bundles = [pack(Path(folder) / name, sizes_of(given), name) for name in ("first", "second")]
        size = sum(path.stat().st_size for path in bundles[0].rglob("*") if path.is_file())
        seen = asyncio.run(measure(port, bundles, quick=given.quick, size_bytes=size))
    show(rows(seen), as_json=given.json, output=given.output)


def sizes_of(given: argparse.Namespace) -> dict[str, int]:
    """Sizes of a bundle's files but for the manifest."""
    if given.bundle is None:
        return SIZES
    return {name: entry.bytes for name, entry in open_bundle(given.bundle).manifest.files.items()}


async def measure(port: int, bundles: list[Path], *, quick: bool, size_bytes: int) -> Seen:
    seconds, devices = (2.0, 20) if quick else (8.0, 100)
    first = await asyncio.to_thread(push, bundles[0], port)
    looks, updates, fleet = Tally(), Tally(), Tally()
    began = time.perf_counter()
    await asyncio.gather(*(Device(port, looks, first).hurry(seconds, first) for _ in range(LOOKING)))
    turned = time.perf_counter()
    await asyncio.gather(*(Device(port, updates, "").hurry(seconds, "") for _ in range(UPDATING)))
    ended = time.perf_counter()
    draws = [random.Random(seed) for seed in range(devices)]  # noqa: S311
    tasks = [asyncio.create_task(Device(port, fleet, first).follow(draw)) for draw in draws]
    await asyncio.sleep(1.2 * PERIOD_S)
    await asyncio.to_thread(push, bundles[1], port)
    moved = time.perf_counter()
    while len(fleet.updated) < devices and time.perf_counter() - moved < 3 * PERIOD_S:  # noqa: ASYNC110
        await asyncio.sleep(0.05)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return Seen(
        looks_s=turned - began,
        updates_s=ended - turned,
        looks=looks,
        updates=updates,
        fleet=fleet,
        devices=devices,
        moved=moved,
        size_bytes=size_bytes,
    )


def rows(seen: Seen) -> list[Row]:
    """What was seen, then what follows for ten thousand."""
    looks, updates, fleet = seen.looks, seen.updates, seen.fleet
    count, done, asked = len(looks.looks_ms), len(updates.updated), len(fleet.looks_ms)
    looks_a_s, updates_a_s = count / seen.looks_s, done / seen.updates_s
    look_bytes, update_bytes = looks.look_bytes / count, updates.update_bytes / done
    delays = sorted(at - seen.moved for at in fleet.updated)
    shares = {"half of them": 0.5, "95 % of them": 0.95, "all that got it": 1.0}
    wanted, served_s = FLEET / EVERY_S, FLEET / updates_a_s
    rollout_s = max((1 + JITTER) * EVERY_S, served_s)
    failures = looks.failures + updates.failures + fleet.failures
    return [
        Row(what="registry: looks", value=looks_a_s, unit="1/s", n=count),
        Row(what="registry: updates", value=updates_a_s, unit="1/s", n=done),
        Row(what="bundle", value=seen.size_bytes, unit="bytes", n=1),
        Row(what="a look", value=look_bytes, unit="bytes", n=count),
        Row(what="an update", value=update_bytes, unit="bytes", n=done),
        Row(what="fleet: a look", value=at(sorted(fleet.looks_ms), 0.5), unit="ms", n=asked),
        Row(what="fleet: connections", value=fleet.most_open, unit="at most", n=asked),
        Row(what="fleet: has the new bundle", value=len(delays), unit="devices", n=seen.devices),
        *(
            Row(what=f"fleet: {k}", value=at(delays, v) / PERIOD_S, unit="periods", n=len(delays))
            for k, v in shares.items()
        ),
        Row(what="failed looks", value=failures, unit="looks", n=count + done + asked + failures),
        Row(what="10,000: looks", value=wanted, unit="1/s", n=0, against="registry", ratio=wanted / looks_a_s),
        Row(what="10,000: looks of a day", value=look_bytes * wanted * 86_400 / 1e9, unit="GB", n=0),
        Row(what="10,000: a rollout", value=update_bytes * FLEET / 1e9, unit="GB", n=0),
        Row(
            what="10,000: for 1.15 periods",
            value=8e-6 * update_bytes * FLEET / ((1 + JITTER) * EVERY_S),
            unit="Mbit/s",
            n=0,
        ),
        Row(what="10,000: updates served", value=served_s, unit="s", n=0, against="1.15 x 5 min", ratio=served_s / 345),
        Row(what="10,000: a rollout's time", value=rollout_s, unit="s", n=0),
        Row(what="as fast by push, 32 at once", value=rollout_s * PARALLEL / FLEET, unit="s/device", n=0),
    ]


def at(ordered: list[float], share: float) -> float:
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)]


def push(bundle: Path, port: int) -> str:
    reference = Reference.parse(f"127.0.0.1:{port}/cameras/digits:stable")
    with Repository(reference) as repository:
        return str(push_bundle(bundle, repository, progress=Silent()).reference.digest)


def pack(output: Path, sizes: dict[str, int], seed: str) -> Path:
    """A bundle with these sizes, and nothing in it that runs."""
    draw = random.Random(seed)  # noqa: S311
    description = Description(
        name="fleet",
        target=TargetEntry(name="host", title="This machine", digest="a" * 64),
        labels=("cat", "dog"),
        input=InputSpec(height=8, width=8, channels=1, mean=(0.5,), std=(0.5,)),
        output=OutputEntry(name="logits"),
        model=ModelEntry(scheme=Scheme.FLOAT32, opset=18),
        runtime=RuntimeEntry(engine="onnxruntime"),
        tools={},
        data={"seed": seed},
    )
    return pack_bundle(description=description, files={n: draw.randbytes(s) for n, s in sizes.items()}, output=output)


@contextlib.contextmanager
def registry(folder: Path) -> Iterator[int]:
    """docker-registry on loopback while the block runs."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]
    storage = json.dumps(os.fspath(folder / "storage"))
    config = folder / "config.yml"
    config.write_text(
        f"version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n"
        f"storage: {{filesystem: {{rootdirectory: {storage}}}, cache: {{blobdescriptor: inmemory}}}}\n"
        f"http: {{addr: '127.0.0.1:{port}'}}\n"
    )
    process = subprocess.Popen(
        ["docker-registry", "serve", config], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        for _ in range(200):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.05)
        yield port
    finally:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    main()
