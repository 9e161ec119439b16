"""What refining a quantised graph takes from a build: images with their chances, the teacher, the way to calibrate."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
import onnx
import torch
from torch import Tensor

from edgec.calibrate import Ranges, observe_ranges
from edgec.core.errors import ExportMismatchError, UnsupportedError
from edgec.core.facts import LayerSensitivity
from edgec.core.files import write_bytes
from edgec.core.samples import Images, Pixels, even_positions
from edgec.learn.batches import Pool
from edgec.learn.draws import balanced_chances, flattening_chances
from edgec.learn.inputs import Streamed
from edgec.learn.layerwise import Weighed
from edgec.learn.losses import class_groups
from edgec.learn.views import View, view_of
from edgec.models.infer import placed
from edgec.pipeline.confidence import shift_of
from edgec.pipeline.listening import training_listens
from edgec.pipeline.prior import class_counts
from edgec.pipeline.sources import Sources
from edgec.pipeline.stages.calibrate import calibrating
from edgec.pipeline.stages.data import Prepared
from edgec.pipeline.student_view import training_robust
from edgec.pipeline.teachers import teachers_of
from edgec.quantize import quantize_model
from edgec.quantize.refine import Refined, RefineJob, refine
from edgec.quantize.sensitivity import changed_by_class, logits_of

if TYPE_CHECKING:
    from onnx import ModelProto

    from edgec.runtime import Session

__all__ = ["REFINED", "REFINED_RANGES", "refined", "require_refined", "sensitivity_rows"]

REFINED = "refined.onnx"
REFINED_RANGES = "ranges.json"
JUDGED = 4000
"""Few samples, of every class alike, and OOD images that effects are judged on, at most; training draws from all."""
LEAST_SAME = 0.95
"""Share of images to which the file must give the class of the net in torch; nearly all that differ are near ties."""


def refined(sources: Sources, images: Prepared, model: Path, ranges: Ranges, folder: Path) -> Refined:
    """A graph and ranges that lose less when they are quantised.

    Args:
        sources: Plan, teacher, device.
        images: Few samples and OOD images.
        model: The FP32 graph.
        ranges: As calibrated.
        folder: Gets both.
    """
    plan, session = sources.plan, sources.session(model)
    chosen = calibrating(sources, images, session)

    def observe(graph: Path) -> Ranges:
        return observe_ranges(
            graph, chosen, plan.calibration, target=plan.target, feed=session.feed, progress=sources.progress
        )

    def shipped(graph: ModelProto, of: Ranges) -> np.ndarray:
        with TemporaryDirectory(prefix="edgec-") as made:
            source, file = Path(made) / REFINED, Path(made) / "shipped.onnx"
            onnx.save(graph, source)
            quantize_model(source, of, plan.target, output=file)
            return _logits(sources.shipped_session(file), images)

    counts = class_counts(sources, images, model)
    with _teachers(sources, images, session, counts) as teacher:
        job = RefineJob(
            model=model,
            ranges=ranges,
            target=plan.target,
            config=plan.config.quantize,
            calibration=Weighed(
                images=_fed(session, chosen.pixels),
                shares=torch.from_numpy(chosen.weights.astype(np.float32)),
            ),
            pools=_pools(images, session, teacher),
            images=_fed(session, _judged(images).pixels),
            teacher=teacher,
            observe=observe,
            shipped=shipped,
            groups=class_groups(counts, plan.config.quantize.training.groups),
            view=_view(sources),
            device=sources.fabric.device,
            seed=plan.config.seed,
        )
        result = refine(job, progress=sources.progress)
    write_bytes(folder / REFINED, result.model.SerializeToString(deterministic=True))
    write_bytes(folder / REFINED_RANGES, result.ranges.to_json().encode())
    return result


def _fed(session: Session, pixels: Pixels) -> Streamed:
    """Images as the graph takes them, made batch by batch."""
    return Streamed(pixels=pixels, feed=lambda batch: torch.from_numpy(session.feed(batch)))


def _view(sources: Sources) -> View | None:
    config = sources.plan.config
    return view_of(training_robust(config), config.compress.robust_share, sources.plan.model.input, raw=sources.raw)


def _pools(images: Prepared, session: Session, teacher: Callable[[Tensor], Tensor]) -> tuple[Pool, Pool]:
    few, ood = (_fed(session, part.pixels) for part in (images.few, images.ood))
    predicted = torch.from_numpy(logits_of(teacher, ood)).softmax(1).numpy()
    return (
        Pool(images=few, chances=torch.from_numpy(balanced_chances(images.few.labels))),
        Pool(images=ood, chances=torch.from_numpy(flattening_chances(predicted))),
    )


@contextmanager
def _teachers(
    sources: Sources, images: Prepared, session: Session, counts: np.ndarray | None
) -> Iterator[Callable[[Tensor], Tensor]]:
    """What training learns from: the teacher, put together with further ones where training listens to them.

    They are put together before anything is adjusted, as in recovery.
    """
    plan, device = sources.plan, sources.fabric.device
    with _teacher(sources, session, counts) as teacher:
        if not (sources.opens("also") and training_listens(plan.config)):
            yield teacher
            return
        teachers, normalised = teachers_of(sources, images.few, counts), _normalised(sources)
        adjusted = torch.as_tensor(shift_of(sources, counts), device=device)
        heat = plan.config.quantize.training.temperature
        with teachers.placed(device):

            def run(batch: Tensor) -> Tensor:
                own = teacher(batch).to(device) - adjusted
                return teachers.joined(own, normalised(batch), temperature=heat) + adjusted

            yield run


@contextmanager
def _teacher(sources: Sources, session: Session, counts: np.ndarray | None) -> Iterator[Callable[[Tensor], Tensor]]:
    """From what the graph takes to the teacher's logits: the module's, or those of the graph that was given.

    They are adjusted as the graph's are; else training would bring back the bias that export took out.
    """
    if sources.plan.model.is_onnx:
        yield lambda batch: torch.from_numpy(session.logits(batch.cpu().numpy())).to(batch.device)
        return
    device, normalised = sources.fabric.device, _normalised(sources)
    adjusted = torch.as_tensor(shift_of(sources, counts), device=device)
    with placed(sources.classifier.module, device) as module:
        yield lambda batch: module(normalised(batch)) + adjusted


def _normalised(sources: Sources) -> Callable[[Tensor], Tensor]:
    """From what the graph takes to what the teacher takes, on the device."""
    spec, device, raw = sources.plan.model.input, sources.fabric.device, sources.raw
    scale, shift = (torch.tensor(values, device=device)[:, None, None] for values in (spec.scale, spec.shift))
    return lambda batch: batch.to(device) * scale + shift if raw else batch.to(device)


def require_refined(sources: Sources, images: Prepared, result: Refined, shipped: Path) -> float:
    """The share of images to which the file gives the class of the net that was refined; nearly all of them.

    Args:
        sources: Class names.
        images: As `refined` was given them.
        result: What it gave.
        shipped: The quantised graph.

    Raises:
        ExportMismatchError: The file gives many of the images another class.
        UnsupportedError: The file does not keep the bound of `mixed_precision`.
    """
    logits = _logits(sources.session(shipped), images)
    same = float((logits.argmax(1) == result.logits.argmax(1)).mean())
    if same < LEAST_SAME:
        raise ExportMismatchError(
            f"the quantised file gives {same:.1%} of {len(logits)} images the class of the net that was refined, "
            f"expected {LEAST_SAME:.0%}",
            hint="report it; leaving [quantize] at its defaults ships the graph as it was calibrated",
        )
    _require_bound(sources, result, _logits(sources.shipped_session(shipped), images))
    return same


def sensitivity_rows(result: Refined, labels: Sequence[str]) -> tuple[LayerSensitivity, ...]:
    """What rounding each part of the net costs each class, where that was looked at."""
    floats = set(result.ranges.floats)
    return tuple(
        LayerSensitivity(
            layer=cost.part.name,
            operator=cost.part.operator,
            kept="float" if floats.issuperset(cost.part.floats) else "int8",
            divergence=dict(zip(labels, cost.divergence.tolist(), strict=True)),
        )
        for cost in result.costs
    )


def _require_bound(sources: Sources, result: Refined, logits: np.ndarray) -> None:
    """The bound of `mixed_precision` is a promise about the file."""
    allowed = sources.plan.config.quantize.mixed_precision
    if allowed is None:
        return
    changed = changed_by_class(result.reference, logits)
    if np.nanmax(changed) <= allowed:
        return
    worst = int(np.nanargmax(changed))
    in_half = sources.plan.target.quantization.computes_in_half
    raise UnsupportedError(
        f"quantize.mixed_precision = {allowed:g} cannot be met: with all {len(result.costs)} layers and activations in "
        f"floating point, {changed[worst]:.1%} of the images of class '{sources.labels[worst]}' get another class",
        hint="set quantize.float_type = 'float32'" if in_half else "raise the bound, or report it with the model",
    )


def _logits(session: Session, images: Prepared) -> np.ndarray:
    """Of what effects are judged on, as `RefineJob.images` has it."""
    return session.logits_of(_judged(images))


def _judged(images: Prepared) -> Images:
    few = images.few.choose(even_positions(images.few.labels, JUDGED))
    return few.joined(images.ood.choose(np.arange(len(images.ood))[:JUDGED]))
