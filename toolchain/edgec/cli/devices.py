"""Which devices a command line means, how to log in there, and what each of them answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgec.cli.options import together
from edgec.cli.say import say
from edgec.core.errors import ConfigError, TransportError

if TYPE_CHECKING:
    from edgec.deploy.address import Address
    from edgec.deploy.fleet import Device
    from edgec.deploy.ssh import Connection

__all__ = [
    "HERE",
    "ask_each",
    "destinations",
    "find_device",
    "find_devices",
    "login_options",
    "one_device",
    "require_none_failed",
]

HERE = "host"
"""The name of the machine that edgec runs on."""
_FILE = click.Path(path_type=Path)
login_options = together(
    click.option("--identity", type=_FILE, metavar="FILE", help="Private key. Default: agent, ~/.ssh."),
    click.option("--known-hosts", type=_FILE, metavar="FILE", help="Default: ~/.ssh/known_hosts."),
    click.option("--python", metavar="PATH", help="The device's Python in which edgec is installed."),
)
"""How to log in on a device."""

destinations = together(
    click.argument("urls", metavar="[ssh://USER@HOST/PATH]...", nargs=-1),
    click.option("--fleet", type=_FILE, metavar="FILE", help="Devices, as fleet.toml."),
    click.option("--only", multiple=True, metavar="NAME", help="Devices with this name or label; repeatable."),
    login_options,
    click.option(
        "--parallel",
        type=click.IntRange(1, 256),
        metavar="N",
        default=8,
        show_default=True,
        help="Devices at a time.",
    ),
    click.option("--json", "as_json", is_flag=True, help="Print one JSON object."),
)
"""The arguments that say which devices are meant; `find_devices` reads them."""

one_device = together(
    click.option(
        "--device",
        metavar="ssh://USER@HOST/PATH",
        default=HERE,
        show_default=True,
        help="Where to measure; `host` is this machine.",
    ),
    login_options,
)
"""The options that say on which machine to measure; `find_device` reads them."""


def find_device(url: str, login: dict[str, Any]) -> Device | None:
    """The device that a command line names; None for this machine.

    Raises:
        ConfigError: A bad URL, or a login without a device.
    """
    if url != HERE:
        return find_devices([url], fleet=None, only=(), **login)[0]
    if any(login.values()):
        raise ConfigError(
            "--identity, --known-hosts and --python are for a device",
            hint="name it with --device ssh://USER@HOST/PATH",
        )
    return None


def find_devices(
    urls: Sequence[str],
    *,
    fleet: Path | None,
    only: Sequence[str],
    identity: Path | None,
    known_hosts: Path | None,
    python: str | None,
    **commands: str | None,
) -> tuple[Device, ...]:
    """The devices that a command line names; its options count more than the fleet's file.

    Raises:
        ConfigError: No device, a bad URL, or a fault in the file.
    """
    from edgec.deploy.address import Address
    from edgec.deploy.fleet import Device, chosen, read_fleet

    if bool(urls) == (fleet is not None):
        raise ConfigError("no device is named", hint="name ssh:// URLs, or a file with --fleet; one of the two")
    if urls and only:
        raise ConfigError("--only chooses among the devices of a file", hint="give --fleet")
    given = {"key": identity, "known_hosts": known_hosts, "python": python, **commands}
    update = {name: value for name, value in given.items() if value is not None}
    addresses = list({str(address): address for address in map(Address.parse, urls)}.values())  # each once
    named = [Device(name=_short(address, addresses), url=str(address)) for address in addresses]
    found = chosen(read_fleet(fleet), only) if fleet else named
    return tuple(device.model_copy(update=update) for device in found)


def _short(address: Address, all_of_them: Sequence[Address]) -> str:
    """Host and port, or the whole URL where there are several sites at one."""
    sites = sum((other.host, other.port) == (address.host, address.port) for other in all_of_them)
    return (
        str(address).removeprefix("ssh://") if sites > 1 else f"{address.host}{f':{address.port}' * bool(address.port)}"
    )


def ask_each(
    devices: Sequence[Device], ask: Callable[[Connection], Awaitable[str]], *, parallel: int
) -> tuple[dict[str, str], dict[str, str]]:
    """What each device answers, and of the others why they do not, by their names."""
    import asyncio

    from edgec.deploy.rollout import on_each

    told = dict(
        zip((device.name for device in devices), asyncio.run(on_each(devices, ask, parallel=parallel)), strict=True)
    )
    answers = {name: answer for name, answer in told.items() if isinstance(answer, str)}
    return answers, {name: str(error) for name, error in told.items() if name not in answers}


def require_none_failed(failed: dict[str, str], total: int, *, hint: str) -> None:
    """Raises the error that ends a command with exit 5 where devices failed; each by its name, with the reason."""
    for name, reason in failed.items():
        say(f"failed: {name}: {reason}", err=True)
    if failed:
        names = ", ".join(failed)
        raise TransportError(f"{len(failed)} of {total} devices failed: {names}", hint=hint)
