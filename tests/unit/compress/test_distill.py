"""Recovery by distillation: the joint loss of OE-FSMC eq. 7, batches, augmentation, and the training itself."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from edgec.compress.config import MirConfig, PractiseConfig
from edgec.compress.prune import prune
from edgec.core.classifier import Classifier
from edgec.core.inputs import InputSpec
from edgec.core.progress import Silent
from edgec.core.samples import Images, Samples
from edgec.learn.batches import Pool, augment, batches, mixed
from edgec.learn.config import Budget, DistillConfig
from edgec.learn.distill import _is_worse, distill
from edgec.learn.mimic import Seen, mimic_loss
from edgec.learn.views import view_of
from edgec.models.infer import to_tensor
from edgec.models.taps import find_tap

SPEC = InputSpec(height=8, width=8, channels=1, mean=(0.305,), std=(0.376,))
"""Of the digits."""


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def even(images: Tensor) -> Pool:
    return Pool(images=images, chances=torch.full((len(images),), 1 / len(images)))


# ---- eq. 7


Arrays = tuple[np.ndarray, ...]
"""Features, logits, then maps between."""


def slow_loss(student: Arrays, teacher: Arrays, share: np.ndarray, *, weights: tuple, temperature: float) -> float:
    """Image by image and class by class, in double precision."""

    def softmax(row: np.ndarray) -> np.ndarray:
        return np.exp(row / temperature) / np.exp(row / temperature).sum()

    def error(part: int, i: int) -> float:
        squares = (student[part][i] - teacher[part][i]) ** 2
        return float(np.mean(squares)) / float(np.mean(teacher[part] ** 2))

    between, logit_weight = weights
    total = 0.0
    for i in range(len(share)):
        maps = sum(error(part, i) for part in range(2, len(teacher))) / max(len(teacher) - 2, 1)
        wanted, got = softmax(teacher[1][i]), softmax(student[1][i])
        divergence = sum(wanted[j] * (np.log(wanted[j]) - np.log(got[j])) for j in range(len(wanted)))
        total += float(share[i]) * (error(0, i) + between * maps + logit_weight * temperature**2 * divergence)
    return total


@pytest.fixture
def outputs() -> tuple[Arrays, Arrays]:
    """Features [6, 4, 3, 3] and logits [6, 5] of a student and a teacher."""
    rng = np.random.default_rng(0)
    return tuple((rng.normal(size=(6, 4, 3, 3)), 3 * rng.normal(size=(6, 5))) for _ in range(2))  # pyright: ignore[reportReturnType]


def loss_of(student: Arrays, teacher: Arrays, share: np.ndarray, **fields: Any) -> float:
    config = DistillConfig(**fields)
    return float(mimic_loss(seen(student), seen(teacher), torch.as_tensor(share).float(), config=config))


def seen(arrays: Arrays) -> Seen:
    features, logits, *maps = (torch.as_tensor(array).float() for array in arrays)
    return Seen(features=features, logits=logits, between=maps)


@pytest.mark.parametrize(("weights", "temperature"), [((0.0, 0.0), 1.0), ((0.5, 0.2), 2.0), ((2.0, 1.0), 4.0)])
@pytest.mark.parametrize("maps", [0, 1, 3])
def test_the_loss_agrees_with_a_loop(outputs, maps: int, weights: tuple[float, float], temperature: float) -> None:
    share = np.array([0.1, 0.1, 0.1, 0.3, 0.2, 0.2])
    rng = np.random.default_rng(1)
    student, teacher = ((*part, *(rng.normal(size=(6, 2 + i, 4)) for i in range(maps))) for part in outputs)
    got = loss_of(student, teacher, share, between_weight=weights[0], logit_weight=weights[1], temperature=temperature)
    wanted = slow_loss(student, teacher, share, weights=weights, temperature=temperature)
    assert got == pytest.approx(wanted, rel=1e-5)


def test_the_loss_is_lambda_times_few_plus_the_rest_times_ood(outputs) -> None:
    """Eq. 7: each term a mean over its own images."""
    joint, student, teacher = 0.7, *outputs
    scale = np.mean(teacher[0] ** 2)
    errors = ((student[0] - teacher[0]) ** 2).mean(axis=(1, 2, 3)) / scale
    share = np.array([joint / 2] * 2 + [(1 - joint) / 4] * 4)
    wanted = joint * errors[:2].mean() + (1 - joint) * errors[2:].mean()
    assert loss_of(student, teacher, share, logit_weight=0) == pytest.approx(wanted, rel=1e-5)


def test_a_student_that_does_what_the_teacher_does_has_no_loss(outputs) -> None:
    assert loss_of(outputs[0], outputs[0], np.full(6, 1 / 6), logit_weight=1) == pytest.approx(0, abs=1e-6)


def test_the_scale_of_the_features_does_not_count(outputs) -> None:
    student, teacher = outputs
    larger, louder = ((100 * features, logits) for features, logits in (student, teacher))
    share = np.full(6, 1 / 6)
    assert loss_of(larger, louder, share) == pytest.approx(loss_of(student, teacher, share), rel=1e-5)


def test_features_may_be_flat(outputs) -> None:
    student, teacher = ((features.reshape(6, -1), logits) for features, logits in outputs)
    share = np.full(6, 1 / 6)
    assert loss_of(student, teacher, share) == pytest.approx(loss_of(outputs[0], outputs[1], share), rel=1e-6)


# ---- batches


def numbered(n: int, first: int = 0) -> Tensor:
    """Images of one pixel that say who they are."""
    return torch.arange(first, first + n).float().reshape(n, 1, 1, 1)


@pytest.mark.parametrize("joint", [0.0, 0.3, 1.0])
def test_a_batch_holds_both_kinds_and_each_term_has_its_share(joint: float) -> None:
    config = DistillConfig(few_per_step=3, ood_per_step=5, joint=joint, mix="off", ood_share="constant")
    pools = even(numbered(10)), even(numbered(10, 100))
    drawn = list(batches(pools, config, steps=4, shift=0, flip=False, generator=generator()))
    assert len(drawn) == 4
    for images, share in drawn:
        assert (images.flatten() >= 100).tolist() == [False] * 3 + [True] * 5
        assert share[:3].sum().item() == pytest.approx(joint)
        assert share[3:].sum().item() == pytest.approx(1 - joint)
        assert share.sum().item() == pytest.approx(1)


def test_the_plain_method_fills_the_batch_with_few_samples() -> None:
    config = DistillConfig(few_per_step=3, ood_per_step=5, mix="off", ood_share="constant")
    pools = even(numbered(10)), None
    images, share = next(batches(pools, config, steps=1, shift=0, flip=False, generator=generator()))
    assert len(images) == 8
    np.testing.assert_allclose(share, np.full(8, 1 / 8))


def test_images_are_drawn_by_their_chances() -> None:
    chances = torch.tensor([0.0, 0.1, 0.9])
    config = DistillConfig(few_per_step=4000, ood_per_step=1, mix="off", ood_share="constant")
    pools = (Pool(images=numbered(3), chances=chances), even(numbered(1, 9)))
    images, _ = next(batches(pools, config, steps=1, shift=0, flip=False, generator=generator()))
    drawn = torch.bincount(images.flatten()[:4000].long(), minlength=3) / 4000
    # Four standard deviations of a share of 0.1 over 4,000 draws.
    torch.testing.assert_close(drawn, chances, atol=0.02, rtol=0)
    assert drawn[0] == 0


def test_a_falling_share_begins_as_set_and_ends_with_few_samples_alone() -> None:
    config = DistillConfig(few_per_step=4, ood_per_step=4, joint=0.25, mix="off", ood_share="falls")
    pools = even(numbered(10)), even(numbered(10, 100))
    drawn = list(batches(pools, config, steps=9, shift=0, flip=False, generator=generator()))
    outside = [images.flatten() >= 100 for images, _ in drawn]
    assert [int(marks.sum()) for marks in outside] == [4, 4, 3, 2, 2, 2, 1, 0, 0]
    weights = [float(share[marks].sum()) for marks, (_, share) in zip(outside, drawn, strict=True)]
    assert weights == pytest.approx([0.75 * (8 - step) / 8 for step in range(7)] + [0, 0])
    assert all(len(images) == 8 and share.sum().item() == pytest.approx(1) for images, share in drawn)


@pytest.mark.parametrize(("mix", "crossed"), [("within", False), ("across", True)])
def test_blends_stay_within_their_kind_where_that_is_asked(mix: str, crossed: bool) -> None:
    config = DistillConfig(few_per_step=32, ood_per_step=32, mix=mix, ood_share="constant")
    pools = even(torch.zeros(2, 1, 1, 1)), even(torch.ones(2, 1, 1, 1))
    images, _ = next(batches(pools, config, steps=1, shift=0, flip=False, generator=generator()))
    assert bool(((images > 0) & (images < 1)).any()) is crossed


def test_squared_errors_are_bare_as_mir_has_them(outputs) -> None:
    student, teacher = outputs
    wanted = ((student[0] - teacher[0]) ** 2).mean()
    assert loss_of(student, teacher, np.full(6, 1 / 6), error="squared") == pytest.approx(wanted, rel=1e-5)
    assert MirConfig().error == PractiseConfig().error == "squared"


# ---- augmentation


def crops(image: np.ndarray, pad: int, *, flip: bool) -> set[bytes]:
    """All that `augment` may make of an image [channel, height, width]."""
    _, height, width = image.shape
    views = [image, image[:, :, ::-1]] if flip else [image]
    padded = [np.pad(view, ((0, 0), (pad, pad), (pad, pad)), mode="reflect") for view in views]
    return {
        np.ascontiguousarray(one[:, top : top + height, left : left + width]).tobytes()
        for one in padded
        for top in range(2 * pad + 1)
        for left in range(2 * pad + 1)
    }


@pytest.mark.parametrize("flip", [True, False])
def test_augmented_images_are_shifted_and_maybe_mirrored_views_of_themselves(flip) -> None:
    images = torch.rand(300, 2, 8, 10, generator=generator(1))
    images[100:] = images[0]
    got = augment(images, shift=0.25, flip=flip, generator=generator()).numpy()
    for before, after in zip(images[:100].numpy(), got, strict=False):
        assert after.tobytes() in crops(before, 2, flip=flip)
    # Of 25 shifts, twice as many where mirrored, 200 draws meet nearly all.
    seen = {after.tobytes() for after in got[100:]}
    assert len(seen) > (40 if flip else 22)


def test_no_shift_and_no_flip_is_the_identity() -> None:
    images = torch.rand(4, 3, 8, 8)
    assert torch.equal(augment(images, shift=0, flip=False, generator=generator()), images)


def test_a_shift_of_less_than_a_pixel_is_none() -> None:
    images = torch.rand(4, 3, 7, 7)
    assert torch.equal(augment(images, shift=0.125, flip=False, generator=generator()), images)


def test_half_of_the_images_are_mirrored() -> None:
    images = torch.rand(1, 1, 2, 2).expand(1000, 1, 2, 2)
    mirrored = (augment(images, shift=0, flip=True, generator=generator()) != images).flatten(1).any(1)
    # Four standard deviations of 1,000 fair coins.
    assert mirrored.float().mean().item() == pytest.approx(0.5, abs=0.064)


def test_the_images_given_are_not_changed() -> None:
    images = torch.rand(8, 1, 8, 8)
    before = images.clone()
    mixed(augment(images, shift=0.5, flip=True, generator=generator()), generator())
    assert torch.equal(images, before)


def test_a_blend_is_at_least_half_the_image_itself_and_the_rest_is_one_other() -> None:
    images = torch.eye(6).reshape(6, 6, 1, 1)
    blends = mixed(images, generator()).reshape(6, 6)
    torch.testing.assert_close(blends.sum(1), torch.ones(6))
    assert (blends.diagonal() >= 0.5).all()
    assert ((blends > 0).sum(1) <= 2).all()
    assert (blends > 0).sum(1).max() == 2


# ---- training


@pytest.fixture
def pools(few: Samples, ood: Images, teacher: Classifier) -> tuple[Pool, Pool]:
    return even(to_tensor(few.decoded(), teacher.input)), even(to_tensor(ood.decoded(), teacher.input))


@pytest.fixture
def student(teacher: Classifier) -> nn.Module:
    kept = {"features.0": torch.arange(12), "features.3": torch.arange(12), "features.6": torch.arange(24)}
    return prune(teacher.module, kept, torch.zeros(1, 1, 8, 8))


@pytest.fixture
def train(fabric: Fabric) -> Callable[..., nn.Module]:
    def run(
        student: nn.Module, teacher: nn.Module, pools: tuple, *, notes: list[str] | None = None, **fields: Any
    ) -> nn.Module:
        budget = Budget(steps=fields.pop("steps", 3), flip=False)
        view = view_of(fields.pop("robust", "none"), fields.pop("robust_share", 0.75), SPEC)
        progress = Silent()
        progress.note = (notes if notes is not None else []).append  # pyright: ignore[reportAttributeAccessIssue]
        return distill(
            student,
            teacher,
            pools,
            DistillConfig(few_per_step=8, ood_per_step=8, **fields),
            budget=budget,
            fabric=fabric,
            generator=generator(),
            progress=progress,
            view=view,
        )

    return run


def bytes_of(module: nn.Module) -> list[bytes]:
    return [tensor.numpy().tobytes() for tensor in module.state_dict().values()]


@torch.no_grad()
def error(student: nn.Module, teacher: nn.Module, images: Tensor) -> float:
    return float((student(images) - teacher(images)).square().mean())


def test_a_few_steps_bring_the_student_nearer_to_the_teacher(student, teacher, pools, train) -> None:
    trained = train(student, teacher.module, pools, steps=25)
    images = torch.cat([pools[0].images, pools[1].images])
    assert error(trained, teacher.module, images) < 0.5 * error(student, teacher.module, images)


def test_teacher_and_student_given_are_left_as_they_were(student, teacher, pools, train, snapshot) -> None:
    before = snapshot(teacher.module), snapshot(student)
    train(student, teacher.module, pools)
    assert (snapshot(teacher.module), snapshot(student)) == before


def test_the_teachers_head_is_taken_and_not_trained(student, teacher, pools, train) -> None:
    with torch.no_grad():
        student.head.weight.zero_()
    trained = train(student, teacher.module, pools, logit_weight=1.0)
    assert torch.equal(trained.head.weight, teacher.module.head.weight)
    assert torch.equal(trained.head.bias, teacher.module.head.bias)


def test_what_comes_back_is_ready_to_use(student, teacher, pools, train) -> None:
    trained = train(student, teacher.module, pools)
    assert not any(layer.training or layer._forward_hooks for layer in trained.modules())
    assert all(parameter.device.type == "cpu" for parameter in trained.parameters())


def given_to(net: nn.Module, batch: int) -> list[Tensor]:
    """Batches of this size that a net is called with from now on, copies of it too."""
    calls: list[Tensor] = []
    net.register_forward_pre_hook(lambda _, given: calls.append(given[0].clone()) if len(given[0]) == batch else None)
    return calls


@pytest.mark.parametrize("robust", ["noise", "augmix", "mixed"])
def test_the_teacher_sees_clean_images_and_the_student_changed_ones(student, teacher, pools, train, robust) -> None:
    shown = given_to(teacher.module, 16)
    train(student, teacher.module, pools)
    clean = list(shown)
    shown.clear()
    student.register_forward_pre_hook(remember := Remembering())
    train(student, teacher.module, pools, robust=robust, robust_share=0.5)
    assert len(clean) == len(shown) == len(remember.calls) == 3
    for without, told, seen in zip(clean, shown, remember.calls, strict=True):
        assert torch.equal(without, told)
        assert 3 <= (seen != told).flatten(1).any(1).sum() <= 8


class Remembering:
    """A hook that copies of its net share; keeps training batches, which are given with gradients on."""

    def __init__(self) -> None:
        self.calls: list[Tensor] = []

    def __deepcopy__(self, memo: dict) -> Remembering:
        return self

    def __call__(self, net: nn.Module, given: tuple[Tensor, ...]) -> None:
        if torch.is_grad_enabled() and len(given[0]) == 16:
            self.calls.append(given[0].clone())


def test_robust_recovery_gives_the_same_bytes_for_the_same_seed(student, teacher, pools, train) -> None:
    first, second = (train(student, teacher.module, pools, robust="mixed") for _ in range(2))
    assert bytes_of(first) == bytes_of(second)
    assert bytes_of(first) != bytes_of(train(student, teacher.module, pools))


@pytest.mark.parametrize("schedule", ["one-cycle", "steps"])
@pytest.mark.parametrize("steps", [1, 2, 3])
def test_the_shortest_schedules_run(student, teacher, pools, train, schedule: str, steps: int) -> None:
    trained = train(student, teacher.module, pools, schedule=schedule, steps=steps)
    assert all(torch.isfinite(tensor).all() for tensor in trained.state_dict().values())


def test_the_plain_method_sees_the_few_samples_alone(student, teacher, pools, train) -> None:
    """Batch norm would remember images of another scale."""
    loud = Pool(images=pools[1].images + 1000, chances=pools[1].chances)
    plain = train(student, teacher.module, (pools[0], None))
    joint = train(student, teacher.module, (pools[0], loud))
    first_norm = "features.1.running_var"
    assert joint.state_dict()[first_norm].max() > 100 * plain.state_dict()[first_norm].max()


def test_a_large_gradient_is_scaled_down_to_its_norm(student, teacher, pools, train) -> None:
    def moved(norm: float) -> float:
        given = {"steps": 1, "schedule": "steps", "learning_rate": 10.0, "weight_decay": 0.0, "gradient_norm": norm}
        trained = dict(train(student, teacher.module, pools, **given).named_parameters())
        steps = [(trained[name] - parameter).detach().flatten() for name, parameter in student.named_parameters()]
        return float(torch.cat(steps).norm())

    assert moved(0.02) == pytest.approx(2 * moved(0.01), rel=0.01)
    assert moved(0) > 2 * moved(0.02)
    assert moved(1e6) == moved(0)


def test_training_that_diverges_begins_again_at_half_the_rate(student, teacher, pools, train) -> None:
    notes: list[str] = []
    trained = train(student, teacher.module, pools, steps=40, learning_rate=1e4, notes=notes)
    (note,) = notes
    rate = float(re.fullmatch(r"recovery diverged at learning_rate = 10000.0: it went well at ([\d.e+]+)", note)[1])
    assert np.log2(1e4 / rate) % 1 == 0
    assert bytes_of(trained) == bytes_of(train(student, teacher.module, pools, steps=40, learning_rate=rate))


def test_training_that_diverges_at_every_rate_leaves_the_pruned_net_and_says_so(student, teacher, pools, train) -> None:
    notes: list[str] = []
    left = train(student, teacher.module, pools, steps=20, learning_rate=1e30, notes=notes)
    assert "diverges at learning_rate = 1e+30, and still at 1.5625e+28: the pruned net is left" in notes[0]
    head = find_tap(teacher.module, pools[0].images[:2]).head
    for name, tensor in left.state_dict().items():
        whose = teacher.module if name.startswith(f"{head}.") else student
        assert torch.equal(tensor, whose.state_dict()[name])


@pytest.mark.parametrize(("lost", "won", "worse"), [(0, 0, False), (4, 0, False), (5, 0, True), (6, 6, False)])
def test_a_net_is_worse_where_chance_does_not_explain_what_it_lost(lost: int, won: int, worse) -> None:
    before = torch.tensor([True] * lost + [False] * won + [True] * 20)
    after = torch.tensor([False] * lost + [True] * won + [True] * 20)
    assert _is_worse(after, before) == worse


def test_the_same_seed_gives_the_same_bytes(student, teacher, pools, train) -> None:
    one, two = (train(student, teacher.module, pools) for _ in range(2))
    assert bytes_of(one) == bytes_of(two)


class Noisy(nn.Module):
    """A net with dropout, as torchvision's MobileNets and VGGs have."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.norm = nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6)
        self.dropout, self.head = nn.Dropout(0.5), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.dropout(self.norm(self.convolution(x)).relu().mean((2, 3))))


def test_dropout_neither_blurs_the_features_nor_draws_from_the_global_generator(pools, train) -> None:
    teacher = Noisy().eval()
    student, before = copy.deepcopy(teacher), torch.get_rng_state()
    one = train(student, teacher, pools)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(99)
    assert bytes_of(train(student, teacher, pools)) == bytes_of(one)


def test_batch_norm_learns_the_statistics_of_the_pruned_net(student, teacher, pools, train) -> None:
    trained = train(student, teacher.module, pools)
    assert not torch.equal(trained.features[4].running_mean, student.features[4].running_mean)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_the_gpu_trains_to_what_the_cpu_does(student, teacher, pools, train, snapshot) -> None:
    before = snapshot(teacher.module)
    here = train(student, teacher.module, pools)
    config = DistillConfig(few_per_step=8, ood_per_step=8)
    there = distill(
        student,
        teacher.module,
        pools,
        config,
        budget=Budget(steps=3, flip=False),
        fabric=Fabric(accelerator="cuda", devices=1, precision="32-true"),
        generator=generator(),
        progress=Silent(),
    )
    assert snapshot(teacher.module) == before
    for name, tensor in there.state_dict().items():
        # Convolutions take TF32 on the GPU, 10 bits of mantissa, through three steps.
        torch.testing.assert_close(tensor, here.state_dict()[name], atol=2e-2, rtol=2e-2)
