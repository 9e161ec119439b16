"""OE-FSMC: few-sample compression rebalanced with out-of-distribution images (Wu et al., arXiv 2502.05832).

Wraps any registered method: labels OOD images so that the class prior becomes flat, lets them take part in
pruning and recovery, then fine-tunes behind a guard where that is asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from pydantic import BaseModel

from edgec.compress.chain import in_stages
from edgec.compress.config import OefsmcConfig
from edgec.compress.domain import domain_gap
from edgec.compress.finetune import Labelled, finetune
from edgec.compress.fit import fitted
from edgec.compress.importance import class_weights
from edgec.compress.job import Auxiliary, CompressJob
from edgec.compress.restyle import restyled
from edgec.compress.subset import sampled
from edgec.core.classifier import Classifier, Step
from edgec.core.errors import DataError
from edgec.core.progress import Progress
from edgec.core.registry import Registered
from edgec.core.samples import Images
from edgec.learn.draws import balanced_chances, flattening_chances
from edgec.learn.inputs import streamed
from edgec.learn.labels import assign_labels, complementary_rates, draw_labels
from edgec.models.infer import logits_of

__all__ = ["compress"]

NEAR = 0.1
"""Nat of domain gap up to which OOD images take part. CIFAR-100 has at most 0.08 beside CIFAR-10, where it helps. Where
it was more, from 0.16 (TrashNet) to 0.7 (digits), images as they were may harm; restyled, they come to 0.08 at most
(docs/results.md)."""
Run = Callable[[CompressJob], Classifier]
"""The method that is wrapped."""


def compress(
    job: CompressJob,
    ood: Images | None,
    method: Registered,
    method_config: BaseModel,
    config: OefsmcConfig,
    *,
    alone: Classifier | None = None,
    progress: Progress,
) -> Classifier:
    """Runs a method with OOD images beside the few samples, where they are or can be brought near (`config.ood`).

    Args:
        job: The compression, without an auxiliary set.
        ood: The purified pool; None for the few samples alone, the control that shows what the rest brings.
        method: What is wrapped.
        method_config: Its settings.
        config: What is added.
        alone: What the few samples alone give, where that is known: it is what comes out where OOD images stay out.
        progress: Where to report.

    Raises:
        DataError: Too few OOD images.
    """
    stages = 1 if _is_plain(config) else config.stages

    def run(given: CompressJob) -> Classifier:
        given = fitted(given, method.name, progress=progress)
        return in_stages(given, lambda part: method.function(part, method_config, progress=progress), stages)

    if ood is None or config.ood == "never":
        return alone or _without(job, run, config)
    if len(ood) < 2:
        raise DataError(f"{len(ood)} OOD images, expected two or more", hint="add images with --ood")
    if _is_plain(config):
        return _with(job, ood, run, config, progress=progress)
    pool, facts = _brought_near(job, ood, config)
    if pool is None:
        progress.note(
            f"the out-of-distribution images are left out: to the teacher they are {facts['ood_gap']:.2f} nat from the "
            f"few samples, and beyond {NEAR} such images may do harm"
        )
        student = alone or _without(job, run, config)
    else:
        student = _with(job, pool, run, config, progress=progress)
    return student.after(student.module, Step(method="oefsmc", facts=facts))


def _brought_near(job: CompressJob, ood: Images, config: OefsmcConfig) -> tuple[Images | None, dict[str, Any]]:
    """The OOD images as they are, in the few samples' style, or not at all; and the gaps that decided it."""
    near = job.near
    pool, gap = ood, _gap(job, near, ood)
    facts: dict[str, Any] = {"ood_gap": round(gap, 4)}
    if config.style == "few" or (config.style == "auto" and gap > NEAR):
        pool = restyled(ood, near)
        gap = _gap(job, near, pool)
        facts["ood_gap_restyled"] = round(gap, 4)
    used = config.ood == "always" or gap <= NEAR
    return pool if used else None, {**facts, "ood_used": used}


def _gap(job: CompressJob, near: Images, far: Images) -> float:
    most = job.budget.judged_images
    parts = (sampled(part, most, seed=job.seed) for part in (near, far))
    first, second = (streamed(part, job.teacher.input) for part in parts)
    return domain_gap(job.teacher.module, first, second, fabric=job.fabric)


def _is_plain(config: OefsmcConfig) -> bool:
    """Whether pruning and recovery are the method's own."""
    return "compression" not in config.parts


def _without(job: CompressJob, run: Run, config: OefsmcConfig) -> Classifier:
    """The recipe with the few samples in the pool's place; nothing is fine-tuned."""
    if _is_plain(config):
        return run(job)
    return run(replace(job, auxiliary=_auxiliary(job, job.few, config, np.random.default_rng(job.seed))))


def _with(job: CompressJob, ood: Images, run: Run, config: OefsmcConfig, *, progress: Progress) -> Classifier:
    """The recipe with OOD images, then fine-tuning where the config says so."""
    rng = np.random.default_rng(job.seed)
    order = rng.permutation(len(ood))
    held_out = min(max(round(config.held_out * len(ood)), 1), len(ood) - 1) if config.finetunes else 0
    auxiliary = _auxiliary(job, ood.choose(order[held_out:]), config, rng)
    student = run(job if _is_plain(config) else replace(job, auxiliary=auxiliary))
    if not config.finetunes:
        return student
    trained = set(auxiliary.pool.digests)
    guard = ood.choose(np.array([i for i in order if ood.digests[i] not in trained], dtype=int))
    return _finetuned(student, job, (auxiliary, guard), config, progress=progress)


def _auxiliary(job: CompressJob, pool: Images, config: OefsmcConfig, rng: np.random.Generator) -> Auxiliary:
    m = min(config.auxiliary or len(job.few), len(pool))
    labels = (assign_labels if config.labels == "remainder" else draw_labels)(job.few.counts, m, rng)
    assigned = np.bincount(labels, minlength=len(job.few.classes))
    labelled = pool.choose(np.arange(m))
    pool = pool if config.distill_on == "pool" else labelled
    flat = config.draws == "balanced"
    near, near_chances = _near(job, flat=flat)
    return Auxiliary(
        pool=pool,
        chances=flattening_chances(_predicted(job, pool), rounds=20 if flat else 0),
        labelled=labelled,
        labels=labels,
        class_weights=None
        if config.importance == "l1"
        else class_weights(config.class_weights, job.few.counts, assigned),
        widths=config.widths,
        near=near,
        near_chances=near_chances,
        recovery=config.recovery if config.recover == "jointly" else None,
    )


def _near(job: CompressJob, *, flat: bool) -> tuple[Images, Float[np.ndarray, "near"]]:
    """Images of the classes and how often each is drawn: by labels, or by what the teacher sees if some lack them."""
    if job.unlabelled is None:
        return job.few, balanced_chances(job.few.labels) if flat else np.full(len(job.few), 1 / len(job.few))
    near = job.near
    return near, flattening_chances(_predicted(job, near), rounds=20 if flat else 0)


def _predicted(job: CompressJob, images: Images) -> Float[np.ndarray, "n class"]:
    logits = torch.as_tensor(logits_of(job.teacher, images, device=job.fabric.device))
    return logits.double().softmax(1).numpy()


def _finetuned(
    student: Classifier, job: CompressJob, ood: tuple[Auxiliary, Images], config: OefsmcConfig, *, progress: Progress
) -> Classifier:
    auxiliary, guard = ood
    data = (
        Labelled(images=streamed(job.few, student.input), labels=torch.as_tensor(job.few.labels)),
        Labelled(images=streamed(auxiliary.labelled, student.input), labels=torch.as_tensor(auxiliary.labels)),
    )
    tuned = finetune(
        student.module,
        job.teacher.module,
        data,
        streamed(guard, student.input),
        config.finetune,
        rates=torch.as_tensor(complementary_rates(job.few.counts)),
        fabric=job.fabric,
        generator=torch.Generator().manual_seed(job.seed),
        progress=progress,
        view=job.view,
    )
    facts = {"kept_steps": tuned.steps, "guard_before": round(tuned.before, 6), "guard_after": round(tuned.after, 6)}
    return student.after(tuned.module.cpu(), Step(method="finetune", facts=facts))
