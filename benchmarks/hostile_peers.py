"""Agent and deployer among hostile peers: registries and devices that stall, flood, lie and answer nonsense.

    python benchmarks/hostile_peers.py [--count 200] [--seed 0] [--quick] [--json]

A registry on loopback turns hostile at one of four steps (HEAD, manifest, the bundle's manifest, its graph), in one of
some seventy ways; an agent looks at each. Then one rollout goes to as many devices and one more. They are hostile, an
SSH server that answers `edgec site` in as many ways at each of five steps; the last one is a real sshd with a site.
Graces are cut to seconds, so that hundreds of conversations end within minutes; what is told is how many were not over
in time, how many ended agent or deployer, what the honest device runs, and the most memory of this process.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import itertools
import json
import os
import random
import socket
import struct
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from edgec.core.errors import EdgecError
from edgec.core.host import peak_bytes
from edgec.deploy import Site, Status, agent, bounded, http
from edgec.deploy.agent import Agent
from edgec.deploy.fleet import Device
from edgec.deploy.modelpack import MEDIA_TYPE, describe
from edgec.deploy.payload import Payload
from edgec.deploy.reference import Reference
from edgec.deploy.rollout import Order, Plan, Result, roll_out
from edgec.package import open_bundle
from rows import Row, arguments, show
from support.sshd import SSHD, Testbed, digest_at, make_bundle, make_key

GRACE_S, LIMIT_S = 1.0, 40.0
"""Of a conversation here; of an agent's look, which has several, each tried again."""
DEVICE_S, QUICK_DEVICE_S, TAKEN_S = 30.0, 15.0, 60.0
"""Of a device here, and of few of them, and when its outcome must be there at last."""
Step = str
STEPS = ("HEAD", "manifest", "manifest.json", "model.onnx")
DEEP = b'{"a":' * 100_000
HEAD = b"HTTP/1.1 %s\r\n"


def ok(body: bytes, *headers: bytes) -> bytes:
    """A whole answer."""
    return (
        b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n%s\r\n" % (len(body), b"".join(h + b"\r\n" for h in headers)) + body
    )


def status(line: bytes, *headers: bytes) -> bytes:
    """An answer without a body."""
    return HEAD % line + b"Content-Length: 0\r\n" + b"".join(header + b"\r\n" for header in headers) + b"\r\n"


ANSWERS: dict[str, bytes] = {
    **{
        f"status {code}": status(b"%d X" % code)
        for code in (200, 204, 206, 299, 300, 304, 400, 403, 404, 405, 409, 416)
    },
    **{f"status {code}": status(b"%d X" % code) for code in (429, 500, 502, 503, 504, 599, 999)},
    **{f"Retry-After {at!r}": status(b"429 X", b"Retry-After: " + at) for at in (b"-1", b"nan", b"x", b"0.1")},
    **{
        f"redirect to {place[:20]!r}": status(b"307 X", b"Location: " + place)
        for place in (
            b"",
            b"/v2/",
            b"http://[::1/",
            b"file:///etc/passwd",
            b"ftp://127.0.0.1/x",
            b"http://127.0.0.1:1/",
            b"http://127.0.0.1:99999/",
            b"http://\xff\xfe/",
            b"//",
            b"http://" + b"a" * 60_000,
            b"http://xn--a/",
        )
    },
    "redirect to nowhere": status(b"307 X"),
    **{
        f"challenge {how[:24]!r}": status(b"401 X", b"Www-Authenticate: " + how)
        for how in (
            b"",
            b"Basic",
            b"Bearer",
            b'Bearer realm=""',
            b'Bearer realm="http://[::1/"',
            b'Bearer realm="http://127.0.0.1:1/token"',
            b'Bearer realm="file:///etc/passwd"',
            b'Bearer realm="//",service="x',
            b"Digest realm=x",
            b"Bearer " + b"a=" * 20_000,
        )
    },
    **{
        f"length {n!r}": HEAD % b"200 OK" + b"Content-Length: " + n + b"\r\n\r\nx"
        for n in (b"-1", b"x", b"9" * 30, b"99")
    },
    "two lengths": HEAD % b"200 OK" + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nx",
    "chunk of no size": HEAD % b"200 OK" + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    "chunk that is huge": HEAD % b"200 OK" + b"Transfer-Encoding: chunked\r\n\r\nffffffffffff\r\nx",
    "swelling": ok(gzip.compress(bytes(50_000_000)), b"Content-Encoding: gzip"),
    "compressed noise": ok(b"noise", b"Content-Encoding: deflate"),
    "deep nesting": ok(DEEP),
    "an unknown digest": ok(b"{}", b"Docker-Content-Digest: md5:0"),
    "a long digest": ok(b"{}", b"Docker-Content-Digest: " + b"a" * 60_000),
    **{
        f"body {body[:16]!r}": ok(body)
        for body in (b"[]", b"null", b"7", b"\xff\xfe", b"NaN", b"9" * 5000, b'{"a":1,"a":2}')
    },
    "many headers": HEAD % b"200 OK" + b"X: y\r\n" * 200 + b"\r\n",
    "a long header": HEAD % b"200 OK" + b"X: " + b"y" * 100_000 + b"\r\n\r\n",
    "no HTTP": b"SSH-2.0-x\r\n",
    "a status alone": HEAD % b"200 OK",
    "zeros": bytes(1000),
}
ENDLESS: dict[str, tuple[bytes, bytes, float]] = {
    "silence": (b"", b"", 0.1),
    "dripping headers": (HEAD % b"200 OK", b"x", 0.05),
    "dripping body": (HEAD % b"200 OK" + b"Content-Length: 9999\r\n\r\n", b"x", 0.05),
    "dripping chunks": (HEAD % b"200 OK" + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n", 0.05),
    "endless headers": (HEAD % b"200 OK", b"X: y\r\n" * 1000, 0),
    "endless body": (HEAD % b"200 OK" + b"\r\n", b"spam" * 1000, 0),
    "endless error": (HEAD % b"400 X" + b"\r\n", b"spam" * 1000, 0),
    "endless redirect": (HEAD % b"307 X" + b"Location: /v2/\r\n\r\n", b"spam" * 1000, 0),
    "endless continue": (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100, 0),
}
"""What is said first, what again and again, and how long between."""
WAYS = (*ANSWERS, *ENDLESS, "cut at once", "reset")


class Registry:
    """Serves one bundle, and turns hostile where it is told to."""

    def __init__(self, bundle: Path) -> None:
        opened = open_bundle(bundle)
        self.artifact, _ = describe(opened)
        self.blobs = {blob.digest: opened.source.read(name) for name, blob in self.artifact.layers.items()}
        self.names = {blob.digest: name for name, blob in self.artifact.layers.items()}
        self.step, self.way = "", ""
        self.server = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self.server.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            near, _ = self.server.accept()
            threading.Thread(target=self._one, args=(near,), daemon=True).start()

    def _one(self, near: socket.socket) -> None:
        with near, contextlib.suppress(OSError):
            near.settimeout(GRACE_S * 20)
            while request := self._request(near):
                method, path = request.split(b" ")[:2]
                self._answer(near, method.decode(), path.decode())

    def _request(self, near: socket.socket) -> bytes:
        data = b""
        while b"\r\n\r\n" not in data:
            piece = near.recv(65536)
            if not piece:
                return b""
            data += piece
        return data

    def _answer(self, near: socket.socket, method: str, path: str) -> None:
        digest = path.rsplit("/", 1)[-1]
        step = "HEAD" if method == "HEAD" else "manifest" if "/manifests/" in path else self.names.get(digest, "other")
        if step == self.step:
            misbehave(near, self.way)
            return
        body = self.artifact.manifest if "/manifests/" in path else self.blobs.get(digest, b"")
        head = b"Docker-Content-Digest: " + self.artifact.digest.encode(), b"Content-Type: " + MEDIA_TYPE.encode()
        whole = ok(body, *head)
        near.sendall(whole[: -len(body)] if method == "HEAD" else whole)


def misbehave(near: socket.socket, way: str) -> None:
    """Answers in one of `WAYS`; closes the connection behind it."""
    if way in ANSWERS:
        near.sendall(ANSWERS[way])
    elif way in ENDLESS:
        first, again, wait_s = ENDLESS[way]
        near.sendall(first)
        while True:
            near.sendall(again)
            time.sleep(wait_s)
    elif way == "reset":
        near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    near.close()


def look_at_all(folder: Path, bundle: Path, kinds: list[tuple[Step, str]]) -> Counter[str]:
    """One look of an agent at each kind of hostile registry; then the registry is honest, and the agent gets there."""
    seen: Counter[str] = Counter()
    there = Registry(bundle)
    reference = Reference.parse(f"127.0.0.1:{there.port}/cameras/digits:stable")
    for there.step, there.way in kinds:
        root = folder / "agent"
        began = time.monotonic()
        try:
            Agent(reference, Site(root, smoke_test=lambda _: None)).poll()
            seen["reached the bundle all the same"] += 1
        except EdgecError:
            seen["failure told"] += 1
        except Exception as error:  # noqa: BLE001 - that is what is looked for
            seen["unexpected"] += 1
            print(f"{there.step}: {there.way}: {type(error).__name__}: {error}", file=sys.stderr)
        if time.monotonic() - began > LIMIT_S:
            seen["late"] += 1
            print(f"{there.step}: {there.way}: {time.monotonic() - began:.0f} s", file=sys.stderr)
        if (root / "current").exists():
            (root / "agent.json").unlink(missing_ok=True)
            (root / "current").unlink()
            root.rename(folder / f"done-{sum(seen.values())}")
    there.step = ""
    Agent(reference, Site(folder / "agent", smoke_test=lambda _: None)).poll()
    seen["honest at last"] += digest_at(folder / "agent") == open_bundle(bundle).digest
    return seen


def status_of(**fields: Any) -> dict[str, Any]:
    """A site's status as JSON."""
    empty = Status(current=None, previous=None, versions=(), free_bytes=1 << 40)
    return asdict(empty) | fields


LINES: dict[str, bytes] = {
    "nothing": b"",
    "an empty line": b"\n",
    "a list": b"[]\n",
    "null": b"null\n",
    "a number": b"7\n",
    "noise": bytes(range(256)) + b"\n",
    "deep nesting": DEEP + b"\n",
    "a long line": b"x" * (3 << 20),
    "a line of a megabyte": b'{"edgec": "' + b"x" * (1 << 20) + b'"}\n',
    "a status of another type": b'{"status": 7}\n',
    "an empty status": b'{"status": {}}\n',
    "a status of nonsense": json.dumps({"status": status_of(versions=7, free_bytes="x")}).encode() + b"\n",
    "a negative part": b'{"part_bytes": -5, "part_sha256": ""}\n',
    "a part that is too long": b'{"part_bytes": 99999999999, "part_sha256": "00"}\n',
    "an error of nonsense": b'{"error": {"message": 7}}\n',
    "an error with control characters": b'{"error": {"message": "\\u001b[2J::stop-commands::x"}}\n',
    "an error": b'{"error": {"message": "no", "hint": "no"}}\n',
    "two answers": b"{}\n{}\n",
    "a version of nonsense": b'{"version": {"digest": 1}}\n',
    "a greeting": b"Welcome!\n",
    "half a line": b'{"status": ',
}
ENDS = ("stays", "exit 0", "exit 1", "exit 127", "exit 139", "signal", "floods", "floods stderr", "drips")
FINE = json.dumps({"status": status_of()}).encode() + b"\n"


async def session(process: Any, kind: int) -> None:
    """A device's end of a session: fine answers for some steps, then something else, then an end."""
    lines = list(LINES.values())
    after, line, end = kind % 5, lines[(kind // 5) % len(lines)], ENDS[(kind // (5 * len(lines)) + kind) % len(ENDS)]
    with contextlib.suppress(Exception):
        for number in range(after):
            process.stdout.write(FINE if number == 0 else b"{}\n")
            await process.stdin.readline()
        process.stdout.write(line)
        if end in ("floods", "floods stderr", "drips"):
            stream = process.stderr if end == "floods stderr" else process.stdout
            while True:
                stream.write(b"x" * (1 if end == "drips" else 65536))
                await stream.drain()
                await asyncio.sleep(0.2 if end == "drips" else 0)
        if end == "stays":
            await asyncio.sleep(600)
        if end == "signal":
            process.exit_with_signal("SEGV")
        process.exit(int(end.split()[-1]) if end.startswith("exit") else 0)


async def roll_to_all(
    folder: Path, bed: Testbed, bundle: Path, count: int, honest: Device, *, device_s: float
) -> tuple[Counter[str], bool]:
    """One rollout to hostile devices and an honest one, which comes last."""
    import asyncssh

    make_key(folder / "host_key")

    class Server(asyncssh.SSHServer):
        def begin_auth(self, username: str) -> bool:
            del username
            return False

    async def serve(process: Any) -> None:
        await session(process, int(str(process.command).split("/device-")[1].split(" ")[0].split("/")[0]))

    server = await asyncssh.create_server(
        Server, "127.0.0.1", 0, server_host_keys=[str(folder / "host_key")], process_factory=serve, encoding=None
    )
    port = server.sockets[0].getsockname()[1]
    bed.remember(folder, "127.0.0.1", port)
    hostile = [
        Device(
            name=f"h{kind}",
            url=f"ssh://127.0.0.1:{port}/device-{kind}",
            key=bed.identity,
            known_hosts=bed.known_hosts,
            python="python",
            restart="true",
        )
        for kind in range(count)
    ]
    order, plan = Order(device_s=device_s, command_s=5.0, retries=0), Plan(parallel=16)
    outcomes = await roll_out(Payload.of(bundle), [*hostile, honest], order, plan, progress=lambda *_: None)
    seen = Counter(outcome.result.value for outcome in outcomes[:-1])
    seen["late"] = sum(outcome.seconds > TAKEN_S for outcome in outcomes)
    seen["unexpected"] = sum("unexpected" in outcome.reason for outcome in outcomes)
    for outcome in outcomes:
        if "unexpected" in outcome.reason or outcome.seconds > TAKEN_S:
            print(f"{outcome.device}: {outcome.seconds:.0f} s: {outcome.reason}", file=sys.stderr)
    server.close()
    return seen, outcomes[-1].result is Result.UPDATED


@contextlib.contextmanager
def hurried() -> Iterator[None]:
    """Graces of seconds, waits of hundredths."""
    before: dict[tuple[Any, str], Any] = {}
    values: Mapping[tuple[Any, str], Any] = {
        (bounded, "GRACE_S"): GRACE_S,
        (http, "PATIENCE_S"): 2 * GRACE_S,
        (http, "MAX_WAIT_S"): 0.1,
    }
    for (module, name), value in values.items():
        before[module, name] = getattr(module, name)
        setattr(module, name, value)
    repository: Callable[..., Any] = agent.Repository
    agent.Repository = lambda *given, **named: repository(*given, **named, waits_s=(0.01,))  # type: ignore[misc, assignment]
    try:
        yield
    finally:
        agent.Repository = repository  # type: ignore[misc]
        for (module, name), value in before.items():
            setattr(module, name, value)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    if SSHD is None:
        raise SystemExit("no sshd here: apt-get install openssh-server")
    count = 12 if given.quick else given.count
    kinds = list(itertools.product(STEPS, WAYS))
    random.Random(given.seed).shuffle(kinds)  # noqa: S311 - an order, no secret
    os.environ["DOCKER_CONFIG"] = os.environ.get("TMPDIR", "/tmp") + "/no-login"  # noqa: S108
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bundle = make_bundle(folder / "bundle", filler_bytes=300_000)
        with hurried():
            looks = look_at_all(folder, bundle, kinds[:count])
        bed = Testbed(folder=folder)
        with bed.host("honest") as host:
            honest = Device(
                name="honest", url=host.url, key=bed.identity, known_hosts=bed.known_hosts, python=str(host.python)
            )
            device_s = QUICK_DEVICE_S if given.quick else DEVICE_S
            rolled, updated = asyncio.run(roll_to_all(folder, bed, bundle, count, honest, device_s=device_s))
    memory_mb = peak_bytes() / 2**20
    rows = [
        Row(
            what="hostile registries: agent ended by something unexpected", value=looks["unexpected"], unit="", n=count
        ),
        Row(what=f"hostile registries: look not over within {LIMIT_S:g} s", value=looks["late"], unit="", n=count),
        Row(what="hostile registries: failure told", value=looks["failure told"], unit="", n=count),
        Row(what="an honest registry afterwards: the bundle runs", value=looks["honest at last"], unit="", n=1),
        Row(what="hostile devices: unexpected", value=rolled["unexpected"], unit="", n=count),
        Row(what=f"hostile devices: not over within {TAKEN_S:g} s", value=rolled["late"], unit="", n=count),
        Row(what="hostile devices: failed", value=rolled["failed"] + rolled["rolled back"], unit="", n=count),
        Row(what="the honest device among them: updated", value=int(updated), unit="", n=1),
        Row(what="most memory", value=memory_mb, unit="MB", n=1),
    ]
    show(rows, as_json=given.json, output=given.output)


if __name__ == "__main__":
    main()
