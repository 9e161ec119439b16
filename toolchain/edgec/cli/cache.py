"""`edgec cache`: what the stage cache holds, and what may be removed."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgec.cli.options import together
from edgec.cli.quantities import AGE, SIZE
from edgec.cli.say import say
from edgec.core.errors import ConfigError, UnsupportedError

if TYPE_CHECKING:
    from edgec.pipeline.eviction import Entry

__all__ = ["command"]

_AGES = (("d", 86400), ("h", 3600), ("min", 60))


_place = together(
    click.option(
        "--cache",
        type=click.Path(path_type=Path),
        default=Path(".edgec/cache"),
        show_default=True,
        help="Stage cache.",
    ),
    click.option("--json", "as_json", is_flag=True, help="Print one JSON object."),
)
"""The options that both commands take."""


@click.group("cache", invoke_without_command=True)
@click.pass_context
def command(ctx: click.Context) -> None:
    """List the stage cache of builds, or remove old entries."""
    if ctx.invoked_subcommand is None:
        ctx.invoke(list_entries)


@command.command("list")
@_place
def list_entries(*, cache: Path, as_json: bool) -> None:
    """List every finished stage: its size, its last use, and the builds that used it."""
    from edgec.pipeline.eviction import entries

    found = entries(cache)
    if as_json:
        click.echo(json.dumps(_answer(cache, entries=found)))
        return
    if found:
        _print(found)
    say(f"{_counted(found)} in {cache}")


@command.command("prune")
@click.option("--older-than", type=AGE, help="Remove entries that were not used for so long, as in 30d, 12h.")
@click.option(
    "--max-size",
    type=SIZE,
    help="Remove the least recently used entries until the cache is this small, as in 5GB; 0 removes all.",
)
@click.option("--dry-run", is_flag=True, help="List what would be removed, and stop.")
@_place
def prune(*, older_than: int | None, max_size: int | None, dry_run: bool, cache: Path, as_json: bool) -> None:
    """Remove finished stages by age, by the size of the whole cache, or by both.

    Entries that a running build or study uses stay. A build that needs a removed stage runs it again.
    """
    from edgec.pipeline.eviction import entries, evict, evictable

    if older_than is None and max_size is None:
        raise ConfigError(
            "edgec cache prune: neither --older-than nor --max-size is given",
            hint="as in: edgec cache prune --older-than 30d --max-size 5GB",
        )
    if dry_run or not cache.is_dir():
        gone = evictable(entries(cache), now_s=time.time(), older_than_s=older_than, most_bytes=max_size)
    else:
        try:
            gone = evict(cache, older_than_s=older_than, most_bytes=max_size)
        except OSError as error:
            raise UnsupportedError(
                f"'{cache}' cannot be locked, so that builds may be using it: {error.strerror or error}",
                hint="check its permissions; on a file system without locks, remove the folder while no build runs",
            ) from error
    if as_json:
        click.echo(json.dumps(_answer(cache, removed=gone)))
        return
    if gone:
        _print(gone)
    say(f"{_counted(gone)} {'would be ' if dry_run else ''}removed from {cache}")


def _answer(cache: Path, **lists: Sequence[Entry]) -> dict[str, Any]:
    (name, found), *_ = lists.items()
    records = [
        {
            "stage": entry.stage,
            "key": entry.key,
            "size_bytes": entry.size_bytes,
            "age_s": max(0, round(time.time() - entry.used_s)),
            "builds": entry.builds,
            "in_use": entry.in_use,
        }
        for entry in found
    ]
    return {"cache": str(cache), name: records, "size_bytes": sum(entry.size_bytes for entry in found)}


def _counted(found: Sequence[Entry]) -> str:
    from edgec.core.wording import format_amount

    size = format_amount("size_bytes", sum(entry.size_bytes for entry in found))
    return f"{len(found)} {'entry' if len(found) == 1 else 'entries'} ({size})"


def _print(found: Sequence[Entry]) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from edgec.cli.console import Terminal
    from edgec.core.wording import format_amount

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for heading in ("stage", "key"):
        table.add_column(heading, no_wrap=True)
    for heading in ("size", "last used"):
        table.add_column(heading, no_wrap=True, justify="right")
    table.add_column("builds", overflow="fold")
    for entry in found:
        last = "in use" if entry.in_use else f"{_age(time.time() - entry.used_s)} ago"
        size = format_amount("size_bytes", entry.size_bytes)
        table.add_row(entry.stage, entry.key[:12], size, last, Text(", ".join(entry.builds) or "–"))
    Terminal().print(table)


def _age(seconds: float) -> str:
    """`3 d`, `5 h`, `12 min`."""
    unit, length = next(((unit, length) for unit, length in _AGES if seconds >= length), _AGES[-1])
    return f"{max(0, seconds) // length:.0f} {unit}"
