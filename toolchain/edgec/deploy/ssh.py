"""A device over SSH: the host key checked, a key or an agent to log in, one process there that does what is asked."""

from __future__ import annotations

import asyncio
import getpass
import hashlib
import shlex
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from edgec.core.errors import EdgecError, MissingDependencyError, TransportError
from edgec.deploy.fleet import Device
from edgec.deploy.session import LINE_BYTES, Answer, Request

if TYPE_CHECKING:
    import asyncssh

__all__ = ["Connection", "CutError", "RemoteSession", "connect", "deployer"]

CONNECT_S = 15.0
KEEPALIVE_S = 5.0
KEEPALIVES = 3
"""Unanswered ones, after which the device counts as gone."""
LOCK_WAIT_S = 10.0
"""For a session whose connection was cut: it ends when it has finished what it was doing."""
PIECE_BYTES = 1 << 16


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
    address = device.address
    known_hosts = device.known_hosts or Path.home() / ".ssh" / "known_hosts"
    given: dict[str, Any] = {"port": address.port} if address.port else {}
    given |= {"username": address.user} if address.user else {}
    given |= {"client_keys": [str(device.key)]} if device.key else {}
    try:
        connection = await ssh.connect(
            address.host,
            known_hosts=str(known_hosts)
            if known_hosts.exists()
            else b"\n",  # nothing known: an empty value would stand for the default file
            password=None,
            preferred_auth="publickey",
            connect_timeout=CONNECT_S,
            login_timeout=CONNECT_S,
            keepalive_interval=KEEPALIVE_S,
            keepalive_count_max=KEEPALIVES,
            **given,
        )
    except ssh.HostKeyNotVerifiable as error:
        raise await _unverified(ssh, device, known_hosts) from error
    except ssh.PermissionDenied as error:
        raise TransportError(
            f"'{address}': login refused", hint="load a key into ssh-agent, or name one with --identity; no passwords"
        ) from error
    except (ssh.KeyImportError, ssh.KeyEncryptionError) as error:
        raise TransportError(
            f"'{address}': cannot use the key '{device.key}': {error}", hint="for one with a passphrase: ssh-add"
        ) from error
    except (ssh.Error, OSError, asyncio.TimeoutError) as error:
        reason = str(error) or "no answer in time"
        raise TransportError(f"'{address}': {reason}", hint="is the device on, and its sshd running?") from error
    async with connection:
        yield Connection(ssh, connection, device)


async def _unverified(ssh: Any, device: Device, known_hosts: Path) -> TransportError:
    """Why a host's key was not accepted, with its fingerprint for a person to compare."""
    address, port = device.address, device.address.port or 22
    where = f"[{address.host}]:{port}" if port != 22 else address.host
    try:
        key = await asyncio.wait_for(ssh.get_server_host_key(address.host, port), CONNECT_S)
        fingerprint = key.get_fingerprint() if key else "unreadable"
    except (ssh.Error, OSError, asyncio.TimeoutError):
        fingerprint = "unreadable"
    if _has_other_key(ssh, known_hosts, address.host, port):
        return TransportError(
            f"'{address}': the host key is {fingerprint}, not the one in '{known_hosts}'",
            hint=f"somebody may be in between; if the device was set up anew: ssh-keygen -R '{where}' -f {known_hosts}",
        )
    return TransportError(
        f"'{address}': host key {fingerprint} is not in '{known_hosts}'",
        hint=f"compare it on the device, then: ssh-keyscan -p {port} {address.host} >> {known_hosts}",
    )


def _has_other_key(ssh: Any, known_hosts: Path, host: str, port: int) -> bool:
    try:
        return bool(ssh.read_known_hosts(str(known_hosts)).match(host, "", port)[0])
    except (OSError, ValueError):
        return False


class Connection:
    """A login on a device."""

    def __init__(self, ssh: Any, connection: asyncssh.SSHClientConnection, device: Device) -> None:
        self._ssh = ssh
        self._connection = connection
        self.device = device

    async def site(self, *arguments: str) -> str:
        """What `edgec site ARGUMENTS` prints there; the first is the command, and the root follows it.

        Raises:
            TransportError: It failed; with what it said.
        """
        command, *others = arguments
        done = await self._finished(self._locate(command, *others))
        if done.exit_status != 0:
            raise self._failed(int(done.exit_status or 1), _text(done.stderr))
        return _text(done.stdout)

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
            said = " ".join((_text(done.stderr) or _text(done.stdout)).split())[-300:]
            raise TransportError(f"'{text}' failed with exit {done.exit_status}" + (f": {said}" if said else ""))

    @asynccontextmanager
    async def session(self) -> AsyncIterator[RemoteSession]:
        """A process there that holds the site's lock.

        Raises:
            TransportError: edgec is not there, or another deployer is.
        """
        command = self._locate("session", "--wait", str(LOCK_WAIT_S), "--by", deployer())
        try:
            process = await self._connection.create_process(command, encoding=None)
        except (self._ssh.Error, OSError) as error:
            raise CutError(f"'{self.device.address}': {error}") from error
        try:
            yield await RemoteSession.opened(process, self)
        finally:
            process.close()

    def _locate(self, command: str, *arguments: str) -> str:
        """The shell's line that finds edgec and runs one of its site's commands."""
        path = self.device.address.path
        call = shlex.join([command, path, *arguments])
        if self.device.python:
            return f"exec {shlex.quote(self.device.python)} -m edgec site {call}"
        own = shlex.quote(f"{path}/venv/bin/python")
        return (
            f"if command -v edgec >/dev/null; then exec edgec site {call}; "
            f"elif [ -x {own} ]; then exec {own} -m edgec site {call}; else exit 127; fi"
        )

    async def _finished(self, command: str) -> asyncssh.SSHCompletedProcess:
        try:
            return await self._connection.run(command, encoding=None, stdin=self._ssh.DEVNULL)
        except (self._ssh.Error, OSError) as error:
            raise CutError(f"'{self.device.address}': {error}") from error

    def _failed(self, exit_status: int | None, said: str) -> TransportError:
        """What went wrong with edgec over there."""
        address = self.device.address
        if exit_status == 127 or "No module named" in said:
            python = f"{address.path}/venv"
            return TransportError(
                f"'{address}': edgec is not installed there",
                hint=f"on the device: python3 -m venv {python} && {python}/bin/pip install edgec; or name its python",
            )
        if exit_status is None and not said:
            return CutError(f"'{address}': the connection was lost", hint="deploy again: an upload is resumed")
        lines = said.splitlines() or ["edgec ended there without a word"]
        named = {word: line for line in lines for word in ("error:", "hint:") if line.startswith(word)}
        message = named.get("error:", lines[-1]).removeprefix("error:").strip()
        return TransportError(
            f"'{address}': {message}", hint=named.get("hint:", "").removeprefix("hint:").strip() or None
        )


class RemoteSession:
    """`edgec site session` on a device: requests and answers, one at a time."""

    def __init__(self, process: asyncssh.SSHClientProcess[bytes], connection: Connection) -> None:
        self._process = process
        self._connection = connection
        self.hello = Answer()

    @classmethod
    async def opened(cls, process: asyncssh.SSHClientProcess[bytes], connection: Connection) -> RemoteSession:
        """Waits until the lock is held."""
        session = cls(process, connection)
        session.hello = await session._answer()
        return session

    async def ask(self, request: Request) -> Answer:
        """Sends a request and waits for its answer.

        Raises:
            TransportError: The device could not do it.
            CutError: The connection ended before the answer.
        """
        await self._send(request.model_dump_json(exclude_defaults=True).encode() + b"\n")
        return await self._answer()

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
        await self._send(request.model_dump_json(exclude_defaults=True).encode() + b"\n")
        answer = asyncio.ensure_future(self._answer())
        try:
            for start in range(there, len(archive), PIECE_BYTES):
                if answer.done():  # the device cannot go on: its disk is full
                    break
                await self._send(archive[start : start + PIECE_BYTES])
                sent(min(start + PIECE_BYTES, len(archive)))
            await answer
        except CutError:
            await answer  # tells why, where the device had the time to
            raise
        finally:
            answer.cancel()
        return there

    async def _send(self, data: bytes) -> None:
        try:
            self._process.stdin.write(data)
            await self._process.stdin.drain()
        except (_asyncssh().Error, OSError) as error:
            raise CutError("the connection was lost", hint="deploy again: an upload is resumed") from error

    async def _answer(self) -> Answer:
        try:
            line = await self._process.stdout.readuntil(b"\n")
            answer = Answer.model_validate_json(line)
        except (asyncio.IncompleteReadError, _asyncssh().Error, OSError) as error:
            raise await self._ended() from error
        except ValidationError as error:
            raise TransportError(
                "the device answers what is no answer", hint="same edgec on both sides? a shell that prints at login?"
            ) from error
        if answer.error:
            raise TransportError(answer.error.message, hint=answer.error.hint)
        return answer

    async def _ended(self) -> EdgecError:
        """Why there is no answer."""
        try:
            said = (await asyncio.wait_for(self._process.stderr.read(LINE_BYTES), CONNECT_S)).decode(errors="replace")
        except (_asyncssh().Error, OSError, asyncio.TimeoutError):
            said = ""
        return self._connection._failed(self._process.exit_status, said)  # noqa: SLF001


def deployer() -> str:
    """Who deploys, for the devices' history and their lock."""
    return f"{getpass.getuser()}@{socket.gethostname()}"


def _asyncssh() -> Any:
    try:
        import asyncssh
    except ModuleNotFoundError as error:
        raise MissingDependencyError("asyncssh is not installed", hint="pip install 'edgec[deploy]'") from error
    return asyncssh


def _text(data: Any) -> str:
    return data.decode(errors="replace") if isinstance(data, bytes) else str(data or "")
