"""Per-class accuracy with intervals, paired tests, latency and size, gates, and the report with its page.

Importable without the build extra. Two parts need onnx and stand apart: `edgec.evaluate.roofline` predicts latency,
`edgec.evaluate.workload` counts what a graph asks of a device.
"""

from __future__ import annotations

from edgec.evaluate.accuracy import (
    ClassGroups,
    accuracy_measurements,
    agreement_measurement,
    confusion_counts,
    group_classes,
)
from edgec.evaluate.footprint import size_measurement
from edgec.evaluate.gates import GateResult, Gates, Verdict, check_gates
from edgec.evaluate.intervals import (
    Interval,
    PairedCounts,
    paired_interval,
    paired_p_value,
    quantile_ranks,
    wilson_interval,
)
from edgec.evaluate.latency import (
    Latency,
    Percentile,
    Turns,
    latency_measurements,
    measure_in_turns,
    measure_latency,
)
from edgec.evaluate.page import render_report
from edgec.evaluate.paired import drop_measurements
from edgec.evaluate.report import (
    CalibrationFacts,
    DataFacts,
    Effect,
    LayerSensitivity,
    LineageStep,
    OperatorLatency,
    Overlap,
    Report,
    Split,
    encode_report,
    parse_report,
    write_report,
)

__all__ = [
    "CalibrationFacts",
    "ClassGroups",
    "DataFacts",
    "Effect",
    "GateResult",
    "Gates",
    "Interval",
    "Latency",
    "LayerSensitivity",
    "LineageStep",
    "OperatorLatency",
    "Overlap",
    "PairedCounts",
    "Percentile",
    "Report",
    "Split",
    "Turns",
    "Verdict",
    "accuracy_measurements",
    "agreement_measurement",
    "check_gates",
    "confusion_counts",
    "drop_measurements",
    "encode_report",
    "group_classes",
    "latency_measurements",
    "measure_in_turns",
    "measure_latency",
    "paired_interval",
    "paired_p_value",
    "parse_report",
    "quantile_ranks",
    "render_report",
    "size_measurement",
    "wilson_interval",
    "write_report",
]
