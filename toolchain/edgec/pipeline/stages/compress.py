"""Stages `baseline`, `few` and `compress`: a pruned and recovered student, and what to compare it with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydantic import JsonValue

from edgec.compress.config import Variant
from edgec.core.classifier import Classifier
from edgec.core.digest import digest_bytes
from edgec.core.errors import ContractError
from edgec.core.frozen import Frozen
from edgec.learn.config import Budget
from edgec.pipeline.latency_price import LATENCY_READS
from edgec.pipeline.listening import ALSO_READS, recovery_listens
from edgec.pipeline.plan import MODEL_SETTINGS, Plan
from edgec.pipeline.sources import Sources
from edgec.pipeline.stages import data
from edgec.pipeline.stages.data import Prepared
from edgec.pipeline.store import StageKey

if TYPE_CHECKING:
    from edgec.learn.teachers import Teachers

__all__ = ["Facts", "LatencyUse", "OodUse", "compressed", "few_key", "key", "plain_key", "run"]

READS = (
    *MODEL_SETTINGS,
    *(f"config.compress.{name}" for name in ("method", *Budget.model_fields, "options")),
    *("target.rules", "accelerator", "config.seed"),
)
"""What plain compression depends on; our recipe depends on `config.compress.oefsmc` as well."""


class OodUse(Frozen):
    """What became of the out-of-distribution images.

    Attributes:
        gap: How far they are from the few samples to the teacher, in nat; None where nobody asked.
        gap_restyled: How far in the few samples' style; None where they were left as they are.
        used: Whether recovery used them.
    """

    gap: float | None = None
    gap_restyled: float | None = None
    used: bool = True


class LatencyUse(Frozen):
    """What became of a budget of latency; in milliseconds, as predicted on the target for one image.

    Attributes:
        teacher_ms: The teacher's.
        most_ms: What may stay of it.
        student_ms: The student's.
    """

    teacher_ms: float
    most_ms: float
    student_ms: float


class Facts(Frozen):
    """What was done to the teacher.

    Attributes:
        steps: What each step of compression found, by its method.
        ood: What became of the out-of-distribution images.
        latency: What became of a budget of latency, where that was given.
    """

    steps: Mapping[str, dict[str, JsonValue]]
    ood: OodUse
    latency: LatencyUse | None = None


def key(plan: Plan) -> StageKey | None:
    """The student that ships; None where the model is quantised alone."""
    return _key(plan, "compress", plan.config.compress.variant) if plan.compresses else None


def plain_key(plan: Plan) -> StageKey | None:
    """Plain compression, to show beside what ships; None where it was not asked for."""
    asked = plan.compresses and "plain" in plan.config.compress.compare
    return _key(plan, "baseline", "plain") if asked else None


def few_key(plan: Plan) -> StageKey | None:
    """Our recipe on the few samples alone, to show beside what ships; None where it was not asked for."""
    asked = plan.compresses and "few" in plan.config.compress.compare
    return _key(plan, "few", "few") if asked else None


def _key(plan: Plan, stage: str, variant: Variant) -> StageKey:
    recipe = () if variant == "plain" else ("config.compress.oefsmc",)
    priced = LATENCY_READS if plan.config.compress.is_of_latency else ()
    heard = bool(plan.model.also) and recovery_listens(plan.config.compress, variant)
    opens = ("model", "prior") if heard or _asks_for_groups(plan, variant) else ("model",)
    also, told = (("also",), ALSO_READS) if heard else ((), ())
    found = plan.key(stage, (*READS, *recipe, *priced, *told), opens=(*opens, *also), after=(data.key(plan),))
    return replace(found, settings={**found.settings, "variant": variant})


def _asks_for_groups(plan: Plan, variant: Variant) -> bool:
    """Whether recovery looks at how often the teacher saw each class."""
    compress = plan.config.compress
    joint = variant != "plain" and compress.oefsmc.recovery.logit_loss == "ltkd"
    return joint or compress.options.get("logit_loss") == "ltkd"


def run(sources: Sources, folder: Path, *, images: Prepared, variant: Variant, few: Path | None = None) -> Facts:
    """Leaves a student that is the same when it is read back.

    Args:
        sources: Plan, teacher and device.
        folder: Where the student goes.
        images: The few samples and the OOD pool.
        variant: As `compressed` has it.
        few: What stage `few` left, where it ran.

    Raises:
        ContractError: As `compressed`, or the student cannot be stored.
    """
    from edgec.models.checkpoint import load_student, save_student
    from edgec.models.infer import logits_of

    teacher = sources.classifier
    alone = None if few is None else sources.student(few)
    student = compressed(sources, images, variant=variant, alone=alone)
    latency = _latency_use(sources, student)
    save_student(student, folder)
    if not np.array_equal(logits_of(student, images.few), logits_of(load_student(teacher, folder), images.few)):
        name = sources.plan.config.compress.method
        raise ContractError(f"compression method '{name}' made a model that cannot be stored and read back")
    steps = {step.method: dict(step.facts) for step in student.history[len(teacher.history) :]}
    return Facts(steps=steps, ood=_ood_use(steps.get("oefsmc", {})), latency=latency)


def _latency_use(sources: Sources, student: Classifier) -> LatencyUse | None:
    """Says what the student takes, by its own graph; nothing where that is not what counts.

    Raises:
        ContractError: More than may stay.
    """
    from edgec.compress.price import limit_of

    price = sources.latency
    if price is None:
        return None
    method, limit = sources.plan.config.compress.method, limit_of(_budget(sources.plan), price)
    found = LatencyUse(teacher_ms=price.whole, most_ms=limit.amount, student_ms=price.of_net(student.module))
    if found.student_ms > limit.amount * (1 + 1e-9):
        raise ContractError(
            f"compression method '{method}' left {price.told(found.student_ms)}; {limit.setting} = {limit.value:g} "
            f"allows {limit.amount:.3g} ms"
        )
    sources.progress.note(f"latency: {price.told(found.student_ms)}; the teacher takes {price.whole:.3g} ms")
    return found


def _ood_use(found: Mapping[str, JsonValue]) -> OodUse:
    """What OE-FSMC says of the out-of-distribution images."""
    told = {"gap": "ood_gap", "gap_restyled": "ood_gap_restyled", "used": "ood_used"}
    return OodUse.model_validate({field: found[name] for field, name in told.items() if name in found})


def compressed(
    sources: Sources,
    images: Prepared,
    *,
    variant: Variant,
    alone: Classifier | None = None,
) -> Classifier:
    """Prunes and recovers.

    Args:
        sources: Plan, teacher and device.
        images: The few samples and the OOD pool.
        variant: By the method alone, by our recipe on the few samples, or with the OOD images.
        alone: What variant `few` gives, where that is known already.

    Raises:
        ContractError: The method changed the teacher, or returned a model of another shape.
    """
    from edgec.compress import oefsmc
    from edgec.compress.fit import fitted
    from edgec.compress.job import CompressJob
    from edgec.learn.prior import training_counts

    plan, teacher = sources.plan, sources.classifier
    method, options = sources.method
    job = CompressJob(
        teacher=teacher,
        few=images.few,
        trained_on=training_counts(plan.model.trained_on, images.few) if _asks_for_groups(plan, variant) else None,
        teachers=_teachers(sources, images, variant),
        unlabelled=images.unlabelled,
        budget=_budget(plan),
        latency=sources.latency,
        rules=plan.target.rules,
        seed=plan.config.seed,
        fabric=sources.fabric,
    )
    _tell_of_subset(sources, images, job.budget.judged_images)
    before = _fingerprint(teacher)
    if variant == "plain":
        job = fitted(job, method.name, progress=sources.progress)
        student = method.function(job, options, progress=sources.progress)
    else:
        ood = images.ood if variant == "ours" else None
        recipe, progress = plan.config.compress.oefsmc, sources.progress
        student = oefsmc.compress(job, ood, method, options, recipe, alone=alone, progress=progress)
    if _fingerprint(teacher) != before:
        raise ContractError(f"compression method '{method.name}' changed the teacher that it was given")
    if (student.input, student.labels) != (teacher.input, teacher.labels):
        raise ContractError(f"compression method '{method.name}' changed the input or the labels")
    return student


def _teachers(sources: Sources, images: Prepared, variant: Variant) -> Teachers | None:
    """Further teachers that recovery listens to."""
    if not (sources.opens("also") and recovery_listens(sources.plan.config.compress, variant)):
        return None
    from edgec.pipeline.prior import class_counts
    from edgec.pipeline.teachers import teachers_of

    return teachers_of(sources, images.few, class_counts(sources, images, Path()))


def _tell_of_subset(sources: Sources, images: Prepared, most: int) -> None:
    """Says where what is judged is judged on some of the images."""
    labelled = len(images.few) + len(images.unlabelled or ())
    if max(labelled, len(images.ood)) > most:
        sources.progress.note(
            f"channels, blocks and layers are judged on at most {most} of {labelled} images of the classes and of "
            f"{len(images.ood)} out-of-distribution images (compress.judged_images); recovery draws from all"
        )


def _budget(plan: Plan) -> Budget:
    return Budget(**{name: getattr(plan.config.compress, name) for name in Budget.model_fields})


def _fingerprint(classifier: Classifier) -> str:
    state = classifier.module.state_dict()
    return digest_bytes(b"".join(name.encode() + tensor.cpu().numpy().tobytes() for name, tensor in state.items()))
