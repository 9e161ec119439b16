"""The report as one HTML page that needs nothing else: no network, inline SVG, a script that only finds classes."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgec.core import wording
from edgec.core.errors import MissingDependencyError
from edgec.core.facts import SizePart
from edgec.core.measurement import Kind, Measurement, Stage
from edgec.core.plain import visible
from edgec.evaluate.broken import BrokenImages
from edgec.evaluate.gates import GateResult, Verdict, fold_passes
from edgec.evaluate.report import Report
from edgec.render import overview, view
from edgec.render.headline import headline_of
from edgec.render.heatmap import heat_map
from edgec.render.latency_plot import latency_plot
from edgec.render.preprocessing import preprocessing_steps
from edgec.render.reliability_plot import reliability_plot

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = ["FEW_CLASSES", "density_of", "render_report", "render_template"]

_TEMPLATES = Path(__file__).parent / "templates"
FEW_CLASSES = 20
"""Up to here a class has room for a lane per stage in the plot, and a number in each cell of the confusion matrix."""
_MANY_CLASSES = 200
"""Up to here a class has a row in the plot and a pixel in the confusion matrix."""
_SHORT_NAME = 3
"""Letters that fit over a column of the confusion matrix without being turned."""
_OPERATORS = 10
_CONFUSIONS = 12
_LOST = 20
_PARTS = 12
_GATES = 20
_SECTIONS = {
    "gates": "Gates",
    "stages": "Teacher to artifact",
    "classes": "Classes",
    "broken": "Broken images",
    "confusions": "Confusions",
    "confidence": "Confidence",
    "layers": "Layers",
    "tensorrt": "TensorRT",
    "latency": "Latency",
    "size": "Size",
    "calibration": "Calibration",
    "input": "Input",
    "data": "Data",
    "lineage": "Lineage",
    "notes": "Notes",
}


def render_report(report: Report, *, gates: Sequence[GateResult] | None, broken: BrokenImages | None = None) -> str:
    """Draws the page.

    Args:
        report: What to show.
        gates: Results of `check_gates`; None where none were checked.
        broken: Images that the teacher gets right and the artifact wrong; None where they are not known.

    Raises:
        MissingDependencyError: jinja2 is not installed.
    """
    shown = {
        "report": report,
        "headline": headline_of(report, gates or ()),
        "gates": fold_passes(gates or ()),
        "most_gates": _GATES,
        "stages": view.stages_of(report),
        "summary": view.summary_rows(report),
        "broken": broken,
        "heat": heat_map(report),
        "operators": report.operators[:_OPERATORS],
        "operators_ms": _predicted_ms(report),
        "spread": latency_plot(report),
        "reliability": reliability_plot(report),
        "steps": preprocessing_steps(report.input) if report.input else (),
        **_classes(report),
        **_confusions(report),
        **_sizes(report),
    }
    return render_template("report.html.j2", sections=_sections(report, shown), **shown)


def render_template(name: str, **shown: Any) -> str:
    """Fills a page's template.

    Raises:
        MissingDependencyError: jinja2 is not installed.
    """
    if find_spec("jinja2") is None:
        raise MissingDependencyError(
            "the report page needs jinja2, which is not installed", hint="pip install 'edgec[build]'"
        )
    return _environment().get_template(name).render(**shown)


def density_of(report: Report) -> str:
    """How much room a class has: `few`, `many`, `crowd`."""
    size = len(report.labels)
    return "few" if size <= FEW_CLASSES else "many" if size <= _MANY_CLASSES else "crowd"


def _classes(report: Report) -> Mapping[str, Any]:
    """What is drawn class by class."""
    rows, density = view.class_rows(report), density_of(report)
    axis, bars = view.axis_of(rows), view.calibration_bars(report)
    crowd = density == "crowd"
    return {
        "rows": rows,
        "axis": axis,
        "density": density,
        "few_classes": density == "few",
        "short_names": max(map(len, report.labels)) <= _SHORT_NAME,
        "counted": report.train_counts is not None,
        "overview": overview.overview_of(rows, axis, view.stages_of(report)) if crowd else None,
        "lost": view.lost_most(rows, most=_LOST) if crowd else [],
        "bars": bars,
        "bar_paths": overview.bar_paths(bars) if crowd else None,
    }


def _confusions(report: Report) -> Mapping[str, Any]:
    """Of a crowd the pairs alone: a matrix would have less than a pixel for a class."""
    density = density_of(report)
    confusion = view.confusion_rows(report, Stage.ARTIFACT) if density != "crowd" else []
    return {
        "confusion": confusion,
        "matrix": overview.matrix_paths(confusion) if density == "many" else [],
        "confusions": view.top_confusions(report, Stage.ARTIFACT, most=_CONFUSIONS),
        "grown": view.grown_confusions(report, Stage.ARTIFACT, most=_CONFUSIONS),
        "has_confusions": Stage.ARTIFACT in report.confusion,
    }


def _sizes(report: Report) -> Mapping[str, Any]:
    """Files beside each other, and the largest parts of the one that ships."""
    found = [(stage, report.find(stage, "size_bytes")) for stage in wording.STAGES]
    sizes: list[tuple[Stage, Measurement]] = [(stage, row) for stage, row in found if row is not None]
    parts: list[SizePart] = sorted(report.sizes, key=lambda part: -part.bytes)[:_PARTS]
    return {
        "sizes": sizes,
        "sizes_most": max((row.value for _, row in sizes), default=1) or 1,
        "parts": parts,
        "parts_most": max((part.bytes for part in parts), default=1) or 1,
        "parts_total": sum(part.bytes for part in report.sizes) or 1,
    }


def _sections(report: Report, shown: Mapping[str, Any]) -> dict[str, str]:
    """Anchor and title of the sections that this page has; the template asks it, too."""
    there = {
        "gates": shown["gates"],
        "stages": True,
        "classes": True,
        "broken": shown["broken"] and shown["broken"].images,
        "confusions": shown["has_confusions"],
        "confidence": shown["reliability"],
        "layers": shown["heat"] or report.effects,
        "tensorrt": report.tensorrt,
        "latency": any(row.unit in ("ms", "times") for row in report.measurements),
        "size": shown["sizes"],
        "calibration": report.calibration,
        "input": shown["steps"],
        "data": report.data.splits,
        "lineage": report.lineage,
        "notes": report.notes,
    }
    return {name: title for name, title in _SECTIONS.items() if there[name]}


def _predicted_ms(report: Report) -> float:
    """What the operators' times are shares of; the report may name only the slowest."""
    rows = (row for row in report.measurements if row.name == "latency_ms_p50" and row.stage is Stage.ARTIFACT)
    predicted = next((row.value for row in rows if row.kind is Kind.PREDICTED), None)
    return predicted or sum(operator.ms for operator in report.operators) or 1.0


@cache
def _script() -> tuple[str, str]:
    """The page's script, and the digest by which its policy lets that one run and no other."""
    text = (_TEMPLATES / "report.js").read_text(encoding="utf-8").strip()
    return text, base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


@cache
def _environment() -> Environment:
    """What the templates share; kept, since each is compiled where it is first used."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: visible(value) if type(value) is str else value,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    script, digest = _script()
    environment.globals.update(Stage=Stage, Verdict=Verdict, STAGES=wording.STAGES)
    environment.globals.update(script=Markup(script), script_digest=digest)  # noqa: S704 - a file of this package
    environment.filters.update(
        amount=lambda value, name: wording.format_amount(name, value),
        fact=wording.format_fact,
        interval=wording.format_interval,
        measure=wording.measure_title,
        percent=lambda value: f"{100 * value:.0f} %",
        points=wording.format_points,
        share=wording.format_share,
    )
    return environment
