"""A repository in an OCI registry: manifests and blobs, compared with their digests, resumed where a line was cut."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urljoin

from typing_extensions import Self

from edgec.core.digest import digest_bytes
from edgec.core.errors import IntegrityError
from edgec.deploy.http import WAITS_S, HttpConnection, PassingError
from edgec.deploy.modelpack import INDEX_TYPE, MEDIA_TYPE, Blob
from edgec.deploy.reference import DIGEST, Reference

if TYPE_CHECKING:
    from requests import Response

__all__ = ["CHUNK_BYTES", "Repository"]

CHUNK_BYTES = 8 << 20
"""Sent at once: what a cut connection costs at most. Registries that store on S3 want 5 MiB or more."""
MAX_MANIFEST_BYTES = 4 << 20
"""As much as the OCI distribution specification has registries take."""

_WRITTEN = (HTTPStatus.CREATED, HTTPStatus.ACCEPTED, HTTPStatus.NO_CONTENT)
_LOST = (HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND, HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE)
"""What registries answer where an upload cannot be gone on with."""
_NO_CHUNKS = (
    HTTPStatus.NOT_FOUND,
    HTTPStatus.METHOD_NOT_ALLOWED,
    HTTPStatus.NOT_IMPLEMENTED,
    HTTPStatus.BAD_GATEWAY,
)
"""What registries, and proxies before them, answer to a PATCH that they do not know."""


class Repository:
    """One repository of a registry; a context manager, so that connections are closed.

    Args:
        reference: Where it is.
        insecure: Speak HTTP without TLS; to this machine that is done anyway.
        waits_s: Between attempts.

    Raises:
        MissingDependencyError: oras is not installed.
    """

    def __init__(self, reference: Reference, *, insecure: bool = False, waits_s: tuple[float, ...] = WAITS_S) -> None:
        self.reference = reference
        self._connection = HttpConnection(reference, insecure=insecure, waits_s=waits_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends all connections."""
        self._connection.close()

    def resolve(self) -> str:
        """The digest of what the reference names now. It is a HEAD: it costs the registry next to nothing.

        Raises:
            TransportError: The registry cannot be reached, refuses, or has no such tag.
        """
        if self.reference.digest:
            return self.reference.digest
        response = self._connection.persist(lambda: self._ask("HEAD", self.reference))
        digest = response.headers.get("Docker-Content-Digest", "")
        return digest if re.fullmatch(DIGEST, digest) else f"sha256:{digest_bytes(self.manifest())}"

    def manifest(self, digest: str | None = None) -> bytes:
        """The manifest, or index, that the reference names; or the one with a digest.

        Raises:
            IntegrityError: It is not what its digest says.
            TransportError: See `resolve`.
        """
        reference = self.reference if digest is None else self.reference.pinned(digest)
        return self._connection.persist(lambda: self._manifest(reference))

    def put_manifest(self, data: bytes, *, member: bool = False, media_type: str = MEDIA_TYPE) -> None:
        """Stores a manifest or an index under the reference's tag; a member of a family, under its digest alone.

        Raises:
            TransportError: See `resolve`.
        """
        name = f"sha256:{digest_bytes(data)}" if member else self.reference.tag
        path, headers = f"manifests/{name}", {"Content-Type": media_type}
        self._connection.persist(
            lambda: self._connection.send("PUT", path, headers=headers, data=data, expect=_WRITTEN)
        )

    def fetch(self, blob: Blob, part: Path) -> int:
        """Receives a blob into a file, from where an earlier attempt ended.

        Args:
            blob: What to receive.
            part: The file, or the beginning of it.

        Returns:
            Bytes received now.

        Raises:
            IntegrityError: The registry sends something else; the file is removed.
            TransportError: It cannot be reached; the file stays, for the next attempt.
        """
        resumed = part.exists() and part.stat().st_size > 0
        download = _Download(connection=self._connection, blob=blob, part=part)
        if self._connection.persist(download.go_on, lambda: download.furthest) == blob.sha256:
            return download.received
        part.unlink()
        if resumed:  # perhaps what lay there was the fault
            return download.received + self.fetch(blob, part)
        raise IntegrityError(
            f"'{self.reference.pinned(blob.digest)}': the registry sends something else: its SHA-256 differs",
            hint="the registry's storage is damaged, or was changed: store the bundle anew",
        )

    def upload(self, blob: Blob, data: bytes) -> bool:
        """Stores a blob, unless the registry has it.

        Returns:
            Whether it had to be sent.

        Raises:
            TransportError: See `resolve`.
        """
        upload = _Upload(connection=self._connection, blob=blob, data=data)
        if self._connection.persist(upload.is_there):
            return False
        self._connection.persist(upload.go_on, lambda: upload.furthest)
        return True

    def _ask(self, method: str, reference: Reference) -> Response:
        path, headers = f"manifests/{reference.target}", {"Accept": f"{MEDIA_TYPE}, {INDEX_TYPE}"}
        return self._connection.send(
            method, path, headers=headers, stream=method == "GET", most_bytes=MAX_MANIFEST_BYTES
        )

    def _manifest(self, reference: Reference) -> bytes:
        data = bytearray()
        with self._ask("GET", reference) as response:
            for piece in self._connection.pieces(response):
                data += piece
                if len(data) > MAX_MANIFEST_BYTES:
                    raise IntegrityError(
                        f"'{reference}': more than {MAX_MANIFEST_BYTES} bytes", hint="edgec push stores less"
                    )
            expected = reference.digest or response.headers.get("Docker-Content-Digest")
        if expected and expected != f"sha256:{digest_bytes(bytes(data))}":
            raise IntegrityError(
                f"'{reference}': the registry sends another manifest: its SHA-256 is not {expected}",
                hint="the registry's storage is damaged, or was changed: store the bundle anew",
            )
        return bytes(data)


@dataclass(kw_only=True)
class _Download:
    """A blob on its way to us.

    Attributes:
        received: Bytes that came, some of them again where a registry cannot go on in the middle.
        furthest: Bytes that were there, in any attempt.
    """

    connection: HttpConnection
    blob: Blob
    part: Path
    received: int = 0
    furthest: int = 0

    def go_on(self) -> str:
        """Receives what is missing; the SHA-256 of the whole, taken as it comes in."""
        state = hashlib.sha256()
        with self.part.open("a+b") as file:
            file.seek(0)
            while block := file.read(1 << 20):
                state.update(block)
            have = file.tell()
            if have > self.blob.size:
                return state.hexdigest()
            if have < self.blob.size:
                with self._answer(have) as response:
                    if have and response.status_code != HTTPStatus.PARTIAL_CONTENT:
                        file.truncate(0)
                        state, have = hashlib.sha256(), 0
                    for piece in self.connection.pieces(response):
                        have += len(piece)
                        self.received += len(piece)
                        if have > self.blob.size:
                            return ""
                        file.write(piece)
                        state.update(piece)
                        self.furthest = max(self.furthest, have)
        if have < self.blob.size:
            raise PassingError(f"a blob ended after {have} of {self.blob.size} bytes", hint="try again later")
        return state.hexdigest()

    def _answer(self, have: int) -> Response:
        """The blob from there on, or from the start where the registry cannot."""
        found = (HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT)
        headers = {"Range": f"bytes={have}-"} if have else {}
        path, most_bytes = f"blobs/{self.blob.digest}", self.blob.size
        response = self.connection.send("GET", path, headers=headers, stream=True, most_bytes=most_bytes, expect=found)
        given = response.headers.get("Content-Range", "")
        if response.status_code == HTTPStatus.PARTIAL_CONTENT and not given.startswith(f"bytes {have}-"):
            with response:  # also what is left of an answer whose headers were cut
                raise PassingError(f"the registry sends {given!r}, asked for {have} on", hint="try again later")
        return response


@dataclass(kw_only=True)
class _Upload:
    """A blob on its way to a registry, in chunks that it acknowledges one by one.

    Attributes:
        furthest: Bytes that the registry had, in any attempt.
    """

    connection: HttpConnection
    blob: Blob
    data: bytes
    furthest: int = 0
    _sent: int = 0
    _started: bool = False
    _whole: bool = False
    _location: str | None = None

    def is_there(self) -> bool:
        """Whether the registry has the blob."""
        found = (HTTPStatus.OK, HTTPStatus.NOT_FOUND)
        return self.connection.send("HEAD", f"blobs/{self.blob.digest}", expect=found).ok

    def go_on(self) -> None:
        """Sends what is missing; all at once where the registry has shown that it takes no chunks."""
        if self._started and self.is_there():
            return
        if self._whole or not self._resumes():
            self._begin()
        while len(self.data) - self._sent > CHUNK_BYTES and not self._whole:
            self._send("PATCH", self.data[self._sent : self._sent + CHUNK_BYTES])
        self._send("PUT", self.data[self._sent :])

    def _begin(self) -> None:
        self._sent, self._started, self._location = 0, True, None
        self._place(self.connection.send("POST", "blobs/uploads/", expect=_WRITTEN))

    def _resumes(self) -> bool:
        """Asks how far the registry came; some have forgotten, or cannot go on in the middle of a chunk."""
        if self._location is None:
            return False
        response = self.connection.send("GET", self._location, expect=(*_WRITTEN, *_LOST))
        if response.status_code in _LOST:
            return False
        self._place(response)
        most = min(self._sent + CHUNK_BYTES, len(self.data))  # it cannot have more than it was sent
        self._sent = _stored(response) or 0
        return self._sent <= most

    def _send(self, method: str, chunk: bytes) -> None:
        place, end = self._location or "", self._sent + len(chunk)
        headers = {"Content-Type": "application/octet-stream"}
        if method == "PATCH" or self._sent:
            headers["Content-Range"] = f"{self._sent}-{max(end - 1, 0)}"
        if method == "PUT":
            place += f"{'&' if '?' in place else '?'}digest={self.blob.digest}"
        expect = (*_WRITTEN, *_LOST, *(_NO_CHUNKS if method == "PATCH" else ()))
        response = self.connection.send(method, place, headers=headers, data=chunk, expect=expect)
        if method == "PATCH" and (response.status_code in _NO_CHUNKS or _stored(response) not in (None, end)):
            self._whole = True
            self._begin()
            return
        if response.status_code in _LOST:
            self._location = None
            raise PassingError(f"the registry lost an upload (HTTP {response.status_code})", hint="try again later")
        self._place(response)
        self._sent = end
        self.furthest = max(self.furthest, end)

    def _place(self, response: Response) -> None:
        """Where to go on: relative to where the answer came from, or there again where it does not say."""
        given = response.headers.get("Location")
        if given is not None:
            try:
                self._location = urljoin(response.url, given)
            except ValueError:
                self._location = given  # refused where it is used
        elif self._location is None and response.status_code != HTTPStatus.CREATED:
            raise PassingError("the registry does not say where to send a blob", hint="try again later")


def _stored(response: Response) -> int | None:
    """The bytes of an upload that a registry says it has; None where it does not say."""
    end = re.fullmatch(r"(?:bytes=)?0-([0-9]{1,15})", response.headers.get("Range", ""))
    return None if end is None else int(end[1]) + 1 if int(end[1]) else 0
