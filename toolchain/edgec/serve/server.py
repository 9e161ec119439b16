"""`edgec serve`'s process: uvicorn around the application, and what signals do to it."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

from edgec.core.errors import ConfigError
from edgec.serve.app import Service, make_app
from edgec.serve.logs import log_config
from edgec.serve.settings import Settings

__all__ = ["serve"]

_LOG = logging.getLogger("edgec.serve")


def serve(settings: Settings) -> None:
    """Answers requests until SIGTERM or SIGINT, and then those that it has taken; SIGHUP loads the bundle again.

    Raises:
        ConfigError: The address cannot be listened on.
        EdgecError: The bundle is damaged, cannot be loaded, or answers differently here.
    """
    listening = _listen(settings)
    service = Service(settings, ended=lambda: server.handle_exit(signal.SIGTERM, None))
    config = uvicorn.Config(
        make_app(service),
        log_config=log_config(as_json=settings.json_logs),
        access_log=settings.access_log,
        server_header=False,
        timeout_graceful_shutdown=max(1, round(settings.drain_seconds)),
        lifespan="on",
        ws="none",
    )
    server = _Server(config, service)
    host, port = listening.getsockname()[:2]
    _LOG.info("listening on http://%s:%d", f"[{host}]" if ":" in host else host, port)
    with listening:
        server.run(sockets=[listening])
    if service.versions.failure is not None:
        raise service.versions.failure


def _listen(settings: Settings) -> socket.socket:
    try:
        family = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)[0][0]
        listening = socket.create_server((settings.host, settings.port), family=family, backlog=2048)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(
            f"cannot listen on {settings.host}:{settings.port}: {reason}", hint="choose another --host or --port"
        ) from error
    # Headers and body go out as two segments. asyncio sets this only on sockets that name their protocol, and without
    # it the second waits for a delayed acknowledgement of the first: 40 ms for every answer.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening


class _Server(uvicorn.Server):
    """uvicorn with a reload on SIGHUP, and an end on SIGTERM that is no failure."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service
        self._reloading: set[asyncio.Task[bool]] = set()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Unlike uvicorn's own, it does not raise SIGTERM again once all is answered."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        loop.add_signal_handler(signal.SIGHUP, self._reload)
        yield

    def _reload(self) -> None:
        task = asyncio.get_running_loop().create_task(self._service.versions.load())
        self._reloading.add(task)
        task.add_done_callback(self._reloading.discard)
