"""What quantisation took from a classifier, class by class, and the table that sets it side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np

from rows import Row

__all__ = ["Outcome", "Scores", "markdown", "rows_of", "score"]


@dataclass(frozen=True, kw_only=True)
class Scores:
    """One quantised graph against its FP32 graph, shares from 0 to 1.

    Attributes:
        top1: Accuracy over all images.
        worst_class: Accuracy of the class that fares worst.
        largest_class_drop: Most that a class lost.
        mean_class_drop: Mean of what each class lost; gains count as negative.
        agreement: Images to which both graphs give the same class.
    """

    top1: float
    worst_class: float
    largest_class_drop: float
    mean_class_drop: float
    agreement: float


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One contender on one seed.

    Attributes:
        scores: None where it did not run.
        seconds: Of the whole command, imports included; this and the next two are None where nothing was quantised.
        quantising_seconds: Of the quantisation alone.
        peak_mb: Most memory that its process ever held.
        formats: What the graph rounds, read from the graph.
        version: Who made it.
        reason: Why it does not run here.
    """

    scores: Scores | None = None
    seconds: float | None = None
    quantising_seconds: float | None = None
    peak_mb: float | None = None
    formats: str = ""
    version: str = ""
    reason: str = ""


SHARES = tuple(field.name for field in fields(Scores))
COSTS = {
    "seconds": ("whole command", "s", ".1f"),
    "quantising_seconds": ("quantising", "s", ".1f"),
    "peak_mb": ("peak memory", "MB", ".0f"),
}
"""What a contender costs: in words, in what unit, with what digits."""


def score(logits: np.ndarray, fp32: np.ndarray, labels: np.ndarray) -> Scores:
    """Compares two graphs' logits [n, classes] on images with these labels [n]."""
    after, before = (values.argmax(1) for values in (logits, fp32))
    by_class = [labels == label for label in np.unique(labels)]
    accuracies = np.array([(after[own] == labels[own]).mean() for own in by_class])
    drops = np.array([(before[own] == labels[own]).mean() for own in by_class]) - accuracies
    return Scores(
        top1=float((after == labels).mean()),
        worst_class=float(accuracies.min()),
        largest_class_drop=float(drops.max()),
        mean_class_drop=float(drops.mean()),
        agreement=float((after == before).mean()),
    )


def rows_of(outcomes: Mapping[str, Sequence[Outcome]]) -> list[Row]:
    """A row for each figure of each contender, over the seeds that it ran on."""
    rows = []
    for name, tried in outcomes.items():
        ran = [outcome for outcome in tried if outcome.scores]
        for what in SHARES if ran else ():
            values = [getattr(outcome.scores, what) for outcome in ran]
            rows.append(_row(f"{name}: {what.replace('_', ' ')}", "share", values))
        for what, (text, unit, _) in COSTS.items():
            if values := _known(ran, what):
                rows.append(_row(f"{name}: {text}", unit, values))
    return rows


def markdown(outcomes: Mapping[str, Sequence[Outcome]]) -> str:
    """One line per contender: means over seeds, with the lowest and the highest where there are several."""
    head = (
        *("", "n", "top-1 %", "worst class %", "largest class drop, pp", "mean class drop, pp"),
        *("same class as FP32 %", "s", "quantising, s", "peak MB", "in the graph"),
    )
    lines = [_line(head), _line(["---"] * len(head))]
    for name, tried in outcomes.items():
        ran = [outcome for outcome in tried if outcome.scores]
        if ran:
            lines.append(_line(_cells(name, ran)))
        lines += [_line([name, "0", f"does not run here: {why}"]) for why in sorted({o.reason for o in tried} - {""})]
    return "\n".join(lines)


def _known(ran: Sequence[Outcome], what: str) -> list[float]:
    return [value for outcome in ran if (value := getattr(outcome, what)) is not None]


def _cells(name: str, ran: Sequence[Outcome]) -> list[str]:
    shares = [[100 * getattr(outcome.scores, what) for outcome in ran] for what in SHARES]
    costs = [(digits, _known(ran, what)) for what, (_, _, digits) in COSTS.items()]
    return [
        *(name, str(len(ran))),
        *(_spread(values) for values in shares),
        *(f"{np.mean(values):{digits}}" if values else "" for digits, values in costs),
        "; ".join(sorted({outcome.formats for outcome in ran})),
    ]


def _spread(values: Sequence[float]) -> str:
    # Adding 0 turns -0.00 into 0.00.
    mean, low, high = (f"{round(value, 2) + 0.0:.2f}" for value in (np.mean(values), min(values), max(values)))
    return f"{mean} ({low} to {high})" if len(values) > 1 else mean


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _row(what: str, unit: str, values: Sequence[float]) -> Row:
    return Row(what=what, value=float(np.mean(values)), unit=unit, n=len(values), low=min(values), high=max(values))
