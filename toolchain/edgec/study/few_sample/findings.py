"""What comes of a few-sample study: the result of every run, and of the teacher."""

from __future__ import annotations

from dataclasses import dataclass

from edgec.study.few_sample.grid import Cell
from edgec.study.few_sample.plan import Study
from edgec.study.score import Inapplicable, Score

__all__ = ["Findings", "Measured", "Outcome"]


class Measured(Score):
    """What a compression reached.

    Attributes:
        counts: Few samples by class, in the order of the outputs.
        kept_flops: Share of the multiply-adds that stayed.
        seconds: Of the compression, without reading images and evaluating.
        where: The machine.
    """

    counts: tuple[int, ...]
    kept_flops: float
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
        teacher: What the model reaches before it is compressed.
        outcomes: One for each run, in order.
        cached: Runs whose results lay there already.
        seconds: How long it took, this time.
    """

    study: Study
    labels: tuple[str, ...]
    teacher: Score
    outcomes: tuple[Outcome, ...]
    cached: int
    seconds: float
