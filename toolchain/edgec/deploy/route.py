"""The way to a device: its jump hosts as `~/.ssh/config` has them, one login behind the other, each checked alike.

asyncssh would open the jumps by itself, without our key, our host keys and our deadline, and name the device in what
goes wrong at a jump host.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgec.core.errors import TransportError
from edgec.deploy.fleet import Device

__all__ = ["logged_in"]

CLOSE_S = 2.0
"""For the other side to take leave; then its connection is cut."""
KEEPALIVES = 3
"""Unanswered ones, after which the device counts as gone."""
MAX_JUMPS = 8
_USER_FILES = ("~/.ssh/known_hosts", "~/.ssh/known_hosts2")
_GLOBAL_FILES = ("/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2")
"""Where OpenSSH looks, unless `UserKnownHostsFile` and `GlobalKnownHostsFile` name others."""


@dataclass(frozen=True, kw_only=True)
class _Hop:
    """A machine to log in to.

    Attributes:
        host: Name, address or alias.
        user: None leaves it to the config.
        port: Where the device listens.
        device: The device whose way this is a part of.
        last: Whether it is the device itself.
        connect_s: How long its login may take.
        keepalive_s: Between signs of life.
        options: What asyncssh makes of the config.
    """

    host: str
    user: str | None
    port: int | None
    device: Device
    last: bool
    connect_s: float
    keepalive_s: float
    options: Any = None

    @property
    def given(self) -> dict[str, Any]:
        """What was said of it outside the config."""
        named = {"username": self.user, "port": self.port}
        return {name: value for name, value in named.items() if value}

    @property
    def known_hosts(self) -> list[Path]:
        """The files of host keys that count here, those that are there."""
        if self.device.known_hosts:
            files: Sequence[str | Path] = [self.device.known_hosts]
        else:
            config = self.options.config
            mine = config.get("UserKnownHostsFile", _USER_FILES)
            files = [*mine, *config.get("GlobalKnownHostsFile", _GLOBAL_FILES)]
        return [path for path in (Path(file).expanduser() for file in files) if path.exists()]

    @property
    def own_file(self) -> Path:
        """The file that a new host key belongs to."""
        mine = self.options.config.get("UserKnownHostsFile", _USER_FILES) or _USER_FILES
        return self.device.known_hosts or Path(mine[0]).expanduser()

    @property
    def keys(self) -> dict[str, Any]:
        """The key that was asked for; at a jump host those of the config as well."""
        if not self.device.key:
            return {}
        others = [] if self.last else self.options.config.get("IdentityFile", [])
        return {"client_keys": [str(self.device.key), *map(str, others)]}

    def __str__(self) -> str:
        address = self.device.address
        if self.last:
            return f"'{address}'"
        return f"jump host '{self.host}:{self.options.port}' on the way to '{address}'"


@asynccontextmanager
async def logged_in(ssh: Any, device: Device, *, connect_s: float, keepalive_s: float) -> AsyncIterator[Any]:
    """A connection to a device, over its jump hosts.

    Args:
        ssh: asyncssh.
        device: The device.
        connect_s: How long each login may take.
        keepalive_s: Between signs of life, of which three may be missing.

    Raises:
        TransportError: Of the device, or of a jump host: nobody answers, the host's key is not known or another one,
            or the login is refused.
    """
    address = device.address
    target = _Hop(
        host=address.host,
        user=address.user,
        port=address.port,
        device=device,
        last=True,
        connect_s=connect_s,
        keepalive_s=keepalive_s,
    )
    async with AsyncExitStack() as stack:
        connection = None
        for hop in await _route(ssh, target):
            connection = await _login(ssh, hop, connection)
            stack.push_async_callback(_close, connection)
        yield connection


async def _route(ssh: Any, target: _Hop, depth: int = 0) -> list[_Hop]:
    """The machines to log in to, the target last."""
    address = target.device.address
    try:
        options = await ssh.SSHClientConnectionOptions.construct(
            None, config=(), host=target.host, client_keys=None, **target.given
        )
        jumps = [_parsed(jump) for jump in str(options.tunnel or "").split(",") if jump and jump.lower() != "none"]
    except (ssh.Error, ssh.ConfigParseError, OSError, ValueError) as error:
        raise TransportError(f"'{address}': ~/.ssh/config: {error}", hint="correct the file") from error
    if depth >= MAX_JUMPS:
        raise TransportError(f"'{address}': jump hosts of ~/.ssh/config lead in a circle", hint="see ProxyJump there")
    way: list[_Hop] = []
    for number, (host, user, port) in enumerate(jumps):
        jump = replace(target, host=host, user=user, port=port, last=False, options=None)
        found = await _route(ssh, jump, depth + 1)
        way += found[-1:] if number else found  # only the first jump is reached as its own entry says
    return [*way, replace(target, options=options)]


def _parsed(jump: str) -> tuple[str, str | None, int | None]:
    """Host, user and port of `user@host:port`, IPv6 addresses in brackets."""
    user, _, place = jump.strip().removeprefix("ssh://").rpartition("@")
    if place.startswith("["):
        host, _, port = place[1:].partition("]")
        port = port.removeprefix(":")
    else:
        host, _, port = place.partition(":")
    return host, user or None, int(port) if port else None


async def _login(ssh: Any, hop: _Hop, tunnel: Any) -> Any:
    try:
        return await ssh.connect(
            hop.host,
            tunnel=tunnel,
            known_hosts=[str(path) for path in hop.known_hosts]
            or b"\n",  # nothing known: an empty value would stand for the default file
            password=None,
            preferred_auth="publickey",
            connect_timeout=hop.connect_s,
            login_timeout=hop.connect_s,
            keepalive_interval=hop.keepalive_s,
            keepalive_count_max=KEEPALIVES,
            **hop.given,
            **hop.keys,
        )
    except ssh.HostKeyNotVerifiable as error:
        raise await _unverified(ssh, hop, tunnel) from error
    except ssh.PermissionDenied as error:
        raise TransportError(
            f"{hop}: login refused", hint="load a key into ssh-agent, or name one with --identity; no passwords"
        ) from error
    except (ssh.KeyImportError, ssh.KeyEncryptionError) as error:
        raise TransportError(
            f"{hop}: cannot use the key '{hop.device.key}': {error}", hint="for one with a passphrase: ssh-add"
        ) from error
    except (ssh.Error, OSError, ValueError, asyncio.TimeoutError) as error:
        reason = str(error) or "no answer in time"
        raise TransportError(f"{hop}: {reason}", hint="is it on, and its sshd running?") from error


async def _close(connection: Any) -> None:
    """Takes leave, and does not wait for one who does not."""
    connection.close()
    try:
        await asyncio.wait_for(connection.wait_closed(), CLOSE_S)
    except (asyncio.TimeoutError, OSError):
        connection.abort()


async def _unverified(ssh: Any, hop: _Hop, tunnel: Any) -> TransportError:
    """Why a host's key was not accepted, with its fingerprint for a person to compare."""
    host, port = str(hop.options.host), int(hop.options.port)
    where = f"[{host}]:{port}" if port != 22 else host
    try:
        key = await asyncio.wait_for(ssh.get_server_host_key(hop.host, port, tunnel=tunnel), hop.connect_s)
        fingerprint = key.get_fingerprint() if key else "unreadable"
    except (ssh.Error, OSError, ValueError, asyncio.TimeoutError):
        fingerprint = "unreadable"
    for path in hop.known_hosts:
        if _has_other_key(ssh, path, host, port):
            return TransportError(
                f"{hop}: the host key is {fingerprint}, not the one in '{path}'",
                hint=f"somebody may be in between; if it was set up anew: ssh-keygen -R '{where}' -f {path}",
            )
    return TransportError(
        f"{hop}: host key {fingerprint} is not in '{hop.own_file}'",
        hint=f"compare it on the machine, then: ssh-keyscan -p {port} {host} >> {hop.own_file}",
    )


def _has_other_key(ssh: Any, known_hosts: Path, host: str, port: int) -> bool:
    try:
        return bool(ssh.read_known_hosts(str(known_hosts)).match(host, "", port)[0])
    except (OSError, ValueError):
        return False
