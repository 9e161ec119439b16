"""Two bundles beside each other: which classes got worse or better, in pairs where they saw the same test images."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edgec.core.errors import DataError
from edgec.core.measurement import Measurement, Stage
from edgec.core.wording import join_names
from edgec.evaluate.broken import BrokenImage, BrokenImages
from edgec.evaluate.gates import Verdict
from edgec.evaluate.intervals import Interval, PairedCounts, paired_interval, paired_p_value, wilson_interval
from edgec.evaluate.paired import Outcomes
from edgec.evaluate.predictions import Predictions
from edgec.evaluate.report import Report
from edgec.evaluate.significance import ALPHA, holm
from edgec.render.view import ClassRow, Mark, class_order

__all__ = ["BEFORE", "ChangedImage", "ClassChange", "Comparison", "Side", "changed_images", "compare"]

BEFORE = Stage.TEACHER
"""The symbol under which the first bundle is drawn; the second one has the artifact's."""
_NAMED = 5


@dataclass(frozen=True, kw_only=True)
class Side:
    """One of the two bundles.

    Attributes:
        name: Its file's.
        broken: Images that it got wrong and its teacher right; None where it holds none.
    """

    name: str
    report: Report
    predictions: Predictions
    broken: BrokenImages | None = None


@dataclass(frozen=True, kw_only=True)
class ClassChange:
    """One class, or all images.

    Attributes:
        label: None for all.
        train: Training images of the second bundle.
        n: Test images of it, those that both saw where they are paired.
        before: Accuracy of the first bundle, with its interval's ends.
        after: Of the second.
        gain: How much better the second is, a share, with its interval's ends.
        p: Exact McNemar test that both are right equally often, corrected over the classes by Holm; None unpaired.
    """

    label: str | None
    train: int | None
    n: int
    before: tuple[float, float, float]
    after: tuple[float, float, float]
    gain: tuple[float, float, float]
    p: float | None

    @property
    def sense(self) -> str:
        """`worse` or `better` where that is proven, else `same`."""
        if self.p is None or self.p > ALPHA:
            return "same"
        return "better" if self.gain[0] > 0 else "worse"

    @property
    def row(self) -> ClassRow:
        """As a row of the plot."""
        marks = tuple(
            Mark(stage=stage, value=value, low=low, high=high, name=name)
            for stage, name, (value, low, high) in (
                (BEFORE, "Before", self.before),
                (Stage.ARTIFACT, "After", self.after),
            )
        )
        return ClassRow(label=self.label or "", train=self.train, test=self.n, marks=marks, drop=None, drop_p=None)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What changed from the first bundle to the second.

    Attributes:
        shared: Test images that both saw; 0 where they are not paired.
        whole: All images together.
        classes: Those that both know, most training images first.
        missing: Classes that only one of them knows.
        lost: Images that the first got right and the second does not; None unpaired.
        won: The other way round.
    """

    before: Side
    after: Side
    shared: int
    whole: ClassChange
    classes: tuple[ClassChange, ...]
    missing: tuple[str, ...]
    lost: int | None
    won: int | None

    @property
    def is_paired(self) -> bool:
        """Whether both saw some of the same images."""
        return self.shared > 0

    def labels(self, sense: str) -> list[str]:
        """The classes that are `worse` or `better`, those that changed most first."""
        found = [change for change in self.classes if change.sense == sense]
        return [change.label or "" for change in sorted(found, key=lambda change: -abs(change.gain[0]))]

    @property
    def state(self) -> Verdict:
        """Fail where a class is proven worse; inconclusive where nothing can be proven."""
        if not self.is_paired:
            return Verdict.INCONCLUSIVE
        return Verdict.FAIL if self.labels("worse") else Verdict.PASS

    @property
    def title(self) -> str:
        """The verdict in a few words."""
        if not self.is_paired:
            return "Not tested on the same images"
        senses = [(len(self.labels(sense)), sense) for sense in ("worse", "better")]
        told = [f"{count} {'is' if count == 1 else 'are'} {sense}" for count, sense in senses if count]
        if not told:
            return "No class changed beyond chance"
        first, *rest = (words.split(" ", 1) for words in told)
        noun = "class" if first[0] == "1" else "classes"
        return " and ".join([f"{first[0]} {noun} {first[1]}", *map(" ".join, rest)]) + ", beyond chance"

    @property
    def meaning(self) -> str:
        """What the verdict rests on, in a sentence or two."""
        if not self.is_paired:
            return (
                "The bundles share no test image, so accuracies stand beside each other and nothing is proven of a "
                "class: build both with the same test images, or use edgec check --baseline --test."
            )
        named = [
            f"{sense.capitalize()}: {join_names(found, most=_NAMED)}."
            for sense in ("worse", "better")
            if (found := self.labels(sense))
        ]
        told = f"Over {self.shared:,} test images that both saw, {self.lost:,} were lost and {self.won:,} won."
        return " ".join([*named, told])


def compare(before: Side, after: Side) -> Comparison:
    """Holds the second bundle against the first.

    Raises:
        DataError: They have no class in common.
    """
    common = [label for label in _ordered(after.report) if label in before.report.labels]
    if not common:
        raise DataError(
            f"'{before.name}' and '{after.name}' have no class in common: "
            f"{join_names(before.report.labels, most=_NAMED)} against {join_names(after.report.labels, most=_NAMED)}",
            hint="compare bundles of the same task",
        )
    outcomes = after.predictions.against(before.predictions)
    counts = outcomes.get(None)
    classes = _paired(outcomes, common, after.report) if outcomes else _unpaired(before, after, common)
    known = {*before.report.labels, *after.report.labels}
    return Comparison(
        before=before,
        after=after,
        shared=sum(counts) if counts else 0,
        whole=_of_pairs(counts, None, None, None) if counts else _of_rows(before, after, None),
        classes=tuple(classes),
        missing=tuple(sorted(known - set(common))),
        lost=counts.first if counts else None,
        won=counts.second if counts else None,
    )


def _ordered(report: Report) -> list[str]:
    return [report.labels[i] for i in class_order(report)]


def _train(report: Report) -> Mapping[str, int]:
    return dict(zip(report.labels, report.train_counts or (), strict=False))


def _paired(outcomes: Outcomes, common: Sequence[str], report: Report) -> list[ClassChange]:
    """Classes of which both saw an image."""
    there = [label for label in common if label in outcomes]
    corrected = holm([paired_p_value(outcomes[label]) for label in there])
    train = _train(report)
    return [_of_pairs(outcomes[label], label, train.get(label), p) for label, p in zip(there, corrected, strict=True)]


def _of_pairs(counts: PairedCounts, label: str | None, train: int | None, p: float | None) -> ClassChange:
    n = sum(counts)
    swapped = PairedCounts(both=counts.both, first=counts.second, second=counts.first, neither=counts.neither)
    before, after = counts.both + counts.first, counts.both + counts.second
    return ClassChange(
        label=label,
        train=train,
        n=n,
        before=_within(before / n, wilson_interval(before, n)),
        after=_within(after / n, wilson_interval(after, n)),
        gain=_within((after - before) / n, paired_interval(swapped)),
        p=paired_p_value(counts) if p is None else p,
    )


def _within(value: float, ends: Interval) -> tuple[float, float, float]:
    return value, ends.low, ends.high


def _unpaired(before: Side, after: Side, common: Sequence[str]) -> list[ClassChange]:
    """Classes of which both have a figure."""
    there = [side.report.by_class(Stage.ARTIFACT, "accuracy").keys() for side in (before, after)]
    return [_of_rows(before, after, label) for label in common if all(label in rows for rows in there)]


def _of_rows(before: Side, after: Side, label: str | None) -> ClassChange:
    """By the reports' own figures; the interval is Newcombe's for separate proportions (Stat. Med. 17 (1998), 873)."""
    first, second = (_accuracy(side, label) for side in (before, after))
    gain = second[0] - first[0]
    ends = Interval(
        low=gain - math.hypot(second[0] - second[1], first[2] - first[0]),
        high=gain + math.hypot(second[2] - second[0], first[0] - first[1]),
    )
    row = after.report.find(Stage.ARTIFACT, "accuracy", label)
    train = None if label is None else _train(after.report).get(label)
    n = row.n if row else 0
    return ClassChange(label=label, train=train, n=n, before=first, after=second, gain=_within(gain, ends), p=None)


def _accuracy(side: Side, label: str | None) -> tuple[float, float, float]:
    row: Measurement | None = side.report.find(Stage.ARTIFACT, "accuracy", label)
    if row is None:
        raise DataError(f"'{side.name}': its report has no accuracy", hint="build the bundle again")
    return row.value, row.value if row.low is None else row.low, row.value if row.high is None else row.high


@dataclass(frozen=True, kw_only=True)
class ChangedImage:
    """An image that one of the two gets right.

    Attributes:
        image: Its picture and what is known of it.
        before: The class that the first bundle gave.
        after: That of the second.
    """

    image: BrokenImage
    before: str
    after: str


def changed_images(before: Side, after: Side) -> tuple[list[ChangedImage], list[ChangedImage]]:
    """Images lost and won, of those that the bundles hold.

    A bundle holds images that its own teacher gets right and it gets wrong; whether the other one gets them right
    stands in that one's predictions.
    """
    lost = [
        ChangedImage(image=image, before=answer, after=image.artifact.label)
        for image, answer in _answers(after.broken, before.predictions)
        if answer == image.truth
    ]
    won = [
        ChangedImage(image=image, before=image.artifact.label, after=answer)
        for image, answer in _answers(before.broken, after.predictions)
        if answer == image.truth
    ]
    return lost, won


def _answers(broken: BrokenImages | None, other: Predictions) -> list[tuple[BrokenImage, str]]:
    """Images that the other bundle was tested on too, each with the class that it gave."""
    places = {int(image): i for i, image in enumerate(other.images)}
    given = other.given[Stage.ARTIFACT]
    images = () if broken is None else broken.images
    found = [(image, places.get(int(image.image, 16))) for image in images]
    return [(image, other.classes[int(np.asarray(given)[i])]) for image, i in found if i is not None]
