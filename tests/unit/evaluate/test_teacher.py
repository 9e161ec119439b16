"""A teacher that is at chance: what is wrong is found among what usually is, and nothing is made up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from edgec.core.inputs import InputSpec, normalise
from edgec.evaluate.teacher import TeacherCheck, check_teacher, natural_order

CLASSES = [f"class {letter}" for letter in "abcdefgh"]
TRUE = InputSpec(height=2, width=2)


def colours(count: int) -> np.ndarray:
    """A colour for every class, none of them grey."""
    return np.random.default_rng(4).integers(0, 256, (count, 3), dtype=np.uint8)


def nearest_colour(spec: InputSpec, count: int) -> Callable[[InputSpec, np.ndarray], np.ndarray]:
    """A teacher that has learnt colours as `spec` shows them, and is fed as whoever calls it thinks right."""
    known = normalise(np.tile(colours(count)[:, None, None], (1, 2, 2, 1)), spec).mean(axis=(2, 3))

    def run(fed: InputSpec, pixels: np.ndarray) -> np.ndarray:
        seen = normalise(pixels, fed).mean(axis=(2, 3))
        return -np.square(seen[:, None] - known[None]).sum(axis=2)

    return run


def checked(
    spec: InputSpec = TRUE,
    *,
    classes: Sequence[str] = CLASSES,
    run: Callable[[InputSpec, np.ndarray], np.ndarray] | None = None,
    each: int = 12,
    pictures: Callable[[InputSpec], np.ndarray | None] | None = None,
) -> TeacherCheck:
    labels = np.repeat(np.arange(len(classes)), each)
    noise = np.random.default_rng(1).integers(-6, 7, (len(labels), 2, 2, 3))
    pixels = (colours(len(classes))[labels][:, None, None].astype(int) + noise).clip(0, 255).astype(np.uint8)

    def given(wanted: InputSpec) -> np.ndarray | None:
        return pixels if wanted.resize == spec.resize else None

    run = run or nearest_colour(TRUE, len(classes))
    return check_teacher(spec, labels, classes, pictures=pictures or given, run=run)


def reordered(order: Sequence[int]) -> Callable[[InputSpec, np.ndarray], np.ndarray]:
    """A teacher whose output i is of the class that stands at order[i]."""
    run = nearest_colour(TRUE, len(order))
    return lambda spec, pixels: run(spec, pixels)[:, list(order)]


def test_a_good_teacher_is_not_warned_of() -> None:
    check = checked()
    assert (check.accuracy, check.mend, check.warning) == (1.0, None, None)


@pytest.mark.parametrize(
    ("wrong", "settings"),
    [
        ({"channel_order": "bgr"}, {"model.input.channel_order": "rgb"}),
        (
            {"mean": (0.0,) * 3, "std": (1.0,) * 3},
            {"model.input.mean": [0.485, 0.456, 0.406], "model.input.std": [0.229, 0.224, 0.225]},
        ),
        ({"value_range": "0-255"}, {"model.input.value_range": "0-1"}),
    ],
)
def test_a_wrong_setting_of_the_input_is_named(wrong: dict[str, Any], settings: dict[str, Any]) -> None:
    check = checked(TRUE.model_copy(update=wrong))
    assert check.mend is not None
    assert check.mend.settings == settings
    assert check.mend.accuracy > check.accuracy + 0.3
    assert check.warning is not None
    assert next(iter(settings)) in check.warning


def test_folders_that_sort_as_text_are_put_in_the_order_that_people_count() -> None:
    names = sorted(str(number) for number in range(12))
    order = [names.index(name) for name in natural_order(names)]
    check = checked(classes=names, run=reordered(order))
    assert check.accuracy < 0.5
    assert check.mend is not None
    assert check.mend.settings == {"model.labels": [str(number) for number in range(12)]}
    assert check.warning is not None
    assert 'model.labels = ["0", "1", "2"' in check.warning


def test_two_labels_that_were_exchanged_are_read_from_the_answers() -> None:
    check = checked(run=reordered([0, 2, 1, 3, 4, 5, 6, 7]))
    assert check.accuracy == 0.75
    assert check.mend is not None
    order = list(CLASSES)
    order[1], order[2] = order[2], order[1]
    assert check.mend.settings == {"model.labels": order}
    assert check.mend.accuracy == 1.0


def test_two_mistakes_at_once_are_both_named() -> None:
    spec = TRUE.model_copy(update={"channel_order": "bgr"})
    check = checked(spec, run=reordered([3, 2, 1, 0, 7, 6, 5, 4]))
    assert check.mend is not None
    assert set(check.mend.settings) == {"model.input.channel_order", "model.labels"}


def test_another_way_to_resize_is_named_where_the_files_can_be_read_again() -> None:
    run = nearest_colour(TRUE, len(CLASSES))
    labels = np.repeat(np.arange(len(CLASSES)), 12)
    right = np.tile(colours(len(CLASSES))[labels][:, None, None], (1, 2, 2, 1))

    def pictures(spec: InputSpec) -> np.ndarray:
        return right if spec.resize == "squash" else np.full_like(right, 128)

    check = checked(run=run, pictures=pictures)
    assert check.mend is not None
    assert check.mend.settings == {"model.input.resize": "squash"}


@pytest.mark.parametrize("seed", range(20))
def test_a_teacher_that_guesses_is_at_chance_and_nothing_is_made_up(seed: int) -> None:
    generator = np.random.default_rng(seed)
    check = checked(run=lambda _, pixels: generator.normal(size=(len(pixels), len(CLASSES))), each=6)
    assert check.mend is None
    assert check.warning is not None
    assert "no better than chance (12.5%)" in check.warning or "little for a trained classifier" in check.warning


def test_a_teacher_that_is_merely_weak_is_not_told_another_order() -> None:
    run, generator = nearest_colour(TRUE, len(CLASSES)), np.random.default_rng(0)

    def weak(spec: InputSpec, pixels: np.ndarray) -> np.ndarray:
        logits = run(spec, pixels)
        lost = generator.random(len(logits)) < 0.2
        logits[lost] = generator.normal(size=(lost.sum(), len(CLASSES)))
        return logits

    check = checked(run=weak, each=25)
    assert (check.mend, check.warning) == (None, None)


def test_names_are_sorted_as_people_count() -> None:
    assert natural_order(["10", "2", "1"]) == ["1", "2", "10"]
    assert natural_order(["b10", "b9", "a", "3"]) == ["3", "a", "b9", "b10"]


def test_a_check_can_be_written_and_read() -> None:
    check = checked(TRUE.model_copy(update={"channel_order": "bgr"}))
    assert TeacherCheck.model_validate_json(check.model_dump_json()) == check
