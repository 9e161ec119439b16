"""What refining a quantised graph takes from a build: images with their chances, the teacher, the way to calibrate."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from edgec.calibrate import Ranges, observe_ranges
from edgec.compress.distill import Pool
from edgec.compress.draws import balanced_chances, flattening_chances
from edgec.compress.layerwise import Weighed
from edgec.core.errors import ExportMismatchError
from edgec.core.files import write_bytes
from edgec.models.infer import placed
from edgec.pipeline.prepare import Prepared
from edgec.pipeline.sources import Sources
from edgec.pipeline.stages import calibrating
from edgec.quantize.refine import Refined, RefineJob, refine
from edgec.quantize.sensitivity import logits_of

if TYPE_CHECKING:
    from edgec.runtime import Session

__all__ = ["REFINED", "REFINED_RANGES", "refined", "refined_facts"]

REFINED = "refined.onnx"
REFINED_RANGES = "ranges.json"
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

    with _teacher(sources, session) as teacher:
        job = RefineJob(
            model=model,
            ranges=ranges,
            target=plan.target,
            config=plan.config.quantize,
            calibration=Weighed(
                images=torch.from_numpy(session.feed(chosen.pixels)),
                shares=torch.from_numpy(chosen.weights.astype(np.float32)),
            ),
            pools=_pools(images, session, teacher),
            teacher=teacher,
            observe=observe,
            device=sources.fabric.device,
            seed=plan.config.seed,
        )
        result = refine(job, progress=sources.progress)
    write_bytes(folder / REFINED, result.model.SerializeToString(deterministic=True))
    write_bytes(folder / REFINED_RANGES, result.ranges.to_json().encode())
    return result


def _pools(images: Prepared, session: Session, teacher: Callable[[Tensor], Tensor]) -> tuple[Pool, Pool]:
    few, ood = (torch.from_numpy(session.feed(part.decoded())) for part in (images.few, images.ood))
    predicted = torch.from_numpy(logits_of(teacher, ood)).softmax(1).numpy()
    return (
        Pool(images=few, chances=torch.from_numpy(balanced_chances(images.few.labels))),
        Pool(images=ood, chances=torch.from_numpy(flattening_chances(predicted))),
    )


@contextmanager
def _teacher(sources: Sources, session: Session) -> Iterator[Callable[[Tensor], Tensor]]:
    """From what the graph takes to the teacher's logits: the module's, or those of the graph that was given."""
    if sources.plan.model.is_onnx:
        yield lambda batch: torch.from_numpy(session.logits(batch.cpu().numpy())).to(batch.device)
        return
    spec, device = sources.plan.model.input, sources.fabric.device
    raw = sources.plan.config.export.preprocess_in_graph
    mean, std = (torch.tensor(values, device=device)[:, None, None] for values in (spec.mean, spec.std))
    with placed(sources.classifier.module, device) as module:

        def run(batch: Tensor) -> Tensor:
            inputs = batch.to(device)
            return module((inputs / 255 - mean) / std if raw else inputs)

        yield run


def refined_facts(sources: Sources, images: Prepared, result: Refined, shipped: Path) -> dict[str, Any]:
    """What the report tells of it, with the proof that the file is the net that was refined.

    Args:
        sources: Class names.
        images: As `refined` was given them.
        result: What it gave.
        shipped: The quantised graph.

    Raises:
        ExportMismatchError: The file gives many of the images another class.
    """
    session = sources.session(shipped)
    logits = np.concatenate([session.logits(part.decoded()) for part in (images.few, images.ood)])
    same = float((logits.argmax(1) == result.logits.argmax(1)).mean())
    if same < LEAST_SAME:
        raise ExportMismatchError(
            f"the quantised file gives {same:.1%} of {len(logits)} images the class of the net that was refined, "
            f"expected {LEAST_SAME:.0%}",
            hint="report it; leaving [quantize] at its defaults ships the graph as it was calibrated",
        )
    floats = set(result.ranges.floats)
    return {
        "same_class_as_refined": same,
        "effects": [asdict(effect) for effect in result.effects],
        "sensitivity": [
            {
                "layer": cost.layer.name,
                "operator": cost.layer.operator,
                "kept": "float" if cost.layer.name in floats else "int8",
                "divergence": dict(zip(sources.labels, cost.divergence.tolist(), strict=True)),
            }
            for cost in result.costs
        ],
    }
