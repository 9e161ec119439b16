"""How often a gate is wrong: false alarms and power of every policy, over simulated bundles.

    python benchmarks/gates.py [--bundles 1000] [--classes 10] [--images 200] [--plot docs/images/gates.svg]

A baseline and a candidate answer the same images, `--images` of each class. Both are right about `--right` of them and
disagree about `--differ`, so that a candidate that is no worse still differs; one class of it truly lost so many
points. Counted is how often the gate blocks the candidate: `max_class_regression` at 0 and at 5 points, and
`min_worst_class_accuracy` at what every class truly has, and 5 points below.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from pathlib import Path

import numpy as np

from edgec.core.measurement import Measurement, Stage
from edgec.evaluate.gate_settings import Gates, Policy
from edgec.evaluate.gates import check_gates
from edgec.evaluate.intervals import PairedCounts, wilson_interval
from edgec.evaluate.report import Report
from rows import Row, arguments, show

LOST = (0.0, 0.02, 0.05, 0.1)
"""Of the accuracy of one class."""
SPARE = (0.0, 0.05)
"""What the gate allows."""
Curve = tuple[str, float, Policy]
"""Gate, what it allows, policy."""
MARKS = {Policy.STRICT: "circle", Policy.CONFIDENT: "square", Policy.PROVE: "diamond"}
WIDTH, HEIGHT, GAP = 200, 130, 56
"""Pixels of a panel, and between panels."""
STYLE = """
  text { font: 12px system-ui, sans-serif; fill: #222 } .head { font-weight: 600 }
  .small { fill: #555; font-size: 11px }
  .grid { stroke: #ddd } .strict { color: #b3261e } .confident { color: #1b5fa8 } .prove { color: #6a6a6a }
  polyline { fill: none; stroke: currentColor; stroke-width: 2 } .mark { fill: currentColor }
  .prove polyline { stroke-dasharray: 5 3 }
  @media (prefers-color-scheme: dark) { text { fill: #eee } .small { fill: #bbb } .grid { stroke: #444 }
    .strict { color: #ff897d } .confident { color: #8ab8f0 } .prove { color: #b0b0b0 } }
"""


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--bundles", type=int, default=1000)
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--images", type=int, default=200, help="of each class")
    parser.add_argument("--right", type=float, default=0.9)
    parser.add_argument("--differ", type=float, default=0.06)
    parser.add_argument("--plot", type=Path, metavar="FILE.svg", help="draw them")
    given = parser.parse_args()
    bundles = 50 if given.quick else given.bundles
    shape = {"classes": given.classes, "images": given.images, "right": given.right, "differ": given.differ}
    rows: list[Row] = []
    shares: dict[Curve, list[float]] = {}
    for policy, spare, lost in product(Policy, SPARE, LOST):
        for gate, judge in (("regression", _regression), ("floor", _floor)):
            blocked = sum(judge(counts, policy, spare, given.right) for counts in _drawn(lost, bundles, **shape))
            what = f"{gate}, {100 * spare:.0f} points allowed, {policy.value}: {100 * lost:.0f} points lost"
            rows.append(_row(what, blocked, bundles))
            shares.setdefault((gate, spare, policy), []).append(blocked / bundles)
    if given.plot:
        given.plot.write_text(_picture(shares, given.right, bundles), encoding="utf-8")
    show(rows, as_json=given.json, output=given.output)


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


def _picture(shares: dict[Curve, list[float]], right: float, bundles: int) -> str:
    """A panel a gate: how many of 100 bundles it blocks, by what one class lost."""
    titles = {
        ("regression", 0.0): "no regression in any class",
        ("regression", 0.05): "at most 5 points of regression",
        ("floor", 0.0): f"floor at {100 * right:.0f} % for every class",
        ("floor", 0.05): f"floor at {100 * (right - 0.05):.0f} % for every class",
    }
    width, height = 2 * WIDTH + 3 * GAP, 2 * HEIGHT + 3 * GAP + 20
    panels = []
    for position, ((gate, spare), title) in enumerate(titles.items()):
        x, y = GAP + (position % 2) * (WIDTH + GAP), GAP + (position // 2) * (HEIGHT + GAP)
        curves = {policy: shares[gate, spare, policy] for policy in Policy}
        panels.append(f'<g transform="translate({x} {y})">{_panel(title, curves)}</g>')
    told = f"Bundles blocked, in percent of {bundles:,}, by the points that one class lost"
    legend = " ".join(
        f'<g class="{policy.value}" transform="translate({GAP + 120 * i} {height - 14})">'
        f'{_mark(policy, 0, -4)}<text x="12">{policy.value}</text></g>'
        for i, policy in enumerate(Policy)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" aria-label="{told}">'
        f"<title>{told}</title><style>{STYLE}</style>"
        f'<text class="head" x="{GAP}" y="22">{told}</text>{"".join(panels)}{legend}</svg>\n'
    )


def _panel(title: str, curves: dict[Policy, list[float]]) -> str:
    parts = [f'<text y="-10">{title}</text>']
    for percent in (0, 50, 100):
        y = HEIGHT * (1 - percent / 100)
        parts.append(f'<line class="grid" x2="{WIDTH}" y1="{y:g}" y2="{y:g}"/>')
        parts.append(f'<text class="small" x="-6" y="{y + 4:g}" text-anchor="end">{percent}</text>')
    places = [WIDTH * lost / LOST[-1] for lost in LOST]
    for lost, x in zip(LOST, places, strict=True):
        label = f'<text class="small" x="{x:g}" y="{HEIGHT + 16}" text-anchor="middle">{100 * lost:.0f}</text>'
        parts.append(label)
    for policy, blocked in curves.items():
        points = [(x, HEIGHT * (1 - share)) for x, share in zip(places, blocked, strict=True)]
        line = " ".join(f"{x:g},{y:.1f}" for x, y in points)
        marks = "".join(_mark(policy, x, y) for x, y in points)
        parts.append(f'<g class="{policy.value}"><polyline points="{line}"/>{marks}</g>')
    return "".join(parts)


def _mark(policy: Policy, x: float, y: float) -> str:
    """A form for each policy: colours alone do not tell them apart for everybody."""
    match MARKS[policy]:
        case "circle":
            return f'<circle class="mark" cx="{x:g}" cy="{y:.1f}" r="4"/>'
        case "square":
            return f'<rect class="mark" x="{x - 3.5:g}" y="{y - 3.5:.1f}" width="7" height="7"/>'
        case _:
            return f'<path class="mark" d="M{x:g} {y - 5:.1f}l5 5-5 5-5-5z"/>'


if __name__ == "__main__":
    main()
