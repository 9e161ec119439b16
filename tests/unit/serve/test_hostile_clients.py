"""A server and clients that mean harm: the honest ones beside them are answered, and memory stays bounded.

`benchmarks/hostile_clients.py` runs each kind for longer and measures how much later the honest ones are answered.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

import hostile_clients

pytestmark = pytest.mark.network

MOST_BYTES = 500_000_000
SECONDS = 0.5
"""Of each kind. A server that fails under one of these failed at once."""
KINDS = (
    *("idle connections", "half heads", "dripping bodies", "chunks of one byte", "answers that nobody reads"),
    *("malformed exif", "progressive cmyk", "pictures of 89 megapixels", "one long text and many empty ones"),
    *("large requests whose client goes", "json as long as may be"),
    *("half a million empty lists", "outputs over and over", "more requests than may be under way"),
)


@pytest.mark.slow
def test_honest_clients_are_answered_beside_hostile_ones(bundle: Path, tmp_path: Path) -> None:
    with hostile_clients.served(bundle, tmp_path / "log") as (target, server):
        for address in ("127.0.0.66", "127.0.0.1"):  # another client's, and the honest clients' own
            there = replace(target, address=address)
            for kind in KINDS:
                seen = asyncio.run(hostile_clients.attack(there, server, kind, seconds=SECONDS))
                # Clients of one address share what it may have under way: they may be told to come again.
                refusals = {"429"} if address == "127.0.0.1" else set()
                assert set(seen.failed) <= refusals, (kind, address)
                assert seen.latencies_ms
                assert seen.memory_bytes < MOST_BYTES, kind
    assert len((tmp_path / "log").read_text().splitlines()) <= 4, (tmp_path / "log").read_text()


def test_a_head_that_does_not_come_ends_its_connection(bundle: Path, tmp_path: Path) -> None:
    """As `serve` sets it up, but for a shorter time: with uvicorn alone such a connection stays for ever."""
    script = f"""
from pathlib import Path
from edgec.serve import Settings, serve
serve(Settings(bundle=Path({str(bundle)!r}), port=0, watch_seconds=None, head_seconds=0.5, connections=8))
"""
    with hostile_clients.served(bundle, tmp_path / "log", command=("-c", script)) as (target, _):
        place = ("127.0.0.1", target.port)
        began = time.monotonic()
        waiting = [socket.create_connection(place) for _ in range(3)]
        waiting[1].sendall(b"GET /v2 HTTP/1.1\r\nHost: x\r\n")
        answered = socket.create_connection(place)
        answered.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n")
        assert answered.recv(100).startswith(b"HTTP/1.1 200")
        answered.sendall(b"G")  # the next head is timed, too
        for each in (*waiting, answered):
            each.settimeout(60)
            assert until_closed(each) in (b"", answered_rest)
        assert time.monotonic() - began >= 0.5
        many = [socket.create_connection(place) for _ in range(40)]
        last = socket.create_connection(place)
        last.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n")
        assert last.recv(100).startswith(b"HTTP/1.1 200")
        for each in (*many, last):
            each.close()


answered_rest = b"\r\n\r\n"
"""What is left of an answer without a body."""


def until_closed(connection: socket.socket) -> bytes:
    """All that still comes."""
    found = b""
    with connection:
        try:
            while part := connection.recv(1000):
                found += part
        except ConnectionResetError:
            pass
    return found[-4:]


def test_tls_and_a_token(bundle: Path, tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path)
    tokens = tmp_path / "tokens"
    tokens.write_text("a-token-of-many-characters\n")
    tokens.chmod(0o600)
    options = ("--tls-certificate", str(certificate), "--tls-key", str(key), "--token-file", str(tokens))
    with hostile_clients.served(bundle, tmp_path / "log", *options) as (target, _):
        assert "(token, TLS: for this machine only)" in (tmp_path / "log").read_text()
        context = ssl.create_default_context(cafile=str(certificate))

        def ask(*lines: str) -> bytes:
            with context.wrap_socket(
                socket.create_connection(("127.0.0.1", target.port)), server_hostname="localhost"
            ) as connection:
                head = ("GET /v2 HTTP/1.1", "Host: localhost", "Connection: close", *lines, "", "")
                connection.sendall("\r\n".join(head).encode())
                return connection.recv(15)

        assert ask("Authorization: Bearer a-token-of-many-characters") == b"HTTP/1.1 200 OK"
        assert ask() == b"HTTP/1.1 401 Un"
        with socket.create_connection(("127.0.0.1", target.port)) as plain:
            plain.sendall(b"GET /v2 HTTP/1.1\r\nHost: x\r\n\r\n")
            plain.settimeout(60)
            assert not until_closed(plain).endswith(b"}")


def test_handshakes_that_never_end_keep_nobody_out(bundle: Path, tmp_path: Path) -> None:
    """They are counted as connections are, of which eight may be open here."""
    certificate, key = make_certificate(tmp_path)
    script = f"""
from pathlib import Path
from edgec.serve import Settings, serve
serve(Settings(bundle=Path({str(bundle)!r}), port=0, watch_seconds=None, connections=8,
               certificate=Path({str(certificate)!r}), key=Path({str(key)!r})))
"""
    with hostile_clients.served(bundle, tmp_path / "log", command=("-c", script)) as (target, _):
        place = ("127.0.0.1", target.port)
        silent = [socket.create_connection(place, source_address=("127.0.0.66", 0)) for _ in range(40)]
        began = time.monotonic()
        for each in silent[:32]:
            each.settimeout(60)
            assert until_closed(each) == b""
        assert time.monotonic() - began < 9  # their time would be 10 s
        context = ssl.create_default_context(cafile=str(certificate))
        with context.wrap_socket(socket.create_connection(place), server_hostname="localhost") as connection:
            connection.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n")
            assert connection.recv(12) == b"HTTP/1.1 200"
        for each in silent:
            each.close()


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """For localhost, signed by itself."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(timezone.utc)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now, now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    (folder / "c.pem").write_bytes(made.public_bytes(pem))
    (folder / "k.pem").write_bytes(key.private_bytes(pem, pkcs8, serialization.NoEncryption()))
    return folder / "c.pem", folder / "k.pem"
