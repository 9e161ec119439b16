"""The report as one HTML page that needs nothing else: no network, no script, plots as inline SVG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgec.core.errors import MissingDependencyError
from edgec.core.measurement import Kind, Stage
from edgec.evaluate import view, wording
from edgec.evaluate.gates import GateResult, Verdict, fold_passes
from edgec.evaluate.heatmap import heat_map
from edgec.evaluate.report import Report

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = ["render_report"]

_TEMPLATES = Path(__file__).parent / "templates"
_FEW_CLASSES = 20
"""Up to here a class has room for a lane per stage in the plot, and a number in each cell of the confusion matrix."""
_SHORT_NAME = 3
"""Letters that fit over a column of the confusion matrix without being turned."""
_OPERATORS = 10
_CONFUSIONS = 12


def render_report(report: Report, *, gates: Sequence[GateResult] | None) -> str:
    """Draws the page.

    Args:
        report: What to show.
        gates: Results of `check_gates`; None where none were checked.

    Raises:
        MissingDependencyError: jinja2 is not installed.
    """
    rows = view.class_rows(report)
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            report=report,
            gates=fold_passes(gates or ()),
            verdicts=[result.verdict for result in gates or ()],
            stages=view.stages_of(report),
            summary=view.summary_rows(report),
            rows=rows,
            axis=view.axis_of(rows),
            few_classes=len(report.labels) <= _FEW_CLASSES,
            short_names=max(map(len, report.labels)) <= _SHORT_NAME,
            confusion=view.confusion_rows(report, Stage.ARTIFACT),
            confusions=view.top_confusions(report, Stage.ARTIFACT, most=_CONFUSIONS),
            bars=view.calibration_bars(report),
            heat=heat_map(report),
            operators=report.operators[:_OPERATORS],
            operators_ms=_predicted_ms(report),
        )
    )


def _predicted_ms(report: Report) -> float:
    """What the operators' times are shares of; the report may name only the slowest."""
    rows = (row for row in report.measurements if row.name == "latency_ms_p50" and row.stage is Stage.ARTIFACT)
    predicted = next((row.value for row in rows if row.kind is Kind.PREDICTED), None)
    return predicted or sum(operator.ms for operator in report.operators) or 1.0


def _environment() -> Environment:
    try:
        from jinja2 import Environment, FileSystemLoader, StrictUndefined
    except ImportError as error:
        raise MissingDependencyError(
            "the report page needs jinja2, which is not installed", hint="pip install 'edgec[build]'"
        ) from error
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(Stage=Stage, Verdict=Verdict, STAGES=wording.STAGES)
    environment.filters.update(
        amount=lambda value, name: wording.format_amount(name, value),
        fact=wording.format_fact,
        interval=wording.format_interval,
        measure=wording.measure_title,
        share=wording.format_share,
    )
    return environment
