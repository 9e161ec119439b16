"""What students minimise, against a slow reference, and the teacher whose frequencies are taken out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from edgec.core.classifier import Classifier
from edgec.core.errors import UnsupportedError
from edgec.core.inputs import InputSpec
from edgec.learn.losses import class_groups, dist, kd, ltkd
from edgec.study.long_tail.grid import Cell, Pair
from edgec.study.long_tail.teaching import adjusted_teacher, objective_of

COUNTS = np.array([100, 20, 5, 1])
SPEC = InputSpec(height=2, width=2, channels=1, mean=(0.0,), std=(1.0,))
CELLS: Any = [
    ("labels", "nothing"),
    ("labels", "labels"),
    ("kd", "nothing"),
    ("kd", "labels"),
    ("dist", "labels"),
    ("ltkd", "both"),
    ("ltkd-alone", "teacher"),
]


def logits() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    ours, theirs = (torch.randn(6, 4, generator=generator) for _ in range(2))
    return ours, theirs, torch.tensor([0, 0, 0, 1, 2, 3])


def cell(loss: Any, adjusted: Any = "nothing") -> Cell:
    return Cell(data="whole", pair=Pair(), imbalance=100, loss=loss, adjusted=adjusted)


@pytest.mark.parametrize(("loss", "adjusted"), CELLS)
def test_the_objective_is_the_labels_loss_and_one_of_the_logits(loss: Any, adjusted: Any) -> None:
    ours, theirs, labels = logits()
    share, expected = torch.full((6,), 1 / 6), 0.0
    if not loss.endswith("-alone"):
        prior = COUNTS / COUNTS.sum() if adjusted in ("labels", "both") else np.full(4, 0.25)
        scores = np.exp(ours.numpy().astype(np.float64)) * prior
        chosen = scores[np.arange(6), labels.numpy()] / scores.sum(axis=1)
        expected -= float(np.log(chosen).mean())
    match loss.removesuffix("-alone"):
        case "kd":
            expected += float(kd(ours, theirs, share, temperature=4.0))
        case "dist":
            expected += float(dist(ours, theirs, share, temperature=4.0, weights=(2.0, 2.0)))
        case "ltkd":
            groups = class_groups(COUNTS, 3)
            assert groups is not None
            expected += float(ltkd(ours, theirs, share, temperature=4.0, weights=(1.0, 1.0), groups=groups))
    got = objective_of(cell(loss, adjusted), COUNTS, temperature=4.0)(ours, theirs, labels)
    assert float(got) == pytest.approx(expected, rel=1e-5)  # float32


def test_gradients_reach_the_student_alone() -> None:
    ours, theirs, labels = logits()
    ours.requires_grad_()
    objective_of(cell("ltkd-alone"), COUNTS, temperature=4.0)(ours, theirs, labels).backward()
    assert ours.grad is not None
    assert bool(torch.isfinite(ours.grad).all())
    assert float(ours.grad.abs().sum()) > 0


@pytest.mark.parametrize("bias", [True, False])
def test_an_adjusted_teacher_says_what_it_said_less_the_prior(bias: bool) -> None:
    torch.manual_seed(0)
    net = Classifier(
        module=nn.Sequential(nn.Flatten(), nn.Linear(4, 4, bias=bias)).eval(), input=SPEC, labels=tuple("abcd")
    )
    images = torch.randn(5, 1, 2, 2)
    with torch.no_grad():
        before, after = net.module(images), adjusted_teacher(net, COUNTS).module(images)
        assert torch.equal(net.module(images), before)
    difference = (after - before).numpy()
    expected = -np.log(COUNTS / COUNTS.sum())
    np.testing.assert_allclose(
        difference - difference.mean(axis=1, keepdims=True), [expected - expected.mean()] * 5, atol=1e-5
    )


def test_a_net_whose_logits_no_linear_layer_gives_is_not_adjusted() -> None:
    net = Classifier(module=nn.Sequential(nn.Conv2d(1, 4, 2), nn.Flatten()).eval(), input=SPEC, labels=tuple("abcd"))
    with pytest.raises(UnsupportedError):
        adjusted_teacher(net, COUNTS)
