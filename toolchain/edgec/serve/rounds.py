"""The event loop's time: in each round of the loop a client gets so much of it, and what is beyond waits for the next.

A client with hundreds of requests delays another by a few of them, not by all that came at the same time.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

__all__ = ["Rounds"]

_SHARE = 4.0
"""What a client gets in a round, of small requests."""


class Rounds:
    """Whose turn it is; belongs to one event loop, the one that runs when it is first used."""

    def __init__(self) -> None:
        self._spent: dict[str, float] = {}
        self._waiting: dict[str, deque[tuple[float, Callable[[], None]]]] = {}

    def run(self, client: str, work: Callable[[], None], *, cost: float = 1.0) -> bool:
        """Runs it now where the client has some of this round left, else in a later one, in order; whether it ran now.

        Args:
            client: Whose it is.
            work: What to do.
            cost: How many small requests it counts as. What costs more than a share has a round for itself.
        """
        if not self._spent and not self._waiting:
            asyncio.get_running_loop().call_soon(self._next)
        if client not in self._waiting and self._spent.get(client, 0.0) < _SHARE:
            self._spent[client] = self._spent.get(client, 0.0) + cost
            work()
            return True
        self._waiting.setdefault(client, deque()).append((cost, work))
        return False

    async def turn(self, client: str, *, cost: float = 1.0) -> None:
        """Returns in the round in which the client may go on."""
        mine = asyncio.get_running_loop().create_future()
        if not self.run(client, lambda: None if mine.done() else mine.set_result(None), cost=cost):
            await mine

    def _next(self) -> None:
        """A round: what waits, of each client its share."""
        self._spent.clear()
        if not self._waiting:
            return
        asyncio.get_running_loop().call_soon(self._next)
        for client in list(self._waiting):
            items, spent = self._waiting[client], 0.0
            while items and spent < _SHARE:
                cost, work = items.popleft()
                spent += cost
                work()
            self._spent[client] = spent
            if not items:
                del self._waiting[client]
