"""A connection whose TLS handshake is not over: it counts and makes room as other connections do."""

from __future__ import annotations

import asyncio
import ssl
from typing import cast

from edgec.serve.connection import Connection

__all__ = ["Handshake"]


class Handshake(asyncio.Protocol):
    """Takes a connection's place until the client has shown that it speaks TLS.

    asyncio by itself tells nobody of a connection before its handshake is over, so that none of them would be counted.

    Args:
        connection: What the connection becomes.
        context: The server's certificate.
        seconds: Longest that it may take.
    """

    is_idle = True

    def __init__(self, connection: Connection, context: ssl.SSLContext, seconds: float) -> None:
        self._connection = connection
        self._context = context
        self._seconds = seconds
        self._early: list[bytes] = []
        self._task: asyncio.Task[None] | None = None
        self.idle_since = connection.idle_since
        self.address = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begins."""
        if self._task is None:
            self.transport = cast("asyncio.Transport", transport)
            self.address = (transport.get_extra_info("peername") or ("",))[0]
            self._connection.take_place(self)
            self._task = self._connection.loop.create_task(self._shake())

    async def _shake(self) -> None:
        made, connections = self._connection, self._connection.connections
        try:
            transport = await made.loop.start_tls(
                self.transport, self, self._context, server_side=True, ssl_handshake_timeout=self._seconds
            )
        except (OSError, asyncio.TimeoutError):
            transport = None
        connections.discard(self)  # pyright: ignore[reportArgumentType]
        if transport is None or transport.is_closing():
            self.transport.abort()
            return
        transport.set_protocol(made)
        made.connection_made(transport)
        if self._early:
            made.data_received(b"".join(self._early))

    def data_received(self, data: bytes) -> None:
        """Keeps what the client sent with the handshake's end."""
        self._early.append(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """Lets go of its place."""
        del exc
        self._connection.connections.discard(self)  # pyright: ignore[reportArgumentType]

    def shutdown(self) -> None:
        """The server ends."""
        self.transport.abort()
