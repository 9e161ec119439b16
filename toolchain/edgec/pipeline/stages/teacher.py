"""Stage `teacher`: the teacher on labelled images, before anything is built on it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from edgec.core.inputs import InputSpec
from edgec.core.samples import even_positions
from edgec.evaluate.teacher import TeacherCheck, check_teacher
from edgec.pipeline.plan import MODEL_SETTINGS, Plan
from edgec.pipeline.sources import Sources
from edgec.pipeline.stages import data
from edgec.pipeline.store import StageKey

__all__ = ["Facts", "key", "run"]

MOST = 200
"""Images of each split, of every class alike."""
_BATCH = 64
READS = (*MODEL_SETTINGS, "accelerator", *(f"data.{name}" for name in ("embedded", "max_unreadable", "group")))


Facts = TeacherCheck


def key(plan: Plan) -> StageKey:
    """The teacher on labelled images, as it was given."""
    return plan.key("teacher", READS, opens=("model", "train", "test"), after=(data.key(plan),))


def run(sources: Sources, _: Path) -> Facts:
    """Measures the teacher; what a person must know is said at once."""
    from edgec.data import reframed

    splits = (sources.test, sources.train)
    parts = [split.choose(even_positions(split.labels, MOST)) for split in splits]
    asked = sources.plan.model.input

    def pictures(spec: InputSpec) -> np.ndarray | None:
        framed = [part.decoded() if spec == asked else reframed(part, spec) for part in parts]
        found = [pixels for pixels in framed if pixels is not None]
        return np.concatenate(found) if len(found) == len(parts) else None

    labels = np.concatenate([part.labels for part in parts])
    check = check_teacher(asked, labels, sources.labels, pictures=pictures, run=_runner(sources))
    if check.warning is not None:
        sources.progress.note(f"warning: {check.warning}")
    return check


def _runner(sources: Sources) -> Callable[[InputSpec, np.ndarray], np.ndarray]:
    """What the teacher makes of pixels that are fed as a spec has it."""
    if sources.plan.model.is_onnx:
        from edgec.runtime import Session

        model, raw = sources.onnx.proto.SerializeToString(), sources.onnx.raw
        return lambda spec, pixels: Session(model, spec, preprocessing_in_graph=raw).logits(pixels)

    def answer(spec: InputSpec, pixels: np.ndarray) -> np.ndarray:
        from edgec.models.infer import to_logits

        classifier, device = replace(sources.classifier, input=spec), sources.fabric.device
        starts = range(0, len(pixels), _BATCH)
        return np.concatenate([to_logits(classifier, pixels[at : at + _BATCH], device=device) for at in starts])

    return answer
