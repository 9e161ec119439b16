"""The report page: its size, the time to draw it and to a browser's first paint, for 10, 100 and 1,000 classes.

python benchmarks/report_page.py [--quick]

Reports are invented, with everything that a build's report holds. Chromium opens each page anew, by the DevTools
protocol; the first contentful paint is what the page's own clock says.
"""

from __future__ import annotations

import base64
import io
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from edgec.core.facts import CalibrationFacts, LatencyCurve, OperatorLatency, SizePart
from edgec.core.measurement import Kind, Measurement, Stage
from edgec.evaluate.broken import Answer, BrokenImage, BrokenImages
from edgec.evaluate.gate_settings import Gates
from edgec.evaluate.gates import check_gates
from edgec.evaluate.intervals import PairedCounts, paired_p_value, wilson_interval
from edgec.evaluate.paired import drop_row
from edgec.evaluate.report import Report
from edgec.report.page import render_report
from rows import Row, arguments, show
from support.chromium import CHROMIUM, Page, open_chromium

SIZES = (10, 100, 1000)
PER_CLASS = 50
LIMIT_BYTES = 3e6
LIMIT_S = 1.0
_ACCURACY = {
    Stage.TEACHER: (0.94, 0.92),
    Stage.BASELINE: (0.9, 0.35),
    Stage.COMPRESSED: (0.9, 0.77),
    Stage.ARTIFACT: (0.895, 0.75),
}
"""Of the most frequent and of the rarest class."""


def main() -> None:
    given = arguments(__doc__).parse_args()
    runs = 3 if given.quick else 10
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        for classes in SIZES:
            report = invented(classes)
            path = Path(folder) / f"{classes}.html"
            started = time.perf_counter()
            page = render_report(
                report, gates=check_gates(report, Gates(min_accuracy=0.7, max_class_drop=0.3)), broken=broken(report)
            )
            taken = time.perf_counter() - started
            path.write_text(page, encoding="utf-8")
            what = f"{classes:,} classes"
            size = path.stat().st_size
            rows += [
                Row(what=f"{what}: size", value=size / 1e6, unit="MB", n=1, against="3 MB", ratio=size / LIMIT_BYTES),
                Row(what=f"{what}: drawn by edgec", value=taken, unit="s", n=1),
            ]
            if CHROMIUM:
                rows += painted(path, what, runs)
    show(rows, as_json=given.json, output=given.output)


def painted(path: Path, what: str, runs: int) -> list[Row]:
    """First paint and the end of loading, of a new browser's tab each time."""
    with tempfile.TemporaryDirectory() as profile, open_chromium(Path(profile)) as page:
        page.call("Network.setCacheDisabled", cacheDisabled=True)
        times = [_times(page, path) for _ in range(runs + 1)][1:]  # the first one starts the browser's processes
    names = ("first paint", "loaded")
    return [
        Row(
            what=f"{what}: {name}",
            value=statistics.median(values),
            unit="s, median",
            n=runs,
            low=min(values),
            high=max(values),
            against="1 s" if name == "first paint" else None,
            ratio=statistics.median(values) / LIMIT_S if name == "first paint" else None,
        )
        for name, values in zip(names, zip(*times, strict=True), strict=True)
    ]


def _times(page: Page, path: Path) -> tuple[float, float]:
    page.open(path)
    if page.complaints or len(page.requests) > 1:
        raise RuntimeError(f"the page complains or asks for something: {page.complaints} {page.requests}")
    first, loaded = page.value(
        "new Promise(done => requestAnimationFrame(() => setTimeout(() => done(["
        "performance.getEntriesByName('first-contentful-paint')[0].startTime,"
        "performance.getEntriesByType('navigation')[0].loadEventEnd]), 50)))"
    )
    return first / 1e3, loaded / 1e3


def invented(classes: int) -> Report:
    """A whole report, classes from 1,280 training images to 12."""
    rng = np.random.default_rng(classes)
    labels = tuple(f"species {i:04d} of Lepidoptera" for i in range(classes))
    counts = tuple(int(1280 * 0.01 ** (i / (classes - 1))) for i in range(classes))
    right = {
        stage: rng.random((classes, PER_CLASS)) < np.linspace(*ends, classes)[:, None]
        for stage, ends in _ACCURACY.items()
    }
    rows = [row for stage, hits in right.items() for row in _accuracies(stage, hits, labels)]
    rows += _drops(right[Stage.TEACHER], right[Stage.ARTIFACT], labels)
    here = {"stage": Stage.ARTIFACT, "unit": "ms", "where": "This machine"}
    rows += [
        Measurement(name=f"latency_ms_{name}", value=value, n=400, low=0.98 * value, high=1.03 * value, **here)
        for name, value in (("p50", 4.1), ("p90", 4.6), ("p95", 4.9), ("p99", 6.2))
    ]
    board = here | {"where": "A board", "kind": Kind.PREDICTED}
    rows.append(Measurement(name="latency_ms_p50", value=2.2, n=0, low=1.6, high=3.1, **board))
    rows += [
        Measurement(stage=stage, name="size_bytes", value=value, unit="bytes", n=1, where="on disk")
        for stage, value in ((Stage.TEACHER, 102e6), (Stage.COMPRESSED, 51e6), (Stage.ARTIFACT, 13e6))
    ]
    quantiles = tuple(np.sort(4 + rng.gamma(2, 0.2, 101)).round(3).tolist())
    return Report(
        title=f"{classes:,} species",
        target="board",
        target_title="A board",
        labels=labels,
        train_counts=counts,
        measurements=tuple(rows),
        confusion={stage: _confusion(hits, rng) for stage, hits in right.items()},
        operators=tuple(OperatorLatency(name=f"/layer/{i}/Conv", op="Conv", ms=0.2 - 0.01 * i) for i in range(10)),
        curves=(LatencyCurve(stage=Stage.ARTIFACT, where="This machine", n=400, quantiles_ms=quantiles),),
        sizes=tuple(
            SizePart(name=f"/layer/{i}/Conv", operator="Conv", bytes=10_000 * i, full_bytes=40_000 * i)
            for i in range(50)
        ),
        calibration=CalibrationFacts(
            recipe="balanced",
            observer="mse",
            ood_labels="eq4",
            images=1280 * len(labels),
            digest="0" * 64,
            sources=("train", "ood"),
            few_per_class=dict(zip(labels, counts, strict=True)),
            ood_per_class={label: 1280 - count for label, count in zip(labels, counts, strict=True)},
            weight_per_class=dict.fromkeys(labels, 1 / len(labels)),
        ),
    )


def _accuracies(stage: Stage, hits: np.ndarray, labels: tuple[str, ...]) -> list[Measurement]:
    """Of all images, of every class, and of the worst."""
    sums = hits.sum(axis=1).tolist()

    def row(name: str, label: str | None, successes: int, n: int) -> Measurement:
        low, high = wilson_interval(successes, n)
        share = {"unit": "share", "n": n, "low": low, "high": high, "where": "This machine"}
        return Measurement(stage=stage, name=name, label=label, value=successes / n, **share)

    whole = [row("accuracy", None, sum(sums), hits.size), row("worst_class_accuracy", None, min(sums), PER_CLASS)]
    return whole + [row("accuracy", label, count, PER_CLASS) for label, count in zip(labels, sums, strict=True)]


def _drops(teacher: np.ndarray, artifact: np.ndarray, labels: tuple[str, ...]) -> list[Measurement]:
    rows = []
    for label, one, two in zip((None, *labels), (teacher, *teacher), (artifact, *artifact), strict=True):
        pairs = ((one & two).sum(), (one & ~two).sum(), (~one & two).sum(), (~one & ~two).sum())
        counts = PairedCounts(*map(int, pairs))
        row = drop_row(counts, label, name="accuracy_drop", stage=Stage.ARTIFACT, where="This machine")
        p = {"name": "accuracy_drop_p", "value": paired_p_value(counts), "unit": "probability"}
        rows += [row, row.model_copy(update=p | {"low": None, "high": None})]
    return rows


def _confusion(hits: np.ndarray, rng: np.random.Generator) -> tuple[tuple[int, ...], ...]:
    """Wrong images go to classes nearby."""
    classes = len(hits)
    matrix = np.diag(hits.sum(axis=1))
    for i, row in enumerate(hits):
        away = (i + rng.geometric(0.4, int((~row).sum()))) % classes
        np.add.at(matrix[i], away, 1)
    return tuple(map(tuple, matrix.tolist()))


def broken(report: Report) -> BrokenImages:
    """Two dozen pictures of 96 x 96 pixels, as a build makes them."""
    noise = np.random.default_rng(0).integers(0, 256, (12, 12, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).resize((96, 96), Image.Resampling.BICUBIC).save(buffer, "WEBP", quality=80, method=6)
    picture = f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"
    images = tuple(
        BrokenImage(
            image=f"{i:016x}",
            truth=report.labels[-1 - i % len(report.labels)],
            teacher=Answer(label=report.labels[-1 - i % len(report.labels)], score=0.97),
            artifact=Answer(label=report.labels[0], score=0.51),
            picture=picture,
        )
        for i in range(24)
    )
    return BrokenImages(total=1234, images=images)


if __name__ == "__main__":
    main()
