"""Several teachers as one, against loops that follow the docstrings' equations."""

from __future__ import annotations

from itertools import permutations
from math import exp, log
from typing import Literal

import pytest
import torch
from torch import Tensor, nn

from edgec.learn.losses import kd
from edgec.learn.teachers import SHARPNESS, Teachers, attention, together

TEACHERS, BATCH, CLASSES = 3, 4, 5
ALIKE = torch.full((TEACHERS, CLASSES), 1 / CLASSES)
HEAT = 2.0
WEIGHINGS = ("mean", "attention")


@pytest.fixture
def logits() -> Tensor:
    return 2 * torch.randn(TEACHERS, BATCH, CLASSES, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def tailed() -> Tensor:
    """Class frequencies of three trainings."""
    counts = torch.tensor([[9.0, 5, 3, 2, 1], [1, 1, 1, 1, 1], [1, 2, 30, 2, 9]])
    return counts / counts.sum(1, keepdim=True)


def softmax(row: list[float], heat: float = 1.0) -> list[float]:
    whole = sum(exp(z / heat) for z in row)
    return [exp(z / heat) / whole for z in row]


def slow_weights(rows: list[list[float]], shares: list[list[float]]) -> list[float]:
    """Of one image: a row of adjusted logits for each teacher."""
    given, count, classes = [softmax(row) for row in rows], len(rows), range(len(rows[0]))
    mean = [sum(p[c] for p in given) / count for c in classes]
    scores = []
    for k, p in enumerate(given):
        others = [q for j, q in enumerate(given) if j != k]
        agreement = sum(sum(min(a, b) for a, b in zip(p, q, strict=True)) for q in others) / len(others)
        confidence = 1 + sum(a * log(a) for a in p) / log(len(p))
        known = 1.0
        for c in classes:
            known *= shares[k][c] ** mean[c]
        scores.append(exp(SHARPNESS * (agreement + confidence)) * known)
    return [score / sum(scores) for score in scores]


def slow_together(logits: Tensor, frequencies: Tensor, weighing: str) -> Tensor:
    shares, found = frequencies.tolist(), []
    for image in range(logits.shape[1]):
        rows = [
            [z - log(share) for z, share in zip(logits[k, image].tolist(), shares[k], strict=True)]
            for k in range(len(shares))
        ]
        weights = slow_weights(rows, shares) if weighing == "attention" else [1 / len(rows)] * len(rows)
        heated = [softmax(row, HEAT) for row in rows]
        mixture = [sum(w * p[c] for w, p in zip(weights, heated, strict=True)) for c in range(len(rows[0]))]
        found.append([HEAT * log(p) + log(shares[0][c]) for c, p in enumerate(mixture)])
    return torch.tensor(found)


@pytest.mark.parametrize("weighing", WEIGHINGS)
def test_teachers_together_agree_with_loops(
    logits: Tensor, tailed: Tensor, weighing: Literal["mean", "attention"]
) -> None:
    for frequencies in (ALIKE, tailed):
        found = together(logits, frequencies, weighing=weighing, temperature=HEAT)
        torch.testing.assert_close(found, slow_together(logits, frequencies, weighing), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("weighing", WEIGHINGS)
def test_kd_towards_all_has_the_gradient_of_the_weighed_losses_of_each(
    logits: Tensor, weighing: Literal["mean", "attention"]
) -> None:
    share = torch.full((BATCH,), 1 / BATCH)
    student = torch.randn(BATCH, CLASSES, generator=torch.Generator().manual_seed(1)).requires_grad_()
    target = together(logits, ALIKE, weighing=weighing, temperature=HEAT)
    (whole,) = torch.autograd.grad(kd(student, target, share, temperature=HEAT), student)
    weights = attention(logits, ALIKE) if weighing == "attention" else torch.full((TEACHERS, BATCH), 1 / TEACHERS)
    each = sum(kd(student, z, share * a, temperature=HEAT) for z, a in zip(logits, weights, strict=True))
    assert isinstance(each, Tensor)
    (parts,) = torch.autograd.grad(each, student)
    torch.testing.assert_close(whole, parts)


@pytest.mark.parametrize("weighing", WEIGHINGS)
def test_teachers_that_say_the_same_are_as_one(
    logits: Tensor, tailed: Tensor, weighing: Literal["mean", "attention"]
) -> None:
    """Up to a constant of each image, which no softmax sees; each spoken under its own class frequencies."""
    same = logits[:1] + tailed.log()[:, None]
    found = together(same, tailed, weighing=weighing, temperature=HEAT)
    torch.testing.assert_close(found.softmax(1), same[0].softmax(1))


def test_weights_follow_the_teachers_whatever_their_order(logits: Tensor, tailed: Tensor) -> None:
    weights = attention(logits, tailed)
    torch.testing.assert_close(weights.sum(0), torch.ones(BATCH))
    for order in map(list, permutations(range(TEACHERS))):
        torch.testing.assert_close(attention(logits[order], tailed[order]), weights[order])


def test_a_sure_teacher_weighs_more_and_one_that_knows_nothing_least() -> None:
    sure, unsure, silent = ([[size, 0.0, 0.0, 0.0, 0.0]] for size in (8.0, 2.0, 0.0))
    weights = attention(torch.tensor([sure, unsure, silent]), ALIKE)[:, 0]
    assert weights[0] > weights[1] > weights[2]


def test_the_one_that_contradicts_two_weighs_least() -> None:
    first, other = ([[0.0] * label + [6.0] + [0.0] * (4 - label)] for label in (1, 3))
    weights = attention(torch.tensor([first, other, first]), ALIKE)[:, 0]
    assert weights[0] == pytest.approx(float(weights[2]))
    assert weights[1] < 0.1


def test_each_class_listens_to_the_teacher_that_saw_it() -> None:
    """Both are equally sure, one of the class that it saw, and the other wavers between it and one that it saw."""
    frequencies = torch.tensor([[0.45, 0.45, 0.05, 0.05], [0.05, 0.05, 0.45, 0.45]])
    of_first = torch.tensor([[[4.0, 0.0, 0.0, 0.0]], [[4.0, 0.0, 0.0, 0.0]]])
    assert attention(of_first, frequencies)[0, 0] > 0.85
    assert attention(of_first.flip(2), frequencies)[1, 0] > 0.85


def test_a_joined_teacher_is_shown_the_same_images_and_left_as_it_was() -> None:
    other, images = nn.Linear(2, CLASSES).train(), torch.randn(BATCH, 2)
    teachers = Teachers(further=(other,), frequencies=ALIKE[:2], weighing="mean")
    own = torch.randn(BATCH, CLASSES)
    with teachers.placed("cpu"), torch.no_grad():
        found = teachers.joined(own, images, temperature=HEAT)
        wanted = together(torch.stack([own, other(images)]), ALIKE[:2], weighing="mean", temperature=HEAT)
    torch.testing.assert_close(found, wanted)
