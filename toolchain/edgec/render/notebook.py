"""Small HTML for notebooks: tables of classes and gates, and the whole page in a frame. Needs no template engine."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from edgec.core.measurement import Stage
from edgec.core.plain import visible
from edgec.core.wording import STAGES, format_amount, format_share
from edgec.evaluate.gates import GateResult, fold_passes
from edgec.evaluate.report import Report
from edgec.render.view import ClassRow, class_rows

__all__ = ["class_table", "framed", "gate_table"]

_SHOWN = (Stage.TEACHER, Stage.ARTIFACT)


def class_table(report: Report, *, caption: str) -> str:
    """A row for each class, most training images first: its images, and its accuracy before and after."""
    head = ("class", "training images", "test images", *(STAGES[stage][0].lower() for stage in _SHOWN))
    return _table(caption, head, (_class_cells(row) for row in class_rows(report)))


def _class_cells(row: ClassRow) -> Sequence[str]:
    marks = (row.mark(stage) for stage in _SHOWN)
    shares = ("–" if mark is None else format_share(mark.value) for mark in marks)
    return row.label, "–" if row.train is None else str(row.train), str(row.test), *shares


def gate_table(results: Sequence[GateResult], *, caption: str) -> str:
    """A row for each gate; of a gate that many classes pass, the one nearest to its limit."""
    return _table(
        caption,
        ("gate", "class", "limit", "found", "verdict", "reason"),
        (_gate_cells(result, others) for result, others in fold_passes(results)),
    )


def _gate_cells(result: GateResult, others: int) -> Sequence[str]:
    sign = "≥" if result.name.startswith("min_") else "≤"
    return (
        result.name,
        f"{result.label or ''}{f' and {others} more' if others else ''}",
        f"{sign} {format_amount(result.name, result.limit)}",
        "–" if result.value is None else format_amount(result.name, result.value),
        f"{result.verdict.value}{', blocks' if result.blocks else ''}",
        result.reason or "",
    )


def framed(page: str, *, title: str) -> str:
    """A page in a frame of its own, which may run the page's script and reach nothing around it."""
    return (
        f'<iframe title="{_text(title)}" srcdoc="{escape(page)}" sandbox="allow-scripts" '
        'style="width: 100%; height: 640px; border: 0"></iframe>'
    )


def _table(caption: str, head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    body = "".join(f"<tr>{_cells(row, 'td')}</tr>" for row in rows)
    return (
        f"<table><caption>{_text(caption)}</caption><thead><tr>{_cells(head, 'th')}</tr></thead>"
        f"<tbody>{body}</tbody></table>"
    )


def _cells(texts: Iterable[str], tag: str) -> str:
    return "".join(f"<{tag}>{_text(text)}</{tag}>" for text in texts)


def _text(text: str) -> str:
    return escape(visible(text))
