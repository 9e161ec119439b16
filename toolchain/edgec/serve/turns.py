"""What waits for a thread: each client in its turn, so that one who asks for much delays nobody but itself."""

from __future__ import annotations

from collections import OrderedDict, deque
from threading import Condition
from typing import Generic, TypeVar

__all__ = ["Turns"]

T = TypeVar("T")


class Turns(Generic[T]):
    """A queue that threads put into and take from."""

    def __init__(self) -> None:
        self._clients: OrderedDict[str, deque[T]] = OrderedDict()
        self._count = 0
        self._ended = False
        self._changed = Condition()

    def __len__(self) -> int:
        return self._count

    def put(self, item: T, *, client: str) -> None:
        """Adds an item behind its client's others."""
        with self._changed:
            self._clients.setdefault(client, deque()).append(item)
            self._count += 1
            self._changed.notify()

    def discard(self, item: T, *, client: str) -> None:
        """Takes an item out again, where it still waits."""
        with self._changed:
            items = self._clients.get(client, deque())
            if item in items:
                items.remove(item)
                self._count -= 1
                if not items:
                    del self._clients[client]

    def take(self, most: int) -> list[T]:
        """At least one and at most so many, a client's oldest in each turn; none once the queue has ended."""
        with self._changed:
            while not self._count and not self._ended:
                self._changed.wait()
            taken: list[T] = []
            while self._clients and len(taken) < most and not self._ended:
                client, items = self._clients.popitem(last=False)
                taken.append(items.popleft())
                if items:
                    self._clients[client] = items
            self._count -= len(taken)
            return taken

    def end(self) -> None:
        """Lets go of what waits, and of every thread that takes."""
        with self._changed:
            self._ended = True
            self._clients.clear()
            self._count = 0
            self._changed.notify_all()
