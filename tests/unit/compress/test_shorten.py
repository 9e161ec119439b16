"""Blocks that go before channels do: which, how many, and what the method then makes of the rest."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from edgec.compress.blocks import residual_blocks
from edgec.compress.chain import in_stages
from edgec.compress.config import CdConfig, PractiseConfig
from edgec.compress.flops import total_flops
from edgec.compress.job import CompressJob
from edgec.compress.methods import methods
from edgec.compress.recoverability import recoverabilities, shares_saved
from edgec.compress.shorten import shortened
from edgec.core.classifier import Classifier
from edgec.core.errors import ConfigError
from edgec.core.progress import Silent
from edgec.core.target import Rules
from edgec.learn.config import Budget
from edgec.models.checkpoint import load_student, save_student
from edgec.models.cifar_resnet import Block
from edgec.models.infer import logits_of, to_tensor


@pytest.fixture
def job(job: CompressJob) -> CompressJob:
    """Two blocks that can go whole and one that halves the map."""
    torch.manual_seed(0)
    stem = [nn.Conv2d(1, 6, 3, padding=1), nn.ReLU()]
    blocks = [Block(6, 6, 1), Block(6, 8, 2), Block(8, 8, 1)]
    net = nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10)).eval()
    teacher = dataclasses.replace(job.teacher, module=net)
    budget = Budget(keep_flops=0.5, drop_blocks=1, steps=2, flip=False)
    return dataclasses.replace(job, teacher=teacher, budget=budget, rules=Rules())


def run(job: CompressJob, method: str = "mir") -> Classifier:
    found = methods[method]
    config = CdConfig(layer_steps=3, finetune_steps=1) if method == "cd" else found.config()
    return found.function(shortened(job, progress=Silent()), config, progress=Silent())


def kept(job: CompressJob, student: Classifier) -> float:
    return total_flops(student.module, job.example) / total_flops(job.teacher.module, job.example)


def test_without_an_order_nothing_goes(job: CompressJob) -> None:
    whole = dataclasses.replace(job, budget=Budget())
    assert shortened(whole, progress=Silent()) is whole


def test_the_block_goes_that_is_made_up_for_best_beside_what_it_saves(job: CompressJob) -> None:
    blocks = residual_blocks(job.teacher.module, to_tensor(job.few.decoded()[:2], job.teacher.input))
    losses = recoverabilities(job, blocks, PractiseConfig(), progress=Silent())
    _, savings = shares_saved(job, blocks)
    best = min(losses, key=lambda name: losses[name] / savings[name])
    base = shortened(job, progress=Silent()).base
    assert base is not None
    assert base.history[-1].facts["dropped_blocks"] == [best]
    assert [name for name in losses if isinstance(base.module.get_submodule(name), nn.Identity)] == [best]


@pytest.mark.parametrize("method", ["mir", "fskd", "cd", "practise"])
def test_any_method_cuts_what_is_left_to_a_share_of_the_whole_teacher(job: CompressJob, method: str) -> None:
    budget = job.budget.model_copy(update={"keep_flops": 0.45 if method == "practise" else 0.5})
    job = dataclasses.replace(job, budget=budget)
    student = run(job, method)
    assert [step.method for step in student.history] == ["blocks", method]
    assert kept(job, student) <= budget.keep_flops
    gone = student.history[0].facts["dropped_blocks"]
    assert isinstance(student.module.get_submodule(gone[0]), nn.Identity)
    if method == "practise":
        assert student.history[1].facts["dropped_blocks"][0] == gone[0]
    else:
        assert all(not name.startswith(f"{gone[0]}.") for name in student.history[1].facts["kept_channels"])
        assert kept(job, student) > 0.4  # channels fill what the block leaves of the budget


def test_blocks_that_leave_less_than_the_budget_cost_no_channels(job: CompressJob) -> None:
    job = dataclasses.replace(job, budget=job.budget.model_copy(update={"keep_flops": 0.9}))
    whole = {
        name: len(layer.get_parameter("weight"))
        for name, layer in job.teacher.module.named_modules()
        if isinstance(layer, nn.Conv2d)
    }
    student = run(job)
    assert all(width == whole[name] for name, width in student.history[1].facts["kept_channels"].items())


def test_blocks_go_before_the_first_of_several_cuts(job: CompressJob) -> None:
    def cut(part: CompressJob) -> Classifier:
        return methods["mir"].function(part, methods["mir"].config(), progress=Silent())

    student = in_stages(shortened(job, progress=Silent()), cut, 2)
    assert [step.method for step in student.history] == ["blocks", "mir", "chain"]
    assert kept(job, student) <= 0.5


def test_a_student_without_a_block_is_stored_and_read_back(job: CompressJob, tmp_path: Path) -> None:
    student = run(job)
    save_student(student, tmp_path)
    back = load_student(job.teacher, tmp_path)
    assert back.history == student.history
    assert np.array_equal(logits_of(back, job.few), logits_of(student, job.few))


def test_more_blocks_than_there_are_are_refused(job: CompressJob) -> None:
    with pytest.raises(ConfigError) as caught:
        run(dataclasses.replace(job, budget=Budget(drop_blocks=3)))
    assert str(caught.value) == "drop_blocks = 3: the model has 2 residual blocks that can go"
    assert caught.value.hint == "set compress.drop_blocks to 2 or less"


def test_a_model_without_residual_blocks_is_named(job: CompressJob, teacher: Classifier) -> None:
    with pytest.raises(ConfigError) as caught:
        run(dataclasses.replace(job, teacher=teacher, budget=Budget(drop_blocks=1)))
    assert str(caught.value) == "drop_blocks = 1: the model has no residual blocks that can go"
    assert caught.value.hint == "leave compress.drop_blocks out: channels are pruned without it"
