"""`edgec targets`: which devices there are profiles for, and what a profile says and why."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgec.cli.devices import find_device, one_device
from edgec.cli.say import say
from edgec.core.errors import UnsupportedError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from edgec.core.target import Source, Target
    from edgec.deploy.fleet import Device
    from edgec.latency.fit.sweep import Fitted
    from edgec.runtime.timing import Clock, Machine

__all__ = ["command"]

_STACKED_BELOW_COLUMNS = 80
"""Narrower than this, aliases stand under the name instead of beside it."""


def _complete(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Names and aliases for the shell."""
    from edgec.core.target import known_targets

    del context, parameter
    names = (name for target in known_targets().values() for name in (target.name, *target.aliases))
    return sorted(name for name in names if name.startswith(incomplete))


@click.group("targets", invoke_without_command=True)
@click.pass_context
def command(ctx: click.Context) -> None:
    """List device profiles, show one, or fit one to a machine."""
    if ctx.invoked_subcommand is None:
        ctx.invoke(list_targets)


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array of whole profiles.")
def list_targets(*, as_json: bool) -> None:
    """List the device profiles that ship with edgec."""
    from edgec.core.target import known_targets

    targets = [target for _, target in sorted(known_targets().items())]
    if as_json:
        click.echo(json.dumps([target.model_dump(mode="json") for target in targets]))
        return
    from edgec.cli.console import Terminal

    console = Terminal()
    console.print(_overview(targets, stacked=console.width < _STACKED_BELOW_COLUMNS))


@command.command("show")
@click.argument("name", metavar="NAME|FILE", shell_complete=_complete)
@click.option("--json", "as_json", is_flag=True, help="Print the profile as one JSON object.")
def show(name: str, *, as_json: bool) -> None:
    """Show one profile: every figure with its source, and which figures are derived.

    NAME is a profile's name or alias, FILE a profile of your own (TOML).
    """
    from edgec.core.target import load_target

    target = load_target(name)
    if as_json:
        click.echo(json.dumps(target.model_dump(mode="json")))
        return
    from edgec.cli.console import Terminal

    console = Terminal()
    for part in _details(target):
        console.print(part)


@command.command("fit")
@one_device
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    metavar="N",
    default=1,
    show_default=True,
    help="Threads within an operator.",
)
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE.toml",
    default=Path("my-host.toml"),
    show_default=True,
    help="The profile.",
)
def fit(device: str, *, threads: int, output: Path, **login: Any) -> None:
    """Time small graphs on a machine for about three minutes, fit the latency model, and write a profile.

    With the profile as --target, a build predicts where the time goes. Let nothing else run meanwhile. A device needs
    only edgec's base install: the graphs are made here and sent one by one.
    """
    from edgec.core.files import require_writable, write_bytes
    from edgec.latency.fit.sweep import profile_text

    there = find_device(device, login)
    require_writable(output)
    found, target, where = _swept_there(there, threads) if there else _swept_here(threads)
    name = re.sub(r"[^a-z0-9-]+", "-", output.stem.lower()).strip("-") or "my-host"
    text = profile_text(target, found, name=name, threads=threads, where=where)
    write_bytes(output, text.encode())
    say(f"{found.probes} graphs fitted: median error {found.median_error:.0%}, worst {found.worst_error:.0%}", err=True)
    say(output)


def _swept_here(threads: int) -> tuple[Fitted, Target, str]:
    from edgec.core.host import describe_host
    from edgec.core.target import load_target
    from edgec.latency.fit.sweep import calibrate_machine, clock_here

    host = load_target("host")
    return calibrate_machine(host, clock_here(host, threads=threads)), host, describe_host()


def _swept_there(device: Device, threads: int) -> tuple[Fitted, Target, str]:
    """The sweep on a device. Of another family than `host`, whose latencies are measured where a bundle is built."""
    from edgec.deploy.remote import with_stopwatch
    from edgec.latency.fit.sweep import PROBE_S, calibrate_machine

    def swept(machine: Machine, clock: Clock) -> tuple[Fitted, Target, str]:
        if machine.target.architecture == "any":
            raise UnsupportedError(f"device '{device.url}': {machine.where}: profiles are for aarch64 and x86_64")
        family = "x86" if machine.target.architecture == "x86_64" else "raspberry-pi"
        target = machine.target.model_copy(update={"family": family})

        return calibrate_machine(target, clock), target, machine.where

    return with_stopwatch(device, ["--threads", str(threads), "--seconds", str(PROBE_S)], swept)


@command.command("time")
@click.option(
    "--threads",
    type=click.IntRange(min=0),
    metavar="N",
    required=True,
    help="Threads within an operator; 0 leaves it to onnxruntime.",
)
@click.option("--seconds", type=click.FloatRange(min=0), metavar="S", required=True, help="Time for each graph.")
def time_graphs(*, threads: int, seconds: float) -> None:
    """Time graphs from stdin, and write the times to stdout; `--device` of `targets fit` and `tune` starts this."""
    from edgec.runtime.timing import serve_timings

    serve_timings(sys.stdin.buffer, sys.stdout.buffer, threads=threads, seconds=seconds)


def _overview(targets: list[Target], *, stacked: bool) -> RenderableType:
    """One line a profile; two where aliases are stacked under the name."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, collapse_padding=True)
    table.add_column("name", no_wrap=not stacked, overflow="fold")
    if not stacked:
        table.add_column("aliases", overflow="fold")
    table.add_column("runtime", overflow="fold")
    table.add_column("scheme")
    table.add_column("memory", justify="right", no_wrap=True)
    for target in targets:
        aliases = ", ".join(target.aliases)
        first = [Text(target.name), Text(aliases)]
        if stacked:
            first = [Text.assemble(target.name, (f"\n{aliases}" if aliases else "", "dim"))]
        table.add_row(*first, _runtime(target), target.quantization.scheme.value, _memory(target))
    return table


def _runtime(target: Target) -> str:
    return " ".join(filter(None, (target.runtime.engine, target.runtime.version)))


def _memory(target: Target) -> str:
    return f"{target.memory_mb / 1024:g} GB" if target.memory_mb else "–"


def _details(target: Target) -> Iterator[RenderableType]:
    """A heading, the figures with the numbers of their sources, and the sources."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from edgec.core.target import without_edgec

    yield Text.assemble((target.title, "bold"), f" ({', '.join((target.name, *target.aliases))})\n")
    figures = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, collapse_padding=True)
    figures.add_column("field", no_wrap=True)
    figures.add_column("value", overflow="fold")
    figures.add_column("source", no_wrap=True)
    said = target.model_dump(mode="json", exclude_unset=True, exclude={"name", "title", "aliases", "sources"})
    for field, value in _figures(said):
        source = target.source_of(field)
        figures.add_row(field, Text(value), Text(_mark(target, source) if source else ""))
    yield figures
    yield ""
    if (without := without_edgec(target)) is not None:
        yield Text(f"{without}.\n", style="bold")
    notes = Table.grid(padding=(0, 1))
    notes.add_column(no_wrap=True)
    notes.add_column(overflow="fold")
    for source in target.sources:
        notes.add_row(Text(_mark(target, source)), Text(source.text))
    yield notes
    if any(source.derived for source in target.sources):
        yield Text("\n† derived: computed, fitted or remembered by edgec's authors, published by nobody.", style="dim")


def _figures(profile: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Dotted names and values, tables opened, empty fields left out."""
    for name, value in profile.items():
        if isinstance(value, dict):
            yield from _figures(value, f"{prefix}{name}.")
        elif isinstance(value, list):
            yield from ((f"{prefix}{name}", ", ".join(map(_plain, value))) for _ in value[:1])
        elif value is not None:
            yield f"{prefix}{name}", _plain(value)


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def _mark(target: Target, source: Source) -> str:
    return f"[{target.sources.index(source) + 1}]{'†' if source.derived else ''}"
