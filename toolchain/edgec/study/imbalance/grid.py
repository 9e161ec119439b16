"""The grid of an imbalance study: trained on what, compressed how, with which seeds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from edgec.study.config import Training
from edgec.study.draw import BALANCED, Draw
from edgec.study.imbalance.compression import parse_compression
from edgec.study.lists import Lists

__all__ = ["Cell", "Grid"]


@dataclass(frozen=True, kw_only=True)
class Cell:
    """What one row of the table is about.

    Attributes:
        draw: What is trained on.
        compression: Its name; `none` is the net that the others are compared with.
    """

    draw: Draw
    compression: str

    @property
    def balanced(self) -> Cell:
        """The cell that the gap is measured from."""
        return Cell(draw=BALANCED, compression=self.compression)

    @property
    def uncompressed(self) -> Cell:
        """The cell whose gap this one's is compared with."""
        return Cell(draw=self.draw, compression="none")


def _known(name: str) -> str:
    return parse_compression(name).name


class Grid(Lists):
    """A study, as it was asked for.

    Attributes:
        profiles: How counts fall from class to class: `step`, or `linear`, by docs/methods.md §2.
        minority: μ, numbers of classes in the minority, of `step` alone.
        imbalance: ρ.
        compressions: What is done to every trained net; `none` is always there.
        seeds: Of the weights to begin with, the training, the images, and which classes are rare.
        samples: Training images of the most frequent class; where it is not given, as many as every class has.
        training: How nets are trained, and trained on once they are compressed. Rate and weight decay are the
            paper's, which counts epochs, 180 where it prunes and else 200, and gives no batch size.
    """

    profiles: tuple[Literal["step", "linear"], ...] = ("step", "linear")
    minority: tuple[Annotated[int, Field(ge=1)], ...] = (5,)
    imbalance: tuple[Annotated[float, Field(gt=1, allow_inf_nan=False)], ...] = (20.0,)
    compressions: tuple[Annotated[str, AfterValidator(_known)], ...] = (
        *("pruned-moderate", "pruned-severe"),
        *("a8w4", "a3w3", "distilled-a3w3"),
    )
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = (0, 1, 2)
    samples: int | None = Field(default=None, ge=1)
    training: Training = Training()

    @property
    def draws(self) -> Iterator[Draw]:
        """Training sets, the balanced one first."""
        yield BALANCED
        for profile in self.profiles:
            for minority, imbalance in product(self.minority if profile == "step" else (None,), self.imbalance):
                yield Draw(profile=profile, imbalance=imbalance, minority=minority)

    @property
    def cells(self) -> Iterator[Cell]:
        """Rows of the table, in its order: the net that others are compared with comes before them."""
        names = dict.fromkeys(("none", *self.compressions))
        return (Cell(draw=draw, compression=name) for draw, name in product(self.draws, names))

    @property
    def runs(self) -> Iterator[tuple[Cell, int]]:
        """Every cell with every seed, seed by seed: a study that is cut short has whole tables of fewer seeds."""
        return ((cell, seed) for seed, cell in product(self.seeds, tuple(self.cells)))
