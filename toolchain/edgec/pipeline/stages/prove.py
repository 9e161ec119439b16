"""Stage `prove`: what TensorRT will say of the graph that ships, as far as that is known without the device."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from edgec.core.facts import TensorRTCheck
from edgec.export.ahead import rtx_version
from edgec.pipeline.plan import Plan
from edgec.pipeline.sources import Sources
from edgec.pipeline.stages import calibrate, quantize
from edgec.pipeline.stages.calibrate import RANGES
from edgec.pipeline.stages.quantize import MODEL
from edgec.pipeline.store import StageKey

__all__ = ["Facts", "key", "run"]

READS = ("as_given", "target.name", "target.quantization", "target.runtime", "target.rules")

Facts = TensorRTCheck


def key(plan: Plan) -> StageKey | None:
    """What is known of a graph for TensorRT without the device; None for other engines."""
    if plan.target.runtime.engine != "tensorrt":
        return None
    found = plan.key("prove", READS, after=(calibrate.key(plan), quantize.key(plan)))
    return replace(found, settings={**found.settings, "tensorrt_rtx": rtx_version()})


def run(sources: Sources, _: Path, *, quantized: Path, calibrated: Path) -> Facts:
    """Lints the graph, and builds it ahead of time where TensorRT's RTX flavour is installed.

    Args:
        sources: Plan and progress.
        quantized: The folder of stage `quantize`.
        calibrated: That of stage `calibrate`.

    Raises:
        UnsupportedError: The linter finds an error, or TensorRT's parser or builder refuses the graph.
    """
    import onnx

    from edgec.calibrate import Ranges
    from edgec.export.ahead import prove
    from edgec.export.lint import lint, require_clean, weighted_names
    from edgec.pipeline.refining import REFINED_RANGES

    refined = quantized / REFINED_RANGES
    ranges = refined if refined.exists() else calibrated / RANGES
    kept = Ranges.from_json(ranges.read_text(encoding="utf-8")).floats
    target, model = sources.plan.target, quantized / MODEL
    graph = onnx.load(model)
    if sources.plan.as_given:
        kept = weighted_names(graph)
    findings = lint(graph, target, kept=kept)
    require_clean(findings)
    check = prove(model, target, kept=kept)
    sources.progress.note(f"TensorRT: {check.note}")
    return check.model_copy(update={"findings": findings})
