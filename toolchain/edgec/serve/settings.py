"""What the person who starts a server decides."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Settings"]


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
        body_seconds: Longest that a client may take to send it.
        drain_seconds: Longest that requests may take to be answered after SIGTERM.
        watch_seconds: How often the bundle is looked at for a new version; None never.
        unknown: Whether images below the bundle's threshold get the label `unknown`.
        window: Images over which the drift of the predicted classes is told.
        access_log: Whether every request is logged.
        json_logs: Whether log lines are JSON.
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
    body_seconds: float = 30.0
    drain_seconds: float = 30.0
    watch_seconds: float | None = 2.0
    unknown: bool = False
    window: int = 1000
    access_log: bool = False
    json_logs: bool = False

    @property
    def real_path(self) -> Path:
        """Where the bundle is now, links followed: a version stays what it is while it is read."""
        return Path(os.path.realpath(self.bundle))
