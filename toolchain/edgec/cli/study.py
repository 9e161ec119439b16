"""`edgec study`: a paper's tables, run again on a person's own model and images."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgec.cli.build import parse_setting

if TYPE_CHECKING:
    from rich.table import Table

    from edgec.pipeline.store import Store
    from edgec.study.findings import Findings
    from edgec.study.plan import Study
    from edgec.study.table import Row

__all__ = ["command"]

_WIDE_FROM_COLUMNS = 100
"""Narrower than this, groups of classes and the paper's figures are left to the page."""


class ListType(click.ParamType):
    """Values with commas between them; the grid says what each must be."""

    name = "list"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        """The values as text."""
        del param, ctx
        return tuple(part.strip() for part in value.split(",") if part.strip())


@click.group("study", invoke_without_command=True)
@click.pass_context
def command(ctx: click.Context) -> None:
    """Rerun a paper's tables on your own model and images."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


@command.command("few-sample")
@click.option("--config", type=click.Path(path_type=Path), help="An edgec.toml; without one, the digits are studied.")
@click.option("--methods", type=ListType(), metavar="NAMES", help="Compression methods. [default: all]")
@click.option("--variants", type=ListType(), metavar="NAMES", help="Of plain, paper, ours. [default: all three]")
@click.option("--samples", type=ListType(), metavar="NUMBERS", help="Labelled samples in all. [default: 50]")
@click.option("--imbalance", type=ListType(), metavar="NUMBERS", help="Most over fewest of a class. [default: 100]")
@click.option("--seeds", type=ListType(), metavar="NUMBERS", help="Of every draw. [default: 0,1,2]")
@click.option(
    "--without",
    type=ListType(),
    metavar="PARTS",
    help="Ablations: leave out nothing, compression, finetuning or all, one after the other.",
)
@click.option(
    "--set", "settings", metavar="KEY=VALUE", multiple=True, help="Override a setting, as in compress.steps=500."
)
@click.option(
    "--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True, help="Where to train."
)
@click.option("--output", type=click.Path(path_type=Path), help="Folder for the results. [default: study/NAME]")
@click.option(
    "--cache", type=click.Path(path_type=Path), default=Path(".edgec/cache"), show_default=True, help="Finished runs."
)
@click.option("--dry-run", is_flag=True, help="Print what would run and stop.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of tables.")
def few_sample(
    *,
    config: Path | None,
    settings: tuple[str, ...],
    device: str,
    output: Path | None,
    cache: Path,
    dry_run: bool,
    as_json: bool,
    **lists: tuple[str, ...] | None,
) -> None:
    """Compress with every method: alone, under OE-FSMC as in the paper, and as we do.

    Each is run for every total of samples, imbalance and seed; lists are given as in --samples 10,20,50. A run is
    stored when it is finished: a study that was cut short goes on where it was.
    """
    from edgec.cli.console import ConsoleProgress
    from edgec.core.declaration import bind
    from edgec.pipeline.device import Device
    from edgec.pipeline.store import Store
    from edgec.study.grid import Grid
    from edgec.study.plan import known_methods, plan_study
    from edgec.study.run import run_study
    from edgec.study.write import require_folder, write_study

    given = {name: values for name, values in lists.items() if values is not None}
    grid = bind({"methods": known_methods(), **given}, Grid, where="study few-sample")
    study = plan_study(config, [parse_setting(text) for text in settings], grid, device=Device(device))
    store = Store(cache)
    if dry_run:
        _print_plan(study, store, as_json=as_json)
        return
    folder = output or Path("study") / study.plan.config.name
    require_folder(folder)
    findings = run_study(study, store=store, progress=ConsoleProgress())
    write_study(findings, folder)
    _print_findings(findings, folder, as_json=as_json)


def _print_plan(study: Study, store: Store, *, as_json: bool) -> None:
    held = [store.holds(run.recipe) for run in study.runs]
    if as_json:
        runs = [
            {
                "method": run.cell.method,
                "variant": run.cell.variant.name,
                "samples": run.cell.samples,
                "imbalance": run.cell.imbalance,
                "seed": run.seed,
                "key": run.recipe.key,
                "cached": cached,
            }
            for run, cached in zip(study.runs, held, strict=True)
        ]
        click.echo(json.dumps({"study": "few-sample", "runs": runs}))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table("run", "state", box=None, pad_edge=False)
    for run, cached in zip(study.runs, held, strict=True):
        table.add_row(Text(run.title), "cached" if cached else "to do")
    Console(highlight=False).print(table)


def _print_findings(findings: Findings, folder: Path, *, as_json: bool) -> None:
    from edgec.study.write import JSON, PAGE

    if as_json:
        answer = {
            "results": str(folder / JSON),
            "runs": len(findings.outcomes),
            "cached": findings.cached,
            "seconds": round(findings.seconds, 3),
        }
        click.echo(json.dumps(answer))
        return
    from rich.console import Console

    from edgec.cli.console import print_paragraph
    from edgec.study.page import format_points
    from edgec.study.table import ALL_METHODS, gains, rows

    console = Console(highlight=False)
    wide = console.width >= _WIDE_FROM_COLUMNS
    for draw, group in groupby(rows(findings), key=lambda row: row.cell.draw):
        console.print(_table(findings, draw, list(group), wide=wide), "", sep="\n")
    found = gains(findings.outcomes)
    for gain in [gain for gain in found if gain.cell.method == ALL_METHODS] or found:
        points, worst = (format_points(gain.spreads[name]) for name in ("accuracy", "worst_class_accuracy"))
        text = f"{points} points top-1, {worst} in the worst class over plain; {gain.cell.draw}"
        print_paragraph(console, text, lead=f"{gain.cell.method} {gain.cell.variant.name}: ")
    click.echo(folder / PAGE)


def _table(findings: Findings, title: str, group: Sequence[Row], *, wide: bool) -> Table:
    """The rows of one draw, under the teacher."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from edgec.study.page import format_figure, format_share, format_spread

    names = ["accuracy", "worst_class_accuracy"]
    names += ["head_accuracy", "medium_accuracy", "tail_accuracy"] if wide else []
    paper = wide and any(row.paper for row in group)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, title=title, title_justify="left")
    table.add_column("method", overflow="fold")
    for heading in (*("top-1", "worst class", "head", "medium", "tail")[: len(names)], "s/run", *["published"] * paper):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_row("teacher", *(format_share(getattr(findings.teacher, name)) for name in names[:2]), style="dim")
    for row in group:
        what = Text(f"{row.cell.method} {row.cell.variant.name}")
        if not row.spreads:
            table.add_row(Text.assemble(what, (f"\ndoes not apply: {row.reason}", "dim")))
            continue
        shares = (format_spread(row.spreads.get(name)) for name in names)
        table.add_row(what, *shares, f"{row.spreads['seconds'].mean:.1f}", *[format_figure(row)] * paper)
    return table
