"""A device over SSH: the host key checked, a key or an agent to log in, one process there that does what is asked."""

from __future__ import annotations

import asyncio
import getpass
import hashlib
import json
import shlex
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel

from edgec.core.errors import EdgecError, MissingDependencyError, TransportError
from edgec.deploy.fleet import Device
from edgec.deploy.route import logged_in
from edgec.deploy.session import LINE_BYTES, Answer, Request
from edgec.deploy.status import Status
from edgec.deploy.version import Version

if TYPE_CHECKING:
    import asyncssh

__all__ = ["ASK_S", "PIECE_BYTES", "Connection", "CutError", "Dialogue", "RemoteSession", "connect", "deployer"]

CONNECT_S = 15.0
"""For each login, and for last words."""
KEEPALIVE_S = 5.0
LOCK_WAIT_S = 10.0
"""For a session whose connection was cut: it ends when it has finished what it was doing."""
PIECE_BYTES = 1 << 16
"""Sent, or read, at a time."""
SAID_BYTES = 8 << 20
"""Most that a command may say: a long history."""
ASK_S = 600.0
"""For a question, such as a status or a rollback with its smoke test."""

_SHELL_SIGNAL = 128
"""A shell's exit status for a program that a signal ended is this and the signal's number."""

LineT = TypeVar("LineT", bound=BaseModel)


class CutError(TransportError):
    """The connection ended in the middle; another one may go on."""


@asynccontextmanager
async def connect(device: Device) -> AsyncIterator[Connection]:
    """Logs in.

    Raises:
        MissingDependencyError: asyncssh is not installed.
        TransportError: Nobody answers, the host's key is not known or another one, or the login is refused.
    """
    ssh = _asyncssh()
    async with logged_in(ssh, device, connect_s=CONNECT_S, keepalive_s=KEEPALIVE_S) as connection:
        yield Connection(ssh, connection, device)


class Connection:
    """A login on a device."""

    def __init__(self, ssh: Any, connection: asyncssh.SSHClientConnection, device: Device) -> None:
        self._ssh = ssh
        self._connection = connection
        self.device = device

    async def edgec(self, *words: str) -> tuple[str, str]:
        """What `edgec WORDS` prints there, on stdout and on stderr.

        Raises:
            TransportError: It failed; with what it said.
        """
        done = await self._finished(self._line(words))
        if done.exit_status != 0 and not done.died_after_its_answer:
            raise self.failure(done.exit_status, done.said)
        return done.out, done.said

    async def site(self, command: str, *options: str) -> str:
        """What `edgec site COMMAND` prints there of this device's site.

        Raises:
            TransportError: As `edgec`.
        """
        out, _ = await self.edgec("site", command, self.device.address.path, *options)
        return out

    async def status(self) -> Status:
        """The site as it is now.

        Raises:
            TransportError: As `edgec`, or what it prints is no status.
        """
        answer = _printed("status", await self.site("status", "--json"))
        if answer.status is None:
            raise TransportError("the device does not tell its status", hint="upgrade edgec on the device")
        return answer.status

    async def rollback(self, *options: str) -> Version:
        """Switches the site back; the version that runs then.

        Raises:
            TransportError: As `edgec`, or what it prints is no version.
        """
        answer = _printed("version", await self.site("rollback", "--json", *options))
        if answer.version is None:
            raise TransportError("the device does not tell what runs", hint="edgec status tells what runs there")
        return answer.version

    async def history(self) -> list[dict[str, Any]]:
        """What was done at the site, an object for each event.

        Raises:
            TransportError: As `edgec`, or what it prints is no history.
        """
        events: list[Any]
        try:
            events = [json.loads(line) for line in (await self.site("history", "--json")).splitlines()]
        except (ValueError, RecursionError):
            events = [None]
        if not all(isinstance(event, dict) for event in events):
            raise TransportError("the device does not tell its history", hint="upgrade edgec on the device")
        return events

    async def command(self, text: str, *, timeout_s: float) -> None:
        """Runs a command in the site's folder.

        Raises:
            TransportError: It did not end well, or not in time.
        """
        place = shlex.quote(self.device.address.path)
        try:
            done = await asyncio.wait_for(self._finished(f"cd {place} && {{ {text}\n}}"), timeout_s)
        except asyncio.TimeoutError as error:
            raise TransportError(f"'{text}' did not end within {timeout_s:g} s") from error
        if done.exit_status != 0:
            said = " ".join((done.said or done.out).split())[-300:]
            raise TransportError(f"'{text}' failed with exit {done.exit_status}" + (f": {said}" if said else ""))

    @asynccontextmanager
    async def session(self) -> AsyncIterator[RemoteSession]:
        """A process there that holds the site's lock.

        Raises:
            TransportError: edgec is not there, or another deployer is.
        """
        options = ("--wait", str(LOCK_WAIT_S), "--by", deployer())
        async with self.dialogue("site", "session", self.device.address.path, *options) as dialogue:
            yield RemoteSession(dialogue, await dialogue.answer())

    @asynccontextmanager
    async def dialogue(self, *words: str) -> AsyncIterator[Dialogue]:
        """`edgec WORDS` there, to be spoken with until the block ends."""
        try:
            process = await self._connection.create_process(self._line(words), encoding=None)
        except (self._ssh.Error, OSError) as error:
            raise CutError(f"'{self.device.address}': {error}") from error
        try:
            yield Dialogue(process, self)
        finally:
            process.close()

    def _line(self, words: Sequence[str]) -> str:
        """The shell's line that finds edgec and runs a command; with `-I`, no module comes from the folder."""
        call = shlex.join(words)
        if self.device.python:
            return f"exec {shlex.quote(self.device.python)} -I -m edgec {call}"
        own = shlex.quote(f"{self.device.address.path}/venv/bin/python")
        return (
            f"if command -v edgec >/dev/null; then exec edgec {call}; "
            f"elif [ -x {own} ]; then exec {own} -I -m edgec {call}; else exit 127; fi"
        )

    async def _finished(self, command: str) -> _Done:
        try:
            process = await self._connection.create_process(command, encoding=None, stdin=self._ssh.DEVNULL)
            try:
                out, said = await asyncio.gather(_all_of(process.stdout), _all_of(process.stderr))
                await process.wait_closed()
            finally:
                process.close()
        except (self._ssh.Error, OSError) as error:
            raise CutError(f"'{self.device.address}': {error}") from error
        return _Done(exit_status=process.exit_status, signal=bool(process.exit_signal), out=out, said=said)

    def failure(self, exit_status: int | None, said: str) -> TransportError:
        """What went wrong with edgec over there."""
        address = self.device.address
        if exit_status == 127 or "No module named" in said:
            python = f"{address.path}/venv"
            return TransportError(
                f"'{address}': edgec is not installed there",
                hint=f"on the device: python3 -m venv {python} && {python}/bin/pip install edgec; or name its python",
            )
        if exit_status is None and not said:
            return CutError(f"'{address}': the connection was lost", hint="try again: an upload is resumed")
        lines = said.splitlines() or ["edgec ended there without a word"]
        named = {word: line for line in lines for word in ("error:", "hint:") if line.startswith(word)}
        message = named.get("error:", lines[-1]).removeprefix("error:").strip()
        return TransportError(
            f"'{address}': {message}", hint=named.get("hint:", "").removeprefix("hint:").strip() or None
        )


@dataclass(frozen=True, kw_only=True)
class _Done:
    """A command that ended.

    Attributes:
        exit_status: None where a signal ended it, or the connection.
        signal: Whether a signal did.
        out: Of stdout.
        said: Of stderr.
    """

    exit_status: int | None
    signal: bool
    out: str
    said: str

    @property
    def died_after_its_answer(self) -> bool:
        """Whether all was said and done when it crashed, as interpreters do that take leave of a GPU's driver."""
        crashed = self.signal or (self.exit_status or 0) > _SHELL_SIGNAL
        return crashed and self.out.endswith("\n") and "error:" not in self.said


class Dialogue:
    """A process on a device that is written to and answers in lines of JSON."""

    def __init__(self, process: asyncssh.SSHClientProcess[bytes], connection: Connection) -> None:
        self._process = process
        self._connection = connection

    async def send(self, data: bytes) -> None:
        """Writes.

        Raises:
            CutError: The connection ended.
        """
        try:
            self._process.stdin.write(data)
            await self._process.stdin.drain()
        except (_asyncssh().Error, OSError) as error:
            raise CutError("the connection was lost", hint="try again: an upload is resumed") from error

    async def hear(self, kind: type[LineT]) -> LineT:
        """The next line.

        Raises:
            TransportError: It is none of this kind, or the process ended, with what it said.
        """
        try:
            return kind.model_validate_json(await self._process.stdout.readuntil(b"\n"))
        except (asyncio.IncompleteReadError, _asyncssh().Error, OSError) as error:
            raise await self.ending() from error
        except ValueError as error:
            raise TransportError(
                "the device gave no valid answer", hint="same edgec on both sides? a shell that prints at login?"
            ) from error

    async def answer(self) -> Answer:
        """The next line, of a site's session.

        Raises:
            TransportError: As `hear`, or the device could not do what was asked for.
        """
        answer = await self.hear(Answer)
        if answer.error:
            raise TransportError(answer.error.message, hint=answer.error.hint)
        return answer

    async def ending(self) -> EdgecError:
        """Why the process ended."""
        try:
            read = self._process.stderr.read(LINE_BYTES)
            said = (await asyncio.wait_for(read, CONNECT_S)).decode(errors="replace")
            await asyncio.wait_for(self._process.wait_closed(), CONNECT_S)  # its exit code comes behind what it said
        except (_asyncssh().Error, OSError, asyncio.TimeoutError):
            said = ""
        return self._connection.failure(self._process.exit_status, said)


class RemoteSession:
    """`edgec site session` on a device: requests and answers, one at a time.

    Attributes:
        hello: What it said when it held the lock.
    """

    def __init__(self, dialogue: Dialogue, hello: Answer) -> None:
        self._dialogue = dialogue
        self.hello = hello

    async def ask(self, request: Request) -> Answer:
        """Sends a request and waits for its answer.

        Raises:
            TransportError: The device could not do it.
            CutError: The connection ended before the answer.
        """
        await self._dialogue.send(request.model_dump_json(exclude_defaults=True).encode() + b"\n")
        return await self._dialogue.answer()

    async def upload(self, archive: bytes, digest: str, *, needs_bytes: int, sent: Callable[[int], None]) -> int:
        """Sends what of an archive is not there yet; `sent` hears how many of its bytes are.

        Returns:
            Bytes that were there already.

        Raises:
            TransportError: No space.
            CutError: As `ask`.
        """
        part = await self.ask(Request(do="part", digest=digest, needs_bytes=needs_bytes))
        there = part.part_bytes
        if hashlib.sha256(archive[:there]).hexdigest() != part.part_sha256:
            there = 0
        request = Request(do="receive", digest=digest, offset=there, bytes=len(archive) - there)
        await self._dialogue.send(request.model_dump_json(exclude_defaults=True).encode() + b"\n")
        answer = asyncio.ensure_future(self._dialogue.answer())
        try:
            for start in range(there, len(archive), PIECE_BYTES):
                if answer.done():  # the device cannot go on: its disk is full
                    break
                await self._dialogue.send(archive[start : start + PIECE_BYTES])
                sent(min(start + PIECE_BYTES, len(archive)))
            await answer
        except CutError:
            await answer  # tells why, where the device had the time to
            raise
        finally:
            answer.cancel()
        return there


def _printed(field: str, text: str) -> Answer:
    """What the last line says; an empty answer where it is nonsense."""
    try:
        return Answer.model_validate_json(f'{{"{field}": {(text.splitlines() or [""])[-1]}}}')
    except ValueError:
        return Answer()


async def _all_of(stream: Any) -> str:
    """What a process says until it ends.

    Raises:
        TransportError: It does not end.
    """
    data = bytearray()
    while piece := await stream.read(PIECE_BYTES):
        data += piece
        if len(data) > SAID_BYTES:
            raise TransportError(f"the device says more than {SAID_BYTES:,} bytes", hint="look at the device")
    return data.decode(errors="replace")


def deployer() -> str:
    """Who deploys, for the devices' history and their lock."""
    return f"{getpass.getuser()}@{socket.gethostname()}"


def _asyncssh() -> Any:
    try:
        import asyncssh
    except ModuleNotFoundError as error:
        raise MissingDependencyError("asyncssh is not installed", hint="pip install 'edgec[deploy]'") from error
    return asyncssh
