"""How often a gate proves what is not so: every kind of gate, over simulated bundles that lie exactly on its limit.

    python benchmarks/gate_errors.py [--bundles 1000] [--classes 10 100] [--images 50 500]

On the limit a gate holds, and by a hair does not: whatever is proven there is proven falsely. Of each kind two figures:
`false alarm`, how often a breach is proven, which blocks under `confident` and `prove`, where every class lies on the
limit; `false proof`, how often it is proven that the gate holds, which passes under `prove`, where one class lies on
the limit and the others well within. Both are promised to be at most 5 %. `strict` promises nothing: on the limit it
blocks about every second bundle. Gates that rest on the same statistic share a line. Bundles are drawn once for all
kinds that ask the same of them.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from edgec.core.measurement import Machine, Measurement, Stage
from edgec.evaluate.accuracy import macro_f1_interval
from edgec.evaluate.bootstrap import class_mean_rows
from edgec.evaluate.gate_settings import Gates, Policy
from edgec.evaluate.gates import Verdict, check_gates
from edgec.evaluate.intervals import PairedCounts, quantile_ranks, wilson_interval
from edgec.evaluate.paired import Outcomes, Pairs
from edgec.evaluate.rejection import ranked_area
from edgec.evaluate.reliability import calibration_error
from edgec.evaluate.report import Report
from rows import Row, arguments, record, show

RESAMPLES = 500
"""Of the bootstrap: its ends scatter by 0.12 standard errors, and by 0.06 with the 2,000 that a build draws."""


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """What a simulated bundle says."""

    rows: tuple[Measurement, ...]
    pairs: Outcomes | None = None


@dataclass(frozen=True, kw_only=True)
class Shape:
    """How large test sets are, and how many classes lie on the limit."""

    classes: int
    images: int
    on_limit: int


Draw = Callable[[np.random.Generator, Shape], Drawn]


@dataclass(frozen=True, kw_only=True)
class Subject:
    """Kinds of gates that are held against the same simulated bundles.

    Attributes:
        limits: By kind the gate and what it allows.
        by_class: Whether it matters how many classes lie on the limit.
    """

    draw: Draw
    limits: Mapping[str, tuple[str, float]]
    by_class: bool = False

    @property
    def gates(self) -> Gates:
        """All of them at once."""
        return Gates.model_validate({**dict(self.limits.values()), "policy": Policy.PROVE})


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--bundles", type=int, default=1000)
    parser.add_argument("--classes", type=int, nargs="+", default=[10, 100])
    parser.add_argument("--images", type=int, nargs="+", default=[50, 500], help="of each class")
    parser.add_argument("--only", metavar="TEXT", default="", help="kinds whose name holds this")
    given = parser.parse_args()
    bundles = 50 if given.quick else given.bundles
    rows: list[Row] = []
    for subject in (subject for subject in SUBJECTS if any(given.only in kind for kind in subject.limits)):
        for classes, images in product(given.classes, given.images):
            found = list(_rows(subject, classes=classes, images=images, bundles=bundles))
            rows += found
            if given.output:  # at once: all of it takes ten minutes, and an hour on a busy machine
                record(found, given.output)
    show(rows, as_json=given.json)


def _rows(subject: Subject, *, classes: int, images: int, bundles: int) -> Iterator[Row]:
    alarms = _verdicts(subject, Shape(classes=classes, images=images, on_limit=classes), bundles)
    proofs = alarms
    if subject.by_class:
        proofs = _verdicts(subject, Shape(classes=classes, images=images, on_limit=1), bundles)
    print(f"{', '.join(subject.limits)}: {classes} classes of {images}", file=sys.stderr)
    for kind, (gate, _) in subject.limits.items():
        wrong = {
            "false alarm": sum(Verdict.FAIL in found[gate] for found in alarms),
            "false proof": sum(found[gate] == {Verdict.PASS} for found in proofs),
        }
        for what, count in wrong.items():
            low, high = wilson_interval(count, bundles)
            name = f"{kind}: {classes} classes of {images}: {what}"
            yield Row(what=name, value=count / bundles, unit="bundles", n=bundles, low=low, high=high)


def _verdicts(subject: Subject, shape: Shape, bundles: int) -> list[Mapping[str, set[Verdict]]]:
    """Of each bundle, what is said of the classes, by gate."""
    rng, labels = np.random.default_rng(0), tuple(map(str, range(shape.classes)))
    told = []
    for _ in range(bundles):
        drawn = subject.draw(rng, shape)
        report = Report(title="t", target="t", target_title="t", labels=labels, measurements=drawn.rows)
        found: defaultdict[str, set[Verdict]] = defaultdict(set)
        for result in check_gates(report, subject.gates, drops=drawn.pairs):
            found[result.name].add(result.verdict)
        told.append(found)
    return told


def _row(name: str, value: float, label: str | None = None, **more: Any) -> Measurement:
    fields: dict[str, Any] = {"stage": Stage.ARTIFACT, "unit": "share", "where": "simulated"} | more
    return Measurement(name=name, value=value, label=label, **fields)


def _share(rng: np.random.Generator, shape: Shape) -> Drawn:
    n = shape.classes * shape.images
    return Drawn(rows=(_row("accuracy", rng.binomial(n, 0.9) / n, n=n),))


def _classes(rng: np.random.Generator, shape: Shape) -> Drawn:
    right = rng.binomial(shape.images, _spread(shape, 0.9, 0.99))
    rows = (_row("accuracy", k / shape.images, str(i), n=shape.images) for i, k in enumerate(right))
    return Drawn(rows=tuple(rows))


def _spread(shape: Shape, limit: float, within: float) -> np.ndarray:
    return np.where(np.arange(shape.classes) < shape.on_limit, limit, within)


def _drops(limit: float, *, by_class: bool) -> Draw:
    def draw(rng: np.random.Generator, shape: Shape) -> Drawn:
        """The models disagree on 6 % of the images beside those that are lost."""
        lost = _spread(shape, limit, limit - 0.03)
        shares = np.stack([0.9 - 0.03 - np.maximum(lost, 0), 0.03 + lost, np.full(shape.classes, 0.03)], axis=1)
        shares = np.concatenate([shares, 1 - shares.sum(axis=1, keepdims=True)], axis=1)
        counts = rng.multinomial(shape.images, shares)
        if not by_class:
            counts = rng.multinomial(shape.images * shape.classes, shares[:1])
        pairs = {str(i): PairedCounts(*map(int, row)) for i, row in enumerate(counts)} if by_class else {}
        pairs |= {None: PairedCounts(*map(int, counts.sum(axis=0)))}
        rows = (_row("accuracy_drop", (c.first - c.second) / sum(c), label, n=sum(c)) for label, c in pairs.items())
        return Drawn(rows=tuple(rows), pairs=pairs)

    return draw


def _means(rng: np.random.Generator, shape: Shape) -> Drawn:
    """The second model loses 5 % of the images of the tail's classes, and as much of macro F1."""
    truth = np.repeat(np.arange(shape.classes), shape.images)
    right = rng.random(len(truth)) < 0.9
    lost = rng.random(len(truth)) < 0.05 / 0.9
    # Errors go evenly to the next three classes, as classes are alike, so F1 is recall in expectation.
    other = (truth + rng.integers(1, 4, len(truth))) % shape.classes
    first = np.where(right, truth, other)
    pairs = Pairs(
        truth=truth,
        first=first,
        second=np.where(right & lost, other, first),
        classes=tuple(map(str, range(shape.classes))),
    )
    common = {"train_counts": np.arange(shape.classes), "stage": Stage.ARTIFACT, "where": "simulated"}
    return Drawn(rows=tuple(class_mean_rows(pairs, what="drop", resamples=RESAMPLES, **common)))


def _macro_f1(rng: np.random.Generator, shape: Shape) -> Drawn:
    shares = np.full((shape.classes, shape.classes), 0.1 / (shape.classes - 1))
    np.fill_diagonal(shares, 0.9)
    confusion = rng.multinomial(shape.images, shares)
    value = float((2 * confusion.diagonal() / (confusion.sum(axis=0) + confusion.sum(axis=1))).mean())
    low, high = macro_f1_interval(confusion, value)
    return Drawn(rows=(_row("macro_f1", value, n=int(confusion.sum()), low=low, high=high),))


def _calibration(share: float) -> Draw:
    def draw(rng: np.random.Generator, shape: Shape) -> Drawn:
        """Too sure by as much in every bin."""
        n = shape.classes * shape.images
        confidence = 0.3 + 0.7 * rng.beta(5, 1, n)
        value, (low, high) = calibration_error(confidence, rng.random(n) < confidence - share)
        return Drawn(rows=(_row("calibration_error", value, n=n, low=low, high=high),))

    return draw


def _area(rng: np.random.Generator, shape: Shape) -> Drawn:
    n = shape.images
    value, (low, high) = ranked_area(rng.normal(1.8123876, 1, n), rng.normal(0, 1, n))
    return Drawn(rows=(_row("ood_auroc", value, n=2 * n, low=low, high=high),))


def _latency(rng: np.random.Generator, shape: Shape) -> Drawn:
    """The 95th percentile of an exponential distribution with mean 1 is -log(0.05)."""
    times = np.sort(rng.exponential(size=shape.images))
    low, high = (None if rank is None else float(times[rank]) for rank in quantile_ranks(len(times), 0.95))
    value = float(np.quantile(times, 0.95, method="inverted_cdf"))
    told = {"unit": "ms", "n": len(times), "low": low, "high": high, "machine": Machine.TARGET}
    return Drawn(rows=(_row("latency_ms_p95", value, **told),))


SUBJECTS = (
    Subject(draw=_share, limits={"a share of images": ("min_accuracy", 0.9)}),
    Subject(draw=_classes, limits={"every class's share": ("min_worst_class_accuracy", 0.9)}, by_class=True),
    Subject(draw=_drops(0.0, by_class=False), limits={"a drop of 0": ("max_accuracy_drop", 0.0)}),
    Subject(draw=_drops(0.05, by_class=False), limits={"a drop of 5 points": ("max_accuracy_drop", 0.05)}),
    Subject(
        draw=_drops(0.0, by_class=True), limits={"every class's drop of 0": ("max_class_drop", 0.0)}, by_class=True
    ),
    Subject(
        draw=_drops(0.05, by_class=True),
        limits={"every class's drop of 5 points": ("max_class_drop", 0.05)},
        by_class=True,
    ),
    Subject(
        draw=_means,
        limits={
            "a drop of the tail's mean": ("max_tail_drop", 0.05),
            "a drop of macro F1": ("max_macro_f1_drop", 0.05),
        },
    ),
    Subject(draw=_macro_f1, limits={"macro F1": ("min_macro_f1", 0.9)}),
    Subject(draw=_calibration(0.0), limits={"calibration error, none allowed": ("max_calibration_error", 0.0)}),
    Subject(draw=_calibration(0.05), limits={"calibration error": ("max_calibration_error", 0.05)}),
    Subject(draw=_area, limits={"area under the ROC curve": ("min_ood_auroc", 0.9)}),
    Subject(draw=_latency, limits={"latency, 95th percentile": ("max_latency_ms_p95", float(-np.log(0.05)))}),
)
"""The other gates rest on one of these: docs/ci.md says which."""


if __name__ == "__main__":
    main()
