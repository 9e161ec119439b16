"""What comes of an imbalance study: the result of every run."""

from __future__ import annotations

from dataclasses import dataclass

from edgec.study.imbalance.grid import Cell
from edgec.study.imbalance.plan import Study
from edgec.study.score import Inapplicable, Score

__all__ = ["Findings", "Measured", "Outcome"]


class Measured(Score):
    """What a net reached.

    Attributes:
        counts: Training images by class, in the order of the outputs.
        weights: Weights of convolutions and linear layers, without biases and batch norm.
        size_mibit: What they take, 2^20 bits each.
        seconds: Of its last training, that which compressed and uncompressed nets have in common.
        where: The machine.
    """

    counts: tuple[int, ...]
    weights: int
    size_mibit: float
    seconds: float
    where: str


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A run and what came of it."""

    cell: Cell
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
