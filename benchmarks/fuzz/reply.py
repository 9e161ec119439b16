"""What a deployer hears from a device: an answer, a measurement or a time, or an error that says it is none."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from types import SimpleNamespace
from typing import Any, cast

from edgec.bench.from_device import parse_bench
from edgec.core.errors import EdgecError
from edgec.deploy.address import Address
from edgec.deploy.session import Answer
from edgec.deploy.ssh import Connection, Dialogue
from edgec.runtime.timing import Machine, Timing

__all__ = ["INSTRUMENTED", "check", "seeds"]

INSTRUMENTED = ("edgec.deploy.ssh", "edgec.deploy.session", "edgec.deploy.status", "edgec.bench.from_device")
KINDS = (Answer, Machine, Timing)


def check(data: bytes) -> bool:
    """Anything but EdgecError ends a rollout that other devices wait in."""
    heard = asyncio.run(_listen(data))
    with suppress(EdgecError):
        list(parse_bench(data, where="device").measurements())
    return heard


async def _listen(data: bytes) -> bool:
    heard = False
    for kind in KINDS:
        out, said = asyncio.StreamReader(), asyncio.StreamReader()
        for stream in (out, said):
            stream.feed_data(data)
            stream.feed_eof()
        process = SimpleNamespace(stdout=out, stderr=said, exit_status=1, wait_closed=_closed)
        device = SimpleNamespace(address=Address.parse("ssh://host/srv/model"))
        dialogue = Dialogue(cast("Any", process), Connection(None, cast("Any", None), cast("Any", device)))
        with suppress(EdgecError):
            await dialogue.hear(kind)
            heard = True
    return heard


async def _closed() -> None:
    pass


def seeds() -> list[bytes]:
    """An answer, an error, a time."""
    return [Answer().model_dump_json().encode() + b"\n", b'{"error": {"message": "no"}}\n', b'{"number": 1, "ms": 2}\n']
