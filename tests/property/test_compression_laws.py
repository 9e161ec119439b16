"""Laws of pruning, augmentation, distillation's loss and the fine-tuning guard."""

from __future__ import annotations

import copy
from functools import cache

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lightning_fabric import Fabric
from torch import nn

from edgec.compress.config import FinetuneConfig
from edgec.compress.coupling import Coupled, coupled_channels
from edgec.compress.finetune import Labelled, disagreement, finetune
from edgec.compress.flops import layer_flops, total_flops
from edgec.compress.price import MultiplyAdds, kept_flops, layers_of, narrowed
from edgec.compress.prune import prune
from edgec.compress.widths import even_widths
from edgec.core.errors import ConfigError
from edgec.core.progress import Silent
from edgec.core.target import Rules
from edgec.learn.batches import augment, mixed
from edgec.learn.config import DistillConfig
from edgec.learn.mimic import Seen, mimic_loss
from edgec.models.rebuild import rebuild_

IMAGE = torch.zeros(1, 2, 6, 6)
WIDTHS = {"0": 6, "3": 6, "5": 9}
"""Producers of the net below and their channels; the depthwise layer follows the first."""

seeds = st.integers(0, 2**31 - 1)
some = {name: st.sets(st.integers(0, width - 1), min_size=1) for name, width in WIDTHS.items() if name != "3"}


@cache
def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv2d(2, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU()),
        *(nn.Conv2d(6, 6, 3, padding=1, groups=6), nn.ReLU(), nn.Conv2d(6, 9, 1), nn.ReLU()),
        *(nn.Conv2d(9, 5, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 3)),
    ).eval()


@cache
def coupled() -> list[Coupled]:
    return coupled_channels(net(), "10", IMAGE)


@cache
def fabric() -> Fabric:
    return Fabric(accelerator="cpu", devices=1)


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def multiply_adds(widths: dict[str, int]) -> float:
    return MultiplyAdds(net(), IMAGE).of_layers(narrowed(layers_of(net()), coupled(), widths))


def pruned(kept: dict[str, set[int]]) -> nn.Module:
    return prune(net(), {name: torch.tensor(sorted(stay)) for name, stay in kept.items()}, IMAGE)


@settings(deadline=None, max_examples=25)
@given(st.fixed_dictionaries(some))
def test_parameters_and_multiply_adds_never_grow_and_are_as_predicted(kept: dict[str, set[int]]) -> None:
    small = pruned(kept)
    assert parameters(small) <= parameters(net())
    flops = layer_flops(net(), IMAGE)
    widths = {name: len(stay) for name, stay in kept.items()}
    left = multiply_adds(widths)
    np.testing.assert_allclose(left, total_flops(small, IMAGE), rtol=1e-9)
    assert left <= sum(flops.values()) * (1 + 1e-9)


@settings(deadline=None, max_examples=25)
@given(st.fixed_dictionaries(some), seeds)
def test_a_pruned_net_comes_back_from_its_weights(kept: dict[str, set[int]], seed: int) -> None:
    small, rebuilt = pruned(kept), copy.deepcopy(net())
    rebuild_(rebuilt, small.state_dict())
    images = torch.rand(2, 2, 6, 6, generator=torch.Generator().manual_seed(seed))
    assert torch.equal(rebuilt(images), small(images))


@settings(deadline=None)
@given(st.floats(0.01, 1), st.integers(1, 12))
def test_the_budget_is_kept_or_what_can_be_kept_is_told(keep_flops: float, multiple: int) -> None:
    total = total_flops(net(), IMAGE)
    try:
        widths = even_widths(
            net(), coupled(), kept_flops(net(), IMAGE, keep_flops), rules=Rules(channel_multiple=multiple)
        )
    except ConfigError as error:
        least = float(str(error.hint).split()[3])
        assert keep_flops < least <= 1
        even_widths(net(), coupled(), kept_flops(net(), IMAGE, least), rules=Rules(channel_multiple=multiple))
        return
    assert multiply_adds(widths) <= keep_flops * total * (1 + 1e-12)
    for group in coupled():
        width = widths[group.producer]
        assert width == group.channels or (width % multiple == 0 and 0 < width < group.channels)


@settings(deadline=None)
@given(st.floats(0.6, 1), st.floats(0.6, 1), st.integers(1, 4))
def test_a_larger_budget_never_keeps_less(one: float, other: float, multiple: int) -> None:
    less, more = (
        multiply_adds(
            even_widths(net(), coupled(), kept_flops(net(), IMAGE, share), rules=Rules(channel_multiple=multiple))
        )
        for share in sorted((one, other))
    )
    assert less <= more * (1 + 1e-12)  # sums in another order


@settings(deadline=None)
@given(seeds, st.integers(1, 5), st.integers(1, 3), st.integers(2, 9), st.integers(2, 9))
def test_no_shift_and_no_flip_is_the_identity(seed: int, n: int, channels: int, height: int, width: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(n, channels, height, width, generator=generator)
    assert torch.equal(augment(images, shift=0, flip=False, generator=generator), images)


@settings(deadline=None)
@given(seeds, st.floats(0, 0.5), st.booleans(), st.integers(1, 9), st.integers(1, 9))
def test_augmented_and_mixed_images_keep_their_shape_and_range(
    seed: int, shift: float, flip, height: int, width: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(4, 2, height, width, generator=generator)
    moved = augment(images, shift=shift, flip=flip, generator=generator)
    assert moved.shape == images.shape
    assert {float(v) for v in moved.flatten()} <= {float(v) for v in images.flatten()}
    blended = mixed(moved, generator)
    assert blended.shape == images.shape
    assert blended.min() >= images.min() - 1e-6
    assert blended.max() <= images.max() + 1e-6


@settings(deadline=None)
@given(seeds, st.floats(0, 3), st.floats(0.5, 8))
def test_the_joint_loss_is_never_negative_and_linear_in_the_shares(seed: int, weight: float, heat: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    config = DistillConfig(logit_weight=weight, temperature=heat)
    student, teacher = (
        Seen(
            features=torch.randn(4, 6, generator=generator),
            logits=torch.randn(4, 3, generator=generator),
            between=[torch.randn(4, 2, 2, generator=generator)],
        )
        for _ in range(2)
    )

    def loss(*share: float) -> float:
        return float(mimic_loss(student, teacher, torch.tensor(share), config=config))

    alone = [loss(*(1.0 if i == j else 0.0 for j in range(4))) for i in range(4)]
    assert min(alone) >= 0
    np.testing.assert_allclose(loss(0.1, 0.2, 0.3, 0.4), np.dot([0.1, 0.2, 0.3, 0.4], alone), rtol=1e-4)


@settings(deadline=None, max_examples=25)
@given(seeds, st.floats(-6, 37).map(lambda power: 10.0**power), st.floats(0, 5), st.integers(1, 4))
def test_the_guard_never_lets_a_worse_student_through(seed: int, rate: float, eta: float, check_every: int) -> None:
    torch.manual_seed(seed)
    student, teacher, images = nn.Linear(5, 4).eval(), nn.Linear(5, 4).eval(), torch.randn(24, 5)
    part = Labelled(images=images[:12], labels=torch.randint(4, (12,)))
    tuned = finetune(
        student,
        teacher,
        (part, part),
        images[12:],
        FinetuneConfig(steps=4, check_every=check_every, learning_rate=rate, batch_size=6, eta=eta),
        rates=torch.full((4,), 0.25),
        fabric=fabric(),
        generator=torch.Generator().manual_seed(seed),
        progress=Silent(),
    )
    before, after = (
        float(disagreement(net_, teacher, images[12:], fabric=fabric()).sum()) for net_ in (student, tuned.module)
    )
    assert after <= before
    assert (tuned.before, tuned.after) == (before, after)
