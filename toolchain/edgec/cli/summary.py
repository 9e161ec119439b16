"""What a build prints at its end: a table per class, then the whole in a few lines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table
from rich.text import Text

from edgec.cli.console import Terminal, print_paragraph
from edgec.core.measurement import Kind, Machine, Measurement, Stage
from edgec.core.wording import STAGES, format_amount, format_interval, format_share, measure_title
from edgec.evaluate.loss import loss_text
from edgec.evaluate.report import Report, parse_report
from edgec.render.headline import gate_text

if TYPE_CHECKING:
    from edgec.evaluate.gates import GateResult
    from edgec.pipeline.build import Built

__all__ = ["print_family", "print_summary"]

MOST = 20
"""Classes in the table; of more, those with the lowest accuracy."""
MOST_GATES = 5
"""Gates that block and are named."""
_OF_MEMBER = ("size_bytes", "latency_ms_p50", "accuracy", "worst_class_accuracy")
_SPEEDS = {"speedup": "FP32's", "teacher_speedup": "the teacher's"}
_KINDS = {Kind.MEASURED: "measured on", Kind.PREDICTED: "predicted for"}


def print_summary(built: Built, gates: Sequence[GateResult]) -> None:
    """Prints a bundle's accuracy class by class, sorted by training count, with latency and size, and its gates last.

    Args:
        built: The bundle.
        gates: The verdicts of its own gates; nothing is said where it carries none.
    """
    report = _read(built)
    console = Terminal()
    console.print(_table(report), "", sep="\n")
    for lead, text in _lines(report):
        print_paragraph(console, text, lead=f"{lead}: ")
    lost, warning = report.loss and loss_text(report.loss), report.teacher and report.teacher.warning
    for note in report.notes:
        if note not in (lost, warning):
            print_paragraph(console, note, lead="note: ", style="dim")
    if warning:
        print_paragraph(console, warning, lead="warning: ", style="bold red")
    if lost:
        print_paragraph(console, lost, lead="lost: ", style="bold red")
    for text, style in _verdict(gates):
        print_paragraph(console, text, lead="gates: ", style=style)


def print_family(members: Sequence[Built], gates: Sequence[Sequence[GateResult]]) -> None:
    """Prints a line for each member, and what only a reader of all reports would notice: losses and gates that block.

    Args:
        members: Their bundles.
        gates: The verdicts of each one's own gates.
    """
    console = Terminal()
    reports = [_read(built) for built in members]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("target", overflow="fold")
    for column in ("size", "latency", "accuracy", "worst class"):
        table.add_column(column, justify="right")
    for report in reports:
        found = [report.find(Stage.ARTIFACT, name) for name in _OF_MEMBER]
        there = (row if row and row.machine is not Machine.OTHER else None for row in found)
        amounts = (format_amount(row.name, row.value) if row else "n/a" for row in there)
        table.add_row(Text(report.target), *amounts)
    console.print(table, "", sep="\n")
    for built, report, results in zip(members, reports, gates, strict=True):
        name = built.bundle.name
        if report.loss:
            print_paragraph(console, loss_text(report.loss), lead=f"{name}: lost: ", style="bold red")
        for text, style in _verdict(results):
            print_paragraph(console, text, lead=f"{name}: gates: ", style=style)
    if reports[0].teacher and (warning := reports[0].teacher.warning):
        print_paragraph(console, warning, lead="warning: ", style="bold red")


def _read(built: Built) -> Report:
    path = built.bundle / "report.json"
    return parse_report(path.read_bytes(), where=str(path))


def _verdict(gates: Sequence[GateResult]) -> Iterator[tuple[str, str]]:
    """What the gates say, and how it looks: a line for all that pass, or one for each of those that block."""
    blocking = [gate for gate in gates if gate.blocks]
    if gates and not blocking:
        yield f"none of {len(gates)} blocks this bundle", "green"
    if blocking:
        yield f"{len(blocking)} of {len(gates)} block this bundle: edgec check will stop it", "bold red"
    for gate in blocking[:MOST_GATES]:
        yield f"{gate_text(gate)}{f'; {gate.reason}' if gate.reason else ''}", "red"


def _table(report: Report) -> Table:
    stages = [stage for stage in STAGES if report.find(stage, "accuracy")]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("class", overflow="fold")
    table.add_column("few", justify="right")
    for stage in stages:
        table.add_column(STAGES[stage][0].lower(), justify="right")
    by_class = {stage: report.by_class(stage, "accuracy") for stage in stages}
    counts = dict(zip(report.labels, report.train_counts or [0] * len(report.labels), strict=True))
    shipped = by_class[Stage.ARTIFACT]
    shown = sorted(report.labels, key=lambda label: shipped[label].value if label in shipped else 0.0)[:MOST]
    for label in sorted(shown, key=lambda label: -counts[label]):
        table.add_row(Text(label), str(counts[label]), *(_percent(by_class[stage].get(label)) for stage in stages))
    if len(shown) < len(report.labels):
        table.add_row(f"({len(report.labels) - len(shown)} better ones)", "")
    table.add_section()
    for name in ("accuracy", "worst_class_accuracy", "macro_f1"):
        table.add_row(measure_title(name), "", *(_percent(report.find(stage, name)) for stage in stages), style="bold")
    return table


def _percent(measurement: Measurement | None) -> str:
    return "n/a" if measurement is None else format_share(measurement.value)


def _lines(report: Report) -> list[tuple[str, str]]:
    """What else a person asks first, each with its title."""
    shipped = (row for row in report.costs if row.stage is Stage.ARTIFACT)
    return [(measure_title(row.name), _line(report, row)) for row in shipped]


def _line(report: Report, row: Measurement) -> str:
    """A row of the file that ships, beside the teacher's where that came to be in the same way."""
    amount, where = format_amount(row.name, row.value), f"{_KINDS[row.kind]} {row.where}"
    if row.name in _SPEEDS:
        ends = format_interval(row)
        other = "" if row.kind is Kind.MEASURED and row.machine is not Machine.OTHER else f", {where}"
        return f"{amount} {_SPEEDS[row.name]} speed{f' ({ends})' if ends else ''}{other}"
    before = None
    if row.name == "size_bytes" and (before := report.find(Stage.COMPRESSED, row.name)) is not None:
        amount += f", {format_amount(row.name, before.value)} in FP32"
    if row.name == "latency_ms_p50":
        amount += f", {where}"
    teachers = (m for m in report.costs if m.stage is Stage.TEACHER and m.name == row.name)
    alike = next((m for m in teachers if (m.kind, m.machine) == (row.kind, row.machine)), None)
    return f"{amount}; the teacher's: {format_amount(row.name, alike.value)}" if alike else amount
