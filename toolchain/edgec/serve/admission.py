"""Who is let in: bounds on requests of one client, on bytes under way and on talk, kept before a body is read.

Where a bound is reached, the body that has not moved for longest makes room, so that those who send slowly on purpose
keep nobody out; only then is the new one refused.
"""

from __future__ import annotations

import asyncio
import ipaddress
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from starlette.types import Scope

from edgec.serve.rounds import Rounds

__all__ = ["SMALL_BYTES", "Admission", "Arrival", "NotAdmittedError", "Pace", "client_of"]

_STALLED_S = 0.1
"""A body that has not moved for so long may make room for another; on a network that works, parts come faster."""
SMALL_BYTES = 64 << 10
"""Bodies of so many bytes are not counted: connections bound them, and large bodies keep none of them out."""
_SHARE = 0.5
"""Of the bytes under way, what one client may take."""
_CLIENTS = 4096
"""Clients whose pace is remembered."""


class NotAdmittedError(Exception):
    """There is no room for a request.

    Attributes:
        status: HTTP's word for it.
    """

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


@dataclass(kw_only=True, eq=False)
class Arrival:
    """A request that was let in; while its body comes, it may have to make room.

    Attributes:
        client: Who sends it.
        size: Bytes that are counted of its body.
        moved: When its last part came.
        drop: Ends its reading; None once the body is there.
    """

    client: str
    size: int
    moved: float = field(default_factory=time.monotonic)
    drop: Callable[[], None] | None = None


class Admission:
    """What is under way in a server; belongs to one event loop.

    Args:
        most_bytes: Bytes of bodies, and of answers that wait for their client, together.
        per_client: Requests of one client.
    """

    def __init__(self, *, most_bytes: int, per_client: int) -> None:
        self._most_bytes = most_bytes
        self._per_client = per_client
        self._bytes: Counter[str] = Counter()
        self._requests: Counter[str] = Counter()
        self._inside: dict[Arrival, None] = {}

    @contextmanager
    def admit(self, client: str, size: int) -> Iterator[Arrival]:
        """Keeps room for a request while the block runs.

        Raises:
            NotAdmittedError: There is none, 429 where the client itself has taken it, else 503.
        """
        while self._requests[client] >= self._per_client:
            if not self._make_room(client):
                raise NotAdmittedError(429, f"{self._per_client} requests of this client are under way")
        size = 0 if size <= SMALL_BYTES else size
        while size and self._bytes[client] + size > self._most_bytes * _SHARE:
            if not self._make_room(client):
                raise NotAdmittedError(429, "too many bytes of this client are under way")
        while size and self._bytes.total() + size > self._most_bytes:
            if not self._make_room(None):
                raise NotAdmittedError(503, "too many bytes are under way")
        arrival = Arrival(client=client, size=size)
        self._inside[arrival] = None
        self._requests[client] += 1
        self._bytes[client] += size
        try:
            yield arrival
        finally:
            self._release(arrival)

    def hold(self, arrival: Arrival, size: int) -> None:
        """Counts the bytes of its answer in place of its body's."""
        if arrival in self._inside:
            self._bytes[arrival.client] += size - arrival.size
            arrival.size = size

    def _make_room(self, client: str | None) -> bool:
        """Whether a body was let go that does not come forward, of that client or of any."""
        stalled = time.monotonic() - _STALLED_S
        slow = [
            arrival
            for arrival in self._inside
            if arrival.drop and arrival.moved < stalled and client in (None, arrival.client)
        ]
        if not slow:
            return False
        slowest = min(slow, key=lambda arrival: arrival.moved)
        self._release(slowest)
        if slowest.drop:
            slowest.drop()
        return True

    def _release(self, arrival: Arrival) -> None:
        if arrival not in self._inside:  # it had to make room
            return
        del self._inside[arrival]
        self._bytes[arrival.client] -= arrival.size
        self._requests[arrival.client] -= 1
        if not self._requests[arrival.client]:
            del self._requests[arrival.client], self._bytes[arrival.client]


class Pace:
    """Slows down those who ask for anything but predictions at a high rate: floods of errors, of metrics, of pages.

    A client may save up so many answers, and gets that many more each second; then each waits for the next.

    Args:
        rounds: Of the loop; those who waited together go on one after the other.
        each_second: Answers.
        saved: Answers.
    """

    def __init__(self, rounds: Rounds, *, each_second: float = 20.0, saved: float = 50.0) -> None:
        self._rounds = rounds
        self._each_second = each_second
        self._saved = saved
        self._known: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait_s(self, client: str, *, now: float, cost: float = 1.0) -> float:
        """How long the next answer has to wait, which counts as so many; never more than a second."""
        left, at = self._known.pop(client, (self._saved, now))
        left = min(self._saved, left + (now - at) * self._each_second)
        wait_s = 0.0 if left >= 1 else min(1.0, (1 - left) / self._each_second)
        self._known[client] = (max(left - cost, -self._each_second), now)
        if len(self._known) > _CLIENTS:
            self._known.popitem(last=False)
        return wait_s

    async def keep(self, client: str, *, cost: float = 1.0) -> None:
        """Waits where the client is too fast."""
        wait_s = self.wait_s(client, now=time.monotonic(), cost=cost)
        if wait_s:
            await asyncio.sleep(wait_s)
            await self._rounds.turn(client, cost=cost)


def client_of(scope: Scope) -> str:
    """Who a request comes from: an address, of IPv6 the network of 64 bits that one customer has."""
    address = (scope.get("client") or ("",))[0]
    if ":" not in address:
        return address
    return str(ipaddress.ip_network((address.partition("%")[0], 64), strict=False))
