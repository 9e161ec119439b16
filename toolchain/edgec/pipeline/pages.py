"""The HTML page of a finished bundle, or of two beside each other."""

from __future__ import annotations

from pathlib import Path

from edgec.evaluate.broken import BROKEN, BrokenImages, parse_broken
from edgec.evaluate.gates import check_gates
from edgec.package import open_bundle
from edgec.pipeline.check import read_evidence
from edgec.render.compare_page import render_comparison
from edgec.render.comparison import Side
from edgec.render.page import render_report

__all__ = ["comparison_page", "report_page"]


def report_page(bundle: Path) -> str:
    """What a bundle says about itself, judged by its own gates.

    Raises:
        DataError: Nothing is there, or it is no bundle.
        IntegrityError: It is damaged or was edited.
        MissingDependencyError: jinja2 is not installed.
    """
    evidence = read_evidence(bundle)
    report, drops = evidence.report, evidence.predictions.against_teacher()
    gates = check_gates(report, report.gates, drops=drops) if report.gates else None
    return render_report(report, gates=gates, broken=_broken(bundle))


def comparison_page(before: Path, after: Path) -> str:
    """What changes when the second bundle takes the place of the first.

    Raises:
        DataError: Nothing is there, it is no bundle, or the two have no class in common.
        IntegrityError: One is damaged or was edited.
        MissingDependencyError: jinja2 is not installed.
    """
    return render_comparison(_side(before), _side(after))


def _side(bundle: Path) -> Side:
    evidence = read_evidence(bundle)
    name = bundle.resolve().name if bundle.is_dir() else bundle.stem
    return Side(name=name, report=evidence.report, predictions=evidence.predictions, broken=_broken(bundle))


def _broken(bundle: Path) -> BrokenImages | None:
    """The images that a bundle holds; bundles from before they were kept hold none."""
    opened = open_bundle(bundle)
    if BROKEN not in opened.manifest.files:
        return None
    return parse_broken(opened.read_bytes(BROKEN), where=f"{bundle}/{BROKEN}")
