"""Stage `teacher`: the teacher on labelled images, before anything is built on it, and further teachers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from edgec.core.frozen import Frozen
from edgec.core.inputs import InputSpec
from edgec.core.samples import even_positions
from edgec.evaluate.intervals import wilson_interval
from edgec.evaluate.teacher import TeacherCheck, check_teacher
from edgec.pipeline.plan import MODEL_SETTINGS, Plan
from edgec.pipeline.sources import Sources
from edgec.pipeline.stages import data
from edgec.pipeline.store import StageKey

__all__ = ["Facts", "FurtherCheck", "key", "run"]

MOST = 200
"""Images of each split, of every class alike."""
_BATCH = 64
READS = (*MODEL_SETTINGS, "accelerator", *(f"data.{name}" for name in ("embedded", "max_unreadable", "group")))


class FurtherCheck(Frozen):
    """A further teacher on the same labelled images.

    Attributes:
        name: As the config has it.
        right: How many of them it is right on.
        n: Images.
        classes: How many there are.
    """

    name: str
    right: int
    n: int
    classes: int

    @property
    def told(self) -> str:
        """How good it is; whether it is no better than chance."""
        told = f"further teacher '{self.name}' is right on {self.right / self.n:.1%} of {self.n} labelled images"
        if wilson_interval(self.right, self.n).low > 1 / self.classes:
            return told
        return (
            f"warning: {told}, no better than chance ({1 / self.classes:.1%}): check its weights, its input and the "
            "order of its labels, or leave it out of model.also"
        )


class Facts(TeacherCheck):
    """The teacher, and those beside it; None where there is none."""

    further: tuple[FurtherCheck, ...] | None = None


def key(plan: Plan) -> StageKey:
    """The teacher on labelled images, as it was given."""
    also = ("also",) if plan.model.also else ()
    return plan.key("teacher", READS, opens=("model", "train", "test", *also), after=(data.key(plan),))


def run(sources: Sources, _: Path) -> Facts:
    """Measures the teachers; what a person must know is said at once."""
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
    further = tuple(_further(sources, np.concatenate([part.decoded() for part in parts]), labels))
    for each in further:
        sources.progress.note(each.told)
    return Facts(**dict(check), further=further or None)


def _further(sources: Sources, pixels: np.ndarray, labels: np.ndarray) -> Iterator[FurtherCheck]:
    """Each further teacher on pictures as they are brought to size for the teacher."""
    if not sources.opens("also"):
        return
    from edgec.core.classifier import Classifier
    from edgec.models.infer import to_logits

    spec, classes, device = sources.plan.model.input, sources.labels, sources.fabric.device
    for each in sources.further:
        shown = Classifier(module=each.module, input=spec, labels=classes)
        parts = (pixels[at : at + _BATCH] for at in range(0, len(pixels), _BATCH))
        given = np.concatenate([to_logits(shown, part, device=device).argmax(1) for part in parts])
        yield FurtherCheck(name=each.name, right=int((given == labels).sum()), n=len(labels), classes=len(classes))


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
