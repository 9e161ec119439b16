"""What comes of a few-sample study: the result of every run, and of the teacher."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict

from edgec.study.grid import Cell
from edgec.study.plan import Study

__all__ = ["Findings", "Inapplicable", "Measured", "Outcome", "Score"]


class Score(BaseModel):
    """What a classifier reaches on the test images, as shares from 0 to 1.

    Attributes:
        head_accuracy: Over the third of the classes with the most few samples; None where all have as many.
        medium_accuracy: Over those between.
        tail_accuracy: Over the third with the fewest.
        class_accuracy: By class, for those that have test images.
        images: Test images.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    accuracy: float
    worst_class_accuracy: float
    macro_f1: float
    head_accuracy: float | None = None
    medium_accuracy: float | None = None
    tail_accuracy: float | None = None
    class_accuracy: dict[str, float]
    images: int


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


class Inapplicable(BaseModel):
    """Why a method cannot compress this model."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    reason: str


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
