"""What the other side of a conversation may send, and how long it may take."""

from __future__ import annotations

import time
from http import HTTPStatus

__all__ = ["GRACE_S", "LEAST_BYTES_S", "SMALL_BYTES", "Budget"]

LEAST_BYTES_S = 1024
"""Slower conversations are given up."""
SMALL_BYTES = 1 << 20
"""Of an answer whose size nobody knows beforehand: tokens, errors."""
GRACE_S = 60.0
"""How long the other side may be slow or silent, in all; each byte that moves earns a part of it back."""
HEADER_BYTES = 1 << 18
"""For headers, and for answers that say only that more will follow."""


class Budget:
    """What is left of a conversation.

    Attributes:
        body_bytes: Most bytes in the body of an answer that brings what was asked for.
    """

    def __init__(self) -> None:
        self.body_bytes = SMALL_BYTES
        self._bytes = 0
        self._deadline = 0.0

    def begin(self) -> None:
        """A new conversation begins."""
        self._bytes = HEADER_BYTES
        self._deadline = time.monotonic() + GRACE_S

    def expect_body(self, status: int) -> None:
        """The headers are there. In chunks a body is longer on its way.

        A redirect, a refusal and an error are small, however large what was asked for: requests holds them in memory.
        """
        brings = status in (HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT)
        self._bytes = HEADER_BYTES + 2 * (self.body_bytes if brings else SMALL_BYTES)

    @property
    def seconds(self) -> float:
        """What the next step may take.

        Raises:
            TimeoutError: Nothing any more.
        """
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("slower than a conversation may be")
        return left

    def earn(self, count: int) -> None:
        """Bytes moved."""
        self._deadline = min(self._deadline + count / LEAST_BYTES_S, time.monotonic() + GRACE_S)

    def spend(self, count: int) -> None:
        """Bytes came in.

        Raises:
            OSError: More than were expected.
        """
        self.earn(count)
        self._bytes -= count
        if self._bytes < 0:
            raise OSError("more bytes than there should be")
