"""Bodies: whole, in parts, too large, too slow, or abandoned."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import pytest

from edgec.serve.body import BodyError, read_body


def read(messages: Iterable[dict[str, Any]], *, most: int = 10, seconds: float = 10.0, headers: Any = ()) -> bytes:
    """Reads what arrives; where nothing more arrives, it waits."""
    left = iter(messages)

    async def receive() -> dict[str, Any]:
        for message in left:
            return {"type": "http.request"} | message
        await asyncio.Event().wait()
        raise AssertionError

    return asyncio.run(read_body({"headers": headers}, receive, most=most, seconds=seconds))  # pyright: ignore[reportArgumentType]


def test_parts_are_joined() -> None:
    assert read([{"body": b"ab", "more_body": True}, {"more_body": True}, {"body": b"c"}]) == b"abc"


def test_the_limit_itself_is_taken() -> None:
    assert read([{"body": b"0123456789"}]) == b"0123456789"


@pytest.mark.parametrize(
    ("messages", "headers", "status"),
    [
        ([{"body": b"x" * 11}], (), 413),
        ([{"body": b"x" * 6, "more_body": True}] * 2, (), 413),
        ([], ((b"content-length", b"11"),), 413),
        ([], ((b"content-encoding", b"gzip"),), 415),
        ([{"body": b"x", "more_body": True}, {"type": "http.disconnect"}], (), 400),
    ],
)
def test_what_is_not_taken(messages: Any, headers: Any, status: int) -> None:
    with pytest.raises(BodyError) as caught:
        read(messages, headers=headers)
    assert caught.value.status == status


def test_a_client_that_sends_too_slowly_is_left() -> None:
    with pytest.raises(BodyError, match=r"did not arrive within 0\.01 s") as caught:
        read([{"body": b"x", "more_body": True}], seconds=0.01)
    assert caught.value.status == 408
