"""`edgec deploy`: a bundle to devices over SSH."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from edgec.cli.say import say
from edgec.cli.trust import find_trust, require_signed, signed_by
from edgec.core.errors import ConfigError, TransportError

if TYPE_CHECKING:
    from rich.console import Console

    from edgec.deploy.address import Address
    from edgec.deploy.fleet import Device
    from edgec.deploy.rollout import Outcome, Payload, Progress
    from edgec.deploy.ssh import Connection

__all__ = ["ask_each", "command", "destinations", "find_devices", "require_none_failed"]

Command = TypeVar("Command", bound=Callable[..., None])


def destinations(function: Command) -> Command:
    """The arguments that say which devices are meant; `find_devices` reads them."""
    for option in reversed(
        (
            click.argument("urls", metavar="[ssh://USER@HOST/PATH]...", nargs=-1),
            click.option("--fleet", type=click.Path(path_type=Path), metavar="FILE", help="Devices, as fleet.toml."),
            click.option("--only", multiple=True, metavar="NAME", help="Devices with this name or label; repeatable."),
            click.option(
                "--identity",
                type=click.Path(path_type=Path),
                metavar="FILE",
                help="Private key. Default: agent, ~/.ssh.",
            ),
            click.option(
                "--known-hosts", type=click.Path(path_type=Path), metavar="FILE", help="Default: ~/.ssh/known_hosts."
            ),
            click.option("--python", metavar="PATH", help="The device's Python in which edgec is installed."),
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
    ):
        function = option(function)
    return function


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

    A device needs sshd and edgec's base install. It verifies the upload and replays the golden images; only then
    ROOT/current is switched, in one step. A device that fails keeps its old version.
    """
    import asyncio

    from edgec.deploy.rollout import Order, Payload, Plan, roll_out

    restart = restart or (f"systemctl --user restart {_unit(service)}" if service else None)
    devices = find_devices(urls, **where, restart=restart, health=health)
    require_signed(bundle, find_trust(key, certificate))
    payload = Payload.of(bundle)
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


def _json(payload: Payload, outcomes: Sequence[Outcome]) -> str:
    version = payload.version
    rows = [asdict(outcome) | {"result": outcome.result.value} for outcome in outcomes]
    return json.dumps({"digest": version.digest, "name": version.name, "release": version.release, "devices": rows})


def _print_table(payload: Payload, outcomes: Sequence[Outcome]) -> None:
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
    console.print(f"{payload.version.name} {payload.version.digest[:16]}: {summary}", markup=False, soft_wrap=True)
