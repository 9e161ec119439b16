"""Stage `quantize`: the graph that ships, in the target's scheme, refined as far as the settings ask for it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from edgec.core.facts import Effect, LayerSensitivity
from edgec.core.frozen import Frozen
from edgec.pipeline.listening import ALSO_READS, training_listens
from edgec.pipeline.plan import MODEL_SETTINGS, Plan
from edgec.pipeline.sources import Sources
from edgec.pipeline.stages import calibrate, data, export
from edgec.pipeline.stages.data import Prepared
from edgec.pipeline.store import StageKey

__all__ = ["MODEL", "Facts", "key", "run"]

MODEL = "model.onnx"

READS = (
    *MODEL_SETTINGS,
    *("config.quantize", "calibration", "target.name", "target.family", "target.quantization", "target.runtime"),
    *("config.export.preprocess_in_graph", "config.export.adjust_logits", "accelerator", "config.seed"),
    *("config.compress.robust", "config.compress.robust_share"),
)


class Facts(Frozen):
    """What quantisation did, as `quantize.QuantizationFacts` has it, and what refining did before.

    Attributes:
        same_class_as_refined: Share of images to which the file gives the class of the net that was refined.
        effects: What each refinement did.
        sensitivity: What rounding each layer and activation costs each class, where that was asked for.
    """

    scheme: str
    sha256: str
    size_bytes: int
    opset: int
    rounded_activations: int
    rounded_weights: int
    int8_operators: dict[str, int]
    float_operators: dict[str, int]
    batch_norms: int
    silent_channels: dict[str, int]
    same_class_as_refined: float | None = None
    effects: tuple[Effect, ...] = ()
    sensitivity: tuple[LayerSensitivity, ...] = ()


def key(plan: Plan) -> StageKey:
    """The graph that ships."""
    heard = bool(plan.model.also) and training_listens(plan.config)
    also, told = (("also",), ALSO_READS) if heard else ((), ())
    before = (data.key(plan), export.key(plan), calibrate.key(plan))
    return plan.key("quantize", (*READS, *told), opens=("model", "prior", *also), after=before)


def run(sources: Sources, folder: Path, *, images: Prepared, model: Path, ranges: Path) -> Facts:
    """Writes `model.onnx`, and beside it the refined graph and its ranges where settings ask for refining.

    Args:
        sources: Plan, teacher and device.
        folder: Where the graph goes.
        images: What refining learns from and is judged on.
        model: The FP32 graph.
        ranges: As stage `calibrate` left them.
    """
    from edgec.calibrate import Ranges
    from edgec.export.metadata import metadata_of
    from edgec.quantize import keep_model, quantize_model

    plan, target, shipped = sources.plan, sources.plan.target, folder / MODEL
    if plan.as_given:
        return Facts(**asdict(keep_model(model, target, output=shipped)))
    read = Ranges.from_json(ranges.read_text(encoding="utf-8"))
    metadata = metadata_of(plan.model.input, sources.labels, preprocessing_in_graph=sources.raw)
    if not plan.config.quantize.refines(target):
        return Facts(**asdict(quantize_model(model, read, target, output=shipped, metadata=metadata)))
    from edgec.pipeline.refining import REFINED, refined, require_refined, sensitivity_rows

    result = refined(sources, images, model, read, folder)
    facts = asdict(quantize_model(folder / REFINED, result.ranges, target, output=shipped, metadata=metadata))
    same = require_refined(sources, images, result, shipped)
    rows = sensitivity_rows(result, sources.labels)
    return Facts(**facts, same_class_as_refined=same, effects=tuple(result.effects), sensitivity=rows)
