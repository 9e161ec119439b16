"""The grid of a long-tail study: which teachers of which students, on what, with which losses and seeds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from edgec.study.config import Training
from edgec.study.draw import Draw
from edgec.study.lists import Lists

__all__ = ["ALONE", "Adjusted", "Cell", "Data", "Grid", "Loss", "Pair"]

Loss = Literal["labels", "kd", "dkd", "dist", "ltkd", "kd-alone", "dkd-alone", "dist-alone", "ltkd-alone"]
Adjusted = Literal["nothing", "labels", "teacher", "both"]
Data = Literal["whole", "few"]
ALONE = "-alone"
"""Behind the name of a loss: without the labels' own."""
_PARTS: dict[Adjusted, frozenset[str]] = {
    "nothing": frozenset(),
    "labels": frozenset({"labels"}),
    "teacher": frozenset({"teacher"}),
    "both": frozenset({"labels", "teacher"}),
}


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Architectures; empty texts stand for the config's.

    Attributes:
        teacher: Of the teacher.
        student: Of the student; of no use with few samples, where it is the teacher pruned.
    """

    teacher: str = ""
    student: str = ""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """What one row of the table is about.

    Attributes:
        data: What the student learns from: the whole long tail, or few samples with the same tail.
        pair: Teacher and student.
        imbalance: ρ, the most frequent class's images over the rarest's.
        loss: What is minimised; `teacher` is the row of the teacher itself, and `features` recovery from few samples
            as it is.
        adjusted: What the class frequencies are taken out of.
    """

    data: Data
    pair: Pair
    imbalance: float
    loss: Loss | Literal["teacher", "features"]
    adjusted: Adjusted = "nothing"

    @property
    def draw(self) -> Draw:
        """The long tail."""
        return Draw(profile="linear", imbalance=self.imbalance)

    @property
    def name(self) -> str:
        """For people, as in `ltkd, adjusted teacher`."""
        return self.loss if self.adjusted == "nothing" else f"{self.loss}, adjusted {self.adjusted}"

    @property
    def distillation(self) -> str | None:
        """The loss of the logits by its name in `learn.losses`; None where there is none."""
        name = self.loss.removesuffix(ALONE)
        return None if name in ("labels", "teacher", "features") else name

    def adjusts(self, part: str) -> bool:
        """Whether the class frequencies are taken out of `labels` or `teacher`."""
        return part in _PARTS[self.adjusted]

    def compared(self, loss: Loss) -> Cell:
        """The cell of another loss."""
        return replace(self, loss=loss)

    @property
    def unadjusted(self) -> Cell:
        """The same cell with the class frequencies left in."""
        return replace(self, adjusted="nothing")


def _pair(text: str) -> str:
    if len([name for name in text.split("/") if name.strip()]) != 2 or text.count("/") != 1:
        raise ValueError(f"got '{text}', expected TEACHER/STUDENT, as in resnet56/resnet20")
    return text


class Grid(Lists):
    """A study, as it was asked for.

    Attributes:
        pairs: `TEACHER/STUDENT`, two architectures; a name without a module is one of the config's module. Where there
            are none, the config's architecture teaches itself.
        imbalance: ρ.
        data: `whole`, students trained on all of the long tail; `few`, the teacher pruned and recovered with few
            samples.
        losses: What students learn from: `labels`, or these and one of the teacher's logits, or that `-alone`.
        adjusted: What the class frequencies are taken out of (logit adjustment): `nothing`, the `labels`' loss, the
            `teacher`'s logits, or `both`.
        seeds: Of the images, which classes are rare, the weights to begin with, and the training.
        samples: Training images of the most frequent class; where it is not given, as many as every class has.
        teacher_steps: Of the teacher's training; where it is not given, as many as the student's.
        temperature: Of the losses of logits.
        training: How nets are trained.
    """

    pairs: tuple[Annotated[str, AfterValidator(_pair)], ...] = ()
    imbalance: tuple[Annotated[float, Field(gt=1, allow_inf_nan=False)], ...] = (50.0,)
    data: tuple[Data, ...] = ("whole",)
    losses: tuple[Loss, ...] = ("labels", "kd", "dkd", "dist", "ltkd", "ltkd-alone")
    adjusted: tuple[Adjusted, ...] = ("nothing", "labels", "both")
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = (0, 1, 2)
    samples: int | None = Field(default=None, ge=1)
    teacher_steps: int | None = Field(default=None, ge=1)
    temperature: float = Field(default=4.0, gt=0, allow_inf_nan=False)
    training: Training = Training()

    @property
    def taught(self) -> Training:
        """How teachers are trained."""
        steps = self.teacher_steps
        return self.training if steps is None else self.training.model_copy(update={"steps": steps, "epochs": None})

    @property
    def architectures(self) -> tuple[Pair, ...]:
        """Teachers and students."""
        pairs = (pair.split("/") for pair in self.pairs)
        return tuple(Pair(teacher=one.strip(), student=two.strip()) for one, two in pairs) or (Pair(),)

    @property
    def cells(self) -> tuple[Cell, ...]:
        """Rows of the table, in its order: the teacher before its students."""
        return tuple(dict.fromkeys(self._cells()))

    def _cells(self) -> Iterator[Cell]:
        for data, pair, imbalance in product(self.data, self.architectures, self.imbalance):
            both = replace(pair, student="") if data == "few" else pair
            teacher = Cell(data=data, pair=both, imbalance=imbalance, loss="teacher")
            yield teacher
            yield replace(teacher, adjusted="teacher")
            for loss in self.losses:
                yield from _ways(replace(teacher, loss=loss), self.adjusted)

    @property
    def runs(self) -> Iterator[tuple[Cell, int]]:
        """Every cell with every seed, seed by seed: a study that is cut short has whole tables of fewer seeds."""
        return ((cell, seed) for seed, cell in product(self.seeds, self.cells))


def _ways(cell: Cell, asked: tuple[Adjusted, ...]) -> Iterator[Cell]:
    """A loss with every adjustment that it has parts for; none where it would be another one's twin."""
    few, alone = cell.data == "few", cell.loss.endswith(ALONE)
    if few and alone:  # recovery from few samples has no labels' loss
        return
    there = {"labels": not few and not alone, "teacher": few or cell.distillation is not None}
    names = {parts: name for name, parts in _PARTS.items()}
    if few and cell.loss == "labels":
        cell = replace(cell, loss="features")
    for adjusted in asked:
        parts = frozenset(part for part in _PARTS[adjusted] if there[part])
        if parts or adjusted == "nothing":
            yield replace(cell, adjusted=names[parts])
