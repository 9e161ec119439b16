"""PRACTISE: which blocks can go, what each would cost, which go, and what is left."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from edgec.compress import practise
from edgec.compress.blocks import Block, residual_blocks, without_blocks
from edgec.compress.chain import in_stages
from edgec.compress.config import PractiseConfig
from edgec.compress.flops import total_flops
from edgec.compress.job import Auxiliary, CompressJob
from edgec.compress.methods import methods
from edgec.compress.practise import blocks_to_drop
from edgec.compress.recoverability import recoverabilities
from edgec.core.classifier import Classifier
from edgec.core.errors import ConfigError, UnsupportedError
from edgec.core.progress import Silent
from edgec.core.samples import Images
from edgec.learn.config import Budget
from edgec.models.checkpoint import load_student, save_student
from edgec.models.cifar_resnet import Block as ResNetBlock
from edgec.models.cifar_resnet import resnet20
from edgec.models.infer import logits_of, to_tensor

IMAGE = torch.zeros(1, 1, 8, 8)
NAMES = ["2", "3", "4", "6"]
QUICK = {"few_per_step": 8, "ood_per_step": 8, "adaptor_images": 100}


def residual_net() -> nn.Sequential:
    """Four blocks with identity shortcuts and one that halves the map, for digits."""
    torch.manual_seed(0)
    stem = [nn.Conv2d(1, 6, 3, padding=1), nn.ReLU()]
    blocks = [
        ResNetBlock(6, 6, 1),
        ResNetBlock(6, 6, 1),
        ResNetBlock(6, 6, 1),
        ResNetBlock(6, 8, 2),
        ResNetBlock(8, 8, 1),
    ]
    return nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10)).eval()


@pytest.fixture
def job(job: CompressJob) -> CompressJob:
    teacher = dataclasses.replace(job.teacher, module=residual_net())
    return dataclasses.replace(job, teacher=teacher, budget=Budget(keep_flops=0.6, steps=3, flip=False))


@pytest.fixture
def rebalanced(job: CompressJob, ood: Images) -> CompressJob:
    """With OOD images, some drawn more often than others."""
    rng = np.random.default_rng(0)
    chances, few_chances = rng.random(len(ood)), rng.random(len(job.few))
    auxiliary = Auxiliary(
        pool=ood,
        chances=chances / chances.sum(),
        labelled=ood,
        labels=rng.integers(0, 10, len(ood)),
        class_weights=None,
        widths="even",
        near=job.few,
        near_chances=few_chances / few_chances.sum(),
        recovery=None,
    )
    return dataclasses.replace(job, auxiliary=auxiliary)


def weigh(job: CompressJob, **fields: Any) -> dict[str, float]:
    blocks = residual_blocks(job.teacher.module, to_tensor(job.few.decoded()[:2], job.teacher.input))
    return recoverabilities(job, blocks, PractiseConfig(**{**QUICK, **fields}), progress=Silent())


def run(job: CompressJob, **fields: Any) -> Classifier:
    return practise.compress(job, PractiseConfig(**{**QUICK, **fields}), progress=Silent())


# ---- which blocks can go


def test_cifar_resnets_can_lose_the_blocks_that_keep_the_shape() -> None:
    found = residual_blocks(resnet20().eval(), torch.rand(2, 3, 32, 32))
    assert [block.name for block in found] == [
        *("layer1.0", "layer1.1", "layer1.2", "layer2.1", "layer2.2", "layer3.1", "layer3.2")
    ]
    assert [block.channels for block in found] == [16, 16, 16, 32, 32, 64, 64]
    assert not any(block.channels_last for block in found)


class Branch(nn.Module):
    """A branch beside some shortcut, and what comes after the sum."""

    def __init__(self, branch: nn.Module, shortcut: nn.Module | None = None, last: nn.Module | None = None) -> None:
        super().__init__()
        self.branch, self.shortcut, self.last = branch, shortcut or nn.Identity(), last or nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.shortcut(x) + self.branch(x))


def branch() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 1))


@pytest.mark.parametrize(
    ("block", "inner"),
    [
        (Branch(branch()), [""]),
        (Branch(nn.Sequential(nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 1))), [""]),
        (nn.Sequential(Branch(branch()), Branch(branch())), [".0", ".1"]),  # each, not both as one
        (Branch(branch(), shortcut=nn.Conv2d(4, 4, 1)), []),  # a projection
        (Branch(branch(), last=nn.ReLU()), []),  # would cut off what is below zero
        (nn.Sequential(nn.ReLU(), Branch(branch(), last=nn.ReLU())), [".1"]),  # where nothing is
        (Branch(branch(), last=nn.SiLU()), []),
        (branch(), []),
        (nn.ReLU(), []),
        (nn.BatchNorm2d(4), []),
        (Branch(nn.BatchNorm2d(4)), []),  # saves nothing
    ],
)
def test_a_block_can_go_when_its_shortcut_passes_its_input_on(block: nn.Module, inner: list[str]) -> None:
    net = nn.Sequential(nn.Conv2d(1, 4, 3), block, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)).eval()
    assert [found.name for found in residual_blocks(net, torch.rand(2, 1, 8, 8))] == [f"1{name}" for name in inner]


def test_a_block_that_works_in_place_is_found_by_what_it_was_given() -> None:
    class PreActivated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(4, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            return x.relu_() + self.conv(x)  # what it passes on is not what it was given

    net = nn.Sequential(nn.Conv2d(1, 4, 3), PreActivated(), nn.Flatten(), nn.Linear(144, 2)).eval()
    assert residual_blocks(net, torch.rand(2, 1, 8, 8)) == []


def test_a_layer_that_nothing_reaches_is_no_block() -> None:
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 2)).eval()
    nn.init.zeros_(net[0].weight)
    nn.init.zeros_(net[0].bias)
    assert residual_blocks(net, torch.rand(2, 1, 8, 8)) == []


def test_tokens_have_their_channels_last() -> None:
    net = nn.Sequential(
        nn.Flatten(2), Branch(nn.Sequential(nn.LayerNorm(4), nn.Linear(4, 4))), nn.Flatten(), nn.Linear(8, 2)
    )
    assert residual_blocks(net.eval(), torch.rand(2, 2, 2, 2)) == [Block(name="1", channels=4, channels_last=True)]


def test_a_look_for_blocks_leaves_no_trace(snapshot: Callable) -> None:
    net = residual_net()
    before = snapshot(net)
    residual_blocks(net, torch.rand(2, 1, 8, 8))
    assert snapshot(net) == before


@torch.no_grad()
def test_a_net_without_blocks_does_what_the_whole_one_does_with_silent_branches() -> None:
    net, silent, images = residual_net(), residual_net(), torch.rand(3, 1, 8, 8)
    for name in ("3", "6"):
        for parameter in silent.get_submodule(name).parameters():
            parameter.zero_()
    left = without_blocks(net, ["3", "6"])
    assert torch.equal(left(images), silent(images))
    assert isinstance(net[3], ResNetBlock)


# ---- what each would cost


def slowly(job: CompressJob, name: str, weights: np.ndarray, images: Tensor, matrix: np.ndarray) -> float:
    """The features' squared error with y = matrix x in the place of a block, image by image."""
    with torch.no_grad():
        net = job.teacher.module
        position = int(name)
        before = net[:position](images)
        mixed = torch.as_tensor(np.einsum("oc,nchw->nohw", matrix, before.double().numpy())).float()
        got = net[position + 1 : 7](mixed).double().numpy()
        wanted = net[:7](images).double().numpy()
    errors = ((got - wanted) ** 2).mean(axis=(1, 2, 3))
    return float(sum(w * e for w, e in zip(weights, errors, strict=True)))


def test_without_steps_a_block_costs_what_its_absence_does(job: CompressJob) -> None:
    images = to_tensor(job.few.decoded(), job.teacher.input)
    losses = weigh(job, adaptor_steps=0)
    assert list(losses) == NAMES
    for name, loss in losses.items():
        width = 8 if name == "6" else 6
        expected = slowly(job, name, np.full(30, 1 / 30), images, np.eye(width))
        assert loss == pytest.approx(expected, rel=1e-4)  # single precision against double


def test_under_oe_fsmc_each_image_counts_by_eq_7(rebalanced: CompressJob) -> None:
    auxiliary = rebalanced.auxiliary
    assert auxiliary
    images = to_tensor(np.concatenate([rebalanced.few.decoded(), auxiliary.pool.decoded()]), rebalanced.teacher.input)
    weights = np.concatenate([0.3 * auxiliary.near_chances, 0.7 * auxiliary.chances])
    losses = weigh(rebalanced, adaptor_steps=0, joint=0.3)
    expected = slowly(rebalanced, "3", weights, images, np.eye(6))
    assert losses["3"] == pytest.approx(expected, rel=1e-4)  # single precision against double


def test_the_adaptor_of_the_last_block_gets_as_low_as_least_squares(job: CompressJob) -> None:
    """Behind the last block stand the features, so the best 1x1 convolution has a closed form."""
    images = to_tensor(job.few.decoded(), job.teacher.input)
    with torch.no_grad():
        taken, wanted = (part(images).double() for part in (job.teacher.module[:6], job.teacher.module[:7]))
    rows, targets = (map_.permute(0, 2, 3, 1).reshape(-1, 8).numpy() for map_ in (taken, wanted))
    matrix = np.linalg.lstsq(rows, targets, rcond=None)[0].T
    best = slowly(job, "6", np.full(30, 1 / 30), images, matrix)
    loss = weigh(job, adaptor_steps=200)["6"]
    assert best < loss < 1.01 * best  # L-BFGS stops when its steps become small
    assert loss < 0.9 * weigh(job, adaptor_steps=0)["6"]


def test_more_steps_never_cost_more(job: CompressJob) -> None:
    by_steps = [weigh(job, adaptor_steps=steps) for steps in (0, 2, 8)]
    for name in NAMES:
        losses = [weighed[name] for weighed in by_steps]
        assert losses == sorted(losses, reverse=True)


def test_a_block_that_does_nothing_costs_nothing(job: CompressJob) -> None:
    with torch.no_grad():
        for parameter in job.teacher.module[3].parameters():
            parameter.zero_()
    losses = weigh(job)
    assert losses["3"] == 0
    assert all(loss > 0 for name, loss in losses.items() if name != "3")


def test_the_order_of_the_samples_does_not_matter(job: CompressJob) -> None:
    turned = dataclasses.replace(job, few=job.few.take(np.arange(30)[::-1].copy()))
    assert weigh(turned) == pytest.approx(weigh(job), rel=1e-3)  # sums in another order, through eight steps


def test_of_many_images_some_are_drawn_by_the_seed(job: CompressJob) -> None:
    few, all_of_them = weigh(job, adaptor_images=5), weigh(job)
    assert few != all_of_them
    assert weigh(job, adaptor_images=5) == few
    assert weigh(dataclasses.replace(job, seed=1), adaptor_images=5) != few


def test_weighing_changes_neither_the_teacher_nor_the_global_generator(job: CompressJob, snapshot: Callable) -> None:
    before, state = snapshot(job.teacher.module), torch.get_rng_state()
    weigh(job)
    assert snapshot(job.teacher.module) == before
    assert torch.equal(torch.get_rng_state(), state)


# ---- which go

SAVINGS = {"a": 0.3, "b": 0.2, "c": 0.1, "d": 0.05}


def test_the_lowest_scores_go_until_the_budget_is_met() -> None:
    scores = {"a": 4.0, "b": 1.0, "c": 3.0, "d": 2.0}
    assert blocks_to_drop(scores, SAVINGS, keep=0.8) == ["b"]
    assert blocks_to_drop(scores, SAVINGS, keep=0.75) == ["b", "d"]
    assert blocks_to_drop(scores, SAVINGS, keep=1) == []


def test_a_block_that_need_not_have_gone_comes_back() -> None:
    scores = {"a": 3.0, "b": 2.0, "c": 1.0, "d": 4.0}
    assert blocks_to_drop(scores, SAVINGS, keep=0.5) == ["b", "a"]  # with them c is not needed


@given(
    st.lists(st.tuples(st.floats(0, 9), st.floats(0.01, 0.15)), min_size=1, max_size=6),
    st.floats(0, 1),
)
def test_what_goes_is_enough_and_no_block_of_it_too_much(blocks: list[tuple[float, float]], spare: float) -> None:
    scores, savings = ({str(i): block[k] for i, block in enumerate(blocks)} for k in (0, 1))
    keep_flops = 1 - sum(savings.values()) * (1 - spare)
    dropped = blocks_to_drop(scores, savings, keep=keep_flops)
    left = 1 - sum(savings[name] for name in dropped)
    tiny = 1e-9  # shares are sums in another order
    assert left <= keep_flops + tiny
    assert all(left + savings[name] > keep_flops - tiny for name in dropped)
    assert [scores[name] for name in dropped] == sorted(scores[name] for name in dropped)


# ---- what is left


def test_practise_is_found_by_its_name() -> None:
    entry = methods["practise"]
    assert (entry.function, entry.config) == (practise.compress, PractiseConfig)


@pytest.mark.parametrize("which", ["job", "rebalanced"])
def test_the_student_lacks_the_blocks_that_its_history_names(which: str, request: pytest.FixtureRequest) -> None:
    job: CompressJob = request.getfixturevalue(which)
    student = run(job)
    facts = student.history[-1].facts
    assert list(facts["scores"]) == NAMES
    assert facts["dropped_blocks"]
    for name in NAMES:
        assert isinstance(student.module.get_submodule(name), nn.Identity) == (name in facts["dropped_blocks"])
    share = total_flops(student.module, IMAGE) / total_flops(job.teacher.module, IMAGE)
    assert share <= 0.6
    assert facts["kept_flops"] == pytest.approx(share, abs=5e-5)
    assert logits_of(student, job.few).shape == (30, 10)


def test_scores_are_costs_by_the_share_of_the_multiply_adds_that_goes(job: CompressJob) -> None:
    scores, costs = run(job).history[-1].facts["scores"], weigh(job)
    whole = total_flops(job.teacher.module, IMAGE)
    for name in NAMES:
        saved = 1 - total_flops(without_blocks(job.teacher.module, [name]), IMAGE) / whole
        assert scores[name] == pytest.approx(costs[name] / saved, abs=5e-5)


def test_blocks_are_weighed_by_any_loss_of_logits(job: CompressJob) -> None:
    falling = dataclasses.replace(job, trained_on=np.arange(100, 0, -10))
    by_loss = [
        weigh(falling, logit_weight=1.0, logit_loss=loss, adaptor_steps=0) for loss in ("kd", "dkd", "dist", "ltkd")
    ]
    assert all(np.isfinite(list(losses.values())).all() for losses in by_loss)
    assert len({tuple(losses.values()) for losses in by_loss}) == 4


def test_blocks_can_go_in_two_cuts(job: CompressJob) -> None:
    parts: list[CompressJob] = []

    def cut(part: CompressJob) -> Classifier:
        parts.append(part)
        return run(part)

    student = in_stages(job, cut, 2)
    example = to_tensor(job.few.decoded()[:1], job.teacher.input)
    left = total_flops(student.module, example) / total_flops(job.teacher.module, example)
    assert left <= job.budget.keep_flops
    assert parts[1].begun is not None
    first, all_gone = (one.history[0].facts["dropped_blocks"] for one in (parts[1].begun, student))
    assert first
    assert all_gone[: len(first)] == first
    assert len(all_gone) > len(first)


def test_a_student_without_blocks_is_stored_and_read_back(job: CompressJob, tmp_path: Path) -> None:
    student = run(job)
    save_student(student, tmp_path)
    back = load_student(job.teacher, tmp_path)
    assert np.array_equal(logits_of(back, job.few), logits_of(student, job.few))
    assert back.history == student.history
    assert total_flops(back.module, IMAGE) == total_flops(student.module, IMAGE)


def test_the_same_seed_gives_the_same_bytes(rebalanced: CompressJob) -> None:
    one, two = (
        b"".join(tensor.numpy().tobytes() for tensor in run(rebalanced).module.state_dict().values()) for _ in range(2)
    )
    assert one == two


def test_a_net_without_residual_blocks_is_sent_to_other_methods(job: CompressJob, teacher: Classifier) -> None:
    with pytest.raises(UnsupportedError) as caught:
        run(dataclasses.replace(job, teacher=teacher))
    assert str(caught.value) == "method 'practise' drops residual blocks, and the model has none"
    assert caught.value.hint == "use compress.method = 'cd', 'fskd' or 'mir'"


def test_a_budget_out_of_reach_fails_before_the_work_and_its_hint_works(job: CompressJob) -> None:
    class Watched(Silent):
        def track(self, *args: Any, **kwargs: Any) -> Any:
            raise AssertionError("work began")

    tight = dataclasses.replace(job, budget=Budget(keep_flops=0.05, steps=1))
    with pytest.raises(ConfigError) as caught:
        practise.compress(tight, PractiseConfig(), progress=Watched())
    # Stem, the block that halves the map, and head: 3,456 + 16,128 + 80 of 162,512.
    assert str(caught.value) == (
        "keep_flops = 0.05: dropping every residual block that can go leaves 0.12 of the multiply-adds"
    )
    hint = re.fullmatch(r"set compress\.keep_flops to (0\.\d\d) or more", str(caught.value.hint))
    assert hint
    student = run(dataclasses.replace(job, budget=Budget(keep_flops=float(hint[1]), steps=1)))
    assert student.history[-1].facts["dropped_blocks"] == NAMES
