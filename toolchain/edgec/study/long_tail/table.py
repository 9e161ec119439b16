"""A long-tail study's table: mean and deviation over seeds by cell, and what losses and adjustments bring in pairs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from edgec.study.long_tail.findings import Findings
from edgec.study.long_tail.grid import Cell, Loss
from edgec.study.pairs import by_cell, differences
from edgec.study.score import Inapplicable
from edgec.study.spread import Spread, spreads_of

__all__ = ["GAINED", "MEASURES", "Gain", "Row", "cell_record", "gains", "rows"]

MEASURES = (
    *("accuracy", "worst_class_accuracy", "macro_f1"),
    *("head_accuracy", "medium_accuracy", "tail_accuracy", "seconds"),
)
"""Fields of `Measured` that are averaged over seeds."""
GAINED = ("accuracy", "tail_accuracy", "worst_class_accuracy")
"""Those whose differences are shown."""
_CONTROLS: Mapping[str, tuple[Loss, ...]] = {
    "ltkd": ("kd", "dkd", "dist"),
    "ltkd-alone": ("ltkd", "kd", "dkd", "dist"),
}
"""What a loss is held against, where both are adjusted alike."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One cell of the grid.

    Attributes:
        cell: Which.
        group: What it has in common with those that it is compared with.
        spreads: By name of `MEASURES`, for those that were measured.
        seeds: The values of each seed, by name of `GAINED`.
        reason: Why the cell's way does not apply, where it does not.
    """

    cell: Cell
    group: str
    spreads: Mapping[str, Spread]
    seeds: Mapping[str, tuple[float, ...]]
    reason: str | None = None


@dataclass(frozen=True, kw_only=True)
class Gain:
    """A cell minus another one of its group, in pairs of the same seed.

    Attributes:
        cell: The first.
        over: The other.
        group: What they have in common.
        spreads: Of the differences, by name of `GAINED`, as shares.
    """

    cell: Cell
    over: Cell
    group: str
    spreads: Mapping[str, Spread]

    @property
    def title(self) -> str:
        """For people, as in `ltkd over kd`."""
        return f"{self.cell.name} over {self.over.name}"


def rows(findings: Findings) -> list[Row]:
    """The table, in the order of the grid."""
    reasons = {o.cell: o.result.reason for o in findings.outcomes if isinstance(o.result, Inapplicable)}
    groups = {o.cell: o.group for o in findings.outcomes}
    return [
        Row(
            cell=cell,
            group=groups[cell],
            spreads=spreads_of(by_seed.values(), MEASURES),
            seeds={name: tuple(values[name] for values in by_seed.values() if name in values) for name in GAINED},
            reason=reasons.get(cell),
        )
        for cell, by_seed in by_cell(findings.outcomes, MEASURES).items()
    ]


def gains(findings: Findings) -> list[Gain]:
    """What LTKD brings over each other loss, then what each adjustment brings, group by group."""
    measured = by_cell(findings.outcomes, MEASURES)
    groups = {o.cell: o.group for o in findings.outcomes}
    losses = [(cell, cell.compared(loss)) for cell in measured for loss in _CONTROLS.get(cell.loss, ())]
    adjusted = [(cell, cell.unadjusted) for cell in measured if cell.adjusted != "nothing"]
    found: list[Gain] = []
    for cell, over in (*losses, *adjusted):
        paired = differences(measured[cell], measured.get(over, {}), GAINED)
        if paired:
            spreads = spreads_of(paired.values(), GAINED)
            found.append(Gain(cell=cell, over=over, group=groups[cell], spreads=spreads))
    order = list(dict.fromkeys(groups.values()))
    return sorted(found, key=lambda gain: order.index(gain.group))


def cell_record(cell: Cell) -> dict[str, Any]:
    """A cell for machines; null stands for the config's architecture."""
    return {
        "data": cell.data,
        **{name: value or None for name, value in asdict(cell.pair).items()},
        "imbalance": cell.imbalance,
        "loss": cell.loss,
        "adjusted": cell.adjusted,
    }
