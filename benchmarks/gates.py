"""How often a gate is wrong: false alarms and power of every policy, over simulated bundles.

    python benchmarks/gates.py [--bundles 1000] [--classes 10] [--images 200]

A baseline and a candidate answer the same images, `--images` of each class. Both are right about `--right` of them and
disagree about `--differ`, so that a candidate that is no worse still differs; one class of it truly lost so many
points. Counted is how often the gate blocks the candidate: `max_class_regression` at 0 and at 5 points, and
`min_worst_class_accuracy` at what every class truly has, and 5 points below.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import numpy as np

from edgec.core.measurement import Measurement, Stage
from edgec.evaluate.gates import Gates, Policy, check_gates
from edgec.evaluate.intervals import PairedCounts, wilson_interval
from edgec.evaluate.report import Report
from rows import Row, arguments, show

LOST = (0.0, 0.02, 0.05, 0.1)
"""Of the accuracy of one class."""
SPARE = (0.0, 0.05)
"""What the gate allows."""


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--bundles", type=int, default=1000)
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--images", type=int, default=200, help="of each class")
    parser.add_argument("--right", type=float, default=0.9)
    parser.add_argument("--differ", type=float, default=0.06)
    given = parser.parse_args()
    bundles = 50 if given.quick else given.bundles
    shape = {"classes": given.classes, "images": given.images, "right": given.right, "differ": given.differ}
    rows: list[Row] = []
    for policy, spare, lost in product(Policy, SPARE, LOST):
        for gate, judge in (("regression", _regression), ("floor", _floor)):
            blocked = sum(judge(counts, policy, spare, given.right) for counts in _drawn(lost, bundles, **shape))
            what = f"{gate}, {100 * spare:.0f} points allowed, {policy.value}: {100 * lost:.0f} points lost"
            rows.append(_row(what, blocked, bundles))
    show(rows, as_json=given.json)


def _drawn(
    lost: float, bundles: int, *, classes: int, images: int, right: float, differ: float
) -> Iterator[list[PairedCounts]]:
    """Of each bundle, both models' answers for every class; the last class is the one that lost."""
    rng = np.random.default_rng(0)
    for _ in range(bundles):
        counts = []
        for label in range(classes):
            gone = lost if label == classes - 1 else 0.0
            second = max(0.0, differ - gone) / 2
            first = second + gone
            shares = [right - first, first, second, 1 - right - second]
            counts.append(PairedCounts(*map(int, rng.multinomial(images, shares))))
        yield counts


def _regression(counts: list[PairedCounts], policy: Policy, spare: float, right: float) -> bool:
    del right
    labels = tuple(f"class {i}" for i in range(len(counts)))
    gates = Gates(max_class_regression=spare, policy=policy)
    regressions = {None: counts[0], **dict(zip(labels, counts, strict=True))}
    return any(result.blocks for result in check_gates(_report(counts, labels), gates, regressions=regressions))


def _floor(counts: list[PairedCounts], policy: Policy, spare: float, right: float) -> bool:
    labels = tuple(f"class {i}" for i in range(len(counts)))
    gates = Gates(min_worst_class_accuracy=right - spare, policy=policy)
    return any(result.blocks for result in check_gates(_report(counts, labels), gates))


def _report(counts: list[PairedCounts], labels: tuple[str, ...]) -> Report:
    rows = [_accuracy(c.both + c.second, sum(c), label) for c, label in zip(counts, labels, strict=True)]
    worst = min(rows, key=lambda row: row.value).model_copy(update={"name": "worst_class_accuracy", "label": None})
    return Report(title="t", target="t", target_title="t", labels=labels, measurements=(*rows, worst))


def _accuracy(right: int, n: int, label: str) -> Measurement:
    low, high = wilson_interval(right, n)
    return Measurement(
        stage=Stage.ARTIFACT,
        name="accuracy",
        label=label,
        value=right / n,
        unit="share",
        n=n,
        low=low,
        high=high,
        where="simulated",
    )


def _row(what: str, blocked: int, bundles: int) -> Row:
    low, high = wilson_interval(blocked, bundles)
    return Row(what=what, value=blocked / bundles, unit="blocked", n=bundles, low=low, high=high)


if __name__ == "__main__":
    main()
