"""What the file that ships lost of what its own FP32 graph had, where, and which setting would have kept it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import Field

from edgec.core.frozen import Frozen
from edgec.core.wording import format_share, join_names
from edgec.evaluate.intervals import paired_interval, paired_p_value
from edgec.evaluate.paired import outcomes_by_class
from edgec.evaluate.significance import ALPHA, holm

if TYPE_CHECKING:
    from jaxtyping import Float, Int

__all__ = ["ClassLoss", "Loss", "Remedy", "find_loss", "loss_text"]

TELLING = 0.01
"""A loss of accuracy from which it is told although chance may explain it."""
_NAMED = 3
_Share = Annotated[float, Field(ge=0, le=1)]


class ClassLoss(Frozen):
    """The share of its test images that a class lost, more than chance explains."""

    label: str
    drop: _Share
    n: int = Field(ge=1)


class Remedy(Frozen):
    """A setting that was tried.

    Attributes:
        setting: As `--set` takes it.
        changed: Share of the few and OOD images that get another class than in FP32 with it; None where it failed.
        failure: Why.
    """

    setting: str
    changed: _Share | None = None
    failure: str | None = None


class Loss(Frozen):
    """What was lost against FP32 on the test images.

    Attributes:
        scheme: Of the file.
        before: The FP32 graph's accuracy.
        after: The file's.
        low: Lower end of the 95 % interval of the difference.
        high: Upper end.
        proven: Whether chance does not explain it: exact McNemar tests, corrected over classes and the whole by Holm.
        n: Test images.
        classes: Those that lost more than chance explains, the largest loss first.
        places: Tensors that the file's numbers are too coarse for, the worst first, each with why.
        remedies: What was tried, in its order.
        changed: Share of the few and OOD images that get another class than in FP32 as it ships.
        judged: How many they are.
    """

    scheme: str
    before: _Share
    after: _Share
    low: float
    high: float
    proven: bool
    n: int = Field(ge=1)
    classes: tuple[ClassLoss, ...] = ()
    places: tuple[str, ...] = ()
    remedies: tuple[Remedy, ...] = ()
    changed: _Share | None = None
    judged: int = Field(default=0, ge=0)

    @property
    def headline(self) -> str:
        """The loss in a few words."""
        if self.before > self.after:
            return f"{self.scheme} lost {100 * (self.before - self.after):.1f} points of FP32's accuracy"
        return f"{self.scheme} lost classes that FP32 had"

    def helps(self, remedy: Remedy) -> bool:
        """Whether it at least halves the share of images that get another class."""
        return remedy.changed is not None and remedy.changed <= (self.changed or 0) / 2


def find_loss(
    fp32: Float[np.ndarray, "n class"],
    shipped: Float[np.ndarray, "n class"],
    labels: Int[np.ndarray, " n"],
    classes: Sequence[str],
    *,
    scheme: str,
) -> Loss | None:
    """What the file lost; None where it kept all, or what chance explains and is less than a point.

    Args:
        fp32: Scores of the graph before it was quantised.
        shipped: Scores of the file.
        labels: Positions in `classes`.
        classes: Names in the order of the scores.
        scheme: Of the file.
    """
    outcomes = outcomes_by_class(fp32.argmax(axis=1) == labels, shipped.argmax(axis=1) == labels, labels, classes)
    corrected = dict(zip(outcomes, holm([paired_p_value(counts) for counts in outcomes.values()]), strict=True))
    drops = {label: (counts.first - counts.second) / sum(counts) for label, counts in outcomes.items()}
    proven = [label for label in outcomes if corrected[label] <= ALPHA and drops[label] > 0]
    whole = outcomes[None]
    if not proven and drops[None] < TELLING:
        return None
    low, high = paired_interval(whole)
    lost = sorted((label for label in proven if label is not None), key=lambda label: -drops[label])
    return Loss(
        scheme=scheme,
        before=(whole.both + whole.first) / sum(whole),
        after=(whole.both + whole.second) / sum(whole),
        low=low,
        high=high,
        proven=bool(proven),
        n=sum(whole),
        classes=tuple(ClassLoss(label=label, drop=drops[label], n=sum(outcomes[label])) for label in lost),
    )


def loss_text(loss: Loss) -> str:
    """What was lost, where, and what would help, in a few sentences."""
    lost = 100 * (loss.before - loss.after)
    interval = f"95 % interval {100 * loss.low:.1f} to {100 * loss.high:.1f}"
    chance = "" if loss.proven else ", which chance may explain"
    shares = f"{format_share(loss.after)} of {loss.n} test images right, its FP32 graph {format_share(loss.before)}"
    parts = [f"{loss.scheme} has {shares}: {lost:.1f} points lost ({interval}){chance}"]
    if loss.classes:
        named = [f"'{row.label}' ({100 * row.drop:.1f} points of {row.n} images)" for row in loss.classes]
        parts.append(f"classes that lost more than chance explains: {join_names(named, most=_NAMED)}")
    if loss.places:
        parts.append(f"where: {'; '.join(loss.places[:_NAMED])}")
    elif loss.remedies:
        parts.append("where: no tensor stands out")
    if loss.remedies:
        parts.append(_remedies_text(loss))
    return ". ".join(parts)


def _remedies_text(loss: Loss) -> str:
    tried = sorted(loss.remedies, key=lambda remedy: 2.0 if remedy.changed is None else remedy.changed)
    helping = [f"--set {_outcome(each)}" for each in tried if loss.helps(each)]
    others = [_outcome(each) for each in tried if not loss.helps(each)]
    judged = f"{format_share(loss.changed or 0)} of {loss.judged} few and OOD images get another class than in FP32"
    helps = f"what helps: {', '.join(helping)}" if helping else "nothing that was tried halves that"
    return f"{judged}; {helps}" + (f"; what does not: {', '.join(others)}" if others else "")


def _outcome(remedy: Remedy) -> str:
    if remedy.changed is None:
        return f"{remedy.setting} (could not be tried: {remedy.failure})"
    return f"{remedy.setting} ({format_share(remedy.changed)})"
