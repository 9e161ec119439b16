"""What the deployer on another machine says to a site, and the loop that does it: JSON lines over one connection.

One process on the device holds the lock, receives, installs, tests and switches. When the connection ends it finishes
what it is doing and ends too, and the lock with it. An upload is the bytes behind a `receive` line: they arrive in
order, so what lies on the disk after a cut is the beginning of the archive and can be resumed, and the device needs
sshd and no SFTP server.
"""

from __future__ import annotations

import hashlib
import os
import select
import time
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edgec import __version__
from edgec.core.errors import DataError, EdgecError, IntegrityError, TransportError
from edgec.deploy.disk import require_space, unwritable
from edgec.deploy.site import Site
from edgec.deploy.status import Status
from edgec.deploy.version import Version, folder_name
from edgec.package import Trust, open_bundle
from edgec.package.source import MAX_BYTES

__all__ = ["IDLE_S", "LINE_BYTES", "Answer", "Fault", "Request", "serve_session"]

IDLE_S = 300.0
"""A deployer that says nothing for so long is gone, even if its connection does not end."""
LINE_BYTES = 1 << 20
"""Most bytes of a line."""
LEAST_BYTES_S = 1024
"""A deployer that is slower is gone as well, once `IDLE_S` is used up."""
_PIECE_BYTES = 1 << 18
_ATOMIC_BYTES = select.PIPE_BUF
"""So much goes into a pipe that takes anything at all."""
_ARCHIVE_BYTES = MAX_BYTES + (1 << 20)
"""A bundle and the archive's own directory."""


class _Line(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")  # a newer deployer may say more


class Request(_Line):
    """What is to be done; each kind reads its own fields.

    Attributes:
        do: `status`; `part`: how much of an upload lies there; `receive`: take `bytes` behind its first `offset`;
            `install` the upload; `activate`; `settle`, once commands went well; `rollback`.
        needs_bytes: With `part`: what the upload and the installation will take.
        key: With `install`, `activate` and `rollback`: a PEM file on the device; the version must be signed by it.
        certificate: As `key`, but a PEM file of authorities.
    """

    do: Literal["status", "part", "receive", "install", "activate", "settle", "rollback"]
    digest: Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")] = ""
    offset: int = Field(default=0, ge=0, le=_ARCHIVE_BYTES)
    bytes: int = Field(default=0, ge=0, le=_ARCHIVE_BYTES)
    needs_bytes: int = Field(default=0, ge=0)
    keep: int = Field(default=3, ge=1)
    allow_downgrade: bool = False
    key: Path | None = None
    certificate: Path | None = None
    reason: str = ""


class Fault(_Line):
    """An expected failure on the device."""

    message: str
    hint: str | None = None


class Answer(_Line):
    """One for each request, and one at the start, when the lock is held."""

    edgec: str = __version__
    status: Status | None = None
    version: Version | None = None
    part_bytes: int = 0
    part_sha256: str = ""
    error: Fault | None = None


def serve_session(site: Site, reader: int, writer: int, *, wait_s: float, idle_s: float = IDLE_S) -> None:
    """Holds the site's lock and does what is asked until the other side is gone.

    Args:
        site: The site.
        reader: File descriptor to read from.
        writer: File descriptor to answer to.
        wait_s: How long to wait for the lock.
        idle_s: How long to wait for a request, or for the next bytes of an upload.
    """
    wire = _Wire(reader, writer, idle_s=idle_s)
    with suppress(BrokenPipeError, _GoneError):
        try:
            with site.locked(wait_s=wait_s):
                wire.write(Answer(status=site.status()))
                while line := wire.read_line():
                    wire.write(_answer(site, wire, _request(line)))
        except EdgecError as error:
            wire.write(Answer(error=Fault(message=str(error), hint=error.hint)))


class _GoneError(Exception):
    """The other side ended, or is silent, in the middle of an upload."""


def _request(line: bytes) -> Request:
    try:
        return Request.model_validate_json(line)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise TransportError(f"request refused: {where}: {first['msg']}", hint="upgrade edgec on the device") from error


def _answer(site: Site, wire: _Wire, request: Request) -> Answer:
    if request.do == "receive":
        _receive(site, wire, request)  # a failure ends the session, because what follows is no line
        return Answer()
    try:
        return _do(site, request)
    except EdgecError as error:
        return Answer(error=Fault(message=str(error), hint=error.hint))


def _do(site: Site, request: Request) -> Answer:
    match request.do:
        case "part":
            return _part(site, request)
        case "install":
            _install(site, request)
            return Answer()
        case "activate":
            return Answer(version=_activate(site, request))
        case "settle":
            site.settle()
            return Answer()
        case "rollback":
            return Answer(version=site.rollback(reason=request.reason, to_nothing=True, trust=_trust(request)))
        case _:
            return Answer(status=site.status())


def _trust(request: Request) -> Trust | None:
    wanted = request.key or request.certificate
    return Trust.read(key=request.key, certificate=request.certificate) if wanted else None


def _activate(site: Site, request: Request) -> Version:
    """Switches; of a version that is refused, and never ran, nothing is left."""
    try:
        return site.activate(
            request.digest, keep=request.keep, trust=_trust(request), allow_downgrade=request.allow_downgrade
        )
    except (DataError, IntegrityError):
        site.discard(request.digest)
        raise


def _install(site: Site, request: Request) -> None:
    """Installs the upload, which is of no more use then, whether it was good or not."""
    part = site.incoming(request.digest)
    try:
        _require_digest(part, request.digest)
        site.install(part, trust=_trust(request))
    except (DataError, IntegrityError):
        part.unlink(missing_ok=True)
        raise
    part.unlink(missing_ok=True)


def _require_digest(part: Path, digest: str) -> None:
    found = open_bundle(part).digest
    if found != digest:
        raise IntegrityError(f"received bundle {folder_name(found)}, expected {folder_name(digest)}")


def _part(site: Site, request: Request) -> Answer:
    part = site.incoming(request.digest)
    try:
        with part.open("rb") as file:
            found, size = hashlib.sha256(), 0
            while piece := file.read(_PIECE_BYTES):
                found.update(piece)
                size += len(piece)
    except FileNotFoundError:
        found, size = hashlib.sha256(), 0
    require_space(site.root, max(0, request.needs_bytes - size))
    return Answer(part_bytes=size, part_sha256=found.hexdigest())


def _receive(site: Site, wire: _Wire, request: Request) -> None:
    """Writes the bytes that follow."""
    path = site.incoming(request.digest)
    left = request.bytes
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        with os.fdopen(handle, "wb", buffering=0) as file:
            file.truncate(request.offset)
            file.seek(request.offset)
            while left:
                piece = wire.read_some(min(left, _PIECE_BYTES))
                left -= len(piece)
                while piece:
                    piece = piece[file.write(piece) or 0 :]
    except OSError as error:
        raise unwritable(site.root, error) from error


class _Wire:
    """Lines and bytes over two file descriptors."""

    def __init__(self, reader: int, writer: int, *, idle_s: float) -> None:
        self._reader = reader
        self._writer = writer
        self._idle_s = idle_s
        self._held = b""
        self._deadline = 0.0

    def read_line(self) -> bytes:
        """The next line; empty at the end, or where nobody speaks any more."""
        self._deadline = time.monotonic() + self._idle_s
        while b"\n" not in self._held:
            more = self._more()
            if not more or len(self._held) > LINE_BYTES:
                return b""
            self._held += more
        line, _, self._held = self._held.partition(b"\n")
        return line

    def read_some(self, most: int) -> bytes:
        """Between one and `most` bytes.

        Raises:
            _GoneError: There will be none.
        """
        if not self._held:
            self._held = self._more()
        if not self._held:
            raise _GoneError("the deployer is gone")
        piece, self._held = self._held[:most], self._held[most:]
        return piece

    def write(self, answer: Answer) -> None:
        """Sends a line.

        Raises:
            _GoneError: Nobody takes it.
        """
        data = answer.model_dump_json().encode() + b"\n"
        while data:
            if not select.select([], [self._writer], [], self._idle_s)[1]:
                raise _GoneError("the deployer does not listen")
            data = data[os.write(self._writer, data[:_ATOMIC_BYTES]) :]

    def _more(self) -> bytes:
        """The next bytes; none at the end, or where they come too slowly."""
        left_s = self._deadline - time.monotonic()
        if left_s <= 0 or not select.select([self._reader], [], [], left_s)[0]:
            return b""
        data = os.read(self._reader, _PIECE_BYTES)
        earned = self._deadline + len(data) / LEAST_BYTES_S
        self._deadline = min(earned, time.monotonic() + self._idle_s)
        return data
