"""A study's table: mean and deviation over seeds by cell, and what recipe and OOD images bring in pairs of a seed."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from edgec.study.few_sample.findings import Findings, Outcome
from edgec.study.few_sample.grid import Cell, VariantKind
from edgec.study.few_sample.published import Figure, published
from edgec.study.pairs import BySeed, by_cell, differences
from edgec.study.score import Inapplicable
from edgec.study.spread import Spread, spreads_of

__all__ = ["ALL_METHODS", "MEASURES", "Gain", "Row", "gains", "rows"]

MEASURES = (
    *("accuracy", "worst_class_accuracy", "macro_f1"),
    *("head_accuracy", "medium_accuracy", "tail_accuracy"),
    *("kept_flops", "seconds"),
)
"""Fields of `Measured` that are averaged over seeds."""
ALL_METHODS = "all methods"

_GAINED = ("accuracy", "worst_class_accuracy")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One cell of the grid.

    Attributes:
        cell: Which.
        spreads: By name of `MEASURES`, for those that were measured.
        reason: Why the method does not apply, where it does not.
        paper: The paper's figure for this cell.
    """

    cell: Cell
    spreads: Mapping[str, Spread]
    reason: str | None = None
    paper: Figure | None = None


@dataclass(frozen=True, kw_only=True)
class Gain:
    """A variant minus another one of the same method, in pairs of the same seed.

    Attributes:
        cell: The variant's; its method is `ALL_METHODS` where the differences are means over methods.
        over: The other variant. `few` over `plain` is what the recipe brings, `ours` over `few` what the OOD images do.
        spreads: Of the differences: `accuracy` and `worst_class_accuracy`, as shares.
    """

    cell: Cell
    over: VariantKind
    spreads: Mapping[str, Spread]

    @property
    def title(self) -> str:
        """For people, as in `mir ours over few`."""
        return f"{self.cell.method} {self.cell.variant.name} over {self.over}"


_CONTROLS: Mapping[VariantKind, tuple[VariantKind, ...]] = {
    "paper": ("plain",),
    "few": ("plain",),
    "ours": ("few", "plain"),
}
"""What a variant is held against."""


def rows(findings: Findings) -> list[Row]:
    """The table, in the order of the grid."""
    few = findings.study.runs[0].plan.data.few
    profile, at_least = (few.profile, few.at_least) if few else ("", 1)
    reasons = {o.cell: o.result.reason for o in findings.outcomes if isinstance(o.result, Inapplicable)}
    return [
        Row(
            cell=cell,
            spreads=spreads_of(by_seed.values(), MEASURES),
            reason=reasons.get(cell),
            paper=published(cell, findings.labels, profile=profile, at_least=at_least),
        )
        for cell, by_seed in by_cell(findings.outcomes, MEASURES).items()
    ]


def gains(outcomes: Sequence[Outcome]) -> list[Gain]:
    """What every variant gains over its controls, and after each draw the mean over the methods, if several."""
    measured = by_cell(outcomes, MEASURES)
    each: dict[tuple[Cell, VariantKind], BySeed] = {
        (cell, control): differences(by_seed, measured[cell.compared(control)], _GAINED)
        for cell, by_seed in measured.items()
        for control in _CONTROLS.get(cell.variant.kind, ())
        if cell.compared(control) in measured
    }
    groups: dict[tuple[Cell, VariantKind], list[BySeed]] = {}
    for (cell, control), by_seed in each.items():
        if by_seed:
            groups.setdefault((replace(cell, method=ALL_METHODS), control), []).append(by_seed)
    together = {key: _averaged(parts) for key, parts in groups.items() if len(parts) > 1}
    draws = list(dict.fromkeys(cell.draw for cell in measured))
    found = [
        Gain(cell=cell, over=control, spreads=spreads_of(by_seed.values(), _GAINED))
        for (cell, control), by_seed in {**each, **together}.items()
        if by_seed
    ]
    return sorted(found, key=lambda gain: draws.index(gain.cell.draw))


def _averaged(parts: Sequence[BySeed]) -> dict[int, dict[str, float]]:
    """Means over methods, for the seeds that all of them have."""
    seeds = [seed for seed in parts[0] if all(seed in part for part in parts)]
    return {seed: {name: statistics.fmean(part[seed][name] for part in parts) for name in _GAINED} for seed in seeds}
