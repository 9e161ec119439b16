"""What studies print at their end: tables that fit the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from edgec.cli.say import say

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from edgec.study.few_sample.findings import Findings
    from edgec.study.few_sample.table import Row
    from edgec.study.imbalance.findings import Findings as ImbalanceFindings
    from edgec.study.imbalance.table import Row as ImbalanceRow
    from edgec.study.long_tail.findings import Findings as LongTailFindings
    from edgec.study.long_tail.table import Row as LongTailRow

__all__ = ["print_few_sample", "print_imbalance", "print_long_tail"]

_WIDE_FROM_COLUMNS = 100
"""Narrower than this, groups of classes and the paper's figures are left to the page."""


def print_few_sample(findings: Findings, folder: Path) -> None:
    """A table for each draw, what the recipe brings, and where the page is."""
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


def print_imbalance(findings: ImbalanceFindings, folder: Path) -> None:
    """A table for each training set, and where the page is."""
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


def print_long_tail(findings: LongTailFindings, folder: Path) -> None:
    """A table for each teacher and tail, what LTKD brings, and where the page is."""
    from edgec.cli.console import Terminal, print_paragraph
    from edgec.study.files import PAGE
    from edgec.study.long_tail.table import gains, rows
    from edgec.study.wording import format_points

    console = Terminal()
    for title, group in groupby(rows(findings), key=lambda row: row.group):
        console.print(_long_tail_table(title, list(group), wide=console.width >= _WIDE_FROM_COLUMNS), "", sep="\n")
    for gain in gains(findings):
        if gain.cell.name == "ltkd":
            points, tail = (format_points(gain.spreads[name]) for name in ("accuracy", "tail_accuracy"))
            print_paragraph(console, f"{points} points top-1, {tail} in the tail; {gain.group}", lead=f"{gain.title}: ")
    say(folder / PAGE)


def _long_tail_table(title: str, group: Sequence[LongTailRow], *, wide: bool) -> Table:
    """The teacher and its students."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from edgec.study.wording import format_seconds, format_spread

    columns = {"accuracy": "top-1", "tail_accuracy": "tail", "worst_class_accuracy": "worst class"}
    columns |= {"head_accuracy": "head", "medium_accuracy": "medium"} if wide else {}
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, title=title, title_justify="left")
    table.add_column("loss", overflow="fold")
    for heading in (*columns.values(), *["s/run"] * wide):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in group:
        if not row.spreads:
            table.add_row(Text.assemble(row.cell.name, (f"\ndoes not apply: {row.reason}", "dim")))
            continue
        figures = [format_spread(row.spreads.get(name)) for name in columns]
        more = [format_seconds(row.spreads["seconds"].mean)] * wide
        table.add_row(Text(row.cell.name), *figures, *more, style="dim" if row.cell.loss == "teacher" else None)
    return table
