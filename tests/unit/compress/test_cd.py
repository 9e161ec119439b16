"""CD: channels by a proximal schedule, layers regressed on second moments, and whole compressions by them."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import Tensor, nn

from edgec.compress import cd, oefsmc
from edgec.compress.cd import regressed
from edgec.compress.channels import channels_to_keep, slim
from edgec.compress.config import CdConfig, OefsmcConfig
from edgec.compress.flops import total_flops
from edgec.compress.job import CompressJob
from edgec.compress.methods import methods
from edgec.core.classifier import Classifier
from edgec.core.errors import UnsupportedError
from edgec.core.inputs import InputSpec
from edgec.core.progress import Silent
from edgec.core.samples import Images, Samples
from edgec.core.target import Rules
from edgec.learn.config import Budget, DistillConfig
from edgec.models.infer import logits_of, to_tensor

QUICK = {"layer_steps": 30, "finetune_steps": 0}
IMAGE = torch.zeros(1, 1, 8, 8)


def compressed(job: CompressJob, **fields: Any) -> Classifier:
    return cd.compress(job, CdConfig(**{**QUICK, **fields}), progress=Silent())


def bytes_of(module: nn.Module) -> list[bytes]:
    return [tensor.numpy().tobytes() for tensor in module.state_dict().values()]


def accuracy(student: Classifier, samples: Samples) -> float:
    return float((logits_of(student, samples).argmax(1) == samples.labels).mean())


def slowly_regressed(
    convolution: nn.Conv2d, images: tuple[Tensor, Tensor], shares: Tensor, *, keep: int, config: CdConfig
) -> Tensor:
    """The paper's loop: two convolutions of all images a step, torch's own Adam, gradients masked."""
    student, (theirs, own) = copy.deepcopy(convolution), images
    channels, pruning = convolution.in_channels, config.layer_steps // 3
    optimiser = torch.optim.Adam([student.weight], lr=config.learning_rate)
    mask = torch.ones(1, channels, 1, 1)
    for step in range(config.layer_steps):
        optimiser.param_groups[0]["lr"] = config.learning_rate / (1 if step < pruning else 10)
        if step == pruning:
            optimiser.state.clear()
        loss = torch.zeros(())
        for weight, x in ((config.correction, theirs), (1 - config.correction, own)):
            with torch.no_grad():
                wanted = convolution(x)
            loss = loss + weight * (shares * (student(x) - wanted).square().flatten(1).mean(1)).sum()
        optimiser.zero_grad()
        loss.backward()
        assert student.weight.grad is not None
        student.weight.grad *= mask
        optimiser.step()
        with torch.no_grad():
            student.weight *= mask
            if step < pruning:
                left = keep + int((channels - keep) * (1 - (step + 1) / pruning))
                norms = student.weight.square().sum((0, 2, 3))
                mask = (norms >= norms.sort(descending=True).values[left - 1]).float().view(1, -1, 1, 1)
                student.weight *= mask
    return student.weight.detach()


def moments_of(x: Tensor, shares: Tensor) -> Tensor:
    rows = F.unfold(x, 3, padding=1).transpose(1, 2)
    return torch.einsum("npi,npj,n->ij", rows, rows, shares / rows.shape[1])


# ---- one layer


@pytest.mark.parametrize("correction", [1.0, 0.6])
def test_second_moments_take_the_steps_that_the_images_themselves_would(correction: float) -> None:
    convolution = nn.Conv2d(6, 4, 3, padding=1).double()
    theirs, own = torch.randn(2, 5, 6, 7, 7, dtype=torch.float64)
    shares = torch.rand(5, dtype=torch.float64)
    shares = shares / shares.sum()
    config = CdConfig(correction=correction, layer_steps=90, learning_rate=0.01)
    moments = correction * moments_of(theirs, shares) + (1 - correction) * moments_of(own, shares)
    weight = convolution.weight.detach()
    everything = torch.ones(6, dtype=torch.bool)
    found, stay = regressed(weight.flatten(2), moments, everything, keep=3, config=config)
    wanted = slowly_regressed(convolution, (theirs, own), shares, keep=3, config=config)
    assert stay.sum() == 3
    # The same steps in double precision; Adam's division makes rounding grow.
    torch.testing.assert_close(found.view_as(weight), wanted, atol=1e-6, rtol=1e-6)


@settings(max_examples=20)
@given(st.integers(0, 10**6), st.integers(1, 6), st.integers(0, 5), st.integers(3, 20))
def test_just_as_many_stay_of_those_to_choose_from_and_the_others_are_zero(
    seed: int, keep: int, gone: int, steps: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    weight, rows = torch.randn(3, 6, 2, generator=generator), torch.randn(20, 12, generator=generator)
    choice = torch.arange(6) >= min(gone, 6 - keep)
    found, stay = regressed(weight, rows.T @ rows, choice, keep=keep, config=CdConfig(layer_steps=steps))
    assert int(stay.sum()) == keep
    assert not (stay & ~choice).any()
    assert not found[:, ~stay].any()
    assert found[:, stay].any()


def test_the_weights_that_stay_make_up_for_those_that_go() -> None:
    weight, rows = torch.randn(4, 8, 3), torch.randn(100, 24) @ torch.randn(24, 24)
    moments = rows.T @ rows / len(rows)
    found, stay = regressed(
        weight, moments, torch.ones(8, dtype=torch.bool), keep=5, config=CdConfig(learning_rate=0.02, layer_steps=600)
    )

    def error(other: Tensor) -> float:
        return ((weight - other).flatten(1) @ rows.T).square().mean().item()

    assert error(found) < 0.8 * error(weight * stay[None, :, None])


def test_a_layer_that_keeps_all_its_inputs_keeps_its_weights() -> None:
    weight, rows = torch.randn(4, 8, 3), torch.randn(100, 24)
    found, stay = regressed(weight, rows.T @ rows, torch.ones(8, dtype=torch.bool), keep=8, config=CdConfig())
    assert stay.all()
    assert torch.equal(found, weight)


def test_the_weight_given_is_left_as_it_was() -> None:
    weight = torch.randn(4, 8, 3)
    before = weight.clone()
    regressed(weight, torch.eye(24), torch.ones(8, dtype=torch.bool), keep=2, config=CdConfig(layer_steps=9))
    assert torch.equal(weight, before)


# ---- whole compressions


def test_cd_is_found_by_its_name() -> None:
    entry = methods["cd"]
    assert (entry.function, entry.config) == (cd.compress, CdConfig)


def test_the_student_is_far_better_than_the_merely_pruned_one(
    job: CompressJob, digits: tuple[Samples, Samples]
) -> None:
    pruned = dataclasses.replace(job.teacher, module=slim(job)[0])
    was, now = (accuracy(student, digits[1]) for student in (pruned, compressed(job, layer_steps=300)))
    assert was < 0.2
    assert now > 0.85  # 0.93 to 0.96 over three draws of the samples


def test_it_keeps_to_the_budget_and_tells_what_it_did(job: CompressJob) -> None:
    student = compressed(job, finetune_steps=2)
    facts = student.history[-1].facts
    share = total_flops(student.module, IMAGE) / total_flops(job.teacher.module, IMAGE)
    assert share <= 0.4
    assert facts["kept_flops"] == pytest.approx(share, abs=5e-5)
    assert (facts["layers"], facts["steps"]) == (3, 2)
    assert facts["kept_channels"] == channels_to_keep(job).widths
    for name, width in facts["kept_channels"].items():
        assert student.module.get_submodule(name).weight.shape[0] == width


def test_the_first_layer_keeps_whole_filters_of_the_teacher(job: CompressJob) -> None:
    student, teacher = compressed(job).module.features[0].weight, job.teacher.module.features[0].weight
    found = [int((teacher - filter_).abs().flatten(1).sum(1).argmin()) for filter_ in student]
    assert torch.equal(teacher[found], student)
    assert found == sorted(set(found))


def test_before_anything_is_pruned_student_and_teacher_see_the_same(job: CompressJob) -> None:
    """So that mu counts from the second layer on."""
    correction, imitation = (compressed(job, correction=mu).module for mu in (1.0, 0.0))
    assert torch.equal(correction.features[0].weight, imitation.features[0].weight)
    torch.testing.assert_close(correction.features[3].bias, imitation.features[3].bias)
    assert not torch.equal(correction.features[6].weight, imitation.features[6].weight)


def test_keeping_everything_changes_nothing(job: CompressJob) -> None:
    whole = compressed(dataclasses.replace(job, budget=Budget(keep_flops=1)))
    assert bytes_of(whole.module) == bytes_of(job.teacher.module)
    assert whole.history[-1].facts["layers"] == 0


@pytest.mark.parametrize("steps", [0, 3])
def test_the_teacher_is_left_as_it_was(job: CompressJob, snapshot: Callable, steps: int) -> None:
    before = snapshot(job.teacher.module)
    compressed(job, finetune_steps=steps)
    assert snapshot(job.teacher.module) == before


def test_the_same_seed_gives_the_same_bytes_and_another_others(job: CompressJob) -> None:
    def run(seed: int) -> list[bytes]:
        torch.manual_seed(seed + torch.seed() % 1000)  # the global generator must not count
        return bytes_of(compressed(dataclasses.replace(job, seed=seed), finetune_steps=2).module)

    assert run(0) == run(0)
    assert run(0) != run(1)


def test_fine_tuning_learns_the_labels_and_leaves_the_statistics(job: CompressJob) -> None:
    before, after = compressed(job), compressed(job, finetune_steps=30, finetune_rate=1e-3)

    def loss(student: Classifier) -> float:
        return F.cross_entropy(torch.as_tensor(logits_of(student, job.few)), torch.as_tensor(job.few.labels)).item()

    assert loss(after) < 0.9 * loss(before)
    for (name, was), now in zip(before.module.named_buffers(), after.module.buffers(), strict=True):
        assert torch.equal(was, now), name


def test_without_fine_tuning_labels_do_not_matter(job: CompressJob) -> None:
    other = dataclasses.replace(job.few, labels=job.few.labels[::-1].copy())
    assert bytes_of(compressed(job).module) == bytes_of(compressed(dataclasses.replace(job, few=other)).module)


def ours(job: CompressJob, ood: Images, *, joint: float = 0.5, **fields: Any) -> Classifier:
    config = CdConfig(**{**QUICK, "finetune_steps": 1}, joint=joint)
    wrapped = OefsmcConfig(parts=("compression",), ood="always", **fields)
    return oefsmc.compress(job, ood, methods["cd"], config, wrapped, progress=Silent())


def test_ood_images_take_part_as_far_as_lambda_says(job: CompressJob, ood: Images) -> None:
    def first(student: Classifier) -> Tensor:
        return student.module.get_submodule("features.3").get_parameter("weight").detach()

    as_plain = {"recover": "method", "draws": "natural", "widths": "even"}
    half, none = (first(ours(job, ood, joint=joint, **as_plain)) for joint in (0.5, 1.0))
    plain = first(compressed(job, finetune_steps=1))
    assert half.shape == plain.shape
    assert not torch.allclose(half, plain, atol=1e-3)
    torch.testing.assert_close(none, plain, atol=1e-3, rtol=1e-3)  # the same images in other batches


def test_joint_distillation_takes_the_place_of_fine_tuning(job: CompressJob, ood: Images) -> None:
    recovery = DistillConfig(few_per_step=8, ood_per_step=8)
    alone, joint = ours(job, ood, recover="method"), ours(job, ood, recovery=recovery)
    assert (alone.history[0].facts["steps"], joint.history[0].facts["steps"]) == (1, 4)
    statistics = [
        {name: buffer for name, buffer in student.module.named_buffers() if name.endswith("mean")}
        for student in (alone, joint)
    ]
    assert all(
        not torch.equal(was, statistics[1][name]) for name, was in statistics[0].items()
    )  # as distillation has it


def test_the_choice_is_cds_own_whatever_class_weights_say(job: CompressJob, ood: Images) -> None:
    by_norm, by_class = (
        ours(job, ood, recover="method", widths="even", importance=importance).module for importance in ("l1", "taylor")
    )
    assert bytes_of(by_norm) == bytes_of(by_class)


# ---- other nets


class Gated(nn.Module):
    """Channels that a gate and the next layer both take."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Conv2d(1, 12, 3, padding=1)
        self.squeeze, self.excite = nn.Conv2d(12, 4, 1), nn.Conv2d(4, 12, 1)
        self.outer, self.head = nn.Conv2d(12, 8, 1), nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.inner(x))
        y = y * torch.sigmoid(self.excite(F.relu(self.squeeze(y.mean((2, 3), keepdim=True)))))
        return self.head(F.relu(self.outer(y)).mean((2, 3)))


class Dense(nn.Module):
    """A layer that takes pruned channels beside others."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.inner = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 8, 3, padding=1)
        self.middle, self.outer = nn.Conv2d(8, 6, 3, padding=1), nn.Conv2d(10, 8, 1)
        self.head = nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        y = F.relu(self.middle(F.relu(self.inner(x))))
        return self.head(F.relu(self.outer(torch.cat([x, y], dim=1))).mean((2, 3)))


def with_net(job: CompressJob, net: nn.Module, *, keep_flops: float) -> CompressJob:
    teacher = dataclasses.replace(job.teacher, module=net.eval())
    return dataclasses.replace(
        job, teacher=teacher, budget=Budget(keep_flops=keep_flops, steps=4, flip=False), rules=Rules()
    )


def filters_left(student: nn.Module, teacher: nn.Module, name: str) -> list[int]:
    """Which of the teacher's filters a layer has, by their biases, which regression leaves alone."""
    biases = teacher.get_submodule(name).get_parameter("bias")
    return [int((biases - bias).abs().argmin()) for bias in student.get_submodule(name).get_parameter("bias")]


def test_a_flattened_map_loses_all_positions_of_a_channel(job: CompressJob) -> None:
    net = nn.Sequential(
        *(nn.Conv2d(1, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 4, 3, padding=1), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(256, 12), nn.ReLU(), nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 10)),
    )
    job = with_net(job, net, keep_flops=0.6)
    student = compressed(job).module
    channels, outputs = (filters_left(student, net, name) for name in ("2", "5"))
    assert len(channels) < 4
    theirs = net.get_submodule("5").get_parameter("weight").view(12, 4, 64)[outputs][:, channels].flatten(1)
    moved = student.get_submodule("5").get_parameter("weight") - theirs
    assert 0 < moved.abs().max() <= 30 * 1e-3  # each of thirty steps moves a weight by its rate at most


def test_channels_that_several_layers_take_stay_by_norm_and_all_of_these_are_regressed(job: CompressJob) -> None:
    job = with_net(job, Gated(), keep_flops=0.6)
    student, (pruned, cut) = compressed(job).module, slim(job)
    teacher = job.teacher.module
    assert {"inner", "squeeze"} == set(cut.kept)
    assert torch.equal(student.inner.weight, teacher.inner.weight[cut.kept["inner"]])
    assert not torch.equal(student.outer.weight, pruned.outer.weight)
    images = to_tensor(job.few.decoded(), job.teacher.input)
    with torch.no_grad():
        errors = [(net(images) - teacher(images)).square().mean() for net in (pruned.eval(), student)]
    assert errors[1] < errors[0]


def test_channels_of_a_group_stay_or_go_together(job: CompressJob) -> None:
    net = nn.Sequential(
        *(nn.Conv2d(1, 8, 1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1, groups=4), nn.ReLU()),
        *(nn.Conv2d(8, 6, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 10)),
    )
    student = compressed(with_net(job, net, keep_flops=0.7)).module
    left = filters_left(student, net, "0")
    assert 0 < len(left) < 8
    assert all(left[k + 1] == left[k] + 1 and left[k] % 2 == 0 for k in range(0, len(left), 2))


def test_a_layer_that_takes_other_channels_too_is_left_to_norms(job: CompressJob) -> None:
    job = with_net(job, Dense(), keep_flops=0.6)
    student, (pruned, cut) = compressed(job), slim(job)
    assert {"inner", "middle"} <= set(cut.kept)
    assert student.history[-1].facts["layers"] == 1  # `middle`, which takes all that `inner` makes and nothing else
    assert torch.equal(student.module.outer.weight, pruned.outer.weight)


def test_a_layer_too_wide_for_its_moments_is_left_to_norms(job: CompressJob, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cd, "WIDEST", 300)  # two of the three take 288 inputs, the last 576
    student, (pruned, _) = compressed(job), slim(job)
    assert student.history[-1].facts["layers"] == 2
    assert torch.equal(student.module.features[9].weight, pruned.features[9].weight)


def test_colour_images_go_through(job: CompressJob, few: Samples) -> None:
    net = nn.Sequential(
        *(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU6(inplace=True), nn.Conv2d(8, 8, 3, padding=2, dilation=2), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10)),
    )
    job = dataclasses.replace(
        with_net(job, net, keep_flops=0.7), few=dataclasses.replace(few, pixels=np.repeat(few.decoded(), 3, axis=3))
    )
    job = dataclasses.replace(job, teacher=dataclasses.replace(job.teacher, input=InputSpec(height=8, width=8)))
    student = compressed(job)
    assert student.history[-1].facts["layers"] == 1
    assert logits_of(student, job.few).shape == (30, 10)


def test_a_model_with_nothing_to_prune_is_refused(job: CompressJob) -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    with pytest.raises(UnsupportedError, match="no channels that can be pruned on their own"):
        compressed(with_net(job, net, keep_flops=0.5))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("joint", 1.1),
        ("correction", -0.1),
        ("correction", 1.1),
        ("layer_steps", 2),
        ("learning_rate", 0),
        ("finetune_steps", -1),
        ("finetune_rate", 0),
        ("batch_size", 0),
    ],
)
def test_settings_out_of_bounds_are_refused(field: str, value: float) -> None:
    with pytest.raises(ValidationError, match=field):
        CdConfig.model_validate({field: value})


def test_the_defaults_are_the_papers_for_resnets() -> None:
    paper = CdConfig()
    assert (paper.correction, paper.learning_rate, paper.layer_steps, paper.finetune_rate) == (0.9, 1e-3, 3000, 1e-5)
