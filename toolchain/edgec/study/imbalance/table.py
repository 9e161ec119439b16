"""An imbalance study's table: macro F1, what imbalance costs of it, and how that compares with the uncompressed net."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum

from edgec.study.draw import BALANCED
from edgec.study.imbalance.findings import Findings
from edgec.study.imbalance.grid import Cell
from edgec.study.pairs import BySeed, by_cell
from edgec.study.score import Inapplicable
from edgec.study.spread import Spread, spread_of, spreads_of

__all__ = ["MEASURES", "Robust", "Row", "gap", "rows"]

MEASURES = (
    *("macro_f1", "accuracy", "worst_class_accuracy"),
    *("head_accuracy", "medium_accuracy", "tail_accuracy"),
    *("weights", "size_mibit", "seconds"),
)
"""Fields of `Measured` that are averaged over seeds."""


class Robust(str, Enum):
    """Whether imbalance costs a compressed net no more than the uncompressed one."""

    YES = "yes"
    NO = "no"
    OPEN = "not settled"
    """The seeds do not tell."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One cell of the grid.

    Attributes:
        cell: Which.
        spreads: By name of `MEASURES`, for those that were measured.
        gap: Δ, the share of macro F1 that training on imbalanced images costs, in pairs of the same seed; None for
            the balanced draw, and where the compression does not apply.
        excess: Δ of this net minus Δ of the uncompressed one.
        ratio: Mean Δ over the mean Δ of the uncompressed net; None where imbalance costs that one nothing.
        reason: Why the compression does not apply, where it does not.
        scores: Macro F1 of every seed.
        gaps: Δ of every seed.
    """

    cell: Cell
    spreads: Mapping[str, Spread]
    scores: tuple[float, ...] = ()
    gaps: tuple[float, ...] = ()
    gap: Spread | None = None
    excess: Spread | None = None
    ratio: float | None = None
    reason: str | None = None

    @property
    def robust(self) -> Robust | None:
        """Whether the ratio is at most 1, by the 95 % interval of the excess: the seeds' gaps differ in pairs.

        The paper takes the bare ratio, whose sign chance decides where the gaps differ little; its text has it the
        other way round, its tables and conclusions do not. None where nothing is to be compared.
        """
        if self.ratio is None or self.excess is None:
            return None
        low, high = self.excess.interval or (-math.inf, math.inf)
        if high <= 0:
            return Robust.YES
        return Robust.NO if low > 0 else Robust.OPEN


def gap(balanced: float, imbalanced: float) -> float:
    """Eq. 5: Δ = (F1_bal − F1_imbal) / F1_bal; below 0 where imbalance does no harm."""
    return (balanced - imbalanced) / balanced


def rows(findings: Findings) -> list[Row]:
    """The table, in the order of the grid."""
    measured = by_cell(findings.outcomes, MEASURES)
    reasons = {o.cell: o.result.reason for o in findings.outcomes if isinstance(o.result, Inapplicable)}
    gaps = {cell: _gaps(by_seed, measured[cell.balanced]) for cell, by_seed in measured.items()}
    return [_row(cell, measured[cell], gaps, reasons.get(cell)) for cell in measured]


def _row(cell: Cell, by_seed: BySeed, gaps: Mapping[Cell, Mapping[int, float]], reason: str | None) -> Row:
    scores = tuple(values["macro_f1"] for values in by_seed.values())
    row = Row(cell=cell, spreads=spreads_of(by_seed.values(), MEASURES), scores=scores, reason=reason)
    own, plain = gaps[cell], gaps[cell.uncompressed]
    if cell.draw == BALANCED or not own:
        return row
    row = replace(row, gap=spread_of(list(own.values())), gaps=tuple(own.values()))
    if cell.compression == "none":
        return row
    mean, whole = statistics.fmean(own.values()), statistics.fmean(plain.values())
    return replace(
        row,
        excess=spread_of([own[seed] - plain[seed] for seed in own]),
        ratio=mean / whole if whole > 0 else None,
    )


def _gaps(by_seed: BySeed, balanced: BySeed) -> dict[int, float]:
    return {
        seed: gap(balanced[seed]["macro_f1"], values["macro_f1"])
        for seed, values in by_seed.items()
        if seed in balanced
    }
