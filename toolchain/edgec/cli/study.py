"""`edgec study`: a paper's tables, run again on a person's own model and images."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from edgec.cli.build import parse_setting
from edgec.cli.options import together
from edgec.cli.say import say

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from edgec.pipeline.store import Store
    from edgec.study.few_sample.findings import Findings
    from edgec.study.few_sample.plan import Run
    from edgec.study.few_sample.table import Row
    from edgec.study.imbalance.findings import Findings as ImbalanceFindings
    from edgec.study.imbalance.plan import Run as ImbalanceRun
    from edgec.study.imbalance.table import Row as ImbalanceRow

__all__ = ["command"]

_WIDE_FROM_COLUMNS = 100
"""Narrower than this, groups of classes and the paper's figures are left to the page."""
FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])
RunT = TypeVar("RunT", bound="Run | ImbalanceRun")


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


def _shared_options(*, output: str, setting: str) -> Callable[[FunctionT], FunctionT]:
    """Options that every study has, behind its own."""
    return together(
        click.option(
            "--set", "settings", metavar="KEY=VALUE", multiple=True, help=f"Override a setting, as in {setting}."
        ),
        click.option(
            "--device",
            type=click.Choice(["auto", "cpu", "cuda"]),
            default="auto",
            show_default=True,
            help="Where to train.",
        ),
        click.option("--output", type=click.Path(path_type=Path), help=f"Folder for the results. [default: {output}]"),
        click.option(
            "--cache",
            type=click.Path(path_type=Path),
            default=Path(".edgec/cache"),
            show_default=True,
            help="Folder that keeps finished runs.",
        ),
        click.option("--dry-run", is_flag=True, help="Print what would run and stop."),
        click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of tables."),
    )


@command.command("few-sample")
@click.option("--config", type=click.Path(path_type=Path), help="An edgec.toml; without one, the digits are studied.")
@click.option("--methods", type=ListType(), metavar="NAMES", help="Compression methods. [default: all]")
@click.option(
    "--variants", type=ListType(), metavar="NAMES", help="Some of plain, paper, few, ours. [default: all four]"
)
@click.option("--samples", type=ListType(), metavar="NUMBERS", help="Total labelled samples. [default: 50]")
@click.option(
    "--imbalance",
    type=ListType(),
    metavar="NUMBERS",
    help="Samples of the most frequent class over those of the rarest. [default: 100]",
)
@click.option("--seeds", type=ListType(), metavar="NUMBERS", help="Seeds of every draw. [default: 0,1,2]")
@click.option(
    "--without",
    type=ListType(),
    metavar="PARTS",
    help="Ablations: leave out nothing, compression, finetuning or all, one after the other.",
)
@_shared_options(output="study/NAME", setting="compress.steps=500")
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
    """Compress with every method: alone, with OE-FSMC as published, and with our recipe, without and with OOD images.

    Each is run for every total of samples, imbalance and seed; lists are given as in --samples 10,20,50. A run is
    stored when it is finished: a study that was cut short is resumed.
    """
    from edgec.cli.console import ConsoleProgress
    from edgec.core.declaration import bind
    from edgec.pipeline.accelerator import Accelerator
    from edgec.pipeline.store import Store
    from edgec.study.few_sample.grid import Grid
    from edgec.study.few_sample.plan import known_methods, plan_study
    from edgec.study.few_sample.run import run_study
    from edgec.study.few_sample.write import write_study
    from edgec.study.files import require_folder

    given = {name: values for name, values in lists.items() if values is not None}
    grid = bind({"methods": known_methods(), **given}, Grid, where="study few-sample")
    study = plan_study(config, [parse_setting(text) for text in settings], grid, accelerator=Accelerator(device))
    store = Store(cache)
    if dry_run:
        _print_plan("few-sample", study.runs, store, _few_sample_record if as_json else None)
        return
    folder = output or Path("study") / study.plan.config.name
    require_folder(folder)
    findings = run_study(study, store=store, progress=ConsoleProgress())
    write_study(findings, folder)
    if as_json:
        _print_answer(findings, folder)
    else:
        _print_few_sample(findings, folder)


@command.command("imbalance")
@click.option("--config", type=click.Path(path_type=Path), help="An edgec.toml; without one, the digits are studied.")
@click.option("--profiles", type=ListType(), metavar="NAMES", help="Some of step, linear. [default: both]")
@click.option(
    "--minority", type=ListType(), metavar="NUMBERS", help="Numbers of rare classes in the step profile. [default: 5]"
)
@click.option(
    "--imbalance",
    type=ListType(),
    metavar="NUMBERS",
    help="Images of the most frequent class over those of the rarest. [default: 20]",
)
@click.option(
    "--compressions",
    type=ListType(),
    metavar="NAMES",
    help="pruned-mild, pruned-moderate, pruned-severe, a8w4 and the like, distilled-a8w4 and the like. [default: "
    "pruned-moderate,pruned-severe,a8w4,a3w3,distilled-a3w3]",
)
@click.option("--seeds", type=ListType(), metavar="NUMBERS", help="Seeds of every draw and training. [default: 0,1,2]")
@click.option(
    "--samples", type=int, help="Training images of the most frequent class. [default: as many as every class has]"
)
@click.option("--steps", type=int, help="Steps of every training, and again after compression. [default: 200]")
@click.option("--epochs", type=int, help="Epochs instead of steps; the paper's are 180 or 200.")
@click.option("--batch-size", type=int, help="Images a step. [default: 32]")
@click.option("--learning-rate", type=float, help="Peak learning rate; the default is the paper's. [default: 0.1]")
@click.option("--weight-decay", type=float, help="The default is the paper's. [default: 0.0002]")
@_shared_options(output="study/NAME-imbalance", setting="compress.flip=false")
def imbalance(
    *,
    config: Path | None,
    settings: tuple[str, ...],
    device: str,
    output: Path | None,
    cache: Path,
    dry_run: bool,
    as_json: bool,
    **varied: Any,
) -> None:
    """Train on imbalanced classes, compress, and compare how much accuracy the imbalance costs.

    Every net is trained from scratch on balanced classes, and on every profile, imbalance and seed; then it is pruned,
    quantised (DoReFa), or distilled into its quantised self. Lists are given as in --imbalance 10,100. A run is stored
    when it is finished: a study that was cut short is resumed.
    """
    from edgec.cli.console import ConsoleProgress
    from edgec.core.declaration import bind
    from edgec.pipeline.accelerator import Accelerator
    from edgec.pipeline.store import Store
    from edgec.study.config import Training
    from edgec.study.files import require_folder
    from edgec.study.imbalance.grid import Grid
    from edgec.study.imbalance.plan import plan_study
    from edgec.study.imbalance.run import run_study
    from edgec.study.imbalance.write import write_study

    given = {name: value for name, value in varied.items() if value is not None}
    training = {name: given.pop(name) for name in Training.model_fields if name in given}
    grid = bind({**given, "training": training}, Grid, where="study imbalance")
    study = plan_study(config, [parse_setting(text) for text in settings], grid, accelerator=Accelerator(device))
    store = Store(cache)
    if dry_run:
        _print_plan("imbalance", study.runs, store, _imbalance_record if as_json else None)
        return
    folder = output or Path("study") / f"{study.plan.config.name}-imbalance"
    require_folder(folder)
    findings = run_study(study, store=store, progress=ConsoleProgress())
    write_study(findings, folder)
    if as_json:
        _print_answer(findings, folder)
    else:
        _print_imbalance(findings, folder)


def _print_plan(
    study: str, runs: Sequence[RunT], store: Store, record: Callable[[RunT], Mapping[str, Any]] | None
) -> None:
    """What would run: lines, or JSON where there is a record of a run."""
    held = [store.holds(run.key) for run in runs]
    if record is not None:
        told = [
            {**record(run), "seed": run.seed, "key": run.key.key, "cached": cached}
            for run, cached in zip(runs, held, strict=True)
        ]
        click.echo(json.dumps({"study": study, "runs": told}))
        return
    from rich.table import Table
    from rich.text import Text

    from edgec.cli.console import Terminal

    table = Table("run", "state", box=None, pad_edge=False)
    for run, cached in zip(runs, held, strict=True):
        table.add_row(Text(run.title), "cached" if cached else "to do")
    Terminal().print(table)


def _few_sample_record(run: Run) -> Mapping[str, Any]:
    cell = run.cell
    return {
        "method": cell.method,
        "variant": cell.variant.name,
        "samples": cell.samples,
        "imbalance": cell.imbalance,
    }


def _imbalance_record(run: ImbalanceRun) -> Mapping[str, Any]:
    draw = run.cell.draw
    return {
        "profile": draw.profile or "balanced",
        "minority": draw.minority,
        "imbalance": draw.imbalance,
        "compression": run.cell.compression,
    }


def _print_answer(findings: Findings | ImbalanceFindings, folder: Path) -> None:
    from edgec.study.files import JSON

    answer = {
        "results": str(folder / JSON),
        "runs": len(findings.outcomes),
        "cached": findings.cached,
        "seconds": round(findings.seconds, 3),
    }
    click.echo(json.dumps(answer))


def _print_few_sample(findings: Findings, folder: Path) -> None:
    from edgec.cli.console import Terminal, print_paragraph
    from edgec.study.few_sample.table import ALL_METHODS, gains, rows
    from edgec.study.files import PAGE
    from edgec.study.wording import format_points

    console = Terminal()
    wide = console.width >= _WIDE_FROM_COLUMNS
    for draw, group in groupby(rows(findings), key=lambda row: row.cell.draw):
        console.print(_table(findings, draw, list(group), wide=wide), "", sep="\n")
    found = gains(findings.outcomes)
    for gain in [gain for gain in found if gain.cell.method == ALL_METHODS] or found:
        points, worst = (format_points(gain.spreads[name]) for name in ("accuracy", "worst_class_accuracy"))
        text = f"{points} points top-1, {worst} in the worst class; {gain.cell.draw}"
        print_paragraph(console, text, lead=f"{gain.title}: ")
    say(folder / PAGE)


def _table(findings: Findings, title: str, group: Sequence[Row], *, wide: bool) -> Table:
    """The rows of one draw, under the teacher."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from edgec.study.few_sample.page import format_figure
    from edgec.study.wording import format_share, format_spread

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


def _print_imbalance(findings: ImbalanceFindings, folder: Path) -> None:
    from edgec.cli.console import Terminal
    from edgec.study.files import PAGE
    from edgec.study.imbalance.table import rows

    console = Terminal()
    for title, group in groupby(rows(findings), key=lambda row: row.cell.draw.name):
        console.print(_imbalance_table(title, list(group), console), "", sep="\n")
    say(folder / PAGE)


def _imbalance_table(title: str, group: Sequence[ImbalanceRow], console: Console) -> Table:
    """The rows of one training set."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from edgec.study.imbalance.page import format_ratio
    from edgec.study.wording import format_seconds, format_spread

    wide = console.width >= _WIDE_FROM_COLUMNS
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, title=title, title_justify="left")
    table.add_column("compression", overflow="fold")
    for heading in ("macro F1", "gap", "ratio", *("worst class", "Mibit", "s/run") * wide):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in group:
        if not row.spreads:
            what = (row.cell.compression, (f"\ndoes not apply: {row.reason}", "dim"))
            table.add_row(Text.assemble(*what))
            continue
        size, seconds = (row.spreads[name].mean for name in ("size_mibit", "seconds"))
        more = (format_spread(row.spreads["worst_class_accuracy"]), f"{size:.2f}", format_seconds(seconds))
        figures = (format_spread(row.spreads["macro_f1"]), format_spread(row.gap), format_ratio(row.ratio))
        table.add_row(Text(row.cell.compression), *figures, *more[: 3 * wide])
    return table
