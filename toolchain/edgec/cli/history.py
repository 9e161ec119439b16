"""`edgec history`: what was done on devices."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from edgec.cli.devices import ask_each, destinations, find_devices, require_none_failed
from edgec.cli.say import say

if TYPE_CHECKING:
    from edgec.deploy.ssh import Connection

__all__ = ["command"]


@click.command("history")
@destinations
def command(urls: tuple[str, ...], *, parallel: int, as_json: bool, **where: Any) -> None:
    """Show what was installed, switched, rolled back and refused on devices: when, by whom and why.

    With --json, one object a line.
    """
    devices = find_devices(urls, **where)

    async def ask(connection: Connection) -> str:
        if as_json:
            return "\n".join(json.dumps(event) for event in await connection.history())
        return await connection.site("history")

    answers, failed = ask_each(devices, ask, parallel=parallel)
    for name, answer in answers.items():
        for line in answer.splitlines():
            say(json.dumps({"device": name, **json.loads(line)}) if as_json else f"{name}: {line}")
    require_none_failed(failed, len(devices), hint="is the device on, and edgec installed there?")
