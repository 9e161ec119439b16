"""Ranges that builds share: found under an equal key, observed again under any other, damaged files replaced."""

from __future__ import annotations

import json

import numpy as np
import pytest

from edgec.calibrate import CalibrationSet, Ranges, Recipe, cached_ranges, ranges_key
from edgec.core.target import load_target

RANGES = Ranges(bounds={"x": (-0.1, 1 / 3), "y": (0.0, 7e-30)})
FED = {"raw": False}


class Observing:
    """Makes ranges and counts how often."""

    def __init__(self):
        self.times = 0

    def __call__(self):
        self.times += 1
        return RANGES


@pytest.fixture
def images():
    return CalibrationSet(
        pixels=np.zeros((2, 1, 1, 3), np.uint8),
        labels=np.arange(2),
        weights=np.array([0.4, 0.6]),
        is_ood=np.zeros(2, bool),
        digests=("a", "b"),
        classes=("cat", "dog"),
        recipe="test",
        sources=("test",),
    )


def recipe(**fields):
    return Recipe(**{"name": "x", "title": "X", "observer": "mse"} | fields)


def test_ranges_are_observed_once_and_read_back_without_loss(tmp_path):
    observing = Observing()
    assert [cached_ranges(tmp_path / "ranges", {"model": "m"}, observing) for _ in range(3)] == [RANGES] * 3
    assert observing.times == 1


def test_another_key_is_another_observation(tmp_path):
    observing = Observing()
    for model in "mnm":
        cached_ranges(tmp_path, {"model": model}, observing)
    assert observing.times == 2


def changed_bound(text):
    return text.replace("-0.1", "-0.2")


def other_key(text):
    return json.dumps(json.loads(text) | {"digest": "0" * 64})


@pytest.mark.parametrize(
    "damage",
    [lambda _: "", lambda text: text[: len(text) // 2], lambda _: "[]", lambda _: "{}", changed_bound, other_key],
    ids=["empty", "cut off", "a list", "no fields", "another number", "another digest"],
)
def test_damaged_file_is_observed_again_and_replaced(tmp_path, damage):
    observing = Observing()
    cached_ranges(tmp_path, {"model": "m"}, observing)
    (path,) = tmp_path.iterdir()
    good = path.read_text()
    path.write_text(damage(good))
    assert cached_ranges(tmp_path, {"model": "m"}, observing) == RANGES
    assert observing.times == 2
    assert path.read_text() == good


def test_failed_observation_leaves_nothing(tmp_path):
    def fail():
        raise RuntimeError

    with pytest.raises(RuntimeError):
        cached_ranges(tmp_path, {"model": "m"}, fail)
    assert not list(tmp_path.iterdir())


def test_key_tells_what_ranges_depend_on_and_nothing_else(tmp_path, images):
    model, same, other = (tmp_path / name for name in ("a.onnx", "b.onnx", "c.onnx"))
    for path, content in ((model, b"1"), (same, b"1"), (other, b"2")):
        path.write_bytes(content)
    nano, agx, host = map(load_target, ("jetson-orin-nano-8gb", "jetson-agx-orin-64gb", "x86-vnni"))

    def key(model=model, recipe=recipe(), target=nano, fed=FED):  # noqa: B008
        return ranges_key(model, images, recipe, target=target, fed=fed)

    assert key() == key(same) == key(target=agx) == key(recipe=recipe(name="y", title="Y"))
    others = [key(other), key(target=host), key(recipe=recipe(bins=512)), key(fed={"raw": True})]
    assert all(other != key() for other in others)
