"""What comes of a long-tail study: the result of every run."""

from __future__ import annotations

from dataclasses import dataclass

from edgec.study.long_tail.grid import Cell
from edgec.study.long_tail.plan import Study
from edgec.study.score import Inapplicable, Score

__all__ = ["Findings", "Measured", "Outcome"]


class Measured(Score):
    """What a net reached.

    Attributes:
        counts: Images by class that it was trained on, in the order of the outputs; of the few samples with those.
        seconds: Of its training, or compression.
        where: The machine.
    """

    counts: tuple[int, ...]
    seconds: float
    where: str


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A run and what came of it.

    Attributes:
        cell: The row that it counts for.
        group: What the cell has in common with those that it is compared with, for people.
        seed: Its seed.
        result: What was measured, or why nothing was.
    """

    cell: Cell
    group: str
    seed: int
    result: Measured | Inapplicable


@dataclass(frozen=True, kw_only=True)
class Findings:
    """A finished study.

    Attributes:
        study: What was run.
        labels: Class names in the order of the outputs.
        outcomes: One for each run, in order.
        cached: Runs whose results lay there already.
        seconds: How long it took, this time.
    """

    study: Study
    labels: tuple[str, ...]
    outcomes: tuple[Outcome, ...]
    cached: int
    seconds: float
