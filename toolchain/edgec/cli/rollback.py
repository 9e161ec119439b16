"""`edgec rollback`: devices back to the version before."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from edgec.cli.devices import ask_each, destinations, find_devices, require_none_failed
from edgec.cli.say import say

if TYPE_CHECKING:
    from edgec.deploy.ssh import Connection

__all__ = ["command"]


@click.command("rollback")
@destinations
@click.option("--reason", default="", metavar="TEXT", help="Reason to note in the devices' history.")
@click.option("--restart", metavar="COMMAND", help="Command to run in the device's folder after the switch.")
def command(
    urls: tuple[str, ...], *, parallel: int, as_json: bool, reason: str, restart: str | None, **where: Any
) -> None:
    """Switch devices back to the version that ran before, after a test there; exit 5 when a device fails."""
    from edgec.deploy.rollout import Order
    from edgec.deploy.ssh import deployer

    devices = find_devices(urls, **where, restart=restart)

    async def go_back(connection: Connection) -> str:
        device = connection.device
        signed = ("--key", str(device.signed_by)) if device.signed_by else ()
        version = await connection.rollback("--by", deployer(), "--reason", reason, *signed)
        if device.restart:
            await connection.command(device.restart, timeout_s=Order().command_s)
        return json.dumps(asdict(version))

    answers, failed = ask_each(devices, go_back, parallel=parallel)
    for name, answer in answers.items():
        version = json.loads(answer)
        if as_json:
            click.echo(json.dumps({"device": name, **version}))
        else:
            say(f"{name}: runs {version['name']} {version['digest'][:16]}")
    require_none_failed(failed, len(devices), hint="edgec status tells what runs there")
