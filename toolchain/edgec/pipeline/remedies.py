"""What would have kept what int8 lost: settings of a build, each tried and judged against FP32."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from edgec.calibrate import Ranges, load_recipe
from edgec.core.errors import EdgecError
from edgec.core.samples import even_positions
from edgec.core.target import Scheme
from edgec.evaluate.loss import Loss, Remedy
from edgec.pipeline.plan import Plan
from edgec.pipeline.sources import Sources
from edgec.pipeline.stages import calibrate, quantize
from edgec.pipeline.stages.data import Prepared

if TYPE_CHECKING:
    from edgec.runtime import Session

__all__ = ["explained", "remedies_of"]

_OOD = 128
"""OOD images that remedies are judged on, beside the few samples."""
_FEW = 1000
"""Few samples, of every class alike, that they are judged on."""
_LOOKED_AT = 16
"""Images whose activations are looked at."""
_OBSERVERS = ("percentile", "minmax")
_BOUND = 0.05
"""Of mixed precision."""


def explained(loss: Loss, sources: Sources, images: Prepared, fp32: Path, ranges: Path, shipped: Path) -> Loss:
    """The loss with its places and, where chance does not explain it, the remedies that were tried.

    No test image has a part in it: remedies are judged on the few samples and OOD images.

    Args:
        loss: As the evaluation found it.
        sources: Plan and progress.
        images: Few samples and OOD images.
        fp32: The graph before it was quantised.
        ranges: As they were calibrated.
        shipped: The file.
    """
    few = images.few.choose(even_positions(images.few.labels, _FEW))
    judged = replace(images, few=few, ood=images.ood.choose(np.arange(len(images.ood))[:_OOD]))
    told: dict[str, Any] = {"places": _places(sources, judged, fp32, ranges, shipped)}
    if not loss.proven:
        return loss.model_copy(update=told)
    wanted = _classes(sources.session(fp32), judged)
    found = _classes(sources.shipped_session(shipped), judged)
    remedies = []
    for setting, other in sources.variations(remedies_of):
        sources.progress.note(f"{loss.headline}: trying {setting}")
        kept = ranges if other.plan.calibration is sources.plan.calibration else None
        remedies.append(_tried(setting, other, judged, fp32, kept, wanted))
    told |= {"changed": float((found != wanted).mean()), "judged": len(wanted), "remedies": tuple(remedies)}
    return loss.model_copy(update=told)


def _places(sources: Sources, images: Prepared, fp32: Path, ranges: Path, shipped: Path) -> tuple[str, ...]:
    from edgec.pipeline.refining import REFINED, REFINED_RANGES
    from edgec.quantize.coarse import coarse_places

    refined = shipped.with_name(REFINED)
    graph, of = (refined, shipped.with_name(REFINED_RANGES)) if refined.exists() else (fp32, ranges)
    session, pixels = sources.session(fp32), images.few.evenly(_LOOKED_AT).decoded()
    batches = [session.feed(pixels[i : i + 1]) for i in range(len(pixels))]
    return coarse_places(graph, shipped, Ranges.from_json(of.read_text(encoding="utf-8")), sources.plan.target, batches)


def remedies_of(plan: Plan) -> Iterator[tuple[str, Plan]]:
    """Settings that lose less, none of which the plan has."""
    quantize, formats = plan.config.quantize, plan.target.quantization
    if not formats.scheme.is_int8:
        yield 'quantize.scheme="float32"', _with_formats(plan, scheme=Scheme.FLOAT32)
        return
    if formats.weight_bits == 4:
        yield "quantize.weight_bits=8", _with_formats(plan, weight_bits=8)
    if formats.float_type == "float16":
        yield 'quantize.float_type="float32"', _with_formats(plan, float_type="float32")
    for observer in _OBSERVERS:
        if plan.calibration.observer != observer:
            yield f'calibrate.recipe="{observer}"', replace(plan, calibration=load_recipe(observer))
    if not quantize.equalize:
        yield "quantize.equalize=true", _with_settings(plan, equalize=True)
    if quantize.mixed_precision is None or quantize.mixed_precision > _BOUND:
        yield f"quantize.mixed_precision={_BOUND}", _with_settings(plan, mixed_precision=_BOUND)


def _with_settings(plan: Plan, **settings: Any) -> Plan:
    quantize = plan.config.quantize.model_copy(update=settings)
    return replace(plan, config=plan.config.model_copy(update={"quantize": quantize}))


def _with_formats(plan: Plan, **formats: Any) -> Plan:
    quantization = plan.target.quantization.model_copy(update=formats)
    return replace(plan, target=plan.target.model_copy(update={"quantization": quantization}))


def _tried(
    setting: str, sources: Sources, images: Prepared, fp32: Path, ranges: Path | None, wanted: np.ndarray
) -> Remedy:
    """What a plan makes of the FP32 graph, by the stages of a build; ranges that are not given are read anew."""
    with TemporaryDirectory(prefix="edgec-") as made:
        folder = Path(made)
        try:
            if ranges is None:
                calibrate.run(sources, folder, images=images, model=fp32)
            read = ranges or folder / calibrate.RANGES
            quantize.run(sources, folder, images=images, model=fp32, ranges=read)
        except EdgecError as error:
            return Remedy(setting=setting, failure=str(error))
        found = _classes(sources.shipped_session(folder / quantize.MODEL), images)
    return Remedy(setting=setting, changed=float((found != wanted).mean()))


def _classes(session: Session, images: Prepared) -> np.ndarray:
    logits = [session.logits_of(part) for part in (images.few, images.ood)]
    return np.concatenate(logits).argmax(axis=1)
