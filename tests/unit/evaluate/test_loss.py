"""What a file lost against its own FP32 graph: when it is told, and in which words."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgec.evaluate.loss import Loss, Remedy, find_loss, loss_text
from edgec.evaluate.report import Report, encode_report, parse_report

CLASSES = ("a", "b", "c")
LABELS = np.repeat([0, 1, 2], 20)


def scores(classes):
    return np.eye(3)[classes]


def answers(wrong):
    """The right classes but for the first `wrong` of each class."""
    found = LABELS.copy()
    for label, count in enumerate(wrong):
        members = np.flatnonzero(label == LABELS)[:count]
        found[members] = (label + 1) % 3
    return found


def lost(before, after):
    return find_loss(scores(answers(before)), scores(answers(after)), LABELS, CLASSES, scheme="u8s8")


def test_a_file_that_keeps_all_lost_nothing():
    assert lost((1, 2, 3), (1, 2, 3)) is None


def test_a_file_that_gains_lost_nothing():
    assert lost((9, 2, 3), (0, 2, 3)) is None


def test_a_collapse_is_proven_and_names_its_classes_worst_first():
    loss = lost((0, 0, 0), (12, 20, 0))
    assert loss is not None
    assert loss.proven
    assert [(row.label, row.drop, row.n) for row in loss.classes] == [("b", 1.0, 20), ("a", 0.6, 20)]
    assert (loss.before, loss.after, loss.n) == (1.0, pytest.approx(28 / 60), 60)
    assert loss.low < loss.before - loss.after < loss.high


def test_a_class_that_falls_while_another_rises_is_told():
    loss = lost((0, 12, 0), (12, 0, 0))
    assert loss is not None
    assert [row.label for row in loss.classes] == ["a"]
    assert loss.headline == "u8s8 lost classes that FP32 had"


def test_a_point_that_chance_may_explain_is_told_as_such():
    loss = lost((0, 0, 0), (1, 0, 0))
    assert loss is not None
    assert not loss.proven
    assert loss_text(loss).startswith(
        "u8s8 has 98.3 % of 60 test images right, its FP32 graph 100.0 %: 1.7 points lost"
    )
    assert loss_text(loss).endswith(", which chance may explain")


def test_less_than_a_point_that_chance_explains_is_not_told():
    labels = np.zeros(200, np.int64)
    after = np.where(np.arange(200) == 0, 1, 0)
    assert find_loss(scores(labels), scores(after), labels, CLASSES, scheme="u8s8") is None


@given(st.lists(st.integers(0, 20), min_size=3, max_size=3))
def test_whatever_costs_a_point_is_told(wrong):
    loss = lost((0, 0, 0), wrong)
    assert (loss is not None) == (sum(wrong) > 0)  # one image of 60 is 1.7 points


def test_under_equal_models_a_proof_is_as_rare_as_promised():
    rng = np.random.default_rng(5)
    told = 0
    for _ in range(400):
        unsure = rng.random(60) < 0.3  # images on which either model is right by chance
        before, after = (np.where(unsure & (rng.random(60) < 0.5), (LABELS + 1) % 3, LABELS) for _ in range(2))
        loss = find_loss(scores(before), scores(after), LABELS, CLASSES, scheme="u8s8")
        told += loss is not None and loss.proven
    assert told / 400 <= 0.05  # the exact test is conservative, and one side of it counts


def test_places_and_remedies_are_told_with_the_one_that_helps_first():
    tried = (
        Remedy(setting="a=1", changed=0.5),
        Remedy(setting="b=2", changed=0.02),
        Remedy(setting="c=3", failure="Loop cannot be run in torch"),
    )
    found = {"places": ("'joined' (Concat) is coarse",), "remedies": tried, "changed": 0.6, "judged": 40}
    text = loss_text(lost((0, 0, 0), (20, 0, 0)).model_copy(update=found))
    assert "where: 'joined' (Concat) is coarse" in text
    assert "60.0 % of 40 few and OOD images get another class than in FP32" in text
    assert "what helps: --set b=2 (2.0 %)" in text
    assert "what does not: a=1 (50.0 %), c=3 (could not be tried: Loop cannot be run in torch)" in text


def test_that_nothing_helps_is_told():
    found = {"remedies": (Remedy(setting="a=1", changed=0.5),), "changed": 0.6, "judged": 40}
    text = loss_text(lost((0, 0, 0), (20, 0, 0)).model_copy(update=found))
    assert "where: no tensor stands out" in text
    assert "nothing that was tried halves that; what does not: a=1 (50.0 %)" in text


def test_a_report_keeps_it():
    loss = lost((0, 0, 0), (20, 0, 0))
    report = Report(title="t", target="x", target_title="X", labels=CLASSES, measurements=(), loss=loss)
    assert isinstance(loss, Loss)
    assert parse_report(encode_report(report)).loss == loss
