"""`edgec history`: what was done on devices."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from edgec.cli.deploy import destinations, find_devices, require_none_failed
from edgec.core.errors import EdgecError

if TYPE_CHECKING:
    from edgec.deploy.ssh import Connection

__all__ = ["command"]


@click.command("history")
@destinations
def command(urls: tuple[str, ...], *, parallel: int, as_json: bool, **where: Any) -> None:
    """Tell what was installed, switched, rolled back and refused on devices: when, by whom and why.

    With --json, one object a line.
    """
    import asyncio

    from edgec.deploy.rollout import on_each

    devices = find_devices(urls, **where)

    async def ask(connection: Connection) -> str:
        return await connection.site("history", *(["--json"] if as_json else []))

    failed: dict[str, str] = {}
    for device, answer in zip(devices, asyncio.run(on_each(devices, ask, parallel=parallel)), strict=True):
        if isinstance(answer, EdgecError):
            failed[device.name] = str(answer)
            continue
        for line in answer.splitlines():
            told = json.dumps({"device": device.name, **json.loads(line)}) if as_json else f"{device.name}: {line}"
            click.echo(told)
    require_none_failed(failed, len(devices), hint="is the device on, and edgec installed there?")
