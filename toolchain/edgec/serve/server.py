"""`edgec serve`'s process: uvicorn around the application, and what signals do to it."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import ssl
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import uvicorn

from edgec.core.errors import ConfigError
from edgec.core.heap import give_back_freed
from edgec.serve.app import Service, make_app
from edgec.serve.connection import HEAD_BYTES, Connection, Limits, open_files
from edgec.serve.handshake import Handshake
from edgec.serve.logs import log_config
from edgec.serve.settings import Settings

__all__ = ["serve"]

_BACKLOG = 2048
"""Connections that the kernel holds until they are accepted."""
_ACCEPTED_AT_ONCE = 8
"""In one round of the loop, so that hundreds that come together stop nobody."""
_SWITCH_S = 0.001
"""How long a thread that runs Python may keep the event loop waiting; Python's own is 5 ms."""
_LOG = logging.getLogger("edgec.serve")


def serve(settings: Settings) -> None:
    """Answers requests until SIGTERM or SIGINT, and then those that it has taken; SIGHUP loads the bundle again.

    Raises:
        ConfigError: The address cannot be listened on, or not without a token and TLS; these cannot be used.
        EdgecError: The bundle is damaged, cannot be loaded, or answers differently here.
    """
    _require_guarded(settings)
    service = Service(settings, ended=lambda: server.handle_exit(signal.SIGTERM, None))
    limits = Limits(
        connections=open_files(settings.connections),
        head_seconds=settings.head_seconds,
        answer_seconds=settings.answer_seconds,
        rounds=service.rounds,
    )
    config = uvicorn.Config(
        make_app(service),
        http=partial(Connection, limits=limits),  # pyright: ignore[reportArgumentType]  # it is called as a class is
        h11_max_incomplete_event_size=HEAD_BYTES,
        ssl_certfile=settings.certificate,
        ssl_keyfile=settings.key,
        log_config=log_config(as_json=settings.json_logs),
        access_log=settings.access_log,
        server_header=False,
        timeout_graceful_shutdown=max(1, round(settings.drain_seconds)),
        backlog=_ACCEPTED_AT_ONCE,
        lifespan="on",
        ws="none",
    )
    _require_loadable(config, settings)
    listening = _listen(settings)
    warnings.filterwarnings("ignore", module="PIL")  # of what clients send: each would be kept, and told in the log
    server = _Server(config, service)
    host, port = listening.getsockname()[:2]
    scheme, place = "https" if settings.certificate else "http", f"[{host}]" if ":" in host else host
    _LOG.info("listening on %s://%s:%d (%s)", scheme, place, port, _guard(settings))
    give_back_freed()
    sys.setswitchinterval(_SWITCH_S)
    with listening:
        server.run(sockets=[listening])
    if service.versions.failure is not None:
        raise service.versions.failure


def _guard(settings: Settings) -> str:
    """What stands between the model and a stranger."""
    token = "token" if settings.tokens else "no token"
    tls = "TLS" if settings.certificate else "no TLS"
    whom = "this machine only" if settings.is_local else "everybody who reaches it"
    return f"{token}, {tls}: for {whom}"


def _require_guarded(settings: Settings) -> None:
    """Lets nobody but this machine in without tokens and TLS, unless the person says so."""
    lacking = [name for name, given in (("tokens", settings.tokens), ("TLS", settings.certificate)) if not given]
    if lacking and not settings.is_local and not settings.open:
        raise ConfigError(
            f"{settings.host} is open to other machines, and there is no {' and no '.join(lacking)}",
            hint="give --token-file and --tls-certificate; or --open, where a proxy or the network keeps strangers out",
        )


def _require_loadable(config: uvicorn.Config, settings: Settings) -> None:
    """Loads the certificate now, where what is wrong with it can be said."""
    try:
        config.load()
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"'{settings.certificate}' cannot be used for TLS: {error}",
            hint="expected a certificate and its unencrypted private key, PEM; --tls-key names the key's file",
        ) from error


def _listen(settings: Settings) -> socket.socket:
    try:
        family = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)[0][0]
        listening = socket.create_server((settings.host, settings.port), family=family, backlog=_BACKLOG)
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

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Bounds TLS handshakes, too, in time and in number."""
        loop = asyncio.get_running_loop()
        listen, seconds = loop.create_server, self._service.settings.head_seconds

        async def bounded(
            make: Callable[[], Connection], *, ssl: ssl.SSLContext | None, **given: Any
        ) -> asyncio.AbstractServer:
            return await listen(make if ssl is None else lambda: Handshake(make(), ssl, seconds), **given)

        loop.create_server = bounded  # pyright: ignore[reportAttributeAccessIssue]  # for uvicorn's one call
        await super().startup(sockets)
        for each in sockets or ():
            each.listen(_BACKLOG)  # asyncio takes one number for both

    def _reload(self) -> None:
        task = asyncio.get_running_loop().create_task(self._service.versions.load())
        self._reloading.add(task)
        task.add_done_callback(self._reloading.discard)
