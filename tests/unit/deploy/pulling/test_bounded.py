"""Registries that never end, drip, swell or answer nonsense: every conversation is over soon, and costs little."""

from __future__ import annotations

import contextlib
import datetime as dt
import gzip
import hashlib
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from edgec.core.errors import EdgecError, TransportError
from edgec.deploy.modelpack import Blob
from edgec.deploy.oci import Repository
from edgec.deploy.reference import Reference

pytestmark = pytest.mark.network
Serve = Callable[[Callable[[socket.socket], None]], int]


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgec.deploy.budget.GRACE_S", 1.0)
    monkeypatch.setattr("edgec.deploy.http.PATIENCE_S", 2.0)


@pytest.fixture
def serve() -> Iterator[Serve]:
    """A server that treats each connection as it is told to, after the request's headers."""
    ending = threading.Event()
    threads: list[threading.Thread] = []

    def start(behave: Callable[[socket.socket], None]) -> int:
        server = socket.create_server(("127.0.0.1", 0))
        server.settimeout(0.1)

        def one(near: socket.socket) -> None:
            with near, contextlib.suppress(OSError):
                near.settimeout(5)
                while b"\r\n\r\n" not in (data := near.recv(65536)) and data:
                    pass
                behave(near)

        def loop() -> None:
            with server:
                while not ending.is_set():
                    with contextlib.suppress(TimeoutError):
                        threads.append(threading.Thread(target=one, args=(server.accept()[0],), daemon=True))
                        threads[-1].start()

        threads.append(threading.Thread(target=loop))
        threads[-1].start()
        return server.getsockname()[1]

    yield start
    ending.set()
    threads[0].join()


def repository(port: int) -> Repository:
    return Repository(Reference.parse(f"127.0.0.1:{port}/cameras/digits:stable"), waits_s=(0.01,))


def drip(near: socket.socket, data: bytes, *, every_s: float = 0.05) -> None:
    for _ in range(1200):
        near.sendall(data)
        time.sleep(every_s)


def endless(near: socket.socket, data: bytes) -> None:
    while True:
        near.sendall(data * 4096)


HOSTILE: dict[str, Callable[[socket.socket], None]] = {
    "says nothing": lambda near: time.sleep(60),
    "drips headers": lambda near: drip(near, b"x"),
    "drips a body": lambda near: (near.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n"), drip(near, b"{")),
    "drips chunks": lambda near: (
        near.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
        drip(near, b"1\r\n{\r\n"),
    ),
    "never ends an error": lambda near: (near.sendall(b"HTTP/1.1 400 Bad\r\n\r\n"), endless(near, b"spam")),
    "never ends a body": lambda near: (near.sendall(b"HTTP/1.1 200 OK\r\n\r\n"), endless(near, b"spam")),
    "never ends its headers": lambda near: endless(near, b"X: y\r\n"),
    "never says more than continue": lambda near: endless(near, b"HTTP/1.1 100 Continue\r\n\r\n"),
    "never ends a redirect": lambda near: (
        near.sendall(b"HTTP/1.1 307 There\r\nLocation: /v2/\r\n\r\n"),
        endless(near, b"spam"),
    ),
    "swells": lambda near: near.sendall(
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n" + gzip.compress(bytes(200_000_000))
    ),
    "is no HTTP": lambda near: near.sendall(b"SSH-2.0-OpenSSH_9.2\r\n"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_conversation_with_a_hostile_registry_is_soon_over(name: str, serve: Serve) -> None:
    began = time.monotonic()
    with repository(serve(HOSTILE[name])) as there, pytest.raises(EdgecError):
        there.manifest()
    # Two attempts of a second of grace each; the rest is for a machine that is busy.
    assert time.monotonic() - began < 30


def test_a_blob_that_never_gets_further_is_given_up(serve: Serve, tmp_path: Path) -> None:
    """The range that is asked for is not heeded, and the answer is too short, again and again."""
    data = bytes(1000)
    blob = Blob(media_type="a/b", digest=f"sha256:{hashlib.sha256(data).hexdigest()}", size=1000)
    port = serve(lambda near: near.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n0123456789"))
    with repository(port) as there, pytest.raises(EdgecError, match="ended after 10 of 1000 bytes"):
        there.fetch(blob, tmp_path / "part")


def test_a_blob_that_comes_byte_by_byte_in_connections_of_their_own_is_given_up(serve: Serve, tmp_path: Path) -> None:
    data, sent = bytes(100_000), []

    def one_more(near: socket.socket) -> None:
        start = len(sent)
        sent.append(1)
        kind = b"206 Part\r\nContent-Range: bytes %d-99999/100000" % start if start else b"200 OK"
        near.sendall(b"HTTP/1.1 %s\r\nContent-Length: 100000\r\n\r\n0" % kind)

    blob = Blob(media_type="a/b", digest=f"sha256:{hashlib.sha256(data).hexdigest()}", size=100_000)
    began = time.monotonic()
    with repository(serve(one_more)) as there, pytest.raises(EdgecError):
        there.fetch(blob, tmp_path / "part")
    assert time.monotonic() - began < 30


def test_an_address_that_is_none_is_told(serve: Serve) -> None:
    port = serve(lambda near: near.sendall(b"HTTP/1.1 307 There\r\nLocation: http://[::1/\r\n\r\n"))
    with repository(port) as there, pytest.raises(EdgecError):
        there.resolve()


def test_a_clock_in_the_past_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To this machine, a certificate that begins tomorrow is what any certificate is to a clock of 1970."""
    now = dt.datetime.now(dt.timezone.utc)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "registry.test")])
    certificate = (
        x509.CertificateBuilder(issuer_name=name, subject_name=name, public_key=key.public_key(), serial_number=7)
        .not_valid_before(now + dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=9))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("registry.test")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (tmp_path / "both.pem").write_bytes(private + certificate.public_bytes(pem))
    (tmp_path / "ca.pem").write_bytes(certificate.public_bytes(pem))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "both.pem")
    server = socket.create_server(("127.0.0.1", 0))
    address = (socket.AF_INET, socket.SOCK_STREAM, 6, "", server.getsockname())
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [address])

    def shake_hands() -> None:
        with contextlib.suppress(OSError):
            near, _ = server.accept()
            context.wrap_socket(near, server_side=True)

    thread = threading.Thread(target=shake_hands, daemon=True)
    thread.start()
    reference = Reference.parse(f"registry.test:{server.getsockname()[1]}/cameras/digits:stable")
    with (
        server,
        Repository(reference, waits_s=()) as there,
        pytest.raises(TransportError, match="clock says 20") as told,
    ):
        there.resolve()
    thread.join(5)
    assert "set the clock" in str(told.value.hint)


ASKS_FOR_A_TOKEN = b'HTTP/1.1 401 No\r\nWWW-Authenticate: Bearer realm="http://127.0.0.1:%d/t",service="s"\r\n%s\r\n'
IN_PLACE_OF_A_BLOB: dict[str, Callable[[Any, int], object]] = {
    "a token": lambda near, port: (
        near.sendall(ASKS_FOR_A_TOKEN % (port, b"Content-Length: 0\r\n")),
        near.recv(65536),
        near.sendall(b"HTTP/1.1 200 OK\r\n\r\n"),
        endless(near, b"spam"),
    ),
    "the question who asks": lambda near, port: (near.sendall(ASKS_FOR_A_TOKEN % (port, b"")), endless(near, b"spam")),
    "a redirect": lambda near, port: (
        near.sendall(b"HTTP/1.1 307 There\r\nLocation: /v2/\r\n\r\n"),
        endless(near, b"spam"),
    ),
}


@pytest.mark.parametrize("name", IN_PLACE_OF_A_BLOB)
def test_what_comes_in_place_of_a_large_blob_is_small(name: str, serve: Serve, tmp_path: Path) -> None:
    """A blob goes to a file piece by piece; what else a registry says is held in memory."""
    sent: list[int] = []

    class Counted:
        def __init__(self, near: socket.socket) -> None:
            self.recv, self._near = near.recv, near

        def sendall(self, data: bytes) -> None:
            self._near.sendall(data)
            sent.append(len(data))

    ports: list[int] = []
    ports.append(serve(lambda near: IN_PLACE_OF_A_BLOB[name](Counted(near), ports[0])))
    blob = Blob(media_type="a/b", digest=f"sha256:{'0' * 64}", size=1 << 30)
    with repository(ports[0]) as there, pytest.raises(EdgecError):
        there.fetch(blob, tmp_path / "part")
    # Two attempts of at most six answers, each of 2 MiB, headers, and what lies in the sockets' buffers.
    assert sum(sent) < 200 << 20
