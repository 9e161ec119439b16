"""What a distilled net learns: the teacher's answers for seven tenths, the labels for the rest."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from edgec.study.imbalance.distillation import distilled


def test_the_teacher_has_seven_tenths_of_the_loss() -> None:
    rng = np.random.default_rng(0)
    ours, theirs = rng.normal(size=(2, 5, 3))
    labels = np.array([0, 2, 1, 1, 0])
    p, q = (np.exp(x) / np.exp(x).sum(1, keepdims=True) for x in (theirs, ours))
    divergence = (p * np.log(p / q)).sum(1).mean()
    hard = -np.log(q[np.arange(5), labels]).mean()
    got = distilled(torch.tensor(ours), torch.tensor(theirs), torch.tensor(labels))
    assert float(got) == pytest.approx(0.7 * divergence + 0.3 * hard, abs=1e-6)  # float32


def test_without_a_teacher_labels_are_all() -> None:
    logits, labels = torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 0])
    expected = torch.nn.functional.cross_entropy(logits, labels)
    assert torch.equal(distilled(logits, None, labels), expected)
