"""HTTP conversations that end, whatever the other side sends: so many bytes, and at least so many a second.

The limit lies under requests, on the socket: headers, bodies of errors and redirects, what oras reads and what
nobody reads are counted alike.
"""

from __future__ import annotations

import http.client
import io
import socket
from typing import TYPE_CHECKING, Any

from requests.adapters import HTTPAdapter
from requests.exceptions import ContentDecodingError
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection

from edgec.deploy.budget import GRACE_S, Budget

if TYPE_CHECKING:
    from requests import PreparedRequest, Response

__all__ = ["bounded_adapter"]

CONNECT_S = 10.0
"""Until a connection stands."""


class _Reader(io.RawIOBase):
    """A socket's bytes, within a budget."""

    def __init__(self, raw: Any, sock: socket.socket, budget: Budget) -> None:
        self._raw, self._sock, self._budget = raw, sock, budget

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._sock.settimeout(self._budget.seconds)
        count = self._raw.readinto(buffer)
        self._budget.spend(count or 0)
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


def bounded_adapter(budget: Budget) -> HTTPAdapter:
    """What carries a session's conversations, one at a time, within a budget that each of them begins anew."""

    class Answer(http.client.HTTPResponse):
        def __init__(self, sock: socket.socket, *arguments: Any, **options: Any) -> None:
            super().__init__(sock, *arguments, **options)
            self.fp = io.BufferedReader(_Reader(self.fp.detach(), sock, budget))

        def begin(self) -> None:
            super().begin()
            budget.expect_body(self.status)

    class Timed(HTTPConnection):
        response_class = Answer

        def request(self, *arguments: Any, **options: Any) -> None:
            budget.begin()
            super().request(*arguments, **options)

        def send(self, data: Any) -> None:
            if self.sock is not None:
                self.sock.settimeout(budget.seconds)
            super().send(data)
            budget.earn(len(data))

    class TimedTLS(Timed, HTTPSConnection):
        pass

    class Pool(HTTPConnectionPool):
        ConnectionCls: Any = Timed

    class PoolTLS(HTTPSConnectionPool):
        ConnectionCls: Any = TimedTLS

    pools = {"http": Pool, "https": PoolTLS}

    class Bounded(HTTPAdapter):
        def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
            super().init_poolmanager(*arguments, **options)
            self.poolmanager.pool_classes_by_scheme = pools

        def proxy_manager_for(self, *arguments: Any, **options: Any) -> Any:
            manager = super().proxy_manager_for(*arguments, **options)
            manager.pool_classes_by_scheme = pools
            return manager

        def send(self, request: PreparedRequest, *arguments: Any, **options: Any) -> Response:
            options["timeout"] = (CONNECT_S, GRACE_S)
            response = super().send(request, *arguments, **options)
            if response.headers.get("Content-Encoding", "identity") != "identity":
                response.close()
                raise ContentDecodingError("compressed, asked for plain bytes")
            return response

    return Bounded()
