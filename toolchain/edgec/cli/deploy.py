"""`edgec deploy`: a bundle to devices over SSH."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgec.cli.devices import destinations, find_devices, require_none_failed
from edgec.cli.say import say
from edgec.cli.trust import find_trust, require_signed, signed_by

if TYPE_CHECKING:
    from rich.console import Console

    from edgec.deploy.fleet import Device
    from edgec.deploy.payload import FamilyPayload, Payload
    from edgec.deploy.rollout import Outcome, Progress

__all__ = ["command"]


@click.command("deploy")
@click.argument("bundle", type=click.Path(path_type=Path))
@destinations
@click.option("--dry-run", is_flag=True, help="Say what would be done, and change nothing.")
@click.option(
    "--keep",
    type=click.IntRange(min=1),
    metavar="N",
    default=3,
    show_default=True,
    help="How many versions to keep installed.",
)
@click.option(
    "--canary",
    metavar="SHARE",
    default=0.0,
    type=click.FloatRange(0, 1),
    help="Share of the devices to deploy to first.",
)
@click.option(
    "--max-failures", type=click.IntRange(min=1), metavar="K", help="Start no other device after so many failures."
)
@click.option("--allow-downgrade", is_flag=True, help="Let a lower release replace a higher one.")
@click.option("--service", metavar="NAME", help="The user's systemd unit to restart after the switch.")
@click.option("--restart", metavar="COMMAND", help="Command to run in the device's folder after the switch.")
@click.option(
    "--health",
    metavar="COMMAND",
    help="Command to run after the restart; if it fails, the device is rolled back.",
)
@signed_by
def command(
    bundle: Path,
    urls: tuple[str, ...],
    *,
    parallel: int,
    as_json: bool,
    dry_run: bool,
    keep: int,
    canary: float,
    max_failures: int | None,
    allow_downgrade: bool,
    service: str | None,
    restart: str | None,
    health: str | None,
    key: Path | None,
    certificate: Path | None,
    **where: Any,
) -> None:
    """Send a BUNDLE to devices over SSH, test it there, and switch it on; exit 5 when a device fails.

    Of a family, each device gets the member that was built for its target, as the fleet file names it.

    A device needs sshd and edgec's base install. It verifies the upload and replays the golden images; only then
    ROOT/current is switched, in one step. A device that fails keeps its old version.
    """
    import asyncio

    from edgec.deploy.payload import read_payload
    from edgec.deploy.rollout import Order, Plan, roll_out

    restart = restart or (f"systemctl --user restart {_unit(service)}" if service else None)
    devices = find_devices(urls, **where, restart=restart, health=health)
    require_signed(bundle, find_trust(key, certificate))
    payload = read_payload(bundle)
    order = Order(keep=keep, allow_downgrade=allow_downgrade, dry_run=dry_run)
    plan = Plan(canary=canary, parallel=parallel, max_failures=max_failures)
    with _progress(devices) as progress:
        outcomes = asyncio.run(roll_out(payload, devices, order, plan, progress=progress))
    if as_json:
        click.echo(_json(payload, outcomes))
    else:
        _print_table(payload, outcomes)
    failed = {outcome.device: _reason(outcome) for outcome in outcomes if outcome.result.is_failure}
    require_none_failed(failed, len(outcomes), hint="mend what each line above names, and deploy again")


def _unit(name: str) -> str:
    import shlex

    return shlex.quote(name)


def _reason(outcome: Outcome) -> str:
    return f"{outcome.reason} ({outcome.hint})" if outcome.hint else outcome.reason


@contextmanager
def _progress(devices: Sequence[Device]) -> Iterator[Progress]:
    """A live table on a terminal; elsewhere a line when a device does something else."""
    from edgec.cli.console import Terminal

    console = Terminal(stderr=True)
    if console.is_terminal:
        with _live(console, devices) as progress:
            yield progress
        return
    last: dict[str, str] = {}

    def tell(device: str, step: str, share: float | None) -> None:
        del share
        if last.get(device) != step:
            last[device] = step
            say(f"{device}: {step}", err=True)

    yield tell


@contextmanager
def _live(console: Console, devices: Sequence[Device]) -> Iterator[Progress]:
    from rich.progress import BarColumn, SpinnerColumn, TextColumn
    from rich.progress import Progress as Bars

    columns = (SpinnerColumn(), TextColumn("{task.fields[device]}", markup=False), BarColumn(bar_width=20))
    with Bars(*columns, TextColumn("{task.description}", markup=False), console=console, transient=True) as bars:
        tasks = {device.name: bars.add_task("waiting", total=1.0, device=device.name) for device in devices}

        def tell(device: str, step: str, share: float | None) -> None:
            bars.update(tasks[device], description=step, completed=share)

        yield tell


def _json(payload: Payload | FamilyPayload, outcomes: Sequence[Outcome]) -> str:
    version = payload.version
    rows = [asdict(outcome) | {"result": outcome.result.value} for outcome in outcomes]
    return json.dumps({"digest": payload.digest, "name": version.name, "release": version.release, "devices": rows})


def _print_table(payload: Payload | FamilyPayload, outcomes: Sequence[Outcome]) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from edgec.cli.console import Terminal

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for column in ("device", "result", "ran before", "sent"):
        table.add_column(column, overflow="fold", justify="right" if column == "sent" else "left")
    for outcome in outcomes:
        style = "red" if outcome.result.is_failure else "green"
        sent = f"{outcome.sent_bytes:,} B" if outcome.sent_bytes else "–"
        table.add_row(Text(outcome.device), Text(outcome.result.value, style=style), outcome.before or "–", sent)
    counts = Counter(outcome.result.value for outcome in outcomes)
    summary = ", ".join(f"{count} {result}" for result, count in sorted(counts.items()))
    console = Terminal()
    console.print(table)
    console.print(f"{payload.version.name} {payload.digest[:16]}: {summary}", markup=False, soft_wrap=True)
