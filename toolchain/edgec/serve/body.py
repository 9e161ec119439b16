"""A request's body, with bounds on its size and on the time that a client may take to send it."""

from __future__ import annotations

import asyncio
import time

from starlette.types import Receive, Scope

from edgec.serve.admission import Arrival

__all__ = ["Body", "BodyError", "body_length", "read_body"]

Body = bytes | bytearray

_DIGITS = 15
"""More than any body's length has."""


class BodyError(Exception):
    """The body is not taken, and the connection is of no use any more.

    Attributes:
        status: HTTP's word for it.
    """

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


def body_length(scope: Scope, *, most: int) -> int:
    """The bytes that a request announces, before one of them is read.

    Raises:
        BodyError: It announces more than are taken, does not announce how many, or compresses them.
    """
    length = 0
    for name, value in scope["headers"]:
        if name == b"content-length":
            if len(value) > _DIGITS or int(value) > most:
                raise BodyError(413, f"the body is larger than {most} bytes")
            length = int(value)
        elif name == b"transfer-encoding":
            raise BodyError(411, "the body's length is not announced: expected Content-Length")
        elif name == b"content-encoding" and value != b"identity":
            raise BodyError(415, f"content encoding '{value.decode('latin-1')}': expected none")
    return length


async def read_body(receive: Receive, arrival: Arrival, length: int, *, seconds: float) -> Body:
    """The whole body.

    Args:
        receive: Where its parts come from.
        arrival: Its place among what is under way; told when a part comes.
        length: The bytes that were announced.
        seconds: Time that it may take.

    Raises:
        BodyError: It is slower, larger than it was announced, had to make room for another, or its client went away.
    """
    # As asyncio.timeout does it from Python 3.11 on; wait_for would make a task of each body.
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    ended: list[BodyError] = []

    def end(status: int, text: str) -> None:
        ended.append(BodyError(status, text))
        if task is not None:
            task.cancel()

    timer = loop.call_later(seconds, end, 408, f"the body did not arrive within {seconds:g} s")
    arrival.drop = lambda: end(408, "the body came too slowly while others waited")
    try:
        return await _parts(receive, arrival, length)
    except asyncio.CancelledError as error:
        if ended:
            raise ended[0] from error
        raise
    finally:
        timer.cancel()
        arrival.drop = None


async def _parts(receive: Receive, arrival: Arrival, length: int) -> Body:
    """It grows by each part: to join them at the end would take double the memory, and stop everybody for that long."""
    body: Body = b""
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise BodyError(400, "the client went away")
        part = message.get("body", b"")
        if len(body) + len(part) > length:
            raise BodyError(400, f"the body is larger than the {length} bytes that were announced")
        more = message.get("more_body", False)
        if not body:
            body = bytearray(part) if more else part
        else:
            body += part
        arrival.moved = time.monotonic()
    return body
