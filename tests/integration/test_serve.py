"""`edgec serve` as a process: ready once proved, overloaded, reloaded, ended; no request is lost on the way."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.network

SOON_S = 60
LISTENING = "listening on http://127.0.0.1:"


@dataclass(kw_only=True)
class Server:
    """A running server."""

    process: subprocess.Popen[str]
    port: int
    log: Path

    def logged(self) -> str:
        return self.log.read_text(encoding="utf-8")

    def until(self, text: str, *, times: int = 1) -> None:
        deadline = time.monotonic() + SOON_S
        while self.logged().count(text) < times:
            assert time.monotonic() < deadline, self.logged()
            assert self.process.poll() is None, self.logged()
            time.sleep(0.02)


@pytest.fixture
def serving(tmp_path: Path) -> Callable[..., Any]:
    @contextlib.contextmanager
    def start(bundle: Path, *options: str) -> Iterator[Server]:
        log = tmp_path / "server.log"
        with log.open("w") as stderr:
            command = [sys.executable, "-m", "edgec", "serve", str(bundle), "--port", "0", *options]
            process = subprocess.Popen(command, stderr=stderr, stdout=subprocess.PIPE, text=True)
        try:
            server = Server(process=process, port=0, log=log)
            server.until(LISTENING)
            server.port = int(server.logged().partition(LISTENING)[2].split()[0].strip('"},'))
            server.until(" answers, on ")
            yield server
        finally:
            process.kill()
            process.communicate()

    return start


@pytest.fixture(scope="module")
def bundle(digits: Any) -> Path:
    return digits.bundle


def request(name: str, images: int = 1) -> bytes:
    """Grey pixels of the digits' size, as raw bytes."""
    body = bytes(64 * images)
    head = f"POST /v2/models/{name}/infer HTTP/1.1\r\nHost: x\r\nInference-Header-Content-Length: 0\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


async def ask(port: int, payload: bytes, times: int, stop: asyncio.Event | None = None) -> list[tuple[int, str]]:
    """Statuses and versions of so many requests one after another; 0 where none came back."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    found = []
    try:
        for _ in range(times):
            if stop is not None and stop.is_set():
                break
            writer.write(payload)
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            answer = json.loads(await reader.readexactly(length))
            found.append((int(head[9:12]), answer.get("model_version", "")))
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
    return found


def test_under_four_times_its_load_every_request_is_answered(bundle: Path, serving: Callable[..., Any]) -> None:
    queue = 4
    with serving(bundle, "--queue", str(queue), "--batch", "1") as server:
        payload = request("digits", images=256)

        async def crowd() -> list[list[tuple[int, str]]]:
            return await asyncio.gather(*(ask(server.port, payload, 20) for _ in range(4 * (queue + 1))))

        found = Counter(status for each in asyncio.run(crowd()) for status, _ in each)
        assert found.total() == 400
        assert set(found) <= {200, 503}
        assert found[200] >= queue


def test_a_new_version_is_switched_to_without_a_request_being_lost(
    bundle: Path, serving: Callable[..., Any], tmp_path: Path
) -> None:
    import shutil

    manifest = json.loads((bundle / "manifest.json").read_bytes())
    shutil.copytree(bundle, tmp_path / "next")
    (tmp_path / "next" / "manifest.json").write_text(json.dumps(manifest | {"tools": {"python": "new"}}))
    current = tmp_path / "current"
    current.symlink_to(bundle)
    with serving(current, "--no-watch") as server:

        async def through() -> list[list[tuple[int, str]]]:
            stop = asyncio.Event()
            clients = [asyncio.create_task(ask(server.port, request("digits"), 10**6, stop)) for _ in range(4)]
            await asyncio.sleep(0.3)
            (tmp_path / "link").symlink_to(tmp_path / "next")
            (tmp_path / "link").replace(current)
            server.process.send_signal(signal.SIGHUP)
            await asyncio.to_thread(server.until, " answers, on ", times=2)
            await asyncio.sleep(0.2)
            stop.set()
            return await asyncio.gather(*clients)

        for each in asyncio.run(asyncio.wait_for(through(), SOON_S)):
            assert {status for status, _ in each} == {200}
            versions = [version for _, version in each]
            # The old one, then the new one, and never back.
            assert len(set(versions)) == 2
            assert versions == sorted(versions, key=versions.index)


def test_sigterm_lets_what_was_taken_be_answered_and_ends_well(bundle: Path, serving: Callable[..., Any]) -> None:
    with serving(bundle, "--batch", "1", "--json-logs") as server:

        async def at_the_end() -> list[list[tuple[int, str]]]:
            payload = request("digits", images=256)
            clients = [asyncio.create_task(ask(server.port, payload, 1)) for _ in range(32)]
            await asyncio.sleep(0.05)
            server.process.send_signal(signal.SIGTERM)
            return [each for each in await asyncio.gather(*clients, return_exceptions=True) if isinstance(each, list)]

        found = asyncio.run(asyncio.wait_for(at_the_end(), SOON_S))
        assert {status for each in found for status, _ in each} == {200}
        assert found
        assert server.process.wait(SOON_S) == 0
        lines = [json.loads(line) for line in server.logged().splitlines()]
        # A bundle for a Jetson is told to run in onnxruntime here, which is a warning.
        assert {line["level"] for line in lines} <= {"info", "warning"}


def test_a_bundle_that_answers_differently_here_is_not_served(bundle: Path, tmp_path: Path) -> None:
    import shutil

    from edgec.core.digest import digest_bytes
    from edgec.package import Golden, golden_bytes, open_bundle, read_golden

    manifest = open_bundle(bundle).manifest
    golden = read_golden((bundle / "golden.npz").read_bytes(), manifest.input, classes=10, where="")
    shutil.copytree(bundle, tmp_path / "other")
    data = golden_bytes(Golden(inputs=golden.inputs, logits=np.float32(-1) * golden.logits))
    (tmp_path / "other" / "golden.npz").write_bytes(data)
    fields = json.loads((bundle / "manifest.json").read_bytes())
    fields["files"]["golden.npz"] = {"sha256": digest_bytes(data), "bytes": len(data)}
    (tmp_path / "other" / "manifest.json").write_text(json.dumps(fields))
    command = [sys.executable, "-m", "edgec", "serve", str(tmp_path / "other"), "--port", "0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SOON_S, check=False)
    assert done.returncode == 4
    assert "smoke test" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_port_that_is_taken_is_said(bundle: Path, serving: Callable[..., Any], edgec: Any) -> None:
    with serving(bundle) as server:
        outcome = edgec("serve", bundle, "--port", server.port)
        assert outcome.exit_code == 2
        assert outcome.failure[0].startswith(f"cannot listen on 127.0.0.1:{server.port}: ")


def test_an_answer_does_not_wait_for_an_acknowledgement(bundle: Path, serving: Callable[..., Any]) -> None:
    """Linux delays acknowledgements by 40 ms: 50 answers that each waited for one would take 2 s."""
    with serving(bundle) as server:
        began = time.monotonic()
        asyncio.run(ask(server.port, request("digits"), 50))
        assert time.monotonic() - began < 50 * 0.04
