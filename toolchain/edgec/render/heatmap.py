"""The heat map of the report page: what int8 in each layer costs each class."""

from __future__ import annotations

import math
from dataclasses import dataclass

from edgec.core.facts import LayerSensitivity
from edgec.evaluate.report import Report
from edgec.render.view import class_order

__all__ = ["MOST_CLASSES", "HeatCell", "HeatMap", "HeatRow", "heat_map"]

MOST_CLASSES = 30
"""Columns that fit side by side; of more classes, those that lose most."""


@dataclass(frozen=True, kw_only=True)
class HeatCell:
    """One class in one layer.

    Attributes:
        label: The class.
        divergence: In nat; None where it was not measured.
        heat: Strength of the cell's colour, from 0 to 1 at the largest divergence of the map; the root makes small ones
            visible.
    """

    label: str
    divergence: float | None
    heat: float

    @property
    def milli(self) -> str:
        """Thousandths of a nat in two digits: `12`, `0.4`."""
        if self.divergence is None:
            return "–"
        value = 1e3 * self.divergence
        if value >= 10:
            return f"{value:,.0f}"
        return f"{value:.1f}" if value >= 0.05 else "0"


@dataclass(frozen=True, kw_only=True)
class HeatRow:
    """One layer, its cells in the order of the map's classes."""

    layer: LayerSensitivity
    cells: tuple[HeatCell, ...]


@dataclass(frozen=True, kw_only=True)
class HeatMap:
    """Layers by classes.

    Attributes:
        classes: The columns.
        hidden: Classes that lose less than any that is shown.
        largest: The largest divergence, in nat.
        rows: Layers in the order of the graph.
    """

    classes: tuple[str, ...]
    hidden: int
    largest: float
    rows: tuple[HeatRow, ...]

    @property
    def keeps_float(self) -> bool:
        """Whether any layer was kept in floating point."""
        return any(row.layer.kept == "float" for row in self.rows)


def heat_map(report: Report, *, most: int = MOST_CLASSES) -> HeatMap | None:
    """The map of a report, classes in the order of its table; None where sensitivities were not measured."""
    layers = report.sensitivity
    worst = {label: max((row.divergence.get(label, 0.0) for row in layers), default=0.0) for label in report.labels}
    if not layers:
        return None
    shown = set(sorted(worst, key=lambda label: -worst[label])[:most])
    classes = tuple(label for label in (report.labels[i] for i in class_order(report)) if label in shown)
    largest = max(worst.values())
    return HeatMap(
        classes=classes,
        hidden=len(report.labels) - len(classes),
        largest=largest,
        rows=tuple(
            HeatRow(layer=row, cells=tuple(_cell(label, row.divergence.get(label), largest) for label in classes))
            for row in layers
        ),
    )


def _cell(label: str, divergence: float | None, largest: float) -> HeatCell:
    heat = math.sqrt(divergence / largest) if divergence else 0.0
    return HeatCell(label=label, divergence=divergence, heat=round(heat, 3))
