"""CD and FSKD on digits: layer after layer, without and with OOD images."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
import torch
from torch import nn

from edgec.compress import oefsmc
from edgec.compress.config import CdConfig, DistillConfig, FskdConfig, OefsmcConfig
from edgec.compress.flops import total_flops
from edgec.compress.job import CompressJob
from edgec.compress.methods import methods
from edgec.compress.slim import slim
from edgec.core.classifier import Classifier
from edgec.core.progress import Silent
from edgec.core.samples import Images, Samples
from edgec.models.infer import logits_of

IMAGE = torch.zeros(1, 1, 8, 8)
CONFIGS = {"cd": CdConfig(layer_steps=300, finetune_steps=2), "fskd": FskdConfig()}
both = pytest.mark.parametrize("name", list(CONFIGS))


def run(name: str, job: CompressJob, ood: Images | None = None, **fields: object) -> Classifier:
    if ood is None:
        return methods[name].function(job, CONFIGS[name], progress=Silent())
    config = OefsmcConfig.model_validate({"without": "finetuning", **fields})
    return oefsmc.compress(job, ood, methods[name], CONFIGS[name], config, progress=Silent())


def bytes_of(module: nn.Module) -> list[bytes]:
    return [tensor.numpy().tobytes() for tensor in module.state_dict().values()]


@both
def test_is_found_by_its_name(name: str) -> None:
    assert methods[name].config is type(CONFIGS[name])


@both
def test_keeps_to_its_budget_and_tells_what_it_did(name: str, job: CompressJob) -> None:
    student = run(name, job)
    (step,) = student.history
    share = total_flops(student.module, IMAGE) / total_flops(job.teacher.module, IMAGE)
    assert share <= 0.4
    assert step.facts["kept_flops"] == pytest.approx(share, abs=5e-5)
    for producer, width in step.facts["kept_channels"].items():
        assert student.module.get_submodule(producer).weight.shape[0] == width


@both
def test_the_student_is_nearer_to_the_teacher_than_pruning_alone_leaves_it(
    name: str, job: CompressJob, digits: tuple[Samples, Samples]
) -> None:
    """On images that it has not seen; the pruned net by itself is as good as lost."""
    pruned, _ = slim(job)
    wanted = logits_of(job.teacher, digits[0])
    bare, restored = (
        float(((logits_of(student, digits[0]) - wanted) ** 2).mean())
        for student in (dataclasses.replace(job.teacher, module=pruned.eval()), run(name, job))
    )
    assert restored < 0.5 * bare


@both
def test_the_teacher_is_left_as_it_was(name: str, job: CompressJob, ood: Images, snapshot: Callable) -> None:
    before = snapshot(job.teacher.module)
    run(name, job, ood, like="paper", without="finetuning")
    assert snapshot(job.teacher.module) == before


@both
def test_the_same_seed_gives_the_same_bytes(name: str, job: CompressJob) -> None:
    assert bytes_of(run(name, job).module) == bytes_of(run(name, job).module)


@both
def test_ood_images_take_part_in_the_methods_own_recovery(name: str, job: CompressJob, ood: Images) -> None:
    alone = run(name, job)
    joint = run(name, job, ood, like="paper", without="finetuning", importance="l1")
    assert bytes_of(joint.module) != bytes_of(alone.module)
    assert joint.history[0].facts["kept_channels"] == alone.history[0].facts["kept_channels"]


@both
def test_joint_distillation_follows_where_it_is_asked_for(name: str, job: CompressJob, ood: Images) -> None:
    recovery = DistillConfig(few_per_step=8, ood_per_step=8)
    student = run(name, job, ood, recovery=recovery)
    assert student.history[0].facts["steps"] == job.budget.steps
    own = run(name, job, ood, recover="method")
    assert bytes_of(student.module) != bytes_of(own.module)
