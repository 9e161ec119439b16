"""A request's body, with bounds on its size and on the time that a client may take to send it."""

from __future__ import annotations

import asyncio

from starlette.types import Receive, Scope

__all__ = ["BodyError", "read_body"]


class BodyError(Exception):
    """The body is not taken, and the connection is of no use any more.

    Attributes:
        status: HTTP's word for it.
    """

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


async def read_body(scope: Scope, receive: Receive, *, most: int, seconds: float) -> bytes:
    """The whole body.

    Args:
        scope: The request.
        receive: Where its parts come from.
        most: Bytes that are taken.
        seconds: Time that it may take.

    Raises:
        BodyError: It is larger or slower, is compressed, or its client went away.
    """
    for name, value in scope["headers"]:
        if name == b"content-length" and int(value) > most:
            raise _too_large(most)
        if name == b"content-encoding" and value != b"identity":
            raise BodyError(415, f"content encoding '{value.decode('latin-1')}': expected none")
    # As asyncio.timeout does it from Python 3.11 on; wait_for would make a task of each body.
    loop, task, late = asyncio.get_running_loop(), asyncio.current_task(), False

    def end() -> None:
        nonlocal late
        late = True
        if task is not None:
            task.cancel()

    timer = loop.call_later(seconds, end)
    try:
        return await _parts(receive, most)
    except asyncio.CancelledError as error:
        if late:
            raise BodyError(408, f"the body did not arrive within {seconds:g} s") from error
        raise
    finally:
        timer.cancel()


async def _parts(receive: Receive, most: int) -> bytes:
    parts, taken, more = [], 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise BodyError(400, "the client went away")
        part, more = message.get("body", b""), message.get("more_body", False)
        taken += len(part)
        if taken > most:
            raise _too_large(most)
        parts.append(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _too_large(most: int) -> BodyError:
    return BodyError(413, f"the body is larger than {most} bytes")
