"""What was measured of each cell, seed by seed, and differences in pairs of the same seed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol, TypeVar

__all__ = ["BySeed", "by_cell", "differences"]

CellT_co = TypeVar("CellT_co", covariant=True)
CellT = TypeVar("CellT")
BySeed = Mapping[int, Mapping[str, float]]
"""Values of a cell by seed and measure."""


class _Outcome(Protocol[CellT_co]):
    """A run of any study, and what came of it."""

    @property
    def cell(self) -> CellT_co:
        """The row that it counts for."""
        ...

    @property
    def seed(self) -> int:
        """Its seed."""
        ...

    @property
    def result(self) -> object:
        """What was measured, or why nothing was."""
        ...


def by_cell(outcomes: Iterable[_Outcome[CellT]], names: Sequence[str]) -> dict[CellT, dict[int, dict[str, float]]]:
    """What was measured; a cell that does not apply has no seed. Cells stand in the order of the grid.

    Args:
        outcomes: Of all runs.
        names: Fields of the results; a value that is None is left out.
    """
    found: dict[CellT, dict[int, dict[str, float]]] = {}
    for outcome in outcomes:
        by_seed = found.setdefault(outcome.cell, {})
        values = {name: getattr(outcome.result, name, None) for name in names}
        measured = {name: float(value) for name, value in values.items() if value is not None}
        if measured:
            by_seed[outcome.seed] = measured
    return found


def differences(first: BySeed, second: BySeed, names: Sequence[str]) -> dict[int, dict[str, float]]:
    """First minus second, for the seeds and measures that both have."""
    return {
        seed: {name: values[name] - second[seed][name] for name in names if name in values and name in second[seed]}
        for seed, values in first.items()
        if seed in second
    }
