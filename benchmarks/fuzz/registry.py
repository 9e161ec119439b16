"""A registry's answers, header by header: what is fetched has its digest, or an error says why nothing was."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

from edgec.core.digest import digest_file
from edgec.core.errors import EdgecError
from edgec.deploy import bounded, budget
from edgec.deploy.modelpack import MEDIA_TYPE, describe, read_artifact
from edgec.deploy.oci import Repository
from edgec.deploy.reference import Reference
from edgec.package import open_bundle
from fuzz.specimens import bundle_folder

__all__ = ["INSTRUMENTED", "check", "seeds"]

INSTRUMENTED = ("edgec.deploy.oci", "edgec.deploy.http", "edgec.deploy.modelpack", "edgec.deploy.bounded", "oras")
BETWEEN = b"\n%%\n"
"""Between one answer and the next."""
FOLDER = TemporaryDirectory(prefix="edgec-fuzz-")
GRACE_S = 2.0
"""In place of a minute, while an input is tried."""


class _Liar:
    """Listens on loopback; each connection hears the next answer, whatever it asks."""

    def __init__(self) -> None:
        self.answers: list[bytes] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            with connection, suppress(OSError):
                connection.settimeout(2.0)
                connection.recv(1 << 16)
                connection.sendall(self.answers.pop(0) if self.answers else b"")


LIAR = _Liar()


@contextmanager
def _briefly() -> Iterator[None]:
    """Conversations are given up soon; for this block alone, as tests run it too."""
    with patch.object(budget, "GRACE_S", GRACE_S), patch.object(bounded, "GRACE_S", GRACE_S):
        yield


def check(data: bytes) -> bool:
    """Raises AssertionError where a blob is taken that is not what its digest says."""
    LIAR.answers = data.split(BETWEEN)
    reference = Reference.parse(f"127.0.0.1:{LIAR.port}/cameras:1")
    part = Path(FOLDER.name) / "part"
    part.unlink(missing_ok=True)
    try:
        with _briefly(), Repository(reference, waits_s=()) as repository:
            repository.resolve()
            artifact = read_artifact(repository.manifest(), where=str(reference))
            blob = artifact.layers["manifest.json"]
            repository.fetch(blob, part)
    except EdgecError:
        return False
    assert digest_file(part) == blob.sha256
    return True


def seeds() -> list[bytes]:
    """Sound answers, and some that ask who we are or lead elsewhere."""
    bundle = open_bundle(bundle_folder())
    artifact, _ = describe(bundle)
    kind = f"Content-Type: {MEDIA_TYPE}\r\nDocker-Content-Digest: {artifact.digest}"
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(artifact.manifest)}\r\n{kind}\r\n\r\n".encode()
    blob = bundle.source.read("manifest.json")
    fetched = f"HTTP/1.1 200 OK\r\nContent-Length: {len(blob)}\r\n\r\n".encode() + blob
    asks = b'WWW-Authenticate: Bearer realm="http://127.0.0.1:1/t",service="s"'
    who = b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n" + asks + b"\r\n\r\n"
    away = b"HTTP/1.1 307 X\r\nLocation: /v2/\r\nContent-Length: 0\r\n\r\n"
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"
    whole = [head, head + artifact.manifest, fetched]
    return [BETWEEN.join(each) for each in (whole, [who, *whole], [away, *whole], [head, chunked])]
