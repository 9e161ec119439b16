"""What is measured on a device over SSH: a bundle among its site's versions, and graphs that are sent to it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from statistics import median
from typing import TypeVar

from edgec.core.errors import TransportError, UnsupportedError
from edgec.deploy.fleet import Device
from edgec.deploy.payload import Payload
from edgec.deploy.session import Request
from edgec.deploy.ssh import PIECE_BYTES, Connection, CutError, Dialogue, connect
from edgec.deploy.version import folder_name
from edgec.runtime.timing import Clock, Machine, Order, Timed, Timing

__all__ = ["Benched", "bench_there", "time_in_turns", "with_stopwatch"]

GRAPH_S = 300.0
"""For one graph to be sent and timed."""
TURNS = 3
TURN_S = 0.5

_Result = TypeVar("_Result")


@dataclass(frozen=True, kw_only=True)
class Benched:
    """What `edgec bench` said on the device.

    Attributes:
        text: Its JSON.
        notes: Lines for people.
    """

    text: str
    notes: tuple[str, ...]


async def bench_there(
    payload: Payload, device: Device, options: Sequence[str], *, limit_s: float, tell: Callable[[str], None]
) -> Benched:
    """Runs `edgec bench` on a bundle at a device.

    The bundle is put among the site's versions where it is not there yet, and stays there; what runs is not switched.

    Args:
        payload: The bundle.
        device: Where.
        options: Of `edgec bench`.
        limit_s: How long it may take once the bundle is there.
        tell: Hears what is being done.

    Raises:
        TransportError: The device cannot be reached, or could not do it.
    """
    try:
        async with connect(device) as connection:
            await _require_installed(payload, connection, tell)
            tell("measuring")
            folder = f"{device.address.path}/versions/{folder_name(payload.version.digest)}"
            out, said = await asyncio.wait_for(connection.edgec("bench", folder, *options, "--json"), limit_s)
    except asyncio.TimeoutError as error:
        raise TransportError(f"'{device.address}': not measured within {limit_s:g} s") from error
    except CutError as error:
        raise TransportError(str(error), hint="try again: an upload is resumed") from error
    notes = tuple(line for line in said.splitlines() if line.startswith("note: "))
    return Benched(text=(out.splitlines() or [""])[-1], notes=notes)


def with_stopwatch(
    device: Device, options: Sequence[str], work: Callable[[Machine, Clock], _Result], *, limit_s: float = GRAPH_S
) -> _Result:
    """Does some work in which graphs are timed on a device; it runs in a thread of its own.

    Args:
        device: Where.
        options: Of `edgec targets time`.
        work: Is given what the device is, and what times a graph there.
        limit_s: How long one graph may take.

    Raises:
        TransportError: The device cannot be reached, or could not do it.
        UnsupportedError: A graph does not run there; only where `work` lets it pass.
    """

    async def run() -> _Result:
        async with connect(device) as connection, connection.dialogue("targets", "time", *options) as watch:
            machine = await watch.hear(Machine)
            loop = asyncio.get_running_loop()
            numbers: dict[str, int] = {}

            def time_ms(model: bytes, spill_mb: int) -> float:
                digest = sha256(model).hexdigest()
                size = 0 if digest in numbers else len(model)
                order = Order(number=numbers.setdefault(digest, len(numbers)), size=size, spill_mb=spill_mb)
                asked = asyncio.wait_for(_time_ms(watch, order, model), limit_s)
                return asyncio.run_coroutine_threadsafe(asked, loop).result()

            return await asyncio.to_thread(work, machine, time_ms)

    try:
        return asyncio.run(run())
    except asyncio.TimeoutError as error:
        raise TransportError(f"'{device.address}': a graph was not timed within {limit_s:g} s") from error
    except CutError as error:
        raise TransportError(str(error), hint="try again, from the beginning") from error


def time_in_turns(device: Device, graphs: Sequence[bytes], *, threads: int) -> Timed:
    """Times graphs on a device, one after the other, three times over: so all meet its quiet and its busy moments.

    Args:
        device: Where.
        graphs: Serialised; each is sent once.
        threads: Threads within an operator; 0 leaves it to onnxruntime.

    Raises:
        TransportError: The device cannot be reached, or could not do it.
        UnsupportedError: A graph does not run there.
    """

    def timed(machine: Machine, clock: Clock) -> Timed:
        turns = [[clock(graph, 0) for graph in graphs] for _ in range(TURNS)]
        return Timed(machine, tuple(map(median, zip(*turns, strict=True))))

    return with_stopwatch(device, ["--threads", str(threads), "--seconds", str(TURN_S)], timed)


async def _require_installed(payload: Payload, connection: Connection, tell: Callable[[str], None]) -> None:
    """Puts the bundle among the versions, unless it is there."""
    digest, whole = payload.version.digest, len(payload.archive)
    async with connection.session() as session:
        status = session.hello.status
        if status is None or payload.version not in status.versions:
            tell("uploading")
            needs_bytes = whole + payload.version.size_bytes
            await session.upload(payload.archive, digest, needs_bytes=needs_bytes, sent=lambda _: None)
            await session.ask(Request(do="install", digest=digest))


async def _time_ms(watch: Dialogue, order: Order, model: bytes) -> float:
    """Sends an order, with the graph where the device does not have it yet, and hears what it took."""
    try:
        await watch.send(order.model_dump_json().encode() + b"\n")
        for start in range(0, order.size, PIECE_BYTES):
            await watch.send(model[start : start + PIECE_BYTES])
    except CutError as error:
        raise await watch.ending() from error
    timing = await watch.hear(Timing)
    if timing.ms is None:
        raise UnsupportedError(f"the device cannot run the graph: {timing.error}")
    return timing.ms
