"""What the person who starts a server decides."""

from __future__ import annotations

import ipaddress
import os
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from edgec.package import Trust

__all__ = ["Settings"]

_READER_BYTES = 128 << 20
"""Python, NumPy and Pillow, a body three times, and what is made of JSON, which needs no pixels."""
_BYTES_PER_PIXEL = 16


@dataclass(frozen=True, kw_only=True)
class Settings:
    """A server's settings.

    Attributes:
        bundle: A bundle, folder or archive, or a link to one such as `ROOT/current`.
        name: What clients call the model; None takes the manifest's name as it is when the server starts.
        host: Address to listen on.
        port: Port to listen on; 0 takes a free one.
        workers: Threads that run the model; more than one only where the engine allows it.
        threads: Threads within an operator; None takes the manifest's.
        waiting: Requests that may wait for a worker; those beyond it are refused with 503.
        batch: Most requests that a worker runs together, when they wait already; it never waits for more.
        images: Most images in a request.
        max_body_bytes: Largest body.
        in_flight_bytes: Most bytes of bodies, and of answers that wait for their client, together.
        most_pixels: Largest image.
        json_values: Most values in a request's JSON.
        connections: Most connections at once.
        per_client: Most requests of one client, an address, that are under way; those beyond it are refused with 429.
        head_seconds: Longest that a client may take to send a request's headers.
        body_seconds: Longest that a client may take to send it.
        answer_seconds: Longest that a client may take to take its answer.
        drain_seconds: Longest that requests may take to be answered after SIGTERM.
        watch_seconds: How often the bundle is looked at for a new version; None never.
        unknown: Whether images below the bundle's threshold get the label `unknown`.
        window: Images over which the drift of the predicted classes is told.
        access_log: Whether every request is logged.
        json_logs: Whether log lines are JSON.
        trust: Whose signature each version must have; None asks for none.
        tokens: Those that let in; none lets everybody in.
        certificate: The server's for TLS, PEM, followed by those between it and the authority; None serves plain HTTP.
        key: Its private key, PEM; None where it is in the certificate's file.
        open: Whether others than this machine may be listened to without tokens or without TLS.
    """

    bundle: Path
    name: str | None = None
    host: str = "127.0.0.1"
    port: int = 8000
    workers: int = 1
    threads: int | None = None
    waiting: int = 64
    batch: int = 8
    images: int = 256
    max_body_bytes: int = 16 << 20
    in_flight_bytes: int = 64 << 20
    most_pixels: int = 12_500_000
    json_values: int = 1 << 19
    connections: int = 512
    per_client: int = 32
    head_seconds: float = 10.0
    body_seconds: float = 30.0
    answer_seconds: float = 30.0
    drain_seconds: float = 30.0
    watch_seconds: float | None = 2.0
    unknown: bool = False
    window: int = 1000
    access_log: bool = False
    json_logs: bool = False
    trust: Trust | None = None
    tokens: tuple[str, ...] = field(default=(), repr=False)
    certificate: Path | None = None
    key: Path | None = None
    open: bool = False

    @property
    def reading_bytes(self) -> int:
        """Memory of the process that reads large images: libwebp takes 16 bytes for each pixel, others less."""
        return _READER_BYTES + _BYTES_PER_PIXEL * self.most_pixels

    @property
    def is_local(self) -> bool:
        """Whether nobody but this machine is listened to."""
        with suppress(ValueError):
            return ipaddress.ip_address(self.host).is_loopback
        return self.host == "localhost"

    @property
    def real_path(self) -> Path:
        """Where the bundle is now, links followed: a version stays what it is while it is read."""
        return Path(os.path.realpath(self.bundle))
