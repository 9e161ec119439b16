"""The calibration set: budget, share, balance, weights and what the manifest is told."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgec.calibrate import Recipe, calibration_set
from edgec.core.digest import digest_image, digest_value
from edgec.core.errors import ConfigError, DataError
from edgec.core.samples import Images, Samples

CLASSES = ("cat", "dog", "eel")


def recipe(**fields):
    return Recipe(**{"name": "test", "title": "Test", "observer": "minmax", "budget": 30, "ood_share": 1.0} | fields)


def pixels_of(n, seed, size=2):
    return np.random.default_rng(seed).integers(0, 256, (n, size, size, 3), dtype=np.uint8)


def labelled(counts, seed=1):
    labels = np.repeat(np.arange(len(counts)), counts)
    pixels = pixels_of(len(labels), seed)
    digests = tuple(map(digest_image, pixels))
    return Samples(pixels=pixels, digests=digests, source="few", labels=labels, classes=CLASSES)


def unlabelled(n, seed=2, size=2):
    pixels = pixels_of(n, seed, size)
    return Images(pixels=pixels, digests=tuple(map(digest_image, pixels)), source="ood")


def by_hand(counts, candidates, count):
    """Reference: one image after the other, always for the class that has fewest so far and has any left."""
    have, left = list(counts), [int(np.sum(candidates == c)) for c in range(len(counts))]
    for _ in range(count):
        cls = min((c for c in range(len(have)) if left[c]), key=lambda c: have[c])
        have[cls], left[cls] = have[cls] + 1, left[cls] - 1
    return have


def test_all_few_samples_are_in_when_they_fit():
    few = labelled((8, 3, 1))
    chosen = calibration_set(few, unlabelled(40), np.arange(40) % 3, recipe(), seed=0)
    assert chosen.digests[:12] == few.digests
    assert chosen.is_ood.sum() == 30 - 12
    assert len(chosen) == 30


@pytest.mark.parametrize("seed", range(5))
def test_ood_images_fill_classes_from_below(seed):
    rng = np.random.default_rng(seed)
    labels = rng.choice(3, 40, p=(0.1, 0.3, 0.6))
    chosen = calibration_set(labelled((8, 3, 1)), unlabelled(40), labels, recipe(), seed=seed)
    assert sorted(chosen.counts) == sorted(by_hand((8, 3, 1), labels, 18))


def test_classes_have_equal_say():
    chosen = calibration_set(labelled((8, 3, 1)), unlabelled(40), np.ones(40, int), recipe(), seed=0)
    say = np.bincount(chosen.labels, weights=chosen.weights)
    np.testing.assert_allclose(say, 1 / 3, rtol=1e-12)


def test_class_without_images_takes_no_say():
    chosen = calibration_set(labelled((8, 0, 2)), unlabelled(0), np.zeros(0, int), recipe(), seed=0)
    np.testing.assert_allclose(np.bincount(chosen.labels, weights=chosen.weights), (0.5, 0, 0.5), rtol=1e-12)


def test_natural_recipe_weighs_images_alike():
    few = labelled((8, 3, 1))
    chosen = calibration_set(few, unlabelled(9), np.zeros(9, int), recipe(class_balance="natural"), seed=0)
    np.testing.assert_allclose(chosen.weights, 1 / 21, rtol=1e-12)


@pytest.mark.parametrize(("share", "expected"), [(0.0, 0), (0.5, 12), (0.6, 18), (1.0, 18)])
def test_share_and_budget_bound_the_ood_images(share, expected):
    few = labelled((8, 3, 1))
    chosen = calibration_set(few, unlabelled(40), np.arange(40) % 3, recipe(ood_share=share), seed=0)
    assert chosen.is_ood.sum() == expected


def test_budget_below_the_few_samples_thins_the_large_classes():
    chosen = calibration_set(labelled((8, 3, 1)), unlabelled(5), np.zeros(5, int), recipe(budget=6), seed=0)
    assert chosen.counts.tolist() == [3, 2, 1] or chosen.counts.tolist() == [2, 3, 1]
    assert not chosen.is_ood.any()


def test_pixels_labels_and_digests_belong_together():
    few, ood = labelled((8, 3, 1)), unlabelled(40)
    assigned = np.arange(40) % 3
    known = dict(zip((*few.digests, *ood.digests), (*few.labels, *assigned), strict=True))
    chosen = calibration_set(few, ood, assigned, recipe(), seed=3)
    assert tuple(map(digest_image, chosen.pixels)) == chosen.digests
    assert [known[digest] for digest in chosen.digests] == chosen.labels.tolist()


def test_same_seed_same_set_and_another_seed_another():
    few, ood, assigned = labelled((8, 3, 1)), unlabelled(40), np.arange(40) % 3
    sets = [calibration_set(few, ood, assigned, recipe(), seed=seed).digests for seed in (0, 0, 1)]
    assert sets[0] == sets[1] != sets[2]


def test_recipe_may_fix_the_seed():
    few, ood, assigned = labelled((8, 3, 1)), unlabelled(40), np.arange(40) % 3
    sets = [calibration_set(few, ood, assigned, recipe(seed=7), seed=seed).digests for seed in (0, 1)]
    assert sets[0] == sets[1]


def say_of(chosen):
    return np.bincount(chosen.labels, weights=chosen.weights, minlength=len(CLASSES))


def test_class_weights_decide_draw_and_say():
    weighed = recipe(class_weights={"cat": 3.0}, budget=10)
    chosen = calibration_set(labelled((20, 20, 20)), unlabelled(0), np.zeros(0, int), weighed, seed=0)
    assert chosen.counts.tolist() == [6, 2, 2]
    np.testing.assert_allclose(say_of(chosen), (0.6, 0.2, 0.2), rtol=1e-12)


def test_images_of_a_class_of_weight_zero_are_left_out():
    weighed = recipe(class_weights={"dog": 0.0})
    chosen = calibration_set(labelled((8, 3, 1)), unlabelled(40), np.arange(40) % 3, weighed, seed=0)
    assert chosen.counts[1] == 0
    np.testing.assert_allclose(say_of(chosen), (0.5, 0, 0.5), rtol=1e-12)


def test_equal_sample_weights_leave_the_balance_to_the_draw():
    alike = recipe(sample_weights="equal")
    chosen = calibration_set(labelled((8, 3, 1)), unlabelled(40), np.arange(40) % 3, alike, seed=0)
    np.testing.assert_allclose(chosen.weights, 1 / 30, rtol=1e-12)
    assert chosen.counts.tolist() == [10, 10, 10]


@pytest.mark.parametrize("balance", ["balanced", "natural"])
def test_ood_weight_is_what_an_ood_image_counts_beside_a_labelled_one(balance):
    lighter = recipe(ood_weight=0.25, class_balance=balance)
    chosen = calibration_set(labelled((8, 3, 1)), unlabelled(40), np.arange(40) % 3, lighter, seed=0)
    for cls in np.unique(chosen.labels[chosen.is_ood]):
        own = chosen.labels == cls
        ood, few = (chosen.weights[own & (chosen.is_ood == kind)] for kind in (True, False))
        np.testing.assert_allclose(ood, few[0] / 4, rtol=1e-12)
    assert chosen.weights.sum() == pytest.approx(1)
    if balance == "balanced":
        np.testing.assert_allclose(say_of(chosen), 1 / 3, rtol=1e-12)


def test_weight_of_an_unknown_class_names_the_nearest():
    with pytest.raises(ConfigError) as caught:
        calibration_set(
            labelled((8, 3, 1)), unlabelled(0), np.zeros(0, int), recipe(class_weights={"dogg": 2.0}), seed=0
        )
    message = "calibration recipe 'test', class_weights: unknown class 'dogg'; known: cat, dog, eel"
    assert (str(caught.value), caught.value.hint) == (message, "did you mean 'dog'?")


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"cat": 0.0, "dog": 0.0, "eel": 0.0}, "class_weights: every class is 0"),
        ({"cat": 0.0, "dog": 0.0}, r"class_weights: 0 for every class with labelled images \(cat, dog\)"),
    ],
)
def test_recipe_that_leaves_no_image_is_refused(weights, message):
    with pytest.raises(ConfigError, match=message):
        calibration_set(labelled((8, 3, 0)), unlabelled(4), np.zeros(4, int), recipe(class_weights=weights), seed=0)


def test_digest_of_a_set_tells_images_classes_and_weights():
    chosen = calibration_set(labelled((8, 3, 1)), unlabelled(9), np.zeros(9, int), recipe(), seed=0)
    others = [
        replace(chosen, weights=chosen.weights[::-1]),
        replace(chosen, labels=chosen.labels[::-1]),
        replace(chosen, digests=chosen.digests[::-1]),
    ]
    assert len({chosen.digest, *(other.digest for other in others)}) == 4
    assert replace(chosen, recipe="other").digest == chosen.digest


def test_facts_are_json_and_say_what_calibrated():
    chosen = calibration_set(labelled((8, 3, 1)), unlabelled(40), np.arange(40) % 3, recipe(), seed=0)
    facts = chosen.facts(recipe()).model_dump(mode="json")
    assert facts["few_per_class"] == {"cat": 8, "dog": 3, "eel": 1}
    assert facts["ood_per_class"] == {"cat": 2, "dog": 7, "eel": 9}
    assert facts["images"] == 30
    assert facts["digest"] == digest_value(chosen.digests)
    assert facts["sources"] == ["few", "ood"]
    assert sum(facts["weight_per_class"].values()) == pytest.approx(1)


def test_no_labelled_image_is_refused():
    with pytest.raises(DataError, match="no labelled image at all"):
        calibration_set(labelled((0, 0, 0)), unlabelled(4), np.zeros(4, int), recipe(), seed=0)


def test_images_of_two_sizes_are_refused():
    with pytest.raises(DataError, match=r"labelled images are \(2, 2, 3\), out-of-distribution images \(4, 4, 3\)"):
        calibration_set(labelled((2, 1, 1)), unlabelled(4, size=4), np.zeros(4, int), recipe(), seed=0)
