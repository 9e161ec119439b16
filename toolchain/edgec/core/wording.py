"""Numbers and names as people read them: on the terminal and on the report page."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from edgec.core.measurement import Measurement, Stage

__all__ = [
    "STAGES",
    "format_amount",
    "format_fact",
    "format_interval",
    "format_points",
    "format_share",
    "join_names",
    "measure_title",
]

STAGES = {
    Stage.TEACHER: ("Teacher", "the model as it was given"),
    Stage.BASELINE: ("Plain", "compressed by the method alone"),
    Stage.FEW: ("Few only", "compressed by our recipe, from the few samples alone"),
    Stage.COMPRESSED: ("Compressed", "with out-of-distribution images too, before quantisation"),
    Stage.ARTIFACT: ("Artifact", "the file that ships"),
}
"""Name and explanation of each stage, in the order of the build."""

_TITLES = {
    "accuracy": "Accuracy",
    "worst_class_accuracy": "Worst class",
    "macro_f1": "Macro F1",
    "head_accuracy": "Head classes",
    "medium_accuracy": "Medium classes",
    "tail_accuracy": "Tail classes",
    "corrupted_accuracy": "Corrupted images",
    "corrupted_worst_class_accuracy": "Worst class, corrupted",
    "accuracy_under_seen_kinds": "Corruptions trained on",
    "accuracy_under_related_kinds": "Corruptions related to those",
    "accuracy_under_unseen_kinds": "Corruptions never trained on",
    "ood_auroc": "Told from other images (AUROC)",
    "teacher_agreement": "Same class as the teacher",
    "accuracy_drop": "Lost against the teacher",
    "macro_f1_drop": "Macro F1 lost against the teacher",
    "tail_drop": "Tail classes lost against the teacher",
    "class_accuracy": "Class",
    "class_drop": "Lost against the teacher",
    "regression": "Lost against the baseline",
    "class_regression": "Lost against the baseline",
    "macro_f1_regression": "Macro F1 lost against the baseline",
    "tail_regression": "Tail classes lost against the baseline",
    "calibration_error": "Calibration error",
    "calibration_error_without_temperature": "Calibration error, without temperature",
    "unknown_rate": "Called unknown",
    "ood_unknown_rate": "Other images called unknown",
    "size_bytes": "Size",
    "multiply_adds": "Multiply-adds, an image",
    "speedup": "Speed-up by quantisation",
    "teacher_speedup": "Speed-up over the teacher",
    "peak_memory_mb": "Peak memory",
    "energy_j": "Energy, an image",
    "latency_ms_p50": "Latency, median",
    "latency_ms_p90": "Latency, 90th percentile",
    "latency_ms_p95": "Latency, 95th percentile",
    "latency_ms_p99": "Latency, 99th percentile",
}

_UNITS = {"latency_ms": "ms", "memory_mb": "MB", "energy_j": "J", "speedup": "×"}
"""Units of measurements other than shares, by a part of the name."""


def measure_title(name: str) -> str:
    """What a measurement's name means: `worst_class_accuracy` to `Worst class`."""
    return _TITLES.get(name, name.replace("_", " ").capitalize())


def format_amount(name: str, value: float) -> str:
    """A measurement's value with its unit, as the measurement's name says."""
    if name.endswith("_bytes"):
        return _format_bytes(value)
    if name == "multiply_adds":
        return _format_count(value)
    unit = next((unit for part, unit in _UNITS.items() if part in name), None)
    if unit:
        return f"{_significant(value)} {unit}"
    if name.endswith(("drop", "regression")):
        return f"{100 * value:.1f} pp".replace("-", "−")
    return format_share(value)


def format_share(value: float) -> str:
    """`0.914` to `91.4 %`."""
    return f"{100 * value:.1f} %"


def format_points(value: float) -> str:
    """A difference of shares in percentage points, with its sign: `+1.2`, `−0.4`, `0.0`."""
    text = f"{100 * value:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text.replace("-", "−")


def join_names(names: Sequence[str], *, most: int) -> str:
    """`a`, `a and b`, `a, b and c`; of more than `most`, how many others there are."""
    shown = [*names[:most], f"{len(names) - most} more"] if len(names) > most else list(names)
    return " and ".join(filter(None, (", ".join(shown[:-1]), *shown[-1:])))


def format_interval(row: Measurement) -> str:
    """Both ends of the 95 % interval without unit, empty where there is none: `89.9–92.8`, `−1.0 to 2.5`."""
    if row.low is None and row.high is None:
        return ""
    low, high = (_end(end, row.unit) for end in (row.low, row.high))
    return f"{low} to {high}" if "−" in low else f"{low}–{high}"


def _end(value: float | None, unit: str) -> str:
    """One end of an interval."""
    if value is None:
        return "?"
    text = f"{100 * value:.1f}" if unit == "share" else _significant(value)
    return text.replace("-", "−")


def format_fact(value: Any) -> str:
    """A fact of unknown type on one line."""
    match value:
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:.4g}"
        case str() | int():
            return str(value)
        case None:
            return "none"
        case list() | tuple() if all(isinstance(item, (str, int, float)) for item in value):
            return ", ".join(format_fact(item) for item in value)
        case _:
            return json.dumps(value, ensure_ascii=False)


def _significant(value: float) -> str:
    """Three significant digits, never in powers of ten."""
    if value == 0:
        return "0"
    digits = max(0, 2 - _exponent(value))
    return f"{value:,.{digits}f}"


def _exponent(value: float) -> int:
    return int(f"{value:.2e}".partition("e")[2])


def _format_count(value: float) -> str:
    for word, size in (("billion", 1e9), ("million", 1e6)):
        if value >= size:
            return f"{_significant(value / size)} {word}"
    return f"{value:,.0f}"


def _format_bytes(value: float) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if value >= size:
            return f"{_significant(value / size)} {unit}"
    return f"{value:.0f} bytes"
