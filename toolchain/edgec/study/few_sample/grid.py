"""The grid of a few-sample study: which compressions, of which samples, with which seeds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import product
from typing import Annotated, Literal

from pydantic import Field

from edgec.compress import config as compress
from edgec.compress.config import OefsmcConfig, Part
from edgec.study.lists import Lists

__all__ = ["Cell", "Grid", "Variant", "VariantKind"]

VariantKind = Literal["plain", "paper", "few", "ours"]
Without = Literal["nothing", "compression", "finetuning", "all"]
_PARTS: Mapping[Without, tuple[Part, ...]] = {
    "nothing": ("compression", "finetuning"),
    "compression": ("finetuning",),
    "finetuning": ("compression",),
    "all": (),
}
"""What is run of OE-FSMC where a part is left out."""


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A way to run a method.

    Attributes:
        kind: `plain`, the method alone; `paper`, under OE-FSMC as in the paper; `ours`, as the config has it; `few`,
            our recipe on the few samples alone, without a single OOD image.
        without: The part of OE-FSMC that is left out; None where that is as the config, or the paper, has it.
    """

    kind: VariantKind
    without: Without | None = None

    @property
    def name(self) -> str:
        """For people, as in `ours without compression`."""
        if self.without is None:
            return self.kind
        return f"{self.kind} whole" if self.without == "nothing" else f"{self.kind} without {self.without}"

    @property
    def runs(self) -> compress.Variant:
        """What `compress.variant` is."""
        return "ours" if self.kind == "paper" else self.kind

    def settings(self, ours: OefsmcConfig) -> OefsmcConfig:
        """What OE-FSMC is run with, where it is."""
        settings = OefsmcConfig(like="paper") if self.kind == "paper" else ours
        return settings if self.without is None else settings.model_copy(update={"parts": _PARTS[self.without]})


@dataclass(frozen=True, kw_only=True)
class Cell:
    """What one row of the table is about.

    Attributes:
        method: A registered compression method.
        variant: How it is run.
        samples: M, labelled samples in all.
        imbalance: The most frequent class's samples over the rarest's.
    """

    method: str
    variant: Variant
    samples: int
    imbalance: float

    @property
    def draw(self) -> str:
        """What the samples are, for people."""
        return f"{self.samples} samples at imbalance {self.imbalance:g}"

    def compared(self, kind: VariantKind) -> Cell:
        """The cell of another variant of the same method on the same samples."""
        return replace(self, variant=Variant(kind=kind))


class Grid(Lists):
    """A study, as it was asked for.

    Attributes:
        methods: Compression methods.
        variants: How each is run.
        samples: Totals of labelled samples.
        imbalance: Ratios between the most frequent class and the rarest.
        seeds: Of every draw.
        without: Parts of OE-FSMC to leave out, one after the other, in the variants that have them; none where the
            variants are run as they are.
    """

    methods: tuple[str, ...]
    variants: tuple[VariantKind, ...] = ("plain", "paper", "few", "ours")
    samples: tuple[Annotated[int, Field(ge=2)], ...] = (50,)
    imbalance: tuple[Annotated[float, Field(ge=1, allow_inf_nan=False)], ...] = (100.0,)
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = (0, 1, 2)
    without: tuple[Without, ...] = ()

    @property
    def cells(self) -> Iterator[Cell]:
        """Rows of the table, in its order."""
        for samples, imbalance, method, variant in product(self.samples, self.imbalance, self.methods, self._ways):
            yield Cell(method=method, variant=variant, samples=samples, imbalance=imbalance)

    @property
    def runs(self) -> Iterator[tuple[Cell, int]]:
        """Every cell with every seed, seed by seed: a study that is cut short has whole tables of fewer seeds."""
        return ((cell, seed) for seed, cell in product(self.seeds, tuple(self.cells)))

    @property
    def _ways(self) -> tuple[Variant, ...]:
        """Variants, those with parts to leave out once for each part."""
        return tuple(
            Variant(kind=kind, without=part)
            for kind in self.variants
            for part in ((None,) if kind == "plain" else self.without or (None,))
        )
