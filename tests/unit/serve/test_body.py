"""Bodies: whole, in parts, too large, too slow, or abandoned."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import Iterable
from typing import Any

import pytest

from edgec.serve.admission import Arrival
from edgec.serve.body import Body, BodyError, body_length, read_body


def read(messages: Iterable[dict[str, Any]], *, size: int = 10, seconds: float = 10.0, drop: bool = False) -> Body:
    """Reads what arrives; where nothing more arrives, it waits, or has to make room."""
    left, arrival = iter(messages), Arrival(client="", size=size)

    async def receive() -> dict[str, Any]:
        for message in left:
            return {"type": "http.request"} | message
        if drop:
            assert arrival.drop is not None
            arrival.drop()
        await asyncio.Event().wait()
        raise AssertionError

    return asyncio.run(read_body(receive, arrival, size, seconds=seconds))  # pyright: ignore[reportArgumentType]


def test_parts_are_joined() -> None:
    assert read([{"body": b"ab", "more_body": True}, {"more_body": True}, {"body": b"c"}]) == b"abc"


def test_a_large_body_takes_its_own_size_and_no_more() -> None:
    size, part = 16 << 20, 1 << 18
    left = iter(range(size // part - 1, -1, -1))

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": bytes(part), "more_body": next(left) > 0}

    async def most_bytes() -> int:
        tracemalloc.start()
        body = await read_body(receive, Arrival(client="", size=size), size, seconds=60)  # pyright: ignore[reportArgumentType]
        _, found = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert len(body) == size
        return found

    assert asyncio.run(most_bytes()) < 1.3 * size  # a bytearray takes an eighth in advance


def test_the_limit_itself_is_taken() -> None:
    assert body_length({"headers": [(b"content-length", b"10")]}, most=10) == 10
    assert read([{"body": b"0123456789"}]) == b"0123456789"


@pytest.mark.parametrize(
    ("header", "status"),
    [
        ((b"content-length", b"11"), 413),
        ((b"content-length", b"9" * 5000), 413),
        ((b"transfer-encoding", b"chunked"), 411),
        ((b"content-encoding", b"gzip"), 415),
    ],
)
def test_what_is_refused_before_it_is_read(header: tuple[bytes, bytes], status: int) -> None:
    with pytest.raises(BodyError) as caught:
        body_length({"headers": [header]}, most=10)
    assert caught.value.status == status


@pytest.mark.parametrize(
    "messages",
    [
        [{"body": b"x" * 11}],
        [{"body": b"x" * 6, "more_body": True}] * 2,
        [{"body": b"x", "more_body": True}, {"type": "http.disconnect"}],
    ],
)
def test_more_than_was_announced_and_what_breaks_off_are_not_taken(messages: Any) -> None:
    with pytest.raises(BodyError) as caught:
        read(messages)
    assert caught.value.status == 400


def test_a_client_that_sends_too_slowly_is_left() -> None:
    with pytest.raises(BodyError, match=r"did not arrive within 0\.01 s") as caught:
        read([{"body": b"x", "more_body": True}], seconds=0.01)
    assert caught.value.status == 408


def test_a_body_that_has_to_make_room_is_left() -> None:
    with pytest.raises(BodyError, match="came too slowly while others waited") as caught:
        read([{"body": b"x", "more_body": True}], drop=True)
    assert caught.value.status == 408
