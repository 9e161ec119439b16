"""What is measured on a device over SSH: a bundle among its site's versions, and graphs that are sent to it."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

from pydantic import BaseModel, ValidationError

from edgec.core.errors import TransportError
from edgec.deploy.fleet import Device
from edgec.deploy.rollout import Payload
from edgec.deploy.session import Request
from edgec.deploy.ssh import PIECE_BYTES, Connection, CutError, RemoteSession, connect
from edgec.deploy.version import folder_name
from edgec.runtime.timing import Machine, Timing

__all__ = ["Benched", "TimeModel", "bench_there", "with_stopwatch"]

TimeModel: TypeAlias = Callable[[bytes], float]
"""Times a serialised graph, in ms."""
GRAPH_S = 300.0
"""For one graph to be sent and timed."""

_Line = TypeVar("_Line", bound=BaseModel)
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
            command = _shell_line(device, ["bench", folder, *options, "--json"])
            done = await asyncio.wait_for(connection._finished(command), limit_s)  # noqa: SLF001
    except asyncio.TimeoutError as error:
        raise TransportError(f"'{device.address}': not measured within {limit_s:g} s") from error
    except CutError as error:
        raise TransportError(str(error), hint="try again: an upload is resumed") from error
    out, said = (_text(data) for data in (done.stdout, done.stderr))
    if done.exit_status != 0:
        raise connection._failed(done.exit_status, said)  # noqa: SLF001
    notes = tuple(line for line in said.splitlines() if line.startswith("note: "))
    return Benched(text=(out.splitlines() or [""])[-1], notes=notes)


def with_stopwatch(
    device: Device, options: Sequence[str], work: Callable[[Machine, TimeModel], _Result], *, limit_s: float = GRAPH_S
) -> _Result:
    """Does some work in which graphs are timed on a device; it runs in a thread of its own.

    Args:
        device: Where.
        options: Of `edgec targets time`.
        work: Is given what the device is, and what times a graph there.
        limit_s: How long one graph may take.

    Raises:
        TransportError: The device cannot be reached, or could not do it.
    """

    async def run() -> _Result:
        async with connect(device) as connection:
            command = _shell_line(device, ["targets", "time", *options])
            watch = await _Stopwatch.begun(connection, command)
            try:
                machine = await watch.heard(Machine)
                loop = asyncio.get_running_loop()

                def time_ms(model: bytes) -> float:
                    asked = asyncio.wait_for(watch.time_ms(model), limit_s)
                    return asyncio.run_coroutine_threadsafe(asked, loop).result()

                return await asyncio.to_thread(work, machine, time_ms)
            finally:
                watch.end()

    try:
        return asyncio.run(run())
    except asyncio.TimeoutError as error:
        raise TransportError(f"'{device.address}': a graph was not timed within {limit_s:g} s") from error
    except CutError as error:
        raise TransportError(str(error), hint="try again, from the beginning") from error


def _shell_line(device: Device, words: Sequence[str]) -> str:
    """The shell's line that finds edgec on a device and runs a command."""
    call = shlex.join(words)
    if device.python:
        return f"exec {shlex.quote(device.python)} -m edgec {call}"
    own = shlex.quote(f"{device.address.path}/venv/bin/python")
    return (
        f"if command -v edgec >/dev/null; then exec edgec {call}; "
        f"elif [ -x {own} ]; then exec {own} -m edgec {call}; else exit 127; fi"
    )


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


def _text(data: bytes | str | None) -> str:
    return data.decode(errors="replace") if isinstance(data, bytes) else data or ""


class _Stopwatch(RemoteSession):
    """The same wire as a site's session, with `edgec targets time` at its other end."""

    @classmethod
    async def begun(cls, connection: Connection, command: str) -> _Stopwatch:
        """Starts the other end."""
        try:
            process = await connection._connection.create_process(command, encoding=None)  # noqa: SLF001
        except (connection._ssh.Error, OSError) as error:  # noqa: SLF001
            raise CutError(f"'{connection.device.address}': {error}") from error
        return cls(process, connection)

    def end(self) -> None:
        """Ends the other end."""
        self._process.close()

    async def time_ms(self, model: bytes) -> float:
        """Has a graph timed."""
        try:
            await self._send(b"%d\n" % len(model))
            for start in range(0, len(model), PIECE_BYTES):
                await self._send(model[start : start + PIECE_BYTES])
        except CutError as error:
            raise await self._ended() from error
        return (await self.heard(Timing)).ms

    async def heard(self, kind: type[_Line]) -> _Line:
        """The next line."""
        try:
            line = await self._process.stdout.readuntil(b"\n")
            return kind.model_validate_json(line)
        except (asyncio.IncompleteReadError, self._connection._ssh.Error, OSError) as error:  # noqa: SLF001
            raise await self._ended() from error
        except ValidationError as error:
            raise TransportError(
                "the device answers what is no answer", hint="same edgec on both sides? a shell that prints at login?"
            ) from error
