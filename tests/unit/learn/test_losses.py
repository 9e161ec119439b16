"""Losses of logits against loops that follow the papers' equations, class by class and image by image."""

from __future__ import annotations

from collections.abc import Callable
from math import exp, log, sqrt
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from edgec.learn.config import DistillConfig, MimicConfig
from edgec.learn.losses import USUAL, class_groups, dist, dkd, kd, logit_loss, ltkd, standardised

BATCH, CLASSES = 6, 7
GROUPS = torch.tensor([0, 2, 1, 0, 1, 2, 1])
EVEN = torch.full((BATCH,), 1 / BATCH)


@pytest.fixture
def logits() -> tuple[Tensor, Tensor]:
    """Of a student and a teacher."""
    generator = torch.Generator().manual_seed(0)
    student, teacher = 3 * torch.randn(2, BATCH, CLASSES, generator=generator)
    return student, teacher


@pytest.fixture
def share() -> Tensor:
    return torch.tensor([0.3, 0.05, 0.15, 0.1, 0.25, 0.15])


def config_of(loss: str, **settings: Any) -> MimicConfig:
    return MimicConfig.model_validate({"logit_loss": loss, **settings})


def softmax(row: list[float], heat: float) -> list[float]:
    whole = sum(exp(z / heat) for z in row)
    return [exp(z / heat) / whole for z in row]


def divergence(p: list[float], q: list[float]) -> float:
    return sum(a * log(a / b) for a, b in zip(p, q, strict=True))


def normalised(values: list[float]) -> list[float]:
    return [value / sum(values) for value in values]


def slow_kd(student: Tensor, teacher: Tensor, share: Tensor, heat: float) -> float:
    rows = zip(student.tolist(), teacher.tolist(), share.tolist(), strict=True)
    return heat**2 * sum(w * divergence(softmax(t, heat), softmax(s, heat)) for s, t, w in rows)


def slow_dkd(student: Tensor, teacher: Tensor, share: Tensor, heat: float, weights: tuple[float, float]) -> float:
    total = 0.0
    for s, t, w in zip(student.tolist(), teacher.tolist(), share.tolist(), strict=True):
        target = t.index(max(t))
        q, p = softmax(s, heat), softmax(t, heat)
        hit = divergence([p[target], 1 - p[target]], [q[target], 1 - q[target]])
        others = [i for i in range(CLASSES) if i != target]
        rest = divergence(normalised([p[i] for i in others]), normalised([q[i] for i in others]))
        total += w * (weights[0] * hit + weights[1] * rest)
    return heat**2 * total


def slow_correlation(first: list[float], second: list[float], share: list[float]) -> float:
    mean = [sum(w * value for w, value in zip(share, part, strict=True)) for part in (first, second)]
    joint = [
        sum(w * (a - m) * (b - n) for w, a, b in zip(share, one, other, strict=True))
        for one, m, other, n in (
            (first, mean[0], second, mean[1]),
            (first, mean[0], first, mean[0]),
            (second, mean[1], second, mean[1]),
        )
    ]
    return joint[0] / sqrt(joint[1] * joint[2])


def slow_dist(student: Tensor, teacher: Tensor, share: Tensor, heat: float, weights: tuple[float, float]) -> float:
    q, p = ([softmax(row, heat) for row in logits.tolist()] for logits in (student, teacher))
    even, by_image = [1 / CLASSES] * CLASSES, share.tolist()
    between = sum(w * (1 - slow_correlation(a, b, even)) for w, a, b in zip(by_image, q, p, strict=True))
    columns = [([row[i] for row in q], [row[i] for row in p]) for i in range(CLASSES)]
    within = sum(1 - slow_correlation(a, b, by_image) for a, b in columns) / CLASSES
    return heat**2 * (weights[0] * between + weights[1] * within)


def slow_ltkd(
    student: Tensor, teacher: Tensor, share: Tensor, heat: float, weights: tuple[float, float], groups: list[int]
) -> float:
    q, p = ([softmax(row, heat) for row in logits.tolist()] for logits in (student, teacher))
    members = [[i for i, group in enumerate(groups) if group == g] for g in range(max(groups) + 1)]
    batch = [sum(w * sum(row[i] for i in part) for w, row in zip(share.tolist(), p, strict=True)) for part in members]
    scale = [sum(batch) / len(batch) / mass for mass in batch]
    total = 0.0
    for w, ours, theirs in zip(share.tolist(), q, p, strict=True):
        mass_ours, mass_theirs = ([sum(row[i] for i in part) for part in members] for row in (ours, theirs))
        rebalanced = normalised([s * m for s, m in zip(scale, mass_theirs, strict=True)])
        within = sum(
            divergence(normalised([theirs[i] for i in part]), normalised([ours[i] for i in part])) for part in members
        )
        total += w * (weights[0] * divergence(rebalanced, mass_ours) + weights[1] * within)
    return heat**2 * total


@pytest.mark.parametrize("heat", [1.0, 4.0])
@pytest.mark.parametrize("weights", [(1.0, 1.0), (0.5, 3.0), (0.0, 1.0)])
def test_losses_agree_with_loops(
    logits: tuple[Tensor, Tensor], share: Tensor, heat: float, weights: tuple[float, float]
) -> None:
    how = {"temperature": heat, "weights": weights}
    assert kd(*logits, share, temperature=heat).item() == pytest.approx(slow_kd(*logits, share, heat), rel=1e-5)
    for fast, slow in ((dkd, slow_dkd), (dist, slow_dist)):
        assert fast(*logits, share, **how).item() == pytest.approx(slow(*logits, share, heat, weights), rel=1e-5)
    wanted = slow_ltkd(*logits, share, heat, weights, GROUPS.tolist())
    assert ltkd(*logits, share, groups=GROUPS, **how).item() == pytest.approx(wanted, rel=1e-5)


def test_kd_is_the_divergence_of_the_groups_and_within_them(logits: tuple[Tensor, Tensor]) -> None:
    """The identity that LTKD starts from, with the teacher's own masses in front of the second sum."""
    student, teacher = (part.double() for part in logits)
    q, p = student.softmax(1), teacher.softmax(1)
    parts = [g == GROUPS for g in range(3)]
    mass_q, mass_p = (torch.stack([row[:, part].sum(1) for part in parts], dim=1) for row in (q, p))
    across = (mass_p * (mass_p / mass_q).log()).sum(1)
    within = torch.zeros(BATCH, dtype=torch.float64)
    for g, part in enumerate(parts):
        inner_p, inner_q = p[:, part] / mass_p[:, g, None], q[:, part] / mass_q[:, g, None]
        within += mass_p[:, g] * (inner_p * (inner_p / inner_q).log()).sum(1)
    whole = kd(student, teacher, torch.full((BATCH,), 1 / BATCH, dtype=torch.float64), temperature=1.0)
    assert (across + within).mean().item() == pytest.approx(whole.item(), abs=1e-9)


@pytest.mark.parametrize("loss", ["kd", "dkd", "dist", "ltkd"])
def test_a_student_that_says_what_a_balanced_teacher_says_has_no_loss(loss: str) -> None:
    """Each class once, so that LTKD finds nothing to rebalance."""
    teacher = 5 * torch.eye(CLASSES)
    config = config_of(loss, groups=CLASSES)
    share = torch.full((CLASSES,), 1 / CLASSES)
    assert logit_loss(teacher, teacher, share, config, torch.arange(CLASSES)).item() == pytest.approx(0, abs=1e-5)


def test_ltkd_lifts_the_groups_that_the_teacher_slights(logits: tuple[Tensor, Tensor]) -> None:
    """Of a teacher that prefers the first class, the least loss has a student with less mass on it."""
    teacher = logits[1] + 3 * torch.eye(CLASSES)[0]
    groups = torch.arange(CLASSES)
    student = teacher.clone().requires_grad_()
    loss = ltkd(student, teacher, EVEN, temperature=1.0, weights=(1.0, 1.0), groups=groups)
    (gradient,) = torch.autograd.grad(loss, student)
    assert gradient.sum(0).argmax() == 0


def test_a_group_that_the_teacher_never_sees_stays_finite() -> None:
    teacher = torch.tensor([[80.0, 0, 0, -80.0]] * 3)
    student = torch.zeros_like(teacher, requires_grad=True)
    share = torch.full((3,), 1 / 3)
    loss = ltkd(student, teacher, share, temperature=1.0, weights=(1.0, 1.0), groups=torch.tensor([0, 0, 1, 1]))
    (gradient,) = torch.autograd.grad(loss, student)
    assert torch.isfinite(loss)
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("loss", ["kd", "dkd", "dist", "ltkd"])
def test_gradients_agree_with_differences(logits: tuple[Tensor, Tensor], share: Tensor, loss: str) -> None:
    student, teacher = (part.double() for part in logits)
    call: dict[str, Callable[[Tensor], Tensor]] = {
        "kd": lambda z: kd(z, teacher, share.double(), temperature=2.0),
        "dkd": lambda z: dkd(z, teacher, share.double(), temperature=2.0, weights=(1.0, 2.0)),
        "dist": lambda z: dist(z, teacher, share.double(), temperature=2.0, weights=(2.0, 2.0)),
        "ltkd": lambda z: ltkd(z, teacher, share.double(), temperature=2.0, weights=(1.0, 1.0), groups=GROUPS),
    }
    assert torch.autograd.gradcheck(call[loss], student.requires_grad_())


def test_standardised_logits_have_no_scale(logits: tuple[Tensor, Tensor], share: Tensor) -> None:
    student, teacher = logits
    assert torch.allclose(standardised(teacher).mean(1), torch.zeros(BATCH), atol=1e-6)
    assert torch.allclose(standardised(teacher).std(1, correction=0), torch.ones(BATCH), atol=1e-5)
    config = MimicConfig(standardise_logits=True)
    louder = logit_loss(5 * student + 1, teacher, share, config)
    assert louder.item() == pytest.approx(logit_loss(student, teacher, share, config).item(), rel=1e-4)


def test_weights_that_are_not_given_are_the_papers(logits: tuple[Tensor, Tensor], share: Tensor) -> None:
    for loss, weights in USUAL.items():
        usual, given = (config_of(loss, loss_weights=pair) for pair in ((), weights))
        assert torch.equal(*(logit_loss(*logits, share, config, GROUPS) for config in (usual, given)))


@pytest.mark.parametrize(("n", "wanted"), [(2, [1, 0, 1, 0]), (3, [1, 0, 2, 0]), (4, [2, 0, 3, 1]), (9, [2, 0, 3, 1])])
def test_groups_go_by_falling_count(n: int, wanted: list[int]) -> None:
    assert class_groups(np.array([5, 90, 1, 30]), n).tolist() == wanted


def test_a_teacher_that_saw_all_classes_alike_has_no_groups(logits: tuple[Tensor, Tensor], share: Tensor) -> None:
    assert class_groups(None, 3) is None
    with pytest.raises(TypeError, match="ltkd needs groups"):
        logit_loss(*logits, share, config_of("ltkd"))


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"logit_loss": "dkd"}, "'dkd' does nothing while logit_weight is 0"),
        ({"loss_weights": (1, 2)}, "got 2 for 'kd'"),
        ({"logit_loss": "dist", "logit_weight": 1, "loss_weights": (1,)}, "got 1 for 'dist'"),
    ],
)
def test_settings_without_an_effect_are_refused(settings: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        DistillConfig(**settings)
