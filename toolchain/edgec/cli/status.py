"""`edgec status`: what runs on devices."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from edgec.cli.devices import ask_each, destinations, find_devices, require_none_failed

if TYPE_CHECKING:
    from edgec.deploy.ssh import Connection

__all__ = ["command"]


@click.command("status")
@destinations
def command(urls: tuple[str, ...], *, parallel: int, as_json: bool, **where: Any) -> None:
    """Show what runs on devices, what ran before and how much space is left; exit 5 when one does not answer.

    With --json, one object a line.
    """
    devices = find_devices(urls, **where)

    async def ask(connection: Connection) -> str:
        return json.dumps(asdict(await connection.status()))

    answers, failed = ask_each(devices, ask, parallel=parallel)
    rows: dict[str, dict[str, Any]] = {name: json.loads(answer) for name, answer in answers.items()}
    failed |= {name: row["fault"] for name, row in rows.items() if row["fault"]}
    if as_json:
        for name, row in rows.items():
            click.echo(json.dumps({"device": name, **row}))
    elif rows:
        _print_table(rows)
    require_none_failed(failed, len(devices), hint="is the device on, and edgec installed there?")


def _print_table(rows: dict[str, dict[str, Any]]) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from edgec.cli.console import Terminal

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for column in ("device", "runs", "release", "ran before", "versions", "free"):
        table.add_column(
            column, overflow="fold", justify="right" if column in ("release", "versions", "free") else "left"
        )
    for name, row in rows.items():
        current = row["current"]
        table.add_row(
            Text(name),
            _version(current),
            str(current["release"]) if current else "–",
            _version(row["previous"]),
            str(len(row["versions"])),
            f"{row['free_bytes'] / 1e6:,.0f} MB",
        )
    Terminal().print(table)


def _version(version: dict[str, Any] | None) -> str:
    return f"{version['name']} {version['digest'][:16]}" if version else "–"
