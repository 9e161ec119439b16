"""A connection to a client, with bounds on what uvicorn leaves open: headers, answers nobody takes, connections."""

from __future__ import annotations

import asyncio
import resource
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol, cast

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from edgec.serve.rounds import Rounds

__all__ = ["HEAD_BYTES", "Connection", "Limits", "open_files"]

HEAD_BYTES = 16 << 10
"""Most bytes of a request's line and headers."""
_PIECE_BYTES = 1 << 10
"""A head is parsed in such pieces: what is wrong with it is met before much was parsed."""
_HEAD_END = b"\r\n\r\n"
_COSTLY_BYTES = 32 << 10
"""Of a body that take as long as a small request."""
_AHEAD_BYTES = 1 << 20
"""Of requests that a client sends before the one before them is answered; more end its connection."""
_OTHER_FILES = 64
"""Descriptors that are left to all but connections."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a client may take of a connection.

    Attributes:
        connections: Most at once. Beyond them, the one that has been idle for longest makes room, of those of the
            address that has most.
        head_seconds: Longest from the opening of a connection, or from a head's first byte, to the head's last.
        answer_seconds: Longest that a client may take to take an answer.
        rounds: Which address's data are parsed when, of all connections.
    """

    connections: int
    head_seconds: float
    answer_seconds: float
    rounds: Rounds = field(default_factory=Rounds)


class Place(Protocol):
    """What counts as a connection: one that speaks HTTP, or one whose handshake is not over."""

    transport: asyncio.Transport
    idle_since: float

    @property
    def is_idle(self) -> bool:
        """Whether no request is under way."""
        ...

    @property
    def address(self) -> str:
        """Whose it is."""
        ...


def open_files(wanted: int) -> int:
    """Connections that this process may hold, once it was allowed as many files as the system lets it have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    least = wanted + _OTHER_FILES
    if soft != resource.RLIM_INFINITY and soft < least:
        soft = least if hard == resource.RLIM_INFINITY else min(least, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return wanted if soft == resource.RLIM_INFINITY else max(1, min(wanted, soft - _OTHER_FILES))


def _head_piece(data: bytes) -> int:
    """Bytes to parse next of a head, and none of what may follow it."""
    end = data.find(_HEAD_END, 0, _PIECE_BYTES)
    return _PIECE_BYTES if end < 0 else end + len(_HEAD_END)


class Connection(H11Protocol):
    """uvicorn's HTTP/1.1, bounded; nothing that a client does is worth a line in the log."""

    def __init__(self, *, limits: Limits, **given: Any) -> None:
        super().__init__(**given)
        self._limits = limits
        self._head_timer: asyncio.TimerHandle | None = None
        self._answer_timer: asyncio.TimerHandle | None = None
        self._ahead_bytes = 0
        self.idle_since = self.loop.time()

    @property
    def is_idle(self) -> bool:
        """Whether no request is under way."""
        return self.cycle is None or self.cycle.response_complete

    def connection_made(self, transport: asyncio.BaseTransport) -> None:  # type: ignore[override]
        """Takes its place, and another's where there are too many."""
        super().connection_made(transport)  # pyright: ignore[reportArgumentType]  # TCP's has all of it
        self._expect_head()
        self.take_place(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Lets go of the timers, too."""
        self._forget_head()
        self._forget_answer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parses what came, in its address's turn; until then, no more is taken."""
        cost = 1.0 + len(data) / _COSTLY_BYTES
        if not self._limits.rounds.run(self.address, partial(self._take, data), cost=cost):
            self.transport.pause_reading()

    def _take(self, data: bytes) -> None:
        if not self.flow.read_paused and not self.transport.is_closing():
            self.transport.resume_reading()
        self._parse(data)

    def _parse(self, data: bytes) -> None:
        """A head in pieces and against the clock."""
        if self.conn.their_state is h11.IDLE:
            self._ahead_bytes = 0
        elif self.conn.their_state is h11.DONE:
            self._ahead_bytes += len(data)
            if self._ahead_bytes > _AHEAD_BYTES:
                self.transport.abort()
                return
        while data and not self.transport.is_closing():
            size = len(data) if self.conn.their_state is not h11.IDLE else _head_piece(data)
            piece, data = data[:size], data[size:]
            super().data_received(piece)
            if self._is_chunked:  # refused by every route: parsing chunks of a byte each would take seconds
                self.flow.pause_reading()
                data = b""
        if self.conn.their_state is h11.IDLE:
            self._expect_head()
        else:
            self._forget_head()

    @property
    def _is_chunked(self) -> bool:
        """Whether a body of unknown length comes."""
        return self.conn.their_state is h11.SEND_BODY and any(name == b"transfer-encoding" for name, _ in self.headers)

    def send_400_response(self, msg: str) -> None:
        """Says that this is not HTTP, where that can still be said."""
        with suppress(h11.LocalProtocolError):
            super().send_400_response(msg)
        self.transport.close()

    def on_response_complete(self) -> None:
        """Begins to be idle; a body that was not wanted, or an answer that is not taken, ends the connection."""
        super().on_response_complete()
        self.idle_since = self.loop.time()
        if self.conn.their_state is h11.SEND_BODY:
            self.transport.close()
        if self.transport.is_closing() and self.transport.get_write_buffer_size():
            self._expect_taking()

    def pause_writing(self) -> None:
        """The client takes less than it is sent: not for ever."""
        super().pause_writing()
        self._expect_taking()

    def resume_writing(self) -> None:
        """It took it."""
        self._forget_answer()
        super().resume_writing()

    def timeout_keep_alive_handler(self) -> None:
        """Closes; with an answer that nobody takes, closing would wait for ever."""
        if self.transport.get_write_buffer_size():
            self.transport.abort()
        else:
            super().timeout_keep_alive_handler()

    def _expect_head(self) -> None:
        if self._head_timer is None and not self.transport.is_closing():
            self._head_timer = self.loop.call_later(self._limits.head_seconds, self.transport.abort)

    def _forget_head(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _expect_taking(self) -> None:
        if self._answer_timer is None:
            self._answer_timer = self.loop.call_later(self._limits.answer_seconds, self.transport.abort)

    def _forget_answer(self) -> None:
        if self._answer_timer is not None:
            self._answer_timer.cancel()
            self._answer_timer = None

    def take_place(self, newest: Place) -> None:
        """Among all connections; where there are too many, the one makes room that is idle for longest.

        Of those of the address that has most; the newest itself where all are busy.
        """
        places = cast("set[Place]", self.connections)
        places.add(newest)
        if len(places) <= self._limits.connections:
            return
        held = Counter(other.address for other in places)
        idle = [other for other in places if other is not newest and other.is_idle]
        last = max(idle, key=lambda other: (held[other.address], -other.idle_since), default=newest)
        places.discard(last)  # uvicorn's own bookkeeping follows when its loss is told
        last.transport.abort()

    @property
    def address(self) -> str:
        """Whose it is."""
        return self.client[0] if self.client else ""
