"""A real registry on loopback, and a line to it that can be cut."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from edgec.deploy.oci import Repository
from edgec.deploy.reference import Reference
from support.registry import REGISTRY, Registry

NO_WAITS = (0.01, 0.01, 0.01)


@dataclass(kw_only=True)
class Line:
    """Passes connections on to a registry, and cuts them where `cuts` says.

    Attributes:
        cuts: Bytes after which a connection is cut, towards the registry ("up") or from it ("down"); each cuts once.
        passed: Bytes that went either way.
    """

    target: int
    cuts: dict[str, list[int]] = field(default_factory=lambda: {"up": [], "down": []})
    passed: dict[str, int] = field(default_factory=lambda: {"up": 0, "down": 0})
    port: int = 0
    closing: bool = False

    def serve(self, server: socket.socket) -> None:
        threads: list[threading.Thread] = []
        with server:
            while not self.closing:
                with contextlib.suppress(TimeoutError):
                    near, _ = server.accept()
                    threads.append(threading.Thread(target=self.join_, args=(near,)))
                    threads[-1].start()
        for thread in threads:
            thread.join()

    def join_(self, near: socket.socket) -> None:
        with near, socket.socket() as far:
            try:
                far.connect(("127.0.0.1", self.target))
            except OSError:
                return
            for one in (near, far):
                one.settimeout(0.1)
            pumps = [
                threading.Thread(target=self.pump, args=(near, far, "up")),
                threading.Thread(target=self.pump, args=(far, near, "down")),
            ]
            for pump in pumps:
                pump.start()
            for pump in pumps:
                pump.join()

    def pump(self, source: socket.socket, sink: socket.socket, way: str) -> None:
        gone = 0
        while not self.closing:
            try:
                data = source.recv(4096)
                limit = self.cuts[way][0] if self.cuts[way] else None
                if not data or (limit is not None and gone + len(data) > limit):
                    if data:
                        self.cuts[way].pop(0)
                        sink.sendall(data[: limit - gone])
                        self.passed[way] += limit - gone
                    break
                sink.sendall(data)
            except TimeoutError:
                continue
            except OSError:
                break
            gone += len(data)
            self.passed[way] += len(data)
        for one in (source, sink):
            with contextlib.suppress(OSError):
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 0, 0))
                one.shutdown(socket.SHUT_RDWR)


@pytest.fixture(autouse=True)
def no_login(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the person who runs the tests is logged in to is nobody's business."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def make_registry(tmp_path: Path) -> Iterator[Callable[..., Registry]]:
    if REGISTRY is None:
        pytest.skip("docker-registry is not installed (Debian's package of that name)")
    made: list[Registry] = []

    def make(**fields: object) -> Registry:
        made.append(Registry(folder=tmp_path / f"registry{len(made)}", **fields))
        made[-1].start()
        return made[-1]

    yield make
    for registry in made:
        registry.stop()


@pytest.fixture
def registry(make_registry: Callable[..., Registry]) -> Registry:
    return make_registry()


@pytest.fixture
def line(registry: Registry) -> Iterator[Line]:
    server = socket.create_server(("127.0.0.1", 0))
    server.settimeout(0.1)
    line = Line(target=registry.port, port=server.getsockname()[1])
    thread = threading.Thread(target=line.serve, args=(server,))
    thread.start()
    yield line
    line.closing = True
    thread.join()


@pytest.fixture
def repository(registry: Registry) -> Iterator[Callable[..., Repository]]:
    """Opens `cameras/digits` by tag or digest, at the registry or at another port."""
    with contextlib.ExitStack() as stack:

        def opened(name: str = ":stable", *, port: int = 0, path: str = "cameras/digits") -> Repository:
            reference = Reference.parse(f"127.0.0.1:{port or registry.port}/{path}{name}")
            return stack.enter_context(Repository(reference, waits_s=NO_WAITS))

        yield opened
